#include "train/batches.h"

#include <algorithm>

namespace graft {

BatchShape padded_shape(size_t rows, size_t length, size_t target, int64_t longest) {
  constexpr size_t kStep = 8;
  const auto padded = [](size_t n) {
    return static_cast<int64_t>((n + kStep - 1) / kStep * kStep);
  };
  return {static_cast<int64_t>(rows), std::min(padded(length), longest), padded(target)};
}

BatchShape shape_of(const std::vector<Example>& rows, std::span<const size_t> batch, bool answers,
                    int64_t longest) {
  size_t length = 1, target = answers ? 1 : 0;
  for (size_t i : batch) {
    length = std::max(length, rows[i].ids.size());
    if (answers) target = std::max(target, rows[i].next.size());
  }
  return padded_shape(batch.size(), length, target, longest);
}

void fill_batch(Executor& e, const ModelConfig& model, const std::vector<Example>& rows,
                std::span<const size_t> batch, const BatchShape& shape, const InFront& front,
                const std::string& suffix) {
  std::vector<TokenRow> encoded;
  for (size_t i : batch) {
    encoded.push_back({rows[i].ids, rows[i].types});
    if (shape.target > 0) encoded.back().target = rows[i].next;
  }
  fill_inputs(model, encoded, shape.length, front, [&](const std::string& name) {
    return e.has_input(name + suffix) ? &e.input(name + suffix) : nullptr;
  });
}

}  // namespace graft
