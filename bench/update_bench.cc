// The optimizer's update of one large parameter, moments in floats and in 8 bits, beside a loop
// that reads two arrays and writes one of them.
//   update_bench [--elements N] [--threads N] [--rounds N]
#include <fmt/format.h>

#include <deque>
#include <memory>

#include "autograd/executor.h"
#include "autograd/planner.h"
#include "bench/main.h"
#include "bench/measure.h"
#include "core/parallel.h"
#include "nn/optimizer.h"

namespace graft::bench {
namespace {

struct Options {
  int64_t elements = 16'000'000;
  int threads = num_threads(), rounds = 7;
};

// AdamW's step of one parameter whose gradient is given.
struct Update {
  ParamStore store;
  std::unique_ptr<Executor> executor;
  size_t state_bytes = 0;

  Update(const std::string& kind, int64_t n) {
    Builder b;
    b.param(
        {.name = "w", .type = {DType::f32, {n}}, .trainable = true, .init = Init::normal(0.02)});
    add_optimizer(b, {{"w", b.input("g", DType::f32, {n})}}, {.kind = kind},
                  {{{"w"}, {.lr = 1e-4}, 0.01}}, 0);
    const Graph graph = b.finish();
    store.initialize(graph, 1);
    executor = std::make_unique<Executor>(std::make_shared<const Program>(plan(graph)), store);
    fill(executor->input("g"), 2);
    for (const Param& p : graph.params()) {
      if (p.kind == Param::Kind::state) state_bytes += p.type.bytes();
    }
  }
};

void run(const Options& o) {
  set_num_threads(o.threads);
  fmt::print("{}\n", machine());
  const auto n = static_cast<size_t>(o.elements);
  std::vector<float> x(n, 1), y(n, 2);
  std::deque<Update> updates;  // executors point into them
  updates.emplace_back("adamw", o.elements);
  updates.emplace_back("adamw_8bit", o.elements);
  const auto r =
      interleaved({{"adamw", 1, [&] { updates[0].executor->run(); }},
                   {"adamw_8bit", 1, [&] { updates[1].executor->run(); }},
                   {"loop", 1,
                    [&] {
                      parallel_for(o.elements, 4096, [&](int64_t begin, int64_t end) {
                        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
                          x[i] = 0.5f * x[i] + y[i];
                      });
                    }}},
                  o.threads, o.rounds);
  // Bytes of an element that a step reads and writes: p and g and p, and twice its moments.
  const double bytes[] = {12 + 16, 12 + 4, 12};
  const char* names[] = {"adamw", "adamw_8bit", "x = x / 2 + y"};
  for (size_t i = 0; i < r.size(); ++i) {
    fmt::print("{:14} {:6.3f} ns an element, {:5.1f} GB/s{}\n", names[i],
               1e9 * r[i].seconds / static_cast<double>(n),
               bytes[i] * static_cast<double>(n) / r[i].seconds / 1e9,
               i < updates.size() ? fmt::format(", {:.1f} MB of moments",
                                                static_cast<double>(updates[i].state_bytes) / 1e6)
                                  : std::string());
  }
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  graft::bench::Options o;
  command.add_option("--elements", o.elements);
  command.add_option("--threads", o.threads);
  command.add_option("--rounds", o.rounds);
  return command.main(argc, argv, [&] { graft::bench::run(o); });
}
