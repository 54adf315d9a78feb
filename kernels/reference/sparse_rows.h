// What the kernels over index lists share: heads with their rope parts, the rows that a list names, softmax weights.
// Private to kernels/.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"
#include "kernels/reference/attention_rows.h"

namespace tessera::kernels {

/// x [a, b, c, d] with its rope part [a, b, c, r] behind it, [a, b, c, d + r] in f64: one product then gives q . k + q_rope
/// . k_rope.
Tensor with_rope(const Tensor& x, const std::optional<Tensor>& rope);

/// Rows of the key tensor that a row's list names, in its order. @param slots contiguous i64 [b, s, k, c]
/// @throws Error "index-out-of-range"
std::vector<std::int64_t> listed_rows(std::string_view op, const Tensor& slots, const PlannedRow& row,
                                      std::int64_t key_head, std::int64_t block_size);

/// exp(scores - max) / sum for scores [g, m] of a row and key head; 0 where a head's sum is 0.
/// @param max contiguous f64 [b, k, s, g], as `sum`
Matrix weights_of(const Matrix& scores, const Tensor& max, const Tensor& sum, const PlannedRow& row, std::int64_t key_head);

/// The numbers [rows, cols] that lie together from `index` on, to write. @pre the tensor is contiguous f64
PackedMap writable_at(Tensor& tensor, std::initializer_list<std::int64_t> index, std::int64_t rows, std::int64_t cols);

/// Adds row i of `added` to row `rows[i]` of `target`; a row named twice gets both.
void scatter_add(PackedMap target, std::span<const std::int64_t> rows, const Matrix& added);

}  // namespace tessera::kernels
