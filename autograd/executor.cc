#include "autograd/executor.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <set>
#include <utility>

#include "autograd/memory_report.h"
#include "autograd/op.h"
#include "core/error.h"
#include "core/process_memory.h"

namespace graft {

Executor::Executor(std::shared_ptr<const Program> program, ParamStore& store,
                   std::shared_ptr<Arena> arena)
    : program_(std::move(program)), store_(store), arena_(std::move(arena)) {
  if (arena_ == nullptr) arena_ = std::make_shared<Arena>(program_->arena_bytes);
  if (arena_->bytes() < program_->arena_bytes) {
    throw BudgetError("the arena has {} bytes, the program needs {}", arena_->bytes(),
                      program_->arena_bytes);
  }
  for (const Node& n : program_->graph.nodes()) {
    if (n.op->name == "input") {
      inputs_[n.attrs.as<NameAttrs>().name] = Tensor(n.outputs[0].dtype, n.outputs[0].shape);
    }
  }
  node_seconds_.resize(program_->graph.nodes().size());
  bind();
}

View Executor::view(Value v) const {
  if (!v.valid()) return {.present = false};
  const Type& t = program_->graph.type(v);
  const int32_t b = program_->place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
  return {data_[static_cast<size_t>(b)], t.dtype, t.shape, true};
}

// What was packed: a parameter that no run reads, or its transpose.
void Executor::rest_in_panels(const Node& pack, const std::string& panels) {
  const Program& p = *program_;
  Value v = pack.inputs[0];
  const bool transposed = p.graph.node(v.node).op->name == "transpose";
  if (transposed) v = p.graph.node(v.node).inputs[0];
  const Program::Buffer& b =
      p.buffers[static_cast<size_t>(p.place[static_cast<size_t>(v.node)][0])];
  if (b.kind == Program::Kind::source) store_.rest_in_panels(b.name, panels, transposed);
}

void Executor::bind() {
  const Program& p = *program_;
  store_.check(p.graph);
  data_.assign(p.buffers.size(), nullptr);
  persistent_.assign(p.buffers.size(), {});
  views_.clear();
  bound_.clear();
  for (size_t b = 0; b < p.buffers.size(); ++b) {
    const Program::Buffer& buffer = p.buffers[b];
    if (buffer.kind == Program::Kind::arena || buffer.kind == Program::Kind::workspace) {
      data_[b] = arena_->data() + buffer.offset;
    } else if (buffer.kind == Program::Kind::input) {
      data_[b] = inputs_.at(buffer.name).bytes();
    } else if (buffer.kind == Program::Kind::param) {
      persistent_[b] = store_.in_type(buffer.name, p.graph.param(buffer.name).type.dtype);
      data_[b] = persistent_[b].bytes();
    }
  }
  auto make_call = [&](const Node& n, int32_t id) {
    std::vector<View> in, out;
    for (const Value v : n.inputs) in.push_back(view(v));
    for (size_t k = 0; k < n.outputs.size(); ++k)
      out.push_back(view({id, static_cast<int32_t>(k)}));
    const size_t in_count = in.size();
    in.insert(in.end(), out.begin(), out.end());
    views_.push_back(std::move(in));
    const std::span<const View> all = views_.back();
    return KernelCall{all.subspan(0, in_count), all.subspan(in_count), &n.attrs, nullptr};
  };
  // A source is only read here: what it had to be converted to is gone afterwards.
  const auto source = [&](const std::string& name) {
    const DType dtype = p.graph.param(name).type.dtype;
    return store_.stored_type(name) == dtype ? store_.stored(name)
           : dtype == DType::f32             ? std::as_const(store_).get(name)
                                             : store_.in_type(name, dtype);
  };
  auto for_sources = [&](const Node& n, auto f) {
    for (const Value v : n.inputs) {
      if (!v.valid()) continue;
      const int32_t b = p.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
      if (p.buffers[static_cast<size_t>(b)].kind == Program::Kind::source)
        f(static_cast<size_t>(b));
    }
  };
  // What depends on frozen parameters alone is computed here, once per store; what is only on the
  // way to it, where something needs it, until its last reader has run.
  const auto first_buffer = [&](size_t i) { return static_cast<size_t>(p.place[i][0]); };
  const auto passes = [&](size_t i) {
    return p.once[i] && p.buffers[first_buffer(i)].kind == Program::Kind::passing;
  };
  std::vector<bool> wanted(p.once.size(), false);
  std::vector<std::vector<size_t>> last_read(p.once.size());  // [node]: what passes away with it
  for (size_t i = p.once.size(); i-- > 0;) {
    if (!p.once[i]) continue;
    if (!passes(i)) wanted[i] = !store_.derived_is_current(p.buffers[first_buffer(i)].name);
    if (!wanted[i]) continue;
    for (const Value v : p.graph.nodes()[i].inputs) {
      const auto from = static_cast<size_t>(v.node);
      if (!v.valid() || !passes(from) || wanted[from]) continue;
      wanted[from] = true;
      last_read[i].push_back(from);
    }
  }
  for (size_t i = 0; i < p.once.size(); ++i) {
    if (!p.once[i] || (passes(i) && !wanted[i])) continue;
    const Node& n = p.graph.nodes()[i];
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const auto b = static_cast<size_t>(p.place[i][k]);
      const Type& type = n.outputs[k];
      persistent_[b] =
          passes(i) ? Tensor(type.dtype, type.shape) : store_.derived(p.buffers[b].name, type);
      data_[b] = persistent_[b].bytes();
    }
    if (!wanted[i]) continue;
    for_sources(n, [&](size_t b) {
      persistent_[b] = source(p.buffers[b].name);
      data_[b] = persistent_[b].bytes();
    });
    const KernelEntry* kernel = find_kernel(p.backend, n.op->name);
    KernelCall call = make_call(n, static_cast<int32_t>(i));
    std::shared_ptr<void> scratch;
    if (kernel->workspace != nullptr) {
      call.workspace_bytes = kernel->workspace(call);
      scratch = allocate_aligned(call.workspace_bytes);
      call.workspace = scratch.get();
    }
    kernel->run(call);
    if (!passes(i)) store_.mark_current(p.buffers[first_buffer(i)].name);
    for_sources(n, [&](size_t b) {
      persistent_[b] = {};
      data_[b] = nullptr;
      store_.rest(p.buffers[b].name);
    });
    if (n.op->name == "pack") rest_in_panels(n, p.buffers[first_buffer(i)].name);
    for (const size_t from : last_read[i]) {
      for (const int32_t b : p.place[from]) persistent_[static_cast<size_t>(b)] = {};
    }
  }

