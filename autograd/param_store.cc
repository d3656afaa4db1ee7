#include "autograd/param_store.h"

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"
#include "kernels/packed.h"

namespace graft {
namespace {

// What pack made into panels of bit patterns T.
template <typename T>
Tensor unpacked(const Tensor& panels, const Type& type, bool transposed) {
  Tensor t(type.dtype, type.shape);
  const auto* from = static_cast<const T*>(panels.bytes());
  auto* to = static_cast<T*>(t.bytes());
  const int64_t rows = type.shape[0], columns = type.shape[1];
  parallel_for(rows, 16, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < columns; ++c)
        to[r * columns + c] =
            from[transposed ? PackedIndex(rows, c, r) : PackedIndex(columns, r, c)];
    }
  });
  return t;
}

}  // namespace

const ParamStore::Stored& ParamStore::find(std::string_view name) const {
  const auto it = params_.find(name);
  if (it == params_.end()) throw GraphError("no bytes are stored for parameter '{}'", name);
  return it->second;
}

Tensor& ParamStore::get(std::string_view name) {
  auto& p = const_cast<Stored&>(find(name));
  const Tensor before = rows(p);
  p.tensor = before.cast(p.dtype);
  if (p.tensor.dtype() != before.dtype()) before.release_pages();
  p.type.dtype = p.dtype;
  p.panels.clear();  // they may be told otherwise
  return p.tensor;
}

Tensor ParamStore::get(std::string_view name) const {
  const Stored& p = find(name);
  return rows(p).cast(p.dtype);
}

Tensor ParamStore::in_type(std::string_view name, DType dtype) {
  const Stored& p = find(name);
  if (p.dtype == dtype) return get(name);
  Tensor wide = rows(p);
  if (wide.dtype() == dtype) return wide;
  Tensor narrow = wide.cast(dtype);
  const Tensor back = narrow.cast(wide.dtype());
  if (std::memcmp(back.bytes(), wide.bytes(), back.size_bytes()) != 0) {
    throw GraphError(
        "parameter '{}' was {} when the program was compiled and holds other {} since; "
        "compile again",
        name, name_of(dtype), name_of(wide.dtype()));
  }
  return narrow;
}

Tensor ParamStore::stored(std::string_view name) const { return rows(find(name)); }
DType ParamStore::stored_type(std::string_view name) const { return find(name).type.dtype; }

void ParamStore::set(std::string name, const Tensor& tensor) {
  set(std::move(name), tensor, tensor.dtype());
}

void ParamStore::set(std::string name, const Tensor& tensor, DType dtype) {
  params_[std::move(name)] = {tensor, dtype, {tensor.dtype(), tensor.shape()}};
  ++version_;
}

void ParamStore::share(const std::string& name, const ParamStore& from) {
  const Stored& p = from.find(name);
  set(name, from.rows(p), p.dtype);
}

void ParamStore::own(const std::string& name) {
  const Stored& p = find(name);
  const Tensor before = rows(p);
  set(name, before.dtype() == p.dtype ? before.clone() : before.cast(p.dtype));
  before.release_pages();
}

void ParamStore::erase(std::string_view name) {
  if (const auto it = params_.find(name); it != params_.end()) params_.erase(it);
  ++version_;
}

std::vector<std::string> ParamStore::names() const {
  std::vector<std::string> names;
  for (const auto& [name, p] : params_) names.push_back(name);
  return names;
}

