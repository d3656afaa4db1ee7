// What a program's memory holds, what for and when: planned, so known before the first run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "autograd/planner.h"
#include "autograd/program.h"

namespace graft {

enum class MemoryPart : uint8_t {
  // There all the time.
  weights,    // of the model, in the form that runs read
  adapters,   // what a method brought, and the head of a task
  optimizer,  // states
  inputs,
  // In the arena.
  gradients,   // of parameters, until the update has read them
  kept,        // activations: what forward computed and backward is yet to read
  recomputed,  // activations that were computed again
  transient,   // on the way: what forward or backward needs for the next nodes
  workspace,   // a kernel's scratch memory
  gaps,        // of the arena, between what is alive
};
inline constexpr int kMemoryParts = 10;
std::string_view name_of(MemoryPart part);  // "kept_activations"

// Whether a buffer is bytes of the model as runs read them: a parameter of its own, or what is
// computed from some once.
bool is_weight(const Program& program, const Program::Buffer& buffer);

// A buffer at some step, and what stands in it.
struct Held {
  MemoryPart part;
  size_t bytes;
  std::string name;   // of a leaf or derived value; else empty
  Value value = {};   // in the arena; workspace: of the node that works there
  std::string place;  // "attention.query", or where it comes from and by which op: the same for all
                      // blocks of a model
};
// Everything that is in memory while that step runs, gaps left out.
std::vector<Held> held_at(const Program& program, int32_t step);
// The step at which most bytes are alive.
int32_t peak_step(const Program& program);
// Of the run of a node: what is computed again is part of backward.
Phase phase_at(const Program& program, int32_t step);
// "backward of layer 11: %812 = fused_linear : f32[4, 256, 768]  @ model.layers.11.mlp"
std::string describe_step(const Program& program, int32_t step);

// Bytes at the peak by what they serve: together Program::peak_bytes().
struct MemoryParts {
  size_t weights = 0, adapters = 0, gradients = 0, optimizer = 0, inputs = 0, activations = 0,
         recomputed = 0, transient = 0, workspace = 0, gaps = 0;
  size_t of(MemoryPart part) const;
};
MemoryParts memory_parts(const Program& program);

// What equal blocks hold at the peak, summed: the largest first, part by part.
struct HeldAlike {
  MemoryPart part;
  std::string place;
  int64_t count;
  size_t bytes;
};
std::vector<HeldAlike> alike_at_peak(const Program& program);

// Index of the block that a node or a value belongs to, by the model's marks and the scope; -1:
// outside of blocks.
int layer_of(const Graph& graph, int32_t node);

// Of the nodes of forward, once each.
double forward_flops(const Program& program);

// The largest values alive at the peak and where in the model they stand, a line for all blocks.
std::string explain_peak(const Program& program, size_t lines = 8);

// The least memory that a program is planned for, whatever it has to compute again for that.
inline const PlanOptions kLeastMemory{.recompute = Recompute::automatic, .budget = 1};

// Throws BudgetError where the peak of a program is above the budget that it was planned for (0:
// none), with the smallest one that can be met, what is alive at the peak and when that is.
void expect_budget(const Program& program, const PlanOptions& options);

}  // namespace graft
