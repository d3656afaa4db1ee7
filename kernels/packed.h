// The packed form of a weight W [out, in], which graphs and kernels agree on: for each 32 output
// features a panel, input feature after input feature (panel[i][32]); the last panel is padded with
// zeros. The same panels serve x W^T and dy W.
#pragma once

#include <cstdint>

namespace graft {

inline constexpr int64_t kPanelColumns = 32;

inline int64_t PackedElements(int64_t out, int64_t in) {
  return (out + kPanelColumns - 1) / kPanelColumns * kPanelColumns * in;
}
// Where W[o][i] stands.
inline int64_t PackedIndex(int64_t in, int64_t o, int64_t i) {
  return o / kPanelColumns * kPanelColumns * in + i * kPanelColumns + o % kPanelColumns;
}

}  // namespace graft
