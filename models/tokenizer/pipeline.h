// The stages of a tokenizer, put together:
//
//   added tokens -> normalizer -> pre-tokenizer -> model -> post-processor; decoder
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/tokenizer.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/decoder.h"
#include "models/tokenizer/model.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/postprocessor.h"
#include "models/tokenizer/pretokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace graft {

struct Stages {
  Vocabulary vocabulary;
  std::vector<AddedToken> added;
  std::unique_ptr<Normalizer> normalizer;      // null: none
  std::unique_ptr<PreTokenizer> pretokenizer;  // null: none
  std::unique_ptr<SubwordModel> model;
  PostProcessor postprocessor;
  std::unique_ptr<Decoder> decoder;  // null: tokens with spaces between them
  TokenizerSettings settings;
};

std::unique_ptr<Tokenizer> make_tokenizer(Stages stages);

}  // namespace graft
