// Partial attention: what attention over some of the keys leaves behind, merged into attention over all of them.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor/tensor.h"
#include "kernels/attention.h"

namespace tessera::kernels {

/// Maximum, sum and weighted value of each row over some of the keys: of scores s_j and values v_j
/// ```
/// max = max_j s_j;  sum = sum_j exp(s_j - max);  weighted = sum_j exp(s_j - max) v_j
/// ```
/// Attention's out is weighted / sum. A value: nothing here writes to a state's tensors, which may have any strides. All
/// three are f32 or all are f64, n is k * g, and query head h is statistics [h / g] ... [h % g]. A row whose sum is 0 has
/// seen no key; what its max and weighted value are is not looked at.
struct SoftmaxState {
  Tensor max;       ///< [b, k, s, g]
  Tensor sum;       ///< [b, k, s, g]
  Tensor weighted;  ///< [b, s, n, e]
};

/// The state of no keys, the identity of `merge`: max -inf, sum 0, weighted 0. @param out [b, s, n, e], the shape of
/// attention's result
/// @throws Error "shape-mismatch" where `out` has other dims, or `key_heads` does not divide n; "dtype" for another than
///   f32 and f64
SoftmaxState empty_state(const Shape& out, std::int64_t key_heads, DType dtype = DType::kF32);

/// The state that attention's result tells of. Rows without keys, whose max is 0 there, are those of `empty_state`.
/// @throws Error "shape-mismatch" also where out or statistics were not asked for; "dtype" unless all are f32 or all f64
SoftmaxState state_of(const AttentionResult& part);

/// The state of the keys of both, of no key twice: each part weighs exp(its max - the larger max). Maxima are never
/// rounded and only their differences reach an exponential, so that the error does not grow with the scores. In any order
/// and any tree of merges the same but for rounding; `merge(a, b)` and `merge(b, a)` are the same bits, and the identity
/// changes no bit. A NaN or infinity stays in its row.
/// @throws Error "shape-mismatch", "dtype"
SoftmaxState merge(const SoftmaxState& a, const SoftmaxState& b);

/// The state of the keys of all parts, each element read once. Of two parts it is `merge(a, b)`, of one part that part.
/// @throws also Error "no-parts" where there are none: their shape is then not known
SoftmaxState merge(std::span<const SoftmaxState> parts);

/// Attention over the keys of a state, out in `dtype`, rounded once. Rows without keys have out, max and sum 0, as
/// attention's own.
/// @throws Error "shape-mismatch", "dtype"
AttentionResult finish(const SoftmaxState& state, DType dtype);

}  // namespace tessera::kernels
