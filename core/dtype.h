// Element types of tensors and of graph values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace graft {

// f64 exists for reference results; no model or kernel of the library stores it.
enum class DType : uint8_t { f32, f64, bf16, f16, i32, i64, u8, boolean };

size_t size_of(DType dtype);
std::string_view name_of(DType dtype);                    // "f32", ..., "bool"
std::optional<DType> dtype_named(std::string_view name);  // inverse of name_of
constexpr bool is_float(DType d) {
  return d == DType::f32 || d == DType::f64 || d == DType::bf16 || d == DType::f16;
}

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::boolean;
};
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

// 16-bit floats as bits. Widening is exact; narrowing rounds to nearest, ties to even; NaN stays
// NaN.
float bf16_to_float(uint16_t bits);
uint16_t float_to_bf16(float value);
float f16_to_float(uint16_t bits);
uint16_t float_to_f16(float value);

// One element of an array as a number, and a number as an element: floats round, integers cut off
// the fraction and stop at their ends (NaN becomes 0), and a bool is whether it differs from 0.
double load_element(DType dtype, const void* data, int64_t i);
void store_element(DType dtype, void* data, int64_t i, double value);

}  // namespace graft
