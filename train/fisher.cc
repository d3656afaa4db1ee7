// The diagonal Fisher information of base parameters, from gradients of single rows (the square of
// a batch's gradient would be something else).
#include <chrono>

#include "autograd/compile.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "train/trainer.h"

namespace graft {
namespace {

std::string sum_of(const std::string& param) { return "fisher." + param; }

// fisher.NAME += w g^2 for one row; w = 1, or p(label | row) = exp(-loss) for an expectation.
Graph squares(const Graph& base, const peft::FisherStart& fisher, TaskKind kind) {
  Builder b(base);
  for (const std::string& name : fisher.params) b.param_ref(name).trainable = true;
  const Value loss = task_loss(b, b.graph().output("logits"), kind);
  b.keep_outputs({});
  const auto gradients = gradient(b, loss);
  b.phase = Phase::update;
  const Value weight = fisher.expected ? ops::exp(b, ops::neg(b, loss)) : b.constant(1);
  for (const std::string& name : fisher.params) {
    const Value sum = b.param({.name = sum_of(name),
                               .type = b.graph().param(name).type,
                               .kind = Param::Kind::state,
                               .init = Init::zeros()});
    if (const auto g = gradients.find(name); g != gradients.end()) {
      const Value square = ops::mul(b, ops::pow_scalar(b, g->second, 2), weight);
      b.assign(sum_of(name), ops::add(b, sum, square));
    }
  }
  return b.finish();
}

}  // namespace

bool Trainer::start_from_fisher(const OnStep& on_step) {
  const peft::FisherStart& fisher = adapted_.fisher;
  if (fisher.expected && task_.trained_as() != TaskKind::classification) {
    throw UsageError("{}: an expected Fisher information needs classes, which this task has not",
                     method_.name);
  }
  std::map<BatchShape, std::unique_ptr<Executor>> pool;
  auto rows = epoch_batches(task_.train, 1, options_.seed, 0);
  rows.resize(std::min(rows.size(), static_cast<size_t>(fisher.samples)));
  const auto start = std::chrono::steady_clock::now();
  double tokens = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Batch& row = rows[i];
    const BatchShape shape = shape_of(task_.train, row);
    auto& e = pool[shape];
    if (e == nullptr) {
      const auto program = compile(squares(base_graph(shape), fisher, task_.trained_as()));
      store_.initialize(program->graph, 0);
      e = std::make_unique<Executor>(program, store_, arena_for(*program));
    }
    fill(*e, task_.train, row, shape);
    set_labels(*e, task_.train, row, shape);
    // The likelihood of a row of text is that of all its tokens.
    if (e->has_input("label_weight")) *e->input("label_weight").data<float>() = 1;
    for (int64_t label = 0; label < (fisher.expected ? task_.classes : 1); ++label) {
      if (fisher.expected) e->input("labels").data<int64_t>()[0] = label;
      e->run();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    const auto done = static_cast<double>(i + 1), all = static_cast<double>(rows.size());
    tokens += static_cast<double>(task_.train[row[0]].ids.size());
    if (on_step && !on_step({"Fisher information", static_cast<int64_t>(i + 1),
                             static_cast<int64_t>(rows.size()), 0, tokens / took.count(),
                             took.count() * (all / done - 1), e->program().peak_bytes()})) {
      return false;
    }
  }
  pool.clear();
  std::map<std::string, Tensor> information;
  for (const std::string& name : fisher.params) information[name] = store_.get(sum_of(name));
  for (const std::string& name : fisher.params) store_.erase(sum_of(name));
  fisher.start(information, store_);
  return true;
}

}  // namespace graft
