// Element types of tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <Eigen/Core>

namespace tessera {

using Half = Eigen::half;
using BFloat16 = Eigen::bfloat16;

/// What a tensor's elements are. Configs name them "f32", "f64", "bf16", "f16", "i32", "i64", "bool".
enum class DType : std::uint8_t { kF32, kF64, kBF16, kF16, kI32, kI64, kBool };

/// Bytes an element takes.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16:
    case DType::kF16: return 2;
    case DType::kBool: return 1;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kBF16 || dtype == DType::kF16;
}

/// "f32", "bf16", ...
std::string_view to_string(DType dtype);

/// Also understands the long forms "float32", "bfloat16", "int64" and so on, and "fp16", "fp32", "fp64"; nothing where the
/// name is unknown. Names are in lower case.
std::optional<DType> parse_dtype(std::string_view name);

/// The dtype of a C++ element type.
template <class T>
inline constexpr DType kDTypeOf = DType{255};
template <>
inline constexpr DType kDTypeOf<float> = DType::kF32;
template <>
inline constexpr DType kDTypeOf<double> = DType::kF64;
template <>
inline constexpr DType kDTypeOf<BFloat16> = DType::kBF16;
template <>
inline constexpr DType kDTypeOf<Half> = DType::kF16;
template <>
inline constexpr DType kDTypeOf<std::int32_t> = DType::kI32;
template <>
inline constexpr DType kDTypeOf<std::int64_t> = DType::kI64;
template <>
inline constexpr DType kDTypeOf<bool> = DType::kBool;

/// Calls `f(T{})` with `T` the C++ type of `dtype`, and returns what it returns.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32: return f(float{});
    case DType::kF64: return f(double{});
    case DType::kBF16: return f(BFloat16{});
    case DType::kF16: return f(Half{});
    case DType::kI32: return f(std::int32_t{});
    case DType::kI64: return f(std::int64_t{});
    case DType::kBool: break;
  }
  return f(bool{});
}

}  // namespace tessera
