// T5's own task on running text (1910.10683, section 3.1.4): spans of a stretch of text are cut
// out, the encoder reads what is left with a sentinel in place of each, and the decoder says the
// sentinels, each followed by what stood there.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "train/task.h"

namespace graft {

// Texts one after another in stretches that read as at most `length` tokens: 15 % of the tokens are
// cut out in spans of three on average. A stretch is cut as its number says, always the same way.
// Throws UsageError where the tokenizer has no sentinels (<extra_id_0>, <extra_id_1>, ...) or too
// few.
std::vector<Example> corrupted_rows(std::span<const std::string_view> texts,
                                    const Tokenizer& tokenizer, int64_t length);

}  // namespace graft
