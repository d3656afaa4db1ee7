// WordPiece: the longest piece of the vocabulary that a word begins with, again and again (Hugging
// Face tokenizers' BERT pipeline).
#include <algorithm>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "models/bert_text.h"
#include "models/tokenizer.h"

namespace graft {
namespace {

struct AddedToken {
  std::vector<char32_t> content;
  std::string text;
  int64_t id;
  bool special, left_strip, right_strip, single_word;
};

struct Piece {   // of the template around one or two texts
  int sequence;  // 0, 1; -1: a special token
  int64_t id, type;
};

class WordPiece : public Tokenizer {
 public:
  void load_json(const std::string& file) {
    const Json j = parse_json_file(file);
    const Json& model = object(j, "model", file);
    if (const auto type = json_field<std::string>(model, "type", file, "WordPiece");
        type != "WordPiece") {
      throw UsageError("{}: the tokenizer model '{}' is not known; known: WordPiece", file, type);
    }
    for (const auto& [token, id] : object(model, "vocab", file).items()) {
      if (!id.is_number_integer())
        throw FileError("{}: the id of '{}' is not an integer", file, token);
      add(token, id.get<int64_t>(), file);
    }
    unknown_ = json_field<std::string>(model, "unk_token", file, "[UNK]");
    prefix_ = json_field<std::string>(model, "continuing_subword_prefix", file, "##");
    max_chars_ = json_field<int64_t>(model, "max_input_chars_per_word", file, 100);
    read_normalizer(j, file);
    read_added(j, file);
    finish(file);
    if (j.contains("post_processor") && j.at("post_processor").is_object())
      read_template(j.at("post_processor"), file);
  }

  void load_vocabulary(const std::string& folder) {
    const std::string file = folder + "/vocab.txt", text = read_file(file);
    int64_t id = 0;
    for (size_t at = 0; at < text.size(); ++id) {
      size_t end = std::min(text.find('\n', at), text.size());
      std::string token = text.substr(at, end - at);
      while (!token.empty() && token.back() == '\r') token.pop_back();
      if (!vocabulary_.contains(token)) add(token, id, file);
      at = end + 1;
    }
    bool lower = true;
    if (const std::string config = folder + "/tokenizer_config.json";
        std::filesystem::exists(config)) {
      lower = json_field<bool>(parse_json_file(config), "do_lower_case", config, true);
    }
    options_.lowercase = options_.strip_accents = lower;
    for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
      if (vocabulary_.contains(token))
        added_.push_back(
            {decode_utf8(token), token, vocabulary_.at(token), true, false, false, false});
    }
    finish(file);
  }

  Encoding encode(std::string_view text, bool add_special, int64_t max_length) const override {
    Encoding a = words(text);
    if (!add_special) {
      if (max_length > 0) truncate(a, max_length);
      return a;
    }
    if (max_length > 0) truncate(a, std::max<int64_t>(0, max_length - specials(single_)));
    return assemble(single_, a, {});
  }

  Encoding encode_pair(std::string_view first, std::string_view second,
                       int64_t max_length) const override {
    Encoding a = words(first), b = words(second);
    if (max_length > 0) {
      const auto room = std::max<int64_t>(0, max_length - specials(pair_));
      auto na = static_cast<int64_t>(a.ids.size()), nb = static_cast<int64_t>(b.ids.size());
      if (na + nb > room) {  // longest first, as the reference halves it
        const bool swap = na > nb;
        if (swap) std::swap(na, nb);
        nb = na > room ? na : std::max(na, room - na);
        if (na + nb > room) {
          na = room / 2;
          nb = na + room % 2;
        }
        if (swap) std::swap(na, nb);
      }
      truncate(a, na);
      truncate(b, nb);
    }
    return assemble(pair_, a, b);
  }

