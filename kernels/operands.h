// What kernels ask of their operands' shapes and dtypes, in one wording. Private to kernels/.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "core/tensor/tensor.h"

namespace tessera::kernels {

/// An operand and what its dims are called, a small letter each: `{"query", query, "bsnd"}`.
struct Operand {
  std::string_view name;
  const Tensor& tensor;
  std::string_view dims;
};

/// Sizes by letter: `size['d']`.
class Sizes {
 public:
  constexpr std::int64_t& operator[](char letter) { return sizes_[index(letter)]; }
  constexpr const std::int64_t& operator[](char letter) const { return sizes_[index(letter)]; }

 private:
  static constexpr std::size_t index(char letter) { return static_cast<std::size_t>(letter - 'a'); }
  std::array<std::int64_t, 26> sizes_{};
};

/// The size that each letter stands for, in all operands the same.
/// @throws Error "shape-mismatch" where an operand has another rank, or a letter another size than in an operand before
Sizes bind_sizes(std::string_view op, std::initializer_list<Operand> operands);

/// Query heads that share a key head; 0 where there are none of either.
/// @throws Error "shape-mismatch" where the key heads (dim 2 of `key`) do not divide the query heads (dim 2 of `query`)
std::int64_t heads_per_key_head(std::string_view op, std::int64_t query_heads, std::int64_t key_heads,
                                std::string_view query = "query", std::string_view key = "key");

/// @throws Error "dtype" where the tensor holds no floats
void require_float(std::string_view op, std::string_view name, const Tensor& tensor);
/// @throws Error "dtype" where the tensor is neither i32 nor i64
void require_integer(std::string_view op, std::string_view name, const Tensor& tensor);
/// @throws Error "dim-out-of-range" where the tensor has no such dim
void require_dim(std::string_view op, std::string_view name, const Tensor& tensor, int dim);

/// The shape that `x` and `y` broadcast to: dims are matched from the last; a size 1 or a missing dim repeats.
/// `x_name` and `y_name` are what an error calls them. Worked example: [8, 1, 3] with [2, 3] is [8, 2, 3].
/// @throws Error "broadcast"
Shape broadcast_shape(std::string_view op, std::string_view x_name, const Shape& x, std::string_view y_name,
                      const Shape& y);

/// The dtype of a kernel's result where integers have no place: `dtype` if it is a float, else f32.
constexpr DType float_dtype(DType dtype) { return is_floating(dtype) ? dtype : DType::kF32; }

/// The dtype of statistics (maxima, sums, reciprocal roots) of a tensor: f64 for f64, else f32.
constexpr DType statistics_dtype(DType dtype) { return dtype == DType::kF64 ? DType::kF64 : DType::kF32; }

}  // namespace tessera::kernels
