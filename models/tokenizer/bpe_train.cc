#include "models/tokenizer/bpe_train.h"

#include <algorithm>
#include <queue>
#include <set>

#include "core/error.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/model.h"
#include "models/tokenizer/pretokenizer.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

using Pair = std::pair<int32_t, int32_t>;

struct PairHash {
  size_t operator()(const Pair& p) const {
    const uint64_t both = static_cast<uint64_t>(static_cast<uint32_t>(p.first)) << 32 |
                          static_cast<uint32_t>(p.second);
    const uint64_t h = both * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
  }
};

struct Word {
  std::vector<int32_t> symbols;
  int64_t count;
};

struct Change {
  Pair pair;
  int sign;
};

// Merges a pair in a word; `changes` says how often other pairs came and went.
void merge(Word& word, Pair pair, int32_t merged, std::vector<Change>& changes) {
  changes.clear();
  std::vector<int32_t>& s = word.symbols;
  size_t out = 0;
  for (size_t i = 0; i < s.size(); ++out) {
    if (i + 1 < s.size() && s[i] == pair.first && s[i + 1] == pair.second) {
      if (out > 0) {
        changes.push_back({{s[out - 1], pair.first}, -1});
        changes.push_back({{s[out - 1], merged}, 1});
      }
      if (i + 2 < s.size()) {
        changes.push_back({{pair.second, s[i + 2]}, -1});
        changes.push_back({{merged, s[i + 2]}, 1});
      }
      s[out] = merged;
      i += 2;
    } else {
      s[out] = s[i++];
    }
  }
  s.resize(out);
}

// A pair to merge and the words that have it. Its count may have fallen since.
struct Candidate {
  int64_t count;
  Pair pair;
  std::vector<size_t> words;

  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Training {
 public:
  Training(const std::unordered_map<std::string, int64_t>& words, const BpeTrainingOptions& options)
      : options_(options) {
    for (const std::string& token : options.special_tokens) id_of(token);
    std::set<std::pair<char32_t, std::string>> alphabet;  // in the order of code points
    for (int b = 0; b < 256; ++b) {
      const std::string c(byte_level_character(static_cast<unsigned char>(b)));
      alphabet.emplace(code_point(c, 0).code, c);
    }
    for (const auto& [code, c] : alphabet) id_of(c);
    for (const auto& [text, count] : words) {
      Word w{{}, count};
      for (size_t i = 0; i < text.size();) {
        const CodePoint c = code_point(text, i);
        w.symbols.push_back(id_of(text.substr(i, c.bytes)));
        i += c.bytes;
      }
      words_.push_back(std::move(w));
    }
  }

  void run() {
    std::unordered_map<Pair, std::vector<size_t>, PairHash> found;
    for (size_t k = 0; k < words_.size(); ++k) {
      const std::vector<int32_t>& s = words_[k].symbols;
      for (size_t i = 0; i + 1 < s.size(); ++i) note({s[i], s[i + 1]}, words_[k].count, k, found);
    }
    enter(found);
    std::vector<Change> changes;
    while (static_cast<int64_t>(tokens_.size()) < options_.vocabulary_size && !queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      if (const int64_t now = counts_[top.pair]; top.count != now) {
        top.count = now;
        if (now > 0) queue_.push(std::move(top));
        continue;
      }
      if (top.count < std::max<int64_t>(1, options_.least_count)) break;
      const std::string a = tokens_[static_cast<size_t>(top.pair.first)];
      const std::string b = tokens_[static_cast<size_t>(top.pair.second)];
      const int32_t merged = id_of(a + b);
      merges_.emplace_back(a, b);
      found.clear();
      for (const size_t k : top.words) {
        merge(words_[k], top.pair, merged, changes);
        for (const Change& c : changes) {
          if (c.sign > 0)
            note(c.pair, words_[k].count, k, found);
          else
            counts_[c.pair] -= words_[k].count;
        }
      }
      enter(found);
    }
  }

  Json file() const {
    Json vocabulary = Json::object(), merges = Json::array(), added = Json::array();
    auto& object = vocabulary.get_ref<Json::object_t&>();  // all keys are new
    for (size_t id = 0; id < tokens_.size(); ++id) object.emplace_back(tokens_[id], id);
    for (const auto& [a, b] : merges_) merges.push_back({a, b});
    for (size_t id = 0; id < options_.special_tokens.size(); ++id) {
      added.push_back({{"id", ids_.at(options_.special_tokens[id])},
                       {"content", options_.special_tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    const auto byte_level = [](bool trims) {
      return Json{{"type", "ByteLevel"},
                  {"add_prefix_space", false},
                  {"trim_offsets", trims},
                  {"use_regex", true}};
    };
    Json post = byte_level(false);
    if (!options_.closing.empty()) {
      const std::string& end = options_.closing;
      const auto text = [](const char* id) {
        return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}};
      };
      const Json close = {{"SpecialToken", {{"id", end}, {"type_id", 0}}}};
      const Json special = {{"id", end}, {"ids", {ids_.at(end)}}, {"tokens", {end}}};
      post = {{"type", "Sequence"},
              {"processors",
               {post,
                {{"type", "TemplateProcessing"},
                 {"single", {text("A"), close}},
                 {"pair", {text("A"), close, text("B"), close}},
                 {"special_tokens", {{end, special}}}}}}};
    }
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer", byte_level(true)},
            {"post_processor", post},
            {"decoder", byte_level(true)},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", false},
              {"vocab", vocabulary},
              {"merges", merges}}}};
  }

 private:
  using Found = std::unordered_map<Pair, std::vector<size_t>, PairHash>;

  int32_t id_of(const std::string& token) {
    const auto [it, fresh] = ids_.try_emplace(token, static_cast<int32_t>(tokens_.size()));
    if (fresh) tokens_.push_back(token);
    return it->second;
  }

  void note(Pair pair, int64_t count, size_t word, Found& found) {
    counts_[pair] += count;
    std::vector<size_t>& words = found[pair];
    if (words.empty() || words.back() != word) words.push_back(word);
  }

  void enter(Found& found) {
    for (auto& [pair, words] : found) {
      if (const int64_t count = counts_[pair]; count > 0)
        queue_.push({count, pair, std::move(words)});
    }
  }

  const BpeTrainingOptions& options_;
  std::vector<std::string> tokens_;  // by id
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::priority_queue<Candidate> queue_;
  Merges merges_;
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainingOptions options) : options_(std::move(options)) {
  const auto least = static_cast<int64_t>(256 + options_.special_tokens.size());
  if (options_.vocabulary_size < least || options_.vocabulary_size > INT32_MAX) {
    throw UsageError("a byte-level vocabulary of {} tokens is to be trained; expected {} to {}",
                     options_.vocabulary_size, least, INT32_MAX);
  }
}

void BpeTrainer::add(std::string_view text) {
  static const auto split = make_byte_level(false);
  Words w;
  read_text(text, w.text);
  if (w.text.size() == 0) return;
  w.words.push_back({0, static_cast<uint32_t>(w.text.size())});
  split->run(w);
  for (const Range r : w.words) ++words_[std::string(w.text.view(r))];
}

Json BpeTrainer::train() const {
  Training training(words_, options_);
  training.run();
  return training.file();
}

}  // namespace graft
