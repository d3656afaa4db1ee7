// Typed errors. A message says what was expected, what came, where, and what to do about it.
// The library throws them at its borders (building, planning, reading files) and never aborts or
// exits.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace graft {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

#define GRAFT_ERROR_TYPE(Name)                                                      \
  class Name : public Error {                                                       \
   public:                                                                          \
    explicit Name(const std::string& message) : Error(message) {}                   \
    template <typename... Args>                                                     \
    requires(sizeof...(Args) > 0) explicit Name(fmt::format_string<Args...> format, \
                                                Args&&... args)                     \
        : Error(fmt::format(format, std::forward<Args>(args)...)) {}                \
  }

GRAFT_ERROR_TYPE(ShapeError);   // operand shapes do not fit an op
GRAFT_ERROR_TYPE(DtypeError);   // operand types do not fit an op
GRAFT_ERROR_TYPE(GraphError);   // a graph is malformed, or a selection matches nothing
GRAFT_ERROR_TYPE(BudgetError);  // a memory budget cannot be met
GRAFT_ERROR_TYPE(FileError);    // a file is missing, damaged or cannot be written
GRAFT_ERROR_TYPE(DeviceError);  // a device or a kernel is missing
GRAFT_ERROR_TYPE(UsageError);   // wrong option, unknown name, value out of range

#undef GRAFT_ERROR_TYPE

// Internal invariants: checked in debug builds only, never reachable through input.
#ifdef NDEBUG
#define GRAFT_DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define GRAFT_DCHECK(condition) \
  ((condition) ? static_cast<void>(0) : throw std::logic_error("invariant: " #condition))
#endif

}  // namespace graft
