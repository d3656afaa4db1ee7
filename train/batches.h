// Batches of rows as programs take them: padded, so that a few programs serve them all.
#pragma once

#include <compare>
#include <span>
#include <string>
#include <vector>

#include "autograd/executor.h"
#include "models/batch.h"
#include "train/task.h"

namespace graft {

// Of the inputs, padded; target: of what a decoder with an encoder says, else 0.
struct BatchShape {
  int64_t rows, length, target;
  auto operator<=>(const BatchShape&) const = default;
};

// Lengths rounded up, the inputs' to `longest` tokens at most.
BatchShape padded_shape(size_t rows, size_t length, size_t target, int64_t longest);
// `answers`: the rows are read by an encoder, and a decoder says what is next.
BatchShape shape_of(const std::vector<Example>& rows, std::span<const size_t> batch, bool answers,
                    int64_t longest);

// The inputs of a model for some rows; `suffix` follows their names in a part of a batch.
void fill_batch(Executor& e, const ModelConfig& model, const std::vector<Example>& rows,
                std::span<const size_t> batch, const BatchShape& shape, const InFront& front,
                const std::string& suffix = "");

}  // namespace graft
