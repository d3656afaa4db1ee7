// Rotary position embeddings (2104.09864) as config.json describes them.
#pragma once

#include <vector>

#include "models/config_reader.h"

namespace graft {

// Radians per position of each pair among the first `dimensions` channels of a head: powers of the
// field `base`, slowed down as rope_scaling says. Reads the older fields and the newer
// rope_parameters, which holds both.
std::vector<double> rope_frequencies(ConfigReader& r, const char* base, int64_t head_size,
                                     int64_t dimensions);

}  // namespace graft
