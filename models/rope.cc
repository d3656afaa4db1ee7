#include "models/rope.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace graft {
namespace {

constexpr double kMost = 1e12, kBase = 10000;

// Llama 3.1: long waves are slowed down by the factor, short ones kept, those between blended.
void scale_by_wavelength(ConfigReader& scaling, double factor, std::vector<double>& f) {
  const double low = scaling.real("low_freq_factor", 0, 1e6);
  const double high = scaling.real("high_freq_factor", low, 1e6);
  const double original = static_cast<double>(scaling.size("original_max_position_embeddings"));
  for (double& x : f) {
    const double turns = original * x / (2 * std::numbers::pi);
    if (turns < low) {
      x /= factor;
    } else if (turns <= high) {
      const double smooth = (turns - low) / (high - low);
      x = (1 - smooth) * x / factor + smooth * x;
    }
  }
}

std::vector<double> powers(double base, int64_t dimensions) {
  std::vector<double> f;
  for (int64_t i = 0; i < dimensions; i += 2)
    f.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(dimensions)));
  return f;
}

}  // namespace

std::vector<double> rope_frequencies(ConfigReader& r, const char* base, int64_t head_size,
                                     int64_t dimensions) {
  // An odd number takes one more channel, as the reference does.
  if (dimensions + dimensions % 2 > head_size) {
    throw FileError("{}: {} of a head's {} channels cannot be rotated in pairs", r.file(),
                    dimensions, head_size);
  }
  const double theta = r.real(base, 0, kMost, kBase);
  const char* const group = r.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!r.has(group)) return powers(theta, dimensions);
  const Json& fields = r.raw(group);
  if (!fields.is_object()) r.fail(group, "an object");
  const std::string file = r.file() + ": " + group;
  ConfigReader scaling(fields, file);
  std::vector<double> f = powers(scaling.real("rope_theta", 0, kMost, theta), dimensions);
  const char* const key = scaling.has("type") && !scaling.has("rope_type") ? "type" : "rope_type";
  const std::string type = scaling.text(key);
  if (type == "default") return f;
  if (type != "linear" && type != "llama3") scaling.fail(key, "default, linear or llama3");
  const double factor = scaling.real("factor", 0, 1e6);
  if (type == "llama3") {
    scale_by_wavelength(scaling, factor, f);
  } else {  // 2306.15595
    for (double& x : f) x /= factor;
  }
  return f;
}

}  // namespace graft
