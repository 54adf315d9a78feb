// Attention over the keys that an index list names (sparse flash attention), and its gradient. Errors and providers as in
// attention.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor/tensor.h"
#include "kernels/attention.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

/// Attention over the keys that an index list names, for each row and key head:
/// ```
/// for e in slots[0 : min(c, ceil(limit / block_size))]:     (limit from the plan, cut at the sequence's length)
///   stop at the first e < 0
///   take keys e * block_size .. min((e + 1) * block_size, limit) - 1 of the row's own sequence, less those before the plan's first
/// ```
/// Keys named twice count twice. Slots beyond those are not read: with limit 1 and blocks of 1, [3, 0, 1, 2] names no key
/// that the row sees. Scores are scale * (q . k + q_rope . k_rope). Lists that name all visible keys in order give
/// `attention`; in the reference bit for bit.
/// @throws (where computed) Error "index-out-of-range" for a block that starts at or beyond the sequence's length,
/// "rope-parts" for one rope part without the other, "attribute-range" for a block size below 1
struct SparseAttentionCall {
  static constexpr std::string_view kName = "sparse_attention";
  using Result = AttentionResult;

  Tensor query;    ///< [b, s, n, d]
  Tensor key;      ///< [b, t, k, d]; paged [blocks, rows, k, d]
  Tensor value;    ///< [b, t, k, e]; paged [blocks, rows, k, e]
  Tensor indices;  ///< i32 or i64 [b, s, k, c]
  RowPlan plan;
  double scale = 1;                     ///< multiplies the whole score, rope part included
  std::int64_t block_size = 1;          ///< keys a slot names
  std::optional<Tensor> query_rope{};   ///< [b, s, n, r]; both rope parts or neither
  std::optional<Tensor> key_rope{};     ///< [b, t, k, r]; paged [blocks, rows, k, r]
  std::optional<Tensor> block_table{};  ///< as in `AttentionCall`
  bool return_out = true;
  bool return_statistics = true;
  std::optional<DType> out_dtype{};
};

/// Gradients of the operands; those of absent rope parts have shape [0].
struct SparseAttentionGradients {
  Tensor query;
  Tensor key;  ///< of the key alone: where value is key, the caller adds both
  Tensor value;
  Tensor query_rope;
  Tensor key_rope;
};

/// The gradient of `sparse_attention`: that of attention over the listed keys; what a key gets from all rows that list it
/// adds up.
struct SparseAttentionBackwardCall {
  static constexpr std::string_view kName = "sparse_attention_backward";
  using Result = SparseAttentionGradients;

  SparseAttentionCall forward;  ///< without block table
  Tensor out;                   ///< [b, s, n, e]
  Tensor softmax_max;           ///< [b, k, s, g]
  Tensor softmax_sum;
  Tensor grad_out;  ///< [b, s, n, e]
  std::optional<DType> gradient_dtype{};
};

/// By the first provider that takes the call.
AttentionResult sparse_attention(const SparseAttentionCall& call);
SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call);

namespace reference {
AttentionResult sparse_attention(const SparseAttentionCall& call);
SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call);
}  // namespace reference

}  // namespace tessera::kernels
