// Places under a ceiling for buffers that fill nearly all below it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "autograd/program.h"

namespace graft {

// Whether two buffers are alive at the same time.
bool meet(const Program::Buffer& a, const Program::Buffer& b);

// A search. Each buffer in turn goes to the lowest place that is free during its life, or to the
// highest; where it finds none it goes in front of one of those that are in its way, and what stood
// behind that one is placed anew. Random numbers choose which, the same ones in every run.
class Packing {
 public:
  explicit Packing(const std::vector<const Program::Buffer*>& buffers);

  // Outlives most of what is alive as it begins: on the same side as those it would leave holes.
  bool outlives(uint32_t i) const { return outlives_[i]; }
  struct Attempt {
    std::vector<uint32_t> order;  // positions in the list of buffers
    size_t ceiling;
    int64_t conflicts;  // after so many it gives up
    bool two_sided;     // what outlives the others begins under the ceiling
  };
  bool search(Attempt a);
  size_t offset(uint32_t i) const { return offsets_[i]; }
  uint64_t work() const { return work_; }  // looks at a buffer, so far

 private:
  struct Placed {
    size_t low, high;
    uint32_t item;
  };
  bool meets(uint32_t i, uint32_t k) const { return meets_[i * bytes_.size() + k] != 0; }
  size_t place_for(uint32_t i, size_t ceiling, bool from_top);

  std::vector<size_t> bytes_;
  std::vector<uint8_t> meets_;  // [i][k]
  std::vector<bool> outlives_;
  std::vector<Placed> placed_;  // by offset
  std::vector<size_t> offsets_;
  uint64_t work_ = 0, draws_ = 0;
};

}  // namespace graft
