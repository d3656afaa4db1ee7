#include "core/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace graft {
namespace {
struct Entry {
  DType dtype;
  std::string_view name;
  size_t size;
};
constexpr std::array kTypes = {Entry{DType::f32, "f32", 4},   Entry{DType::f64, "f64", 8},
                               Entry{DType::bf16, "bf16", 2}, Entry{DType::f16, "f16", 2},
                               Entry{DType::i32, "i32", 4},   Entry{DType::i64, "i64", 8},
                               Entry{DType::u8, "u8", 1},     Entry{DType::boolean, "bool", 1}};
}  // namespace

size_t size_of(DType dtype) { return kTypes[static_cast<size_t>(dtype)].size; }
std::string_view name_of(DType dtype) { return kTypes[static_cast<size_t>(dtype)].name; }

std::optional<DType> dtype_named(std::string_view name) {
  for (const Entry& e : kTypes) {
    if (e.name == name) return e.dtype;
  }
  return std::nullopt;
}

float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

float f16_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  const uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t float_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7E00;
  if (magnitude >= 65520.0f) return sign | 0x7C00;
  if (magnitude < 0x1p-14f) {  // subnormal: nearbyint rounds to even in units of 2^-24
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  }
  const uint32_t m = bits & 0x7FFFFFFF;
  const uint32_t rounded = m + 0xFFF + ((m >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded >> 13) - (112u << 10));
}

double load_element(DType dtype, const void* data, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<double>(static_cast<const float*>(data)[i]);
    case DType::f64:
      return static_cast<const double*>(data)[i];
    case DType::bf16:
      return static_cast<double>(bf16_to_float(static_cast<const uint16_t*>(data)[i]));
    case DType::f16:
      return static_cast<double>(f16_to_float(static_cast<const uint16_t*>(data)[i]));
    case DType::i32:
      return static_cast<const int32_t*>(data)[i];
    case DType::i64:
      return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    case DType::u8:
    case DType::boolean:
      return static_cast<const uint8_t*>(data)[i];
  }
  return 0;
}

namespace {

// A conversion that leaves the range of T is undefined, so the ends are compared first.
template <typename T>
T saturated(double value) {
  using Limits = std::numeric_limits<T>;
  if (std::isnan(value)) return 0;
  if (value <= static_cast<double>(Limits::min())) return Limits::min();
  if (value >= static_cast<double>(Limits::max())) return Limits::max();
  return static_cast<T>(value);
}

}  // namespace

void store_element(DType dtype, void* data, int64_t i, double value) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      break;
    case DType::f64:
      static_cast<double*>(data)[i] = value;
      break;
    case DType::bf16:
      static_cast<uint16_t*>(data)[i] = float_to_bf16(static_cast<float>(value));
      break;
    case DType::f16:
      static_cast<uint16_t*>(data)[i] = float_to_f16(static_cast<float>(value));
      break;
    case DType::i32:
      static_cast<int32_t*>(data)[i] = saturated<int32_t>(value);
      break;
    case DType::i64:
      static_cast<int64_t*>(data)[i] = saturated<int64_t>(value);
      break;
    case DType::u8:
      static_cast<uint8_t*>(data)[i] = saturated<uint8_t>(value);
      break;
    case DType::boolean:
      static_cast<uint8_t*>(data)[i] = value != 0;
      break;
  }
}

}  // namespace graft
