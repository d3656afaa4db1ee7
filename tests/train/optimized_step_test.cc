// The passes between differentiation and planning, on whole training steps: what they compute is
// what the plain step computes, and a planned step allocates nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "core/parallel.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/method.h"
#include "tests/support/golden.h"
#include "train/step.h"

// ---- every allocation of the process is counted, where the C library lets a program put its own
// malloc in front of it (the sanitizers have theirs there).
namespace {
std::atomic<int64_t> g_allocations{0};
}
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
constexpr bool kCounted = true;
extern "C" {
void* __libc_malloc(size_t);            // NOLINT
void* __libc_calloc(size_t, size_t);    // NOLINT
void* __libc_realloc(void*, size_t);    // NOLINT
void* __libc_memalign(size_t, size_t);  // NOLINT
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the library's are reserved
void* malloc(size_t n) noexcept {
  ++g_allocations;
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) noexcept {
  ++g_allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) noexcept {
  ++g_allocations;
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) noexcept {
  ++g_allocations;
  return __libc_memalign(alignment, n);
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
}
#else
constexpr bool kCounted = false;
#endif

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 3, kLength = 8;

struct Step {
  explicit Step(const std::string& method_name, int64_t parts = 1) {
    const std::string folder = golden_dir() + "/models/bert_cls";
    config = load_config(folder);
    const peft::Method& method = peft::find_method(method_name);
    Json config_given = {{"modules_to_save", {"classifier"}}};
    // Sizes that divide a width of 24; every factor is one that shows.
    const Json sizes = {{"reduction_factor", 3},
                        {"num_virtual_tokens", 2},
                        {"total_step", 10},
                        {"lora_alpha", 6},
                        {"r", 2}};
    const Json defaults = method.defaults();
    for (const auto& [key, value] : sizes.items()) {
      if (defaults.contains(key)) config_given[key] = value;
    }
    if (method_name == "lora") config_given["target_modules"] = {"query", "value", "dense"};
    const Json complete = peft::complete_config(method, config_given);
    virtual_tokens = peft::virtual_tokens(method, complete);
    const Graph base = build_model(config, {.batch = kBatch,
                                            .length = kLength + virtual_tokens,
                                            .head = Head::mean_pooled,
                                            .labels = 3});
    std::vector<MicroBatch> micro;
    for (int64_t k = 0; k < parts; ++k) {
      micro.push_back({peft::apply(base, method, complete, {.training = true}),
                       1 / static_cast<double>(parts)});
    }
    graph = training_step(micro, TaskKind::classification, {}, 1e-2);
    load_parameters(folder, micro[0].adapted.graph, store);
    peft::initialize(micro[0].adapted, store, 7);
    store.initialize(graph, 7);
    for (const Param& p : graph.params()) {
      if (store.contains(p.name)) {
        store.set(p.name, store.get(p.name).clone());
      } else {  // positions that a Fisher start would choose
        Tensor first(p.type.dtype, p.type.shape);
        std::iota(first.data<int64_t>(), first.data<int64_t>() + first.elements(), 0);
        store.set(p.name, first);
      }
    }
    fill(parts);
  }

  void fill(int64_t parts) {
    for (const Node& n : graph.nodes()) {
      if (n.op->name != "input") continue;
      inputs[n.attrs.as<NameAttrs>().name] = Tensor(n.outputs[0].dtype, n.outputs[0].shape);
    }
    std::vector<std::vector<int64_t>> ids(kBatch);
    for (int64_t k = 0; k < parts; ++k) {
      const std::string suffix = part_suffix(static_cast<size_t>(k), static_cast<size_t>(parts));
      std::vector<TokenRow> rows;
      for (int64_t r = 0; r < kBatch; ++r) {
        auto& row = ids[static_cast<size_t>(r)];
        row.clear();
        for (int64_t t = 0; t < kLength - r; ++t) row.push_back(1 + (17 * r + 5 * t + 31 * k) % 90);
        rows.push_back({row, {}});
        inputs.at("labels" + suffix).data<int64_t>()[r] = r;
      }
      fill_inputs(config, rows, kLength, {virtual_tokens, 0}, [&](const std::string& name) {
        const auto it = inputs.find(name + suffix);
        return it == inputs.end() ? nullptr : &it->second;
      });
    }
  }

  ModelConfig config;
  int64_t virtual_tokens = 0;
  Graph graph;
  ParamStore store;
  Inputs inputs;
};

int64_t count(const Graph& graph, std::string_view op) {
  return std::ranges::count_if(graph.nodes(), [&](const Node& n) { return n.op->name == op; });
}

// In double, where rounding cannot hide a wrong rewrite, and in float.
TEST(OptimizedStep, ComputesWhatThePlainStepDoes) {
  for (const peft::Method& method : peft::all_methods()) {
    SCOPED_TRACE(method.name);
    Step step{std::string(method.name)};
    const Graph fast = optimize(step.graph);
    EXPECT_GT(count(fast, "fused_linear"), 0);
    EXPECT_EQ(fast.input_names(), step.graph.input_names());
    for (const Backend backend : {Backend::ref, Backend::cpu}) {
      const bool exact = backend == Backend::ref;
      const Evaluation want = evaluate(step.graph, step.inputs, step.store, backend);
      const Evaluation got = evaluate(fast, step.inputs, step.store, backend);
      EXPECT_EQ(mismatch(got.outputs.at("loss"), want.outputs.at("loss"), exact ? 1e-11 : 1e-5,
                         exact ? 1e-12 : 1e-6),
                "");
      if (!exact) continue;  // Adam divides by the size of a gradient: rounding decides its sign
      for (const auto& [name, t] : want.assigned) {
        EXPECT_EQ(mismatch(got.assigned.at(name), t, 1e-7, 1e-9), "") << name;
      }
    }
  }
}

// What a LoRA step has between its products: sums of embeddings, and factors on small gradients.
TEST(OptimizedStep, LoraLeavesNoSumsOrFactorsBetweenProducts) {
  const Step step("lora");
  const Graph fast = optimize(step.graph);
  EXPECT_GT(count(step.graph, "add"), 20);
  EXPECT_EQ(count(fast, "add"), 2) << to_text(fast);
  // What enters an activation, backward reads as well.
  EXPECT_EQ(count(fast, "gelu_erf"), count(step.graph, "gelu_erf"));
  for (const Node& n : fast.nodes()) {
    if (n.op->name == "scale") {
      EXPECT_LE(n.outputs[0].shape.elements(), 44 * 2);
    }
    if (n.op->name != "linear" && n.op->name != "linear_dx") continue;
    const Shape& w = fast.type(n.inputs[1]).shape;
    EXPECT_LE(std::min(w[0], w[1]), 3) << "neither fused nor packed: " << w.str();
  }
}

// A head whose logits are more than a chunk: the step is built without them.
TEST(OptimizedStep, LargeHeadHoldsNoLogits) {
  constexpr int64_t kRows = 1100, kClasses = 1000;
  Builder b;
  const Value w = b.param({.name = "classifier.weight",
                           .type = {DType::f32, {kClasses, 4}},
                           .trainable = true,
                           .init = Init::normal(1)});
  b.output("logits", ops::linear(b, b.input("x", DType::f32, {kRows, 4}), w));
  const MicroBatch part{{.graph = b.finish()}};
  const Graph step = training_step({&part, 1}, TaskKind::classification, {}, 1e-3);
  EXPECT_EQ(count(step, "linear_cross_entropy_backward"), 1);
  const Program p = plan(optimize(step));
  EXPECT_LT(p.arena_bytes, 3 * kRows * kClasses) << "of 4 bytes: the logits";
}

// The plan of an optimized step is true to the byte, and the program computes its graph bit for
// bit.
TEST(OptimizedStep, ExecutorEqualsEvaluator) {
  for (const int64_t parts : {1, 2}) {
    Step step("lora", parts);
    const auto program = std::make_shared<const Program>(plan(optimize(step.graph)));
    const Evaluation want = evaluate(program->graph, step.inputs, step.store);
    Executor e(program, step.store);
    e.set_poison(true);
    for (const auto& [name, t] : step.inputs) e.set_input(name, t);
    e.run();
    EXPECT_EQ(e.high_water_bytes(), program->arena_bytes);
    for (const auto& [name, t] : want.outputs) {
      EXPECT_EQ(std::memcmp(e.output(name).bytes(), t.bytes(), t.size_bytes()), 0) << name;
    }
    for (const auto& [name, t] : want.assigned) {
      EXPECT_EQ(std::memcmp(step.store.get(name).bytes(), t.bytes(), t.size_bytes()), 0) << name;
    }
  }
}

TEST(OptimizedStep, AllocatesNothingAfterTheFirstRun) {
  if (!kCounted) GTEST_SKIP() << "the sanitizer's malloc is not counted, that of other builds is";
  const int before = num_threads();
  set_num_threads(2);
  for (const char* method : {"lora", "full", "houlsby", "ia3", "dora", "prefix_tuning"}) {
    SCOPED_TRACE(method);
    Step step(method);
    const auto program = std::make_shared<const Program>(plan(optimize(step.graph)));
    Executor e(program, step.store);
    for (const auto& [name, t] : step.inputs) e.set_input(name, t);
    e.run();
    const int64_t start = g_allocations;
    for (int i = 0; i < 3; ++i) e.run();
    EXPECT_EQ(g_allocations - start, 0);
  }
  // The counter counts.
  const int64_t start = g_allocations;
  const std::unique_ptr<int> one(new int(1));
  EXPECT_EQ(g_allocations - start, 1);
  set_num_threads(before);
}

}  // namespace
}  // namespace graft::testing
