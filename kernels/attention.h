// Reference attention kernels: clear, in float64 whatever the storage, the oracle for everything faster.
//
// Each row is computed by itself from the keys that it sees: cutting a plan's rows into several calls changes no bit, and keys that
// a row does not see (NaN in padding, say) do not reach it. All kernels throw Error "shape-mismatch" where operands disagree,
// "dtype" where one holds the wrong kind of numbers, and "plan-out-of-range" where the plan names rows or keys that they do not have.
#pragma once

#include <cstdint>
#include <optional>

#include "core/tensor/tensor.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

/// What attention returns; g = n / k, and query head h is statistics [h / g] ... [h % g]. Rows that see no key have out, max and
/// sum 0: max is then no neutral element, so whoever merges parts asks whether sum is 0.
struct AttentionResult {
  Tensor out;          ///< [b, s, n, e], the queries' dtype
  Tensor softmax_max;  ///< f32 (f64 for f64 queries) [b, k, s, g]: largest scaled score of a row
  Tensor softmax_sum;  ///< likewise: sum of exp(score - max)
};

/// Scaled dot-product attention: out = softmax(scale * q k^T + mask) v over the keys that the plan lets each row see.
///
/// @param query [b, s, n, d], any float dtype, any strides
/// @param key   [b, t, k, d], n % k == 0: query head h reads key head h / (n / k)
/// @param value [b, t, k, e]
/// @param plan  who sees what; documents of packed (TND) inputs come with b = 1 and key_base
/// @param mask  nothing, or bool (true: visible) or float (added to the scaled score, -inf hides), broadcastable to
///              [b, n, s, t]: row s of the local queries, key t of the local keys. It narrows the plan; a row of which it
///              hides every key gives zeros.
/// Computed in float64, rounded once to the storage type.
AttentionResult attention(const Tensor& query, const Tensor& key, const Tensor& value, const RowPlan& plan, double scale,
                          const std::optional<Tensor>& mask = std::nullopt);

/// Options of `sparse_attention`.
struct SparseOptions {
  double scale = 1.0;           ///< multiplies the whole score, rope part included
  std::int64_t block_size = 1;  ///< keys a slot names
};

/// Attention over the keys that an index list names, for each row r and key head:
/// ```
/// for e in slots[0 : min(c, ceil(limit / block_size))]:     (limit from the plan, cut at the sequence's length)
///   stop at the first e < 0
///   take keys e * block_size .. min((e + 1) * block_size, limit) - 1 of the row's own sequence, less those before the plan's first
/// ```
/// Keys named twice count twice. Slots beyond those are not read: with limit 1 and blocks of 1, [3, 0, 1, 2] names no key that the
/// row sees. Scores are scale * (q . k + q_rope . k_rope). Lists that name all visible keys in order give `attention`, bit for bit.
///
/// @param query [b, s, n, d]; key [b, t, k, d]; value [b, t, k, e]
/// @param indices i32 or i64 [b, s, k, c]
/// @param query_rope [b, s, n, r] and key_rope [b, t, k, r], both or neither
/// @throws Error "index-out-of-range" for a block that starts at or beyond the sequence's length, "rope-parts" for one rope part
///         without the other, "attribute-range" for a block size below 1
AttentionResult sparse_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& indices,
                                 const RowPlan& plan, const SparseOptions& options,
                                 const std::optional<Tensor>& query_rope = std::nullopt,
                                 const std::optional<Tensor>& key_rope = std::nullopt);

/// What the lightning indexer returns: per row the `count` keys of largest score, best first, ties to the lower key.
struct IndexerResult {
  Tensor indices;  ///< i32 [b, s, k, c]: key numbers inside the row's own sequence, then -1
  Tensor values;   ///< [b, s, k, c] in the queries' dtype: their scores, then -inf
};

/// Lightning indexer: score of key j for a row is sum_h w_h * max(0, q_h . k_j); the best `count` visible keys are kept.
///
/// The score has no scale of its own, may be negative, and is compared before it is rounded; a NaN counts as largest, to be seen.
/// With k key heads each chooses for itself, by its own h / k index heads.
///
/// @param query [b, s, h, d]; key [b, t, k, d], h % k == 0; weights [b, s, h]
/// @throws Error "attribute-range" for a count below 0
IndexerResult lightning_indexer(const Tensor& query, const Tensor& key, const Tensor& weights, const RowPlan& plan,
                                std::int64_t count);

/// Statistics of the softmax over all visible keys of the lightning indexer's scores.
struct LseResult {
  Tensor softmax_max;  ///< f32 (f64 for f64 queries) [b, k, s]; 0 for rows without keys
  Tensor softmax_sum;  ///< likewise
};

/// max_j I_j and sum_j exp(I_j - max) over all visible keys j, I_j as in `lightning_indexer`.
///
/// @param query [b, s, h, d]; key [b, t, k, d], h % k == 0; weights [b, s, h]
LseResult indexer_softmax_lse(const Tensor& query, const Tensor& key, const Tensor& weights, const RowPlan& plan);

}  // namespace tessera::kernels
