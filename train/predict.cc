// What a Trainer's model says about rows: classes, scores, likelihoods.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "autograd/compile.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fuse_loss.h"
#include "train/trainer.h"

namespace graft {

Executor& Trainer::evaluation_executor(Shape2 shape) {
  auto& slot = eval_pool_[shape];
  if (slot == nullptr) {
    Builder b(cheap_forms(peft::apply(base_graph(shape), method_, config_).graph));
    if (task_.kind == TaskKind::language) {
      const Value logits = b.graph().output("logits");
      const int64_t vocabulary = b.shape(logits)[-1];
      const Shape tokens{b.shape(logits).elements() / vocabulary};
      b.output("nats", ops::cross_entropy(b, ops::reshape(b, logits, {tokens[0], vocabulary}),
                                          b.input("labels", DType::i64, tokens), "none", kNoLabel));
      b.keep_outputs({"nats"});
    } else {
      b.keep_outputs({"logits"});
    }
    const auto program = compile(fuse_loss(b.finish()), store_);
    slot = std::make_unique<Executor>(program, store_, arena_for(*program));
  }
  return *slot;
}

Predictions Trainer::predict(const std::vector<Example>& rows, double* seconds) {
  Predictions p{std::vector<int64_t>(rows.size()), std::vector<double>(rows.size())};
  using Clock = std::chrono::steady_clock;
  double total = 0;
  for (const Batch& batch : sorted_batches(rows, static_cast<size_t>(options_.batch))) {
    const Shape2 shape = shape_of(rows, batch);
    Executor& e = evaluation_executor(shape);
    const auto start = Clock::now();
    fill(e, rows, batch, shape.second);
    if (task_.kind == TaskKind::language) set_answers(e, rows, batch, shape.second);
    e.run();
    total += std::chrono::duration<double>(Clock::now() - start).count();
    if (task_.kind == TaskKind::language) {
      const Tensor nats = e.output("nats");
      const int64_t width = nats.elements() / shape.first;
      for (size_t r = 0; r < batch.size(); ++r) {
        const float* row = nats.data<float>() + static_cast<int64_t>(r) * width;
        p.scores[batch[r]] = std::accumulate(row, row + width, 0.0);
      }
      continue;
    }
    const Tensor logits = e.output("logits");
    const int64_t n = task_.outputs();
    for (size_t r = 0; r < batch.size(); ++r) {
      const float* row = logits.data<float>() + static_cast<int64_t>(r) * n;
      p.classes[batch[r]] = std::max_element(row, row + n) - row;
      p.scores[batch[r]] = static_cast<double>(row[0]);
    }
  }
  if (seconds != nullptr) *seconds = total;
  return p;
}

std::map<std::string, double> Trainer::evaluate(const std::vector<Example>& rows, double* seconds) {
  return metrics_of(task_, rows, predict(rows, seconds));
}

}  // namespace graft
