// The head of a language model and its loss, forward and gradient: logits in chunks against logits
// all at once; and one token over a cache of keys and values.
//   head_bench [--classes V] [--features C] [--rows N] [--threads N] [--rounds N]
#include <fmt/format.h>

#include <deque>
#include <memory>

#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/fuse_loss.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "bench/main.h"
#include "bench/measure.h"
#include "core/parallel.h"

namespace graft::bench {
namespace {

struct Options {
  int64_t classes = 32'000, features = 768, rows = 1024;
  int threads = num_threads(), rounds = 5;
};

// A program and what it runs on.
struct Run {
  ParamStore store;
  std::unique_ptr<Executor> executor;
  double flops = 0;

  explicit Run(const Graph& graph) {
    const Graph g = optimize(graph);
    store.initialize(g, 1);
    executor = std::make_unique<Executor>(std::make_shared<const Program>(plan(g)), store);
    for (const Node& n : g.nodes()) flops += cost_of(g, n).flops;
  }
  void run() const { executor->run(); }
  double megabytes() const { return static_cast<double>(executor->program().arena_bytes) / 1e6; }
};

Graph head(const Options& o, bool frozen, bool chunked, double softcap) {
  Builder b;
  const auto param = [&](const char* name, const Shape& shape, bool trainable) {
    return b.param({.name = name,
                    .type = {DType::f32, shape},
                    .trainable = trainable,
                    .init = Init::normal(0.02)});
  };
  const Value x = ops::mul(b, b.input("x", DType::f32, {o.rows, o.features}),
                           param("norm", {o.features}, true));
  Value z = ops::linear(b, x, param("head", {o.classes, o.features}, !frozen));
  if (softcap > 0) z = ops::scale(b, ops::tanh(b, ops::scale(b, z, 1 / softcap)), softcap);
  Value loss = ops::cross_entropy(b, z, b.input("target", DType::i64, {o.rows}));
  if (chunked) loss = fuse_loss(b, loss);
  for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
  b.output("loss", loss);
  return b.finish();
}

void heads(const Options& o) {
  fmt::print("head: {} rows, {} features, {} classes ({:.0f} MB of logits), {} threads\n", o.rows,
             o.features, o.classes, static_cast<double>(o.rows * o.classes) * 4e-6, o.threads);
  for (const auto& [frozen, softcap] : {std::pair{true, 0.0}, {false, 0.0}, {true, 30.0}}) {
    std::deque<Run> runs;  // executors point into them
    for (const bool chunked : {true, false}) {
      runs.emplace_back(head(o, frozen, chunked, softcap));
      Executor& e = *runs.back().executor;
      fill(e.input("x"), 1);
      int64_t* target = e.input("target").data<int64_t>();
      for (int64_t i = 0; i < o.rows; ++i) target[i] = i * 7919 % o.classes;
    }
    const auto r = interleaved({{"chunked", runs[0].flops, [&] { runs[0].run(); }},
                                {"at once", runs[1].flops, [&] { runs[1].run(); }}},
                               o.threads, o.rounds);
    for (size_t i = 0; i < 2; ++i) {
      fmt::print(
          "{:8} weight{}: {}  {:6.3f} s, {:6.1f} GF/s ({:.2f} of the ceiling), {:6.1f} MB of "
          "arena, "
          "loss {:.6f}\n",
          frozen ? "frozen" : "trained", softcap > 0 ? ", softcap" : "",
          i == 0 ? "in chunks" : "at once  ", r[i].seconds, r[i].rate / 1e9, r[i].share,
          runs[i].megabytes(),
          static_cast<double>(runs[i].executor->output("loss").data<float>()[0]));
    }
  }
}

Graph decode(int64_t heads, int64_t kv_heads, int64_t capacity, int64_t queries) {
  Builder b;
  const auto in = [&](const char* name, int64_t rows, int64_t h) {
    return b.input(name, DType::f32, {1, rows, h, 64});
  };
  b.output("y", ops::attention(b, in("q", queries, heads), in("k", capacity, kv_heads),
                               in("v", capacity, kv_heads), {},
                               b.input("keep", DType::i64, {1, capacity}), {.scale = 0.125}));
  return b.finish();
}

// Attention to the first 100 keys: of 100, of a cache of 2048, and to all of that.
void caches(const Options& o) {
  for (const auto& [heads, kv_heads] : {std::pair{12, 12}, {32, 8}}) {
    for (const int64_t queries : {1, 16}) {
      std::deque<Run> runs;  // executors point into them
      std::vector<Candidate> candidates;
      for (const auto& [capacity, valid] : {std::pair{100, 100}, {2048, 100}, {2048, 2048}}) {
        runs.emplace_back(decode(heads, kv_heads, capacity, queries));
        Executor& e = *runs.back().executor;
        for (const char* name : {"q", "k", "v"}) fill(e.input(name), 2);
        for (int64_t j = 0; j < capacity; ++j) e.input("keep").data<int64_t>()[j] = j < valid;
      }
      for (Run& run : runs) candidates.push_back({"", run.flops, [&run] { run.run(); }});
      const auto r = interleaved(candidates, o.threads, o.rounds);
      fmt::print(
          "attention, {} heads of {} keys, {:2} queries: 100 keys {:7.1f} us, 100 of 2048 "
          "{:7.1f} us, 2048 {:7.1f} us\n",
          heads, kv_heads, queries, 1e6 * r[0].seconds, 1e6 * r[1].seconds, 1e6 * r[2].seconds);
    }
  }
}

void run(const Options& o) {
  set_num_threads(o.threads);
  fmt::print("{}\n", machine());
  heads(o);
  caches(o);
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  graft::bench::Options o;
  command.add_option("--classes", o.classes);
  command.add_option("--features", o.features);
  command.add_option("--rows", o.rows);
  command.add_option("--threads", o.threads);
  command.add_option("--rounds", o.rounds);
  return command.main(argc, argv, [&] { graft::bench::run(o); });
}
