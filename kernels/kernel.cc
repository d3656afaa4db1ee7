#include "kernels/kernel.h"

#include <array>
#include <map>

#include "kernels/cpu/families.h"
#include "kernels/ref/families.h"

namespace graft {
namespace {

struct Table {
  std::map<std::string_view, const KernelEntry*> by_name;

  template <size_t N>
  explicit Table(const std::array<std::span<const KernelEntry>, N>& families) {
    for (auto family : families) {
      for (const KernelEntry& e : family) by_name[e.op] = &e;
    }
  }
};

const Table& table(Backend backend) {
  static const Table ref_table(ref::families());
  static const Table cpu_table(cpu::families());
  return backend == Backend::ref ? ref_table : cpu_table;
}

}  // namespace

std::string_view name_of(Backend backend) { return backend == Backend::ref ? "ref" : "cpu"; }

const KernelEntry* find_kernel(Backend backend, std::string_view op) {
  const auto& names = table(backend).by_name;
  const auto it = names.find(op);
  return it == names.end() ? nullptr : it->second;
}

}  // namespace graft
