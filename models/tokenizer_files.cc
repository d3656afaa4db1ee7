// Tokenizer files of Hugging Face folders. They are untrusted: ids, templates and special tokens
// are checked here, so that encoding need not.
#include <algorithm>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "models/wordpiece.h"

namespace graft {
namespace {

const Json& member(const Json& j, const char* key, const std::string& file) {
  const auto it = j.find(key);
  if (it == j.end() || !it->is_object())
    throw FileError("{}: the field '{}' is missing or not an object", file, key);
  return *it;
}

int64_t required_id(const WordPieceModel& m, const std::string& token, const std::string& file) {
  const int64_t id = m.id_of(token, -1);
  if (id < 0) throw FileError("{}: the vocabulary has no token '{}'", file, token);
  return id;
}

// [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
void set_bert_template(WordPieceModel& m, int64_t cls, int64_t sep) {
  m.single = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}};
  m.pair = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}, {1, 0, 1}, {-1, sep, 1}};
}

// `entries`: how many tokens the file has. Ids may leave gaps, but not so that a small file takes
// much memory.
void add(WordPieceModel& m, const std::string& token, int64_t id, size_t entries,
         const std::string& file) {
  const auto most = static_cast<int64_t>(2 * entries + 65536);
  if (id < 0 || id >= most) {
    throw FileError("{}: token '{}' has the id {}; with {} tokens expected 0 to {}", file, token,
                    id, entries, most - 1);
  }
  const auto at = static_cast<size_t>(id);
  if (at >= m.tokens.size()) m.tokens.resize(at + 1);
  if (!m.tokens[at].empty() && m.tokens[at] != token) {
    throw FileError("{}: the id {} belongs to both '{}' and '{}'", file, id, m.tokens[at], token);
  }
  const auto [it, fresh] = m.vocabulary.try_emplace(token, id);
  if (!fresh && it->second != id)
    throw FileError("{}: token '{}' has two ids, {} and {}", file, token, it->second, id);
  m.tokens[at] = token;
}

void read_normalizer(WordPieceModel& m, const Json& j, const std::string& file) {
  const auto it = j.find("normalizer");
  if (it == j.end() || !it->is_object()) return;
  if (const auto type = json_field<std::string>(*it, "type", file, ""); type != "BertNormalizer") {
    throw UsageError("{}: the normalizer '{}' is not known; known: BertNormalizer", file, type);
  }
  m.text.clean_text = json_field<bool>(*it, "clean_text", file, true);
  m.text.chinese_chars = json_field<bool>(*it, "handle_chinese_chars", file, true);
  m.text.lowercase = json_field<bool>(*it, "lowercase", file, true);
  m.text.strip_accents = json_field<bool>(*it, "strip_accents", file, m.text.lowercase);
}

void read_added(WordPieceModel& m, const Json& j, size_t entries, const std::string& file) {
  const auto it = j.find("added_tokens");
  if (it == j.end() || !it->is_array()) return;
  for (const Json& t : *it) {
    const auto text = json_field<std::string>(t, "content", file);
    const auto id = json_field<int64_t>(t, "id", file);
    if (text.empty()) throw FileError("{}: an added token has no content", file);
    add(m, text, id, entries + it->size(), file);
    m.added.push_back({decode_utf8(text), text, id, json_field<bool>(t, "special", file, false),
                       json_field<bool>(t, "lstrip", file, false),
                       json_field<bool>(t, "rstrip", file, false),
                       json_field<bool>(t, "single_word", file, false)});
  }
}

TemplatePiece template_piece(const WordPieceModel& m, const Json& item, const std::string& file) {
  const bool is_text = item.contains("Sequence");
  if (!is_text && !item.contains("SpecialToken")) {
    throw FileError("{}: a template has the part {}; expected Sequence or SpecialToken", file,
                    item.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
  }
  const Json& part = item.at(is_text ? "Sequence" : "SpecialToken");
  const auto name = json_field<std::string>(part, "id", file);
  const auto type = json_field<int64_t>(part, "type_id", file);
  if (!is_text) return {-1, required_id(m, name, file), type};
  if (name != "A" && name != "B")
    throw FileError("{}: a template names the text '{}'; expected A or B", file, name);
  return {name == "B", 0, type};
}

std::vector<TemplatePiece> read_template(const WordPieceModel& m, const Json& p, const char* key,
                                         const std::string& file) {
  const auto it = p.find(key);
  if (it == p.end() || !it->is_array())
    throw FileError("{}: the template '{}' is missing or not a list", file, key);
  std::vector<TemplatePiece> pieces;
  for (const Json& item : *it) pieces.push_back(template_piece(m, item, file));
  return pieces;
}

void read_post_processor(WordPieceModel& m, const Json& j, const std::string& file) {
  const auto it = j.find("post_processor");
  if (it == j.end() || !it->is_object()) return;  // then no tokens stand around a text
  const auto type = json_field<std::string>(*it, "type", file, "");
  if (type == "TemplateProcessing") {
    m.single = read_template(m, *it, "single", file);
    m.pair = read_template(m, *it, "pair", file);
  } else if (type == "BertProcessing") {
    auto token = [&](const char* key) {  // ["[SEP]", 102]
      const auto pair = json_field<Json>(*it, key, file);
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string())
        throw FileError("{}: the field '{}' should be a token and its id", file, key);
      return required_id(m, pair[0].get<std::string>(), file);
    };
    const int64_t cls = token("cls");
    set_bert_template(m, cls, token("sep"));
  } else {
    throw UsageError(
        "{}: the post-processor '{}' is not known; known: BertProcessing, TemplateProcessing", file,
        type);
  }
}

