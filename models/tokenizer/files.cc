// Tokenizer files of Hugging Face folders. They are untrusted: ids, templates and special tokens
// are checked here, so that encoding need not.
#include <algorithm>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "models/tokenizer/fields.h"
#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/sentencepiece.h"
#include "models/tokenizer/settings.h"

namespace graft {
namespace {

void read_added(const Json& j, const std::string& source, Stages& s) {
  const Json* list = json_optional(j, "added_tokens");
  if (list == nullptr) return;
  constexpr size_t kLongest = 1000;  // at every character of a text one may begin
  const size_t entries = static_cast<size_t>(s.vocabulary.size()) + list->size();
  for (const Json& t : json_list(j, "added_tokens", source)) {
    AddedToken a;
    a.content = json_field<std::string>(t, "content", source);
    a.id = json_field<int64_t>(t, "id", source);
    if (a.content.empty() || a.content.size() > kLongest) {
      throw FileError("{}: an added token has {}; expected 1 to {} bytes", source,
                      a.content.empty() ? "no content" : fmt::format("{} bytes", a.content.size()),
                      kLongest);
    }
    a.special = json_field<bool>(t, "special", source, false);
    a.normalized = json_field<bool>(t, "normalized", source, !a.special);
    a.left_strip = json_field<bool>(t, "lstrip", source, false);
    a.right_strip = json_field<bool>(t, "rstrip", source, false);
    a.single_word = json_field<bool>(t, "single_word", source, false);
    s.vocabulary.add(a.content, a.id, entries, source);
    s.added.push_back(std::move(a));
  }
}

Stages read_stages(std::string_view text, const std::string& source) {
  const Json j = parse_json(text, source);
  auto place = [&](const char* field) { return source + ": " + field; };
  Stages s;
  s.model = read_model(json_object(j, "model", source), place("model"), s.vocabulary);
  read_added(j, place("added_tokens"), s);
  if (const Json* n = json_optional(j, "normalizer"))
    s.normalizer = read_normalizer(*n, place("normalizer"));
  if (const Json* p = json_optional(j, "pre_tokenizer"))
    s.pretokenizer = read_pretokenizer(*p, place("pre_tokenizer"));
  if (const Json* p = json_optional(j, "post_processor"))
    s.postprocessor = read_postprocessor(*p, place("post_processor"), s.vocabulary);
  if (const Json* d = json_optional(j, "decoder")) s.decoder = read_decoder(*d, place("decoder"));
  read_settings(j, source, s);
  return s;
}

// ---- vocab.txt: BERT

Stages read_bert_vocabulary(std::string_view text, const std::string& source, bool lowercase) {
  const char* const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  Stages s;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string token(text.substr(at, end - at));
    while (token.ends_with('\r')) token.pop_back();
    // As in the reference a token that stands twice has its last id; of a special one no reader
    // could say which is meant.
    if (s.vocabulary.id_of(token) >= 0 && std::ranges::find(specials, token) != std::end(specials))
      throw FileError("{}:{}: the special token '{}' stands twice", source, s.vocabulary.size() + 1,
                      token);
    s.vocabulary.append(token);
    at = end + 1;
  }
  const int32_t cls = s.vocabulary.required("[CLS]", source);
  set_bert_template(s.postprocessor, cls, s.vocabulary.required("[SEP]", source));
  const WordPieceOptions options;
  s.model = make_wordpiece(s.vocabulary, options, source);
  s.normalizer = make_bert_normalizer({.lowercase = lowercase, .strip_accents = lowercase});
  s.pretokenizer = make_bert_pretokenizer();
  s.decoder = make_wordpiece_decoder(options.prefix, true);
  for (const char* token : specials) {
    if (const int32_t id = s.vocabulary.id_of(token); id >= 0)
      s.added.push_back({.content = token, .id = id, .special = true});
  }
  read_settings(Json::object(), source, s);
  return s;
}

// ---- vocab.json and merges.txt: GPT-2 and RoBERTa

Merges read_merges_file(const std::string& file) {
  const std::string text = read_file(file);
  Merges merges;
  int64_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++line_number;
    while (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      throw FileError("{}:{}: a merge should be two tokens but is '{}'", file, line_number,
                      line.substr(0, 80));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

// Special tokens that a file beside the vocabulary names.
void add_named_specials(const Json& j, const std::string& source, Stages& s) {
  for (const Role& role : roles()) {
    AddedToken t = special_token_field(j, role.key, source);
    t.id = s.vocabulary.id_of(t.content);
    const bool known =
        std::ranges::any_of(s.added, [&](const AddedToken& a) { return a.content == t.content; });
    if (!t.content.empty() && t.id >= 0 && !known) s.added.push_back(std::move(t));
  }
}

Stages read_gpt2_folder(const std::string& folder) {
  const std::string file = folder + "/vocab.json";
  Stages s;
  s.vocabulary = read_vocabulary(parse_json_file(file), file);
  const std::string merges = folder + "/merges.txt";
  s.model = make_bpe(s.vocabulary, read_merges_file(merges), {}, merges);
  bool prefix_space = false;
  std::string kind;
  std::error_code none;
  for (const char* name : {"/special_tokens_map.json", "/tokenizer_config.json"}) {
    const std::string beside = folder + name;
    if (!std::filesystem::exists(beside, none)) continue;
    const Json j = parse_json_file(beside);
    add_named_specials(j, beside, s);
    prefix_space = json_field<bool>(j, "add_prefix_space", beside, prefix_space);
    kind = json_field<std::string>(j, "tokenizer_class", beside, kind);
  }
  for (const char* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"}) {
    const int32_t id = s.vocabulary.id_of(token);
    const bool known =
        std::ranges::any_of(s.added, [&](const AddedToken& a) { return a.content == token; });
    if (id < 0 || known) continue;
    const bool mask = std::string_view(token) == "<mask>";
    s.added.push_back({.content = token, .id = id, .special = true, .left_strip = mask});
  }
  s.pretokenizer = make_byte_level(prefix_space);
  s.decoder = make_byte_level_decoder();
  const int32_t cls = s.vocabulary.id_of("<s>"), sep = s.vocabulary.id_of("</s>");
  // The same two files serve both; RoBERTa's vocabulary has its special tokens.
  if (kind.starts_with("Roberta") || (kind.empty() && cls >= 0 && sep >= 0)) {
    set_roberta_template(s.postprocessor, s.vocabulary.required("<s>", file),
                         s.vocabulary.required("</s>", file));
    s.postprocessor.trims_offsets = true;
    s.postprocessor.prefix_space = prefix_space;
  }
  read_settings(Json::object(), file, s);
  return s;
}

// ---- SentencePiece

// The model does not say which tokens stand around a text; the class of the tokenizer does.
Stages read_sentencepiece_folder(const std::string& folder, const std::string& file) {
  Stages s = read_sentencepiece(read_file(file), file);
  const std::string config = folder + "/tokenizer_config.json";
  std::string kind;
  bool bos = false, eos = false;
  std::error_code none;
  if (std::filesystem::exists(config, none)) {
    const Json j = parse_json_file(config);
    kind = json_field<std::string>(j, "tokenizer_class", config, "");
    bos = json_field<bool>(j, "add_bos_token", config,
                           kind.starts_with("Llama") || kind.starts_with("Gemma"));
    eos = json_field<bool>(j, "add_eos_token", config,
                           kind.starts_with("T5") || kind.starts_with("MT5"));
  }
  const SpecialTokens& special = s.settings.special;
  std::vector<TemplatePiece> single, pair;
  for (int text = 0; text < 2; ++text) {
    if (bos && special.bos >= 0) pair.push_back({-1, special.bos, 0});
    pair.push_back({text, 0, 0});
    if (eos && special.eos >= 0) pair.push_back({-1, special.eos, 0});
    if (text == 0) single = pair;
  }
  s.postprocessor.single = std::move(single);
  s.postprocessor.pair = std::move(pair);
  return s;
}

Stages read_folder(const std::string& folder) {
  std::error_code none;
  auto exists = [&](const char* name) { return std::filesystem::exists(folder + name, none); };
  if (exists("/tokenizer.json")) {
    const std::string file = folder + "/tokenizer.json";
    return read_stages(read_file(file), file);
  }
  if (exists("/vocab.json") && exists("/merges.txt")) return read_gpt2_folder(folder);
  for (const char* name : {"/tokenizer.model", "/spiece.model", "/sentencepiece.bpe.model"}) {
    if (exists(name)) return read_sentencepiece_folder(folder, folder + name);
  }
  if (!exists("/vocab.txt")) {
    throw FileError(
        "{}: there is neither tokenizer.json nor vocab.txt, tokenizer.model, or vocab.json with "
        "merges.txt; the model's folder has one",
        folder);
  }
  const std::string config = folder + "/tokenizer_config.json", file = folder + "/vocab.txt";
  const bool lowercase = !exists("/tokenizer_config.json") ||
                         json_field<bool>(parse_json_file(config), "do_lower_case", config, true);
  return read_bert_vocabulary(read_file(file), file, lowercase);
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source) {
  return make_tokenizer(read_stages(text, source));
}

std::unique_ptr<Tokenizer> parse_vocabulary(std::string_view text, const std::string& source,
                                            bool lowercase) {
  return make_tokenizer(read_bert_vocabulary(text, source, lowercase));
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  Stages s = read_folder(folder);
  read_folder_settings(folder, s);
  return make_tokenizer(std::move(s));
}

}  // namespace graft
