// Reference kernels of the dense operators: clear, in float64 whatever the storage (integers in int64), rounded once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "core/tensor/tensor.h"

namespace tessera::kernels {

/// The dtype of a result of two operands: the larger float; a float beats an integer; an integer beats bool;
/// bf16 with f16 gives f32.
DType promote(DType a, DType b);

/// f(x), element by element; the result has x's dtype (f32 for integers and bools). Integers beyond 2^53 lose low bits.
Tensor map(const Tensor& x, const std::function<double(double)>& f);
/// f(x, y) with broadcasting; the result has `result` as its dtype, or promote(x, y) where there is none.
/// Worked example: x [2, 1, 3] with y [4, 3] gives [2, 4, 3]. Integers beyond 2^53 lose low bits.
/// @throws Error "broadcast"
Tensor zip(const Tensor& x, const Tensor& y, const std::function<double(double, double)>& f,
           std::optional<DType> result = std::nullopt);

/// x [..., m, k] times w [..., k, n] -> [..., m, n], batch dims broadcast, in promote(x, w). `transpose_x`: x is [..., k,
/// m]; likewise w. Integers are exact and wrap beyond 64 bits; bools are "and" and "or".
/// @throws Error "shape-mismatch", "broadcast"
Tensor matmul(const Tensor& x, const Tensor& w, bool transpose_x = false, bool transpose_w = false);

/// softmax over one dim, in x's dtype (f32 for integers); a row of -inf gives zeros. Dims count from 0.
/// @throws Error "dim-out-of-range"
Tensor softmax(const Tensor& x, int dim);
/// Natural logarithm of `softmax`, without its underflow; a row of -inf gives -inf.
/// @throws Error "dim-out-of-range"
Tensor log_softmax(const Tensor& x, int dim);

/// What `rms_norm` returns.
struct RmsNormResult {
  Tensor out;   ///< x's shape and dtype
  Tensor rstd;  ///< the reciprocal root, f32 (f64 for f64 input): x's shape with normalised dims of size 1
};
/// x / sqrt(mean(x^2) + epsilon) * gamma, the mean over the last dims of x, as many as gamma has.
///
/// @param x     [..., d1, ..., dm], floats
/// @param gamma [d1, ..., dm]
/// @throws Error "shape-mismatch", "dtype"
RmsNormResult rms_norm(const Tensor& x, const Tensor& gamma, double epsilon);

/// Rows of `table` [v, d] named by integer `ids` [...] -> [..., d], in the table's dtype. The table is rows [first, first +
/// v) of one of `total` rows; ids of its other rows give zeros, so that the sum over all parts is the whole lookup.
/// @throws Error "index-out-of-range" for ids outside [0, total), "shape-mismatch", "dtype"
Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t first, std::int64_t total);

enum class Reduce : std::uint8_t { kSum, kMean, kMax, kMin, kProd, kAny, kAll };
/// Reduces the given dims, kept with size 1 if `keep_dims`; no dims reduce nothing. Sum of nothing is 0, product 1, mean
/// NaN; max and min of nothing are the identity (-inf, +inf, or the integer's limit), which a merge with other ranks' parts
/// needs. Max and min of a NaN are NaN. Bool results for kAny and kAll; sum and product of integers and bools are i64;
/// otherwise x's dtype (mean of integers: f32).
/// @throws Error "dim-out-of-range", "dim-twice"
Tensor reduce(const Tensor& x, std::span<const int> dims, Reduce kind, bool keep_dims);

/// Where `mask` (nonzero is true) is true `value`, else x; with broadcasting, in x's dtype.
/// @throws Error "broadcast"
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);

}  // namespace tessera::kernels
