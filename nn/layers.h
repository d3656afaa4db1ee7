// Layers as builders of graph. Parameters have Hugging Face names below the builder's scope; their
// bytes come from files.
#pragma once

#include <string_view>

#include "autograd/builder.h"

namespace graft::nn {

// y = x W^T + b: NAME.weight [out, in], NAME.bias [out].
Value linear(Builder& b, Value x, std::string_view name, int64_t out, bool bias = true);
// The same product from a weight that a file holds as [in, out]: y = x W + b. The linear op reads
// the transposed leaf, so passes and methods meet one kind of product.
Value conv1d(Builder& b, Value x, std::string_view name, int64_t out);
// Over the last axis: NAME.weight, NAME.bias.
Value layer_norm(Builder& b, Value x, std::string_view name, double eps);
// Rows of NAME.weight [rows, dim] for ids of any shape.
Value embedding(Builder& b, Value ids, std::string_view name, int64_t rows, int64_t dim);
// The leaf of a parameter NAME below the current scope.
Value weight(Builder& b, std::string_view name, Shape shape);

}  // namespace graft::nn
