#include "models/tokenizer/model.h"

#include "core/error.h"
#include "models/tokenizer/fields.h"

namespace graft {
namespace {

// Old files have "a b", new ones ["a", "b"], so that tokens may hold spaces.
Merges read_merges(const Json& list, const std::string& source) {
  Merges merges;
  merges.reserve(list.size());
  for (const Json& m : list) {
    if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
      merges.emplace_back(m[0].get<std::string>(), m[1].get<std::string>());
      continue;
    }
    const std::string text = m.is_string() ? m.get<std::string>() : "";
    if (text.starts_with("#version")) continue;
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      throw FileError("{}: merge {} should be two tokens but is {}", source, merges.size(),
                      shown(m));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

std::unique_ptr<SubwordModel> read_bpe(const Json& j, const std::string& source,
                                       const Vocabulary& vocabulary) {
  BpeOptions o;
  o.unknown = json_field<std::string>(j, "unk_token", source, "");
  o.prefix = json_field<std::string>(j, "continuing_subword_prefix", source, "");
  o.suffix = json_field<std::string>(j, "end_of_word_suffix", source, "");
  o.fuse_unknown = json_field<bool>(j, "fuse_unk", source, false);
  o.byte_fallback = json_field<bool>(j, "byte_fallback", source, false);
  o.ignore_merges = json_field<bool>(j, "ignore_merges", source, false);
  return make_bpe(vocabulary, read_merges(json_list(j, "merges", source), source), o, source);
}

std::unique_ptr<SubwordModel> read_unigram(const Json& j, const std::string& source,
                                           Vocabulary& vocabulary) {
  const Json& list = json_list(j, "vocab", source);
  std::vector<double> scores;
  for (const Json& entry : list) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      throw FileError("{}: entry {} of 'vocab' should be a token and its score but is {}", source,
                      scores.size(), shown(entry));
    }
    vocabulary.append(entry[0].get<std::string>());
    scores.push_back(entry[1].get<double>());
  }
  UnigramOptions o;
  o.byte_fallback = json_field<bool>(j, "byte_fallback", source, false);
  const auto unknown = json_field<int64_t>(j, "unk_id", source, -1);
  if (json_optional(j, "unk_id") != nullptr && (unknown < 0 || unknown >= vocabulary.size())) {
    throw FileError("{}: the field 'unk_id' should be 0 to {} but is {}", source,
                    vocabulary.size() - 1, unknown);
  }
  o.unknown = static_cast<int32_t>(unknown);
  return make_unigram(vocabulary, std::move(scores), o, source);
}

// Files of before the field `type`.
std::string guessed_type(const Json& j) {
  if (const auto it = j.find("vocab"); it != j.end() && it->is_array()) return "Unigram";
  if (j.contains("merges")) return "BPE";
  return j.contains("max_input_chars_per_word") || j.contains("continuing_subword_prefix")
             ? "WordPiece"
             : "WordLevel";
}

}  // namespace

std::vector<int32_t> byte_tokens(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (int b = 0; b < 256; ++b) ids.push_back(vocabulary.id_of(fmt::format("<0x{:02X}>", b)));
  return ids;
}

std::unique_ptr<SubwordModel> read_model(const Json& j, const std::string& source,
                                         Vocabulary& vocabulary) {
  const auto type = json_field<std::string>(j, "type", source, guessed_type(j));
  if (type == "Unigram") return read_unigram(j, source, vocabulary);
  if (type != "BPE" && type != "WordLevel" && type != "WordPiece") {
    throw UsageError("{}: '{}' is not known; known: BPE, Unigram, WordLevel, WordPiece", source,
                     type);
  }
  vocabulary = read_vocabulary(json_object(j, "vocab", source), source);
  if (type == "BPE") return read_bpe(j, source, vocabulary);
  const auto unknown = json_field<std::string>(j, "unk_token", source, "[UNK]");
  if (type == "WordLevel") return make_wordlevel(vocabulary, unknown, source);
  return make_wordpiece(
      vocabulary,
      {unknown, json_field<std::string>(j, "continuing_subword_prefix", source, "##"),
       json_field<int64_t>(j, "max_input_chars_per_word", source, 100)},
      source);
}

}  // namespace graft
