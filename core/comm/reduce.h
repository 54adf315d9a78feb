// Element-wise reduction of tensors: the arithmetic of all_reduce and reduce_scatter.
#pragma once

#include <span>

#include "core/comm/communicator.h"

namespace tessera {

/// Floats have sum, avg, max, min and prod; integers these but avg; bools any, all, max (any) and min (all).
/// @throws Error "comm-reduction" where the dtype lacks the reduction
void check_reduction(Reduction reduction, DType dtype);

/// The element-wise reduction of the terms, first to last: a contiguous tensor in memory of its own, of their shape and dtype.
///
/// f16 and bf16 accumulate in f32 and round once, f32 in f32, f64 in f64. Sums and products of integers wrap around modulo 2^32
/// (i32) or 2^64 (i64). avg divides the sum by the number of terms. A NaN in any term gives NaN, in max and min too.
///
/// Example: max of [1, 5] and [3, 2] is [3, 5].
/// @pre at least one term, all of one shape and dtype
/// @throws Error "comm-reduction" as `check_reduction`
Tensor reduce(std::span<const Tensor> terms, Reduction reduction);

}  // namespace tessera