  for (const Program::Step& step : p.steps) {
    Bound bound;
    bound.node = step.node;
    switch (step.action) {
      case Program::Action::run:
      case Program::Action::recompute: {
        const Node& n = p.graph.node(step.node);
        if (n.op->view_of >= 0) continue;  // the same bytes: nothing to do
        bound.kernel = find_kernel(p.backend, n.op->name);
        bound.call = make_call(n, step.node);
        auto reach = [&](int32_t b) {
          const Program::Buffer& buffer = p.buffers[static_cast<size_t>(b)];
          if (buffer.kind == Program::Kind::arena || buffer.kind == Program::Kind::workspace) {
            bound.end = std::max(bound.end, buffer.offset + buffer.bytes);
          }
        };
        for (int32_t b : p.place[static_cast<size_t>(step.node)]) reach(b);
        if (const int32_t w = p.workspace[static_cast<size_t>(step.node)]; w >= 0) {
          reach(w);
          bound.call.workspace = data_[static_cast<size_t>(w)];
          bound.call.workspace_bytes = p.buffers[static_cast<size_t>(w)].bytes;
        }
        break;
      }
      case Program::Action::free:
        bound.freed = static_cast<std::byte*>(data_[static_cast<size_t>(step.buffer)]);
        bound.bytes = p.buffers[static_cast<size_t>(step.buffer)].bytes;
        break;
      case Program::Action::write: {
        const auto& [name, v] = p.graph.assignments()[static_cast<size_t>(step.node)];
        bound.to = store_.get(name).bytes();
        bound.from = view(v).data;
        bound.bytes = p.graph.type(v).bytes();
        break;
      }
    }
    bound_.push_back(bound);
  }
  bound_version_ = store_.version();
}