Tensor draw(const Init& init, const Type& type, uint64_t seed, std::string_view name) {
  Tensor t(type.dtype, type.shape);
  if (init.kind == Init::Kind::constant && init.a == 0) return t;
  const RandomStream random(seed, hash_name(name));
  Tensor floats = type.dtype == DType::f32 ? t : Tensor(DType::f32, type.shape);
  float* out = floats.data<float>();
  for (int64_t i = 0, n = t.elements(); i < n; ++i) {
    const auto k = static_cast<uint64_t>(i);
    double v = init.a;
    switch (init.kind) {
      case Init::Kind::given:
      case Init::Kind::constant:
        break;
      case Init::Kind::uniform:
        v = init.a + (init.b - init.a) * static_cast<double>(random.uniform(k));
        break;
      case Init::Kind::normal:
        v = init.a + init.b * random.normal(k);
        break;
      case Init::Kind::truncated_normal:
        // Each retry takes its own stretch of the counter, so the numbers stay a function of the
        // index.
        for (uint64_t retry = 0;; ++retry) {
          const double z = random.normal(k + (retry << 40));
          if (std::fabs(z) <= 2) {
            v = init.b * z;
            break;
          }
        }
        break;
    }
    out[i] = static_cast<float>(v);
  }
  return floats.cast(type.dtype);
}

void ParamStore::initialize(const Graph& graph, uint64_t seed) {
  for (const Param& p : graph.params()) {
    if (contains(p.name) || p.init.kind == Init::Kind::given) continue;
    set(p.name, draw(p.init, p.type, seed, p.name));
  }
}

namespace {
// Whether a parameter of this type in a store can be the graph's: 16-bit floats may be behind it.
bool fits(DType stored, const Param& p) {
  return stored == p.type.dtype ||
         (stored == DType::f32 && (p.type.dtype == DType::bf16 || p.type.dtype == DType::f16));
}
}  // namespace

void ParamStore::check(const Graph& graph) const {
  std::string problems;
  for (const Param& p : graph.params()) {
    const auto it = params_.find(p.name);
    if (it == params_.end()) {
      if (graph.param_value(p.name).valid()) problems += fmt::format("\n  {} is missing", p.name);
    } else if (!fits(it->second.dtype, p) || it->second.type.shape != p.type.shape) {
      problems += fmt::format("\n  {} should be {} but is {}{}", p.name, p.type.str(),
                              name_of(it->second.dtype), it->second.type.shape.str());
    }
  }
  if (!problems.empty())
    throw GraphError("the stored parameters do not fit the graph:{}", problems);
}

Tensor ParamStore::derived(const std::string& name, const Type& type) {
  Derived& d = derived_[name];
  if (d.tensor.empty()) d.tensor = Tensor(type.dtype, type.shape);
  return d.tensor;
}

bool ParamStore::derived_is_current(const std::string& name) const {
  const auto it = derived_.find(name);
  if (it == derived_.end()) return false;
  const auto held = params_.find(it->second.holds);
  return it->second.version == version_ || (held != params_.end() && held->second.panels == name);
}

void ParamStore::mark_current(const std::string& name) { derived_[name].version = version_; }

void ParamStore::rest(const std::string& name) { find(name).tensor.release_pages(); }

void ParamStore::rest_in_panels(const std::string& name, const std::string& derived,
                                bool transposed) {
  auto& p = const_cast<Stored&>(find(name));
  p.tensor.release_pages();
  Derived& d = derived_.at(derived);
  // Panels of another type hold the same numbers, but the next program asks for the stored ones.
  // Whoever shares the bytes may write to them, and nothing would be gained.
  const bool own = !p.tensor.mapped() && !p.tensor.shared();
  if (p.type.dtype != d.tensor.dtype() || (!own && !p.tensor.mapped())) return;
  d.holds = name;
  p.panels = derived;
  p.transposed = transposed;
  if (own) p.tensor = {};
}

Tensor ParamStore::rows(const Stored& p) const {
  if (p.panels.empty() || !p.tensor.empty()) return p.tensor;
  const Tensor& panels = derived_.find(p.panels)->second.tensor;
  switch (size_of(panels.dtype())) {
    case 2:
      return unpacked<uint16_t>(panels, p.type, p.transposed);
    case 4:
      return unpacked<uint32_t>(panels, p.type, p.transposed);
    default:
      return unpacked<uint64_t>(panels, p.type, p.transposed);
  }
}

}  // namespace graft
