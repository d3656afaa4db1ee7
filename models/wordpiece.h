// What a WordPiece tokenizer is made of. models/tokenizer_files.cc reads it, models/wordpiece.cc
// runs it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/bert_text.h"
#include "models/tokenizer.h"

namespace graft {

struct AddedToken {
  std::vector<char32_t> content;
  std::string text;
  int64_t id;
  bool special, left_strip, right_strip, single_word;
};

struct TemplatePiece {  // of what stands around one or two texts
  int sequence;         // 0, 1; -1: a special token
  int64_t id, type;
};

struct WordPieceModel {
  std::unordered_map<std::string, int64_t> vocabulary;
  std::vector<std::string> tokens;  // by id
  std::vector<AddedToken> added;    // longest first
  std::set<int64_t> special;
  std::vector<TemplatePiece> single{{0, 0, 0}}, pair{{0, 0, 0}, {1, 0, 1}};
  BertTextOptions text;
  std::string unknown = "[UNK]", prefix = "##";
  int64_t max_chars = 100;  // longer words are unknown

  int64_t id_of(const std::string& token, int64_t fallback) const {
    const auto it = vocabulary.find(token);
    return it == vocabulary.end() ? fallback : it->second;
  }
};

std::unique_ptr<Tokenizer> wordpiece(WordPieceModel model);

}  // namespace graft
