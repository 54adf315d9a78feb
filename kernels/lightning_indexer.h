// The lightning indexer, which chooses the keys of sparse attention, and the loss that trains it. Errors and providers as
// in attention.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor/tensor.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

/// What the lightning indexer returns: per row the `count` keys of largest score, best first, ties to the lower key.
struct IndexerResult {
  Tensor indices;  ///< i32 [b, s, k, c]: key numbers inside the row's own sequence, then -1
  Tensor values;   ///< [b, s, k, c] in the queries' dtype: their scores, then -inf
};

/// Score of key j for a row: I_j = sum_h w_h * max(0, q_h . k_j); the best `count` visible keys are kept.
///
/// The score has no scale of its own, may be negative, and is compared before it is rounded to storage; a NaN counts as
/// largest, to be seen. With k key heads each chooses for itself, by its own h / k index heads.
/// @throws (where computed) Error "attribute-range" for a count below 0
struct IndexerCall {
  static constexpr std::string_view kName = "lightning_indexer";
  using Result = IndexerResult;

  Tensor query;    ///< [b, s, h, d]
  Tensor key;      ///< [b, t, k, d], h % k == 0; paged [blocks, rows, k, d]
  Tensor weights;  ///< [b, s, h]
  RowPlan plan;
  std::int64_t count = 0;
  std::optional<Tensor> block_table{};  ///< as in `AttentionCall`
};

/// Statistics of the softmax over all visible keys of the indexer's scores.
struct LseResult {
  Tensor softmax_max;  ///< f32 (f64 for f64 queries) [b, k, s]: max_j I_j; 0 for rows without keys
  Tensor softmax_sum;  ///< likewise: sum_j exp(I_j - max)
};

struct IndexerLseCall {
  static constexpr std::string_view kName = "indexer_softmax_lse";
  using Result = LseResult;

  Tensor query;    ///< [b, s, h, d]
  Tensor key;      ///< [b, t, k, d]
  Tensor weights;  ///< [b, s, h]
  RowPlan plan;
};

struct IndexerLossResult {
  Tensor query;    ///< gradient [b, s, h, di]
  Tensor key;      ///< gradient [b, t, k, di]
  Tensor weights;  ///< gradient [b, s, h]
  Tensor loss;     ///< f32 (f64 for f64 queries) [1]: the sum over all rows and key heads
};

/// The loss that teaches the indexer what attention looks at, with its gradients. Per row and key head, over the keys that
/// `indices` lists (or, without them, over all visible keys):
/// ```
/// p_j = 1/g sum_h exp(score_hj - max_h) / sum_h      attention's weights, the mean of the g query heads: a constant
/// y   = softmax_j(I_j)
/// loss += sum_j P_j (log P_j - log Y_j)              P = max(p, 1e-8), Y = max(y, 1e-8)
/// dI  = y - p;  dw_h = sum_j dI_j max(0, a_hj);  da_hj = dI_j w_h [a_hj > 0]
/// dq_h = sum_j da_hj k_j;  dk_j += sum_h da_hj q_h
/// ```
/// with a_hj = q_h . k_j of the index heads. The gradients are those of the loss with p held fixed, the two floors left
/// out, and p summing to 1: as it does where the statistics are of attention over these very keys.
struct IndexerLossCall {
  static constexpr std::string_view kName = "indexer_kl_loss";
  using Result = IndexerLossResult;

  Tensor query_index;  ///< [b, s, h, di]
  Tensor key_index;    ///< [b, t, k, di]
  Tensor weights;      ///< [b, s, h]
  Tensor query;        ///< of the main attention [b, s, n, d]
  Tensor key;          ///< [b, t, k, d]
  Tensor softmax_max;  ///< of the main attention [b, k, s, g]
  Tensor softmax_sum;
  RowPlan plan;
  double scale = 1;                    ///< of the main attention
  std::optional<Tensor> indices{};     ///< i32 or i64 [b, s, k, c], read as `SparseAttentionCall` with blocks of 1
  std::optional<Tensor> query_rope{};  ///< of the main attention [b, s, n, r]
  std::optional<Tensor> key_rope{};    ///< [b, t, k, r]
  std::optional<DType> gradient_dtype{};
};

/// By the first provider that takes the call.
IndexerResult lightning_indexer(const IndexerCall& call);
LseResult indexer_softmax_lse(const IndexerLseCall& call);
IndexerLossResult indexer_kl_loss(const IndexerLossCall& call);

namespace reference {
IndexerResult lightning_indexer(const IndexerCall& call);
LseResult indexer_softmax_lse(const IndexerLseCall& call);
IndexerLossResult indexer_kl_loss(const IndexerLossCall& call);
}  // namespace reference

}  // namespace tessera::kernels
