#include "autograd/evaluate.h"

#include <vector>

#include "autograd/op.h"
#include "core/error.h"

namespace graft {
namespace {

View view_of(const Tensor& t) { return {const_cast<void*>(t.bytes()), t.dtype(), t.shape(), true}; }

}  // namespace

Evaluation evaluate(const Graph& graph, const Inputs& inputs, const ParamStore& params,
                    Backend backend, const Observer& observer) {
  auto run_type = [&](DType d) { return backend == Backend::ref && is_float(d) ? DType::f64 : d; };
  const size_t count = graph.nodes().size();

  // A value is dropped after its last reader.
  std::vector<int32_t> last_reader(count, -1);
  for (size_t i = 0; i < count; ++i) {
    for (const Value v : graph.nodes()[i].inputs) {
      if (v.valid()) last_reader[static_cast<size_t>(v.node)] = static_cast<int32_t>(i);
    }
  }
  for (const Value v : graph.results())
    last_reader[static_cast<size_t>(v.node)] = static_cast<int32_t>(count);

  std::vector<std::vector<Tensor>> values(count);
  auto given = [&](const Tensor& t, const Type& type, const std::string& what) {
    const bool fits =
        t.shape() == type.shape && (t.dtype() == type.dtype || t.dtype() == run_type(type.dtype));
    if (!fits) {
      throw ShapeError("{} should be {} but is {}{}", what, type.str(), name_of(t.dtype()),
                       t.shape().str());
    }
    return t.cast(run_type(type.dtype));
  };

  for (size_t i = 0; i < count; ++i) {
    const Node& n = graph.nodes()[i];
    std::vector<Tensor>& out = values[i];
    if (n.op->name == "input") {
      const std::string& name = n.attrs.as<NameAttrs>().name;
      const auto it = inputs.find(name);
      if (it == inputs.end())
        throw GraphError("input '{}' ({}) is not given", name, n.outputs[0].str());
      out.push_back(given(it->second, n.outputs[0], "input '" + name + "'"));
    } else if (n.op->name == "param") {
      const std::string& name = n.attrs.as<NameAttrs>().name;
      out.push_back(given(params.get(name), n.outputs[0], "parameter '" + name + "'"));
    } else if (n.op->view_of >= 0) {
      const Value v = n.inputs[static_cast<size_t>(n.op->view_of)];
      out.push_back(values[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)].reshaped(
          n.outputs[0].shape));
    } else {
      const KernelEntry* kernel = find_kernel(backend, n.op->name);
      if (kernel == nullptr) {
        throw DeviceError("op '{}' has no {} kernel", n.op->name, name_of(backend));
      }
      std::vector<View> in_views, out_views;
      for (const Value v : n.inputs) {
        in_views.push_back(
            v.valid() ? view_of(values[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)])
                      : View{.present = false});
      }
      for (size_t k = 0; k < n.outputs.size(); ++k) {
        const Type& t = n.outputs[k];
        const int updated = n.op->updates[k];
        // Updates change their input in place: give them a copy.
        out.emplace_back(run_type(t.dtype), t.shape);
        if (updated >= 0) {
          const View& source = in_views[static_cast<size_t>(updated)];
          std::memcpy(out.back().bytes(), source.data, out.back().size_bytes());
          in_views[static_cast<size_t>(updated)].data = out.back().bytes();
        }
        out_views.push_back(view_of(out.back()));
      }
      KernelCall call{in_views, out_views, &n.attrs, nullptr};
      std::shared_ptr<void> workspace;
      if (kernel->workspace != nullptr) {
        call.workspace_bytes = kernel->workspace(call);
        workspace = allocate_aligned(call.workspace_bytes);
        call.workspace = workspace.get();
      }
      kernel->run(call);
    }
    if (observer) observer(static_cast<int32_t>(i), out);
    for (const Value v : n.inputs) {
      if (v.valid() && last_reader[static_cast<size_t>(v.node)] == static_cast<int32_t>(i)) {
        values[static_cast<size_t>(v.node)].clear();
      }
    }
    if (last_reader[i] < 0) out.clear();
  }

  Evaluation result;
  for (const auto& [name, v] : graph.outputs()) {
    result.outputs[name] = values[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
  }
  for (const auto& [name, v] : graph.assignments()) {
    result.assigned[name] = values[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
  }
  return result;
}

}  // namespace graft