Tensor& Executor::input(const std::string& name) {
  const auto it = inputs_.find(name);
  if (it == inputs_.end()) throw GraphError("the program has no input '{}'", name);
  return it->second;
}

void Executor::set_input(const std::string& name, const Tensor& value) {
  Tensor& t = input(name);
  if (t.shape() != value.shape() || t.dtype() != value.dtype()) {
    throw ShapeError("input '{}' should be {}{} but is {}{}", name, graft::name_of(t.dtype()),
                     t.shape().str(), graft::name_of(value.dtype()), value.shape().str());
  }
  if (t.size_bytes() > 0) std::memcpy(t.bytes(), value.bytes(), t.size_bytes());
}

void Executor::run() {
  if (store_.version() != bound_version_) bind();  // parameters were replaced since
  using Clock = std::chrono::steady_clock;
  for (const Bound& b : bound_) {
    if (b.kernel != nullptr) {
      high_water_ = std::max(high_water_, b.end);
      if (!profile_) {
        b.kernel->run(b.call);
        continue;
      }
      const auto start = Clock::now();
      b.kernel->run(b.call);
      node_seconds_[static_cast<size_t>(b.node)] +=
          std::chrono::duration<double>(Clock::now() - start).count();
    } else if (b.to != nullptr) {
      std::memcpy(b.to, b.from, b.bytes);
    } else if (poison_ && b.freed != nullptr) {
      const bool result = std::ranges::any_of(
          program_->graph.outputs(), [&](const auto& o) { return view(o.second).data == b.freed; });
      if (!result)
        std::fill_n(reinterpret_cast<float*>(b.freed), b.bytes / 4,
                    std::numeric_limits<float>::quiet_NaN());
    }
  }
  if (profile_) ++profiled_runs_;
}

size_t Executor::peak_over_weights(size_t before) const {
  std::set<std::string> counted;
  size_t weights = before;
  for (size_t b = 0; b < persistent_.size(); ++b) {
    const Program::Buffer& buffer = program_->buffers[b];
    if (is_weight(*program_, buffer) && counted.insert(buffer.name).second)
      weights += resident_bytes(persistent_[b].bytes(), persistent_[b].size_bytes());
  }
  const size_t peak = peak_resident_bytes();
  return peak - std::min(peak, weights);
}

Tensor Executor::output(const std::string& name) const {
  const View v = view(program_->graph.output(name));
  return Tensor(v.dtype, v.shape, v.data, arena_);
}

void Executor::set_profile(bool on) {
  profile_ = on;
  profiled_runs_ = 0;
  std::ranges::fill(node_seconds_, 0);
}

std::vector<OpTime> Executor::profile() const {
  std::map<std::string_view, OpTime> by_op;
  std::vector<bool> seen(node_seconds_.size(), false);  // a node may run again
  for (const Bound& b : bound_) {
    if (b.kernel == nullptr) continue;
    const Node& n = program_->graph.node(b.node);
    OpTime& t = by_op[n.op->name];
    t.op = n.op->name;
    t.calls += profiled_runs_;
    if (!seen[static_cast<size_t>(b.node)]) t.seconds += node_seconds_[static_cast<size_t>(b.node)];
    seen[static_cast<size_t>(b.node)] = true;
    t.flops += static_cast<double>(profiled_runs_) * cost_of(program_->graph, n).flops;
  }
  std::vector<OpTime> times;
  for (auto& [name, t] : by_op) times.push_back(t);
  std::ranges::sort(times, std::greater{}, &OpTime::seconds);
  return times;
}

}  // namespace graft
