// How each golden op (tests/golden/data/ops) is built as a graph: one row per op. The same rows
// feed the golden comparison on every backend and target, the directional gradient check in double,
// every `needs` mask, and the executor against the evaluator.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "autograd/builder.h"

namespace graft::testing {

struct OpRow {
  // The op's outputs, in the order of the case's "outputs"; an absent Value where the case has an
  // optional input that is not given.
  std::function<std::vector<Value>(Builder& b, const nlohmann::ordered_json& attrs,
                                   const std::function<Value(const std::string&)>& in)>
      build;
};
using OpRows = std::map<std::string, OpRow>;

void add_elementwise_rows(OpRows& rows);
void add_reduce_rows(OpRows& rows);
void add_shape_rows(OpRows& rows);
void add_index_rows(OpRows& rows);
void add_matmul_rows(OpRows& rows);
void add_norm_rows(OpRows& rows);
void add_loss_rows(OpRows& rows);
void add_attention_rows(OpRows& rows);

OpRows all_op_rows();

}  // namespace graft::testing
