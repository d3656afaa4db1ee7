// What a Trainer's model says about rows: classes, scores, likelihoods.
#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>

#include "autograd/compile.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fuse_loss.h"
#include "models/generation/generate.h"
#include "train/text_to_text.h"
#include "train/trainer.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Executor& Trainer::evaluation_executor(BatchShape shape) {
  auto& slot = eval_pool_[shape];
  if (slot == nullptr) {
    Builder b(cheap_forms(peft::apply(base_graph(shape), method_, config_).graph));
    if (task_.trained_as() == TaskKind::language) {
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

std::vector<std::vector<int64_t>> Trainer::say(const std::vector<Example>& rows, double& seconds) {
  size_t longest = 0;
  std::set<int64_t> ends;
  for (const Answer& a : task_.answers) {
    longest = std::max(longest, a.tokens.size());
    ends.insert(a.tokens.back());
  }
  const GenerationOptions options = {.max_new_tokens = static_cast<int64_t>(longest),
                                     .eos_ids = {ends.begin(), ends.end()}};
  DecodingSession session(
      model_, store_,
      {.build = [this](const ModelOptions& o) { return build_model(model_, o); },
       .adapt =
           [this](const Graph& base) {
             return cheap_forms(peft::apply(base, method_, config_).graph);
           },
       .virtual_tokens = front_.virtual_tokens,
       .first_position = front_.positions});
  std::vector<std::vector<int64_t>> said(rows.size());
  for (const Batch& batch : sorted_batches(rows, static_cast<size_t>(options_.batch))) {
    std::vector<std::vector<int64_t>> questions;
    for (size_t i : batch) questions.push_back(question_of(rows[i], two_stacks()));
    const auto start = Clock::now();
    auto answers = generate(session, questions, options);
    seconds += since(start);
    for (size_t r = 0; r < batch.size(); ++r) said[batch[r]] = std::move(answers[r]);
  }
  session.forget();
  return said;
}

Predictions Trainer::predict(const std::vector<Example>& rows, double* seconds) {
  if (!task_.answers.empty()) {
    double took = 0;
    Predictions p = meaning_of(task_, say(rows, took));
    if (seconds != nullptr) *seconds = took;
    return p;
  }
  Predictions p{std::vector<int64_t>(rows.size()), std::vector<double>(rows.size())};
  double total = 0;
  for (const Batch& batch : sorted_batches(rows, static_cast<size_t>(options_.batch))) {
    const BatchShape shape = shape_of(rows, batch);
    Executor& e = evaluation_executor(shape);
    const auto start = Clock::now();
    fill(e, rows, batch, shape);
    if (task_.trained_as() == TaskKind::language) set_labels(e, rows, batch, shape);
    e.run();
    total += since(start);
    if (task_.trained_as() == TaskKind::language) {
      const Tensor nats = e.output("nats");
      const int64_t width = nats.elements() / shape.rows;
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
