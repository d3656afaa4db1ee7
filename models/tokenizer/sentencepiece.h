// SentencePiece models (tokenizer.model, spiece.model), read without the library.
#pragma once

#include <string>
#include <string_view>

#include "models/tokenizer/pipeline.h"

namespace graft {

// Throws FileError naming `source` where the bytes are no such model.
Stages read_sentencepiece(std::string_view bytes, const std::string& source);

}  // namespace graft