void finish(WordPieceModel& m, const std::string& file) {
  required_id(m, m.unknown, file);
  for (const AddedToken& t : m.added) {
    if (t.special) m.special.insert(t.id);
  }
  std::ranges::stable_sort(m.added, std::greater{},
                           [](const AddedToken& t) { return t.content.size(); });
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source) {
  const Json j = parse_json(text, source);
  const Json& model = member(j, "model", source);
  if (const auto type = json_field<std::string>(model, "type", source, "WordPiece");
      type != "WordPiece") {
    throw UsageError("{}: the tokenizer model '{}' is not known; known: WordPiece", source, type);
  }
  WordPieceModel m;
  const Json& vocabulary = member(model, "vocab", source);
  m.vocabulary.reserve(vocabulary.size());
  m.tokens.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    if (!detail::json_fits<int64_t>(id))
      throw FileError("{}: the id of '{}' is not an integer", source, token);
    add(m, token, id.get<int64_t>(), vocabulary.size(), source);
  }
  m.unknown = json_field<std::string>(model, "unk_token", source, m.unknown);
  m.prefix = json_field<std::string>(model, "continuing_subword_prefix", source, m.prefix);
  // Cutting a word takes time with the cube of its length.
  constexpr int64_t kMostChars = 1000;
  m.max_chars = json_field<int64_t>(model, "max_input_chars_per_word", source, m.max_chars);
  if (m.max_chars < 1 || m.max_chars > kMostChars) {
    throw FileError("{}: the field 'max_input_chars_per_word' should be 1 to {} but is {}", source,
                    kMostChars, m.max_chars);
  }
  read_normalizer(m, j, source);
  read_added(m, j, vocabulary.size(), source);
  read_post_processor(m, j, source);
  finish(m, source);
  return wordpiece(std::move(m));
}

std::unique_ptr<Tokenizer> parse_vocabulary(std::string_view text, const std::string& source,
                                            bool lowercase) {
  const char* const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  WordPieceModel m;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view token = text.substr(at, end - at);
    while (token.ends_with('\r')) token.remove_suffix(1);
    const auto id = static_cast<int64_t>(m.tokens.size());
    m.tokens.emplace_back(token);
    // As in the reference a token that stands twice has its last id; of a special one no reader
    // could say which is meant.
    const auto [it, fresh] = m.vocabulary.insert_or_assign(m.tokens.back(), id);
    if (!fresh && std::ranges::find(specials, token) != std::end(specials))
      throw FileError("{}:{}: the special token '{}' stands twice", source, id + 1, token);
    at = end + 1;
  }
  m.text.lowercase = m.text.strip_accents = lowercase;
  const int64_t cls = required_id(m, "[CLS]", source);
  set_bert_template(m, cls, required_id(m, "[SEP]", source));
  for (const char* token : specials) {
    if (const int64_t id = m.id_of(token, -1); id >= 0)
      m.added.push_back({decode_utf8(token), token, id, true, false, false, false});
  }
  finish(m, source);
  return wordpiece(std::move(m));
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  const std::string json = folder + "/tokenizer.json", vocabulary = folder + "/vocab.txt",
                    config = folder + "/tokenizer_config.json";
  std::error_code none;
  if (std::filesystem::exists(json, none)) return parse_tokenizer_json(read_file(json), json);
  if (!std::filesystem::exists(vocabulary, none)) {
    throw FileError("{}: there is neither tokenizer.json nor vocab.txt; the model's folder has one",
                    folder);
  }
  const bool lowercase = !std::filesystem::exists(config, none) ||
                         json_field<bool>(parse_json_file(config), "do_lower_case", config, true);
  return parse_vocabulary(read_file(vocabulary), vocabulary, lowercase);
}

}  // namespace graft