  std::string decode(const std::vector<int64_t>& ids, bool skip_special) const override {
    std::string out;
    bool first = true;
    for (int64_t id : ids) {
      if (id < 0 || id >= vocabulary_size() || (skip_special && special_.contains(id))) continue;
      std::string token = tokens_[static_cast<size_t>(id)];
      if (!first) token = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
      first = false;
      static const std::pair<const char*, const char*> cleanup[] = {
          {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
      for (const auto& [from, to] : cleanup) {
        for (size_t at = 0; (at = token.find(from, at)) != std::string::npos;
             at += std::string_view(to).size()) {
          token.replace(at, std::string_view(from).size(), to);
        }
      }
      out += token;
    }
    return out;
  }

  int64_t vocabulary_size() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t pad_id() const override { return id_of("[PAD]", 0); }

 private:
  static const Json& object(const Json& j, const char* key, const std::string& file) {
    const auto it = j.find(key);
    if (it == j.end() || !it->is_object())
      throw FileError("{}: the field '{}' is missing or not an object", file, key);
    return *it;
  }

  void add(const std::string& token, int64_t id, const std::string& file) {
    constexpr int64_t kMost = 10'000'000;
    if (id < 0 || id > kMost) throw FileError("{}: token '{}' has the id {}", file, token, id);
    if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
    tokens_[static_cast<size_t>(id)] = token;
    vocabulary_[token] = id;
  }

  void read_normalizer(const Json& j, const std::string& file) {
    const auto it = j.find("normalizer");
    if (it == j.end() || !it->is_object()) return;
    if (const auto type = json_field<std::string>(*it, "type", file, "");
        type != "BertNormalizer") {
      throw UsageError("{}: the normalizer '{}' is not known; known: BertNormalizer", file, type);
    }
    options_.clean_text = json_field<bool>(*it, "clean_text", file, true);
    options_.chinese_chars = json_field<bool>(*it, "handle_chinese_chars", file, true);
    options_.lowercase = json_field<bool>(*it, "lowercase", file, true);
    options_.strip_accents = json_field<bool>(*it, "strip_accents", file, options_.lowercase);
  }

  void read_added(const Json& j, const std::string& file) {
    const auto it = j.find("added_tokens");
    if (it == j.end() || !it->is_array()) return;
    for (const Json& t : *it) {
      const auto text = json_field<std::string>(t, "content", file);
      const auto id = json_field<int64_t>(t, "id", file);
      if (text.empty()) throw FileError("{}: an added token has no content", file);
      add(text, id, file);
      added_.push_back({decode_utf8(text), text, id, json_field<bool>(t, "special", file, false),
                        json_field<bool>(t, "lstrip", file, false),
                        json_field<bool>(t, "rstrip", file, false),
                        json_field<bool>(t, "single_word", file, false)});
    }
  }

  void finish(const std::string& file) {
    if (!vocabulary_.contains(unknown_))
      throw FileError("{}: the vocabulary has no '{}'", file, unknown_);
    for (const AddedToken& t : added_) {
      if (t.special) special_.emplace(t.id, true);
    }
    std::ranges::stable_sort(added_, std::greater{},
                             [](const AddedToken& t) { return t.content.size(); });
    const int64_t cls = id_of("[CLS]", -1), sep = id_of("[SEP]", -1);
    if (cls >= 0 && sep >= 0) {
      single_ = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}};
      pair_ = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}, {1, 0, 1}, {-1, sep, 1}};
    } else {
      single_ = {{0, 0, 0}};
      pair_ = {{0, 0, 0}, {1, 0, 1}};
    }
  }

  void read_template(const Json& p, const std::string& file) {
    const auto type = json_field<std::string>(p, "type", file, "");
    if (type == "BertProcessing") return;  // finish() made its template
    if (type != "TemplateProcessing")
      throw UsageError(
          "{}: the post-processor '{}' is not known; known: BertProcessing, TemplateProcessing",
          file, type);
    auto read = [&](const char* key) {
      std::vector<Piece> pieces;
      const auto it = p.find(key);
      if (it == p.end() || !it->is_array())
        throw FileError("{}: the template '{}' is missing", file, key);
      for (const Json& item : *it) {
        if (item.contains("Sequence")) {
          const Json& s = item.at("Sequence");
          pieces.push_back({json_field<std::string>(s, "id", file) == "B", 0,
                            json_field<int64_t>(s, "type_id", file)});
        } else if (item.contains("SpecialToken")) {
          const Json& s = item.at("SpecialToken");
          const auto token = json_field<std::string>(s, "id", file);
          const int64_t id = id_of(token, -1);
          if (id < 0)
            throw FileError("{}: the template names '{}', which the vocabulary does not have", file,
                            token);
          pieces.push_back({-1, id, json_field<int64_t>(s, "type_id", file)});
        }
      }
      return pieces;
    };
    single_ = read("single");
    pair_ = read("pair");
  }

  int64_t id_of(const std::string& token, int64_t fallback) const {
    const auto it = vocabulary_.find(token);
    return it == vocabulary_.end() ? fallback : it->second;
  }

  static int64_t specials(const std::vector<Piece>& pieces) {
    return std::ranges::count_if(pieces, [](const Piece& p) { return p.sequence < 0; });
  }

  static void truncate(Encoding& e, int64_t n) {
    const auto size = static_cast<size_t>(n);
    if (e.ids.size() <= size) return;
    e.ids.resize(size);
    e.tokens.resize(size);
    e.offsets.resize(size);
    e.type_ids.resize(size);
    e.special.resize(size);
  }

  Encoding assemble(const std::vector<Piece>& pieces, const Encoding& a, const Encoding& b) const {
    Encoding out;
    for (const Piece& p : pieces) {
      if (p.sequence < 0) {
        push(out, p.id, tokens_[static_cast<size_t>(p.id)], 0, 0, true);
      } else {
        const Encoding& e = p.sequence == 0 ? a : b;
        out.ids.insert(out.ids.end(), e.ids.begin(), e.ids.end());
        out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
        out.offsets.insert(out.offsets.end(), e.offsets.begin(), e.offsets.end());
        out.special.insert(out.special.end(), e.special.begin(), e.special.end());
      }
      out.type_ids.resize(out.ids.size(), p.type);
    }
    return out;
  }

  static void push(Encoding& e, int64_t id, std::string token, int64_t begin, int64_t end,
                   bool special) {
    e.ids.push_back(id);
    e.tokens.push_back(std::move(token));
    e.offsets.emplace_back(begin, end);
    e.special.push_back(special);
  }

  // Added tokens are found in the raw text; what lies between is normalized, split and cut into
  // pieces.
  Encoding words(std::string_view utf8) const {
    const std::vector<char32_t> text = decode_utf8(utf8);
    Encoding out;
    size_t from = 0;
    auto plain = [&](size_t to) {
      const std::vector<char32_t> part(text.begin() + static_cast<std::ptrdiff_t>(from),
                                       text.begin() + static_cast<std::ptrdiff_t>(to));
      for (const Characters& word :
           split_bert(normalize_bert(part, static_cast<int64_t>(from), options_)))
        pieces(word, out);
    };
    for (size_t i = 0; i < text.size();) {
      const AddedToken* hit = nullptr;
      for (const AddedToken& t : added_) {
        if (t.content.size() <= text.size() - i &&
            std::equal(t.content.begin(), t.content.end(),
                       text.begin() + static_cast<std::ptrdiff_t>(i))) {
          const bool inside =
              t.single_word &&
              ((i > 0 && is_word(text[i - 1])) ||
               (i + t.content.size() < text.size() && is_word(text[i + t.content.size()])));
          if (!inside) {
            hit = &t;
            break;
          }
        }
      }
      if (hit == nullptr) {
        ++i;
        continue;
      }
      size_t begin = i, end = i + hit->content.size();
      if (hit->left_strip)
        while (begin > from && text[begin - 1] == ' ') --begin;
      if (hit->right_strip)
        while (end < text.size() && text[end] == ' ') ++end;
      plain(begin);
      push(out, hit->id, hit->text, static_cast<int64_t>(begin), static_cast<int64_t>(end), false);
      from = i = end;
    }
    plain(text.size());
    out.type_ids.assign(out.ids.size(), 0);
    return out;
  }

  static bool is_word(char32_t c) {
    return c == '_' || (c < 128 ? std::isalnum(static_cast<int>(c)) != 0 : true);
  }

  void pieces(const Characters& word, Encoding& out) const {
    const int64_t begin = word.front().at, end = word.back().at + 1;
    const size_t before = out.ids.size();
    if (static_cast<int64_t>(word.size()) <= max_chars_) {
      std::string bytes;
      std::vector<size_t> starts;  // byte offset of each character
      for (const Character& c : word) {
        starts.push_back(bytes.size());
        append_utf8(bytes, c.code);
      }
      starts.push_back(bytes.size());
      std::string candidate;
      for (size_t i = 0; i < word.size();) {
        size_t n = word.size();
        int64_t id = -1;
        for (; n > i; --n) {
          candidate.assign(i > 0 ? prefix_ : "");
          candidate.append(bytes, starts[i], starts[n] - starts[i]);
          if (const auto it = vocabulary_.find(candidate); it != vocabulary_.end()) {
            id = it->second;
            break;
          }
        }
        if (id < 0) break;
        push(out, id, candidate, word[i].at, word[n - 1].at + 1, false);
        i = n;
        if (i == word.size()) return;
      }
    }
    out.ids.resize(before);
    out.tokens.resize(before);
    out.offsets.resize(before);
    out.special.resize(before);
    push(out, vocabulary_.at(unknown_), unknown_, begin, end, false);
  }

  std::unordered_map<std::string, int64_t> vocabulary_;
  std::vector<std::string> tokens_;
  std::vector<AddedToken> added_;  // longest first
  std::map<int64_t, bool> special_;
  std::vector<Piece> single_, pair_;
  BertTextOptions options_;
  std::string unknown_ = "[UNK]", prefix_ = "##";
  int64_t max_chars_ = 100;
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  auto t = std::make_unique<WordPiece>();
  if (std::filesystem::exists(folder + "/tokenizer.json")) {
    t->load_json(folder + "/tokenizer.json");
  } else {
    t->load_vocabulary(folder);
  }
  return t;
}

}  // namespace graft
