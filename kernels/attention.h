// Scaled dot-product attention and its gradient: what is asked of it, and what it gives.
//
// A call is a value; `attention(call)` has it computed by the first provider that takes it (kernels/provider.h): `cpu`, the
// machine's vector units, or `reference`, float64 row by row, the oracle for everything faster. All providers throw Error
// "shape-mismatch" where operands disagree, "dtype" where one holds the wrong kind of numbers, "plan-out-of-range" where
// the plan names rows or keys that they do not have, "block-table" where an entry that the plan reaches names no block, and
// "attribute-range" for a dropout probability outside [0, 1).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor/tensor.h"
#include "kernels/dropout.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

/// What attention returns; g = n / k, and query head h is statistics [h / g] ... [h % g]. Rows that see no key have out,
/// max and sum 0: max is then no neutral element, so whoever merges parts asks whether sum is 0. What was not asked for has
/// shape [0].
struct AttentionResult {
  Tensor out{};          ///< [b, s, n, e], the queries' dtype, or the one asked for
  Tensor softmax_max{};  ///< f32 (f64 for f64 queries) [b, k, s, g]: largest scaled score of a row
  Tensor softmax_sum{};  ///< likewise: sum of exp(score - max), dropped weights too
};

/// out = dropout(softmax(scale * q k^T + mask)) v over the keys that the plan lets each row see.
struct AttentionCall {
  static constexpr std::string_view kName = "attention";
  using Result = AttentionResult;

  Tensor query;  ///< [b, s, n, d], any float dtype, any strides
  Tensor key;    ///< [b, t, k, d], n % k == 0: query head h reads key head h / (n / k); paged [blocks, rows, k, d]
  Tensor value;  ///< [b, t, k, e]; paged [blocks, rows, k, e]
  RowPlan plan;  ///< who sees what; documents of packed (TND) inputs come with b = 1 and key_base
  double scale = 1;
  /// Bool (true: visible) or float (added to the scaled score, -inf hides), broadcastable to [b, n, s, t]: row s of the
  /// local queries, key t of the local keys. It narrows the plan; a row of which it hides every key gives zeros.
  std::optional<Tensor> mask{};
  Dropout dropout{};
  /// i32 or i64 [b, m]: keys and values lie in blocks, and row j of batch entry b is row j % rows of block `block_table[b,
  /// j / rows]`; t is then m * rows. Entries beyond the rows that the plan reaches are not read.
  std::optional<Tensor> block_table{};
  bool return_out = true;
  bool return_statistics = true;
  std::optional<DType> out_dtype{};  ///< of out: f32 where parts are merged later; the queries' where there is none
};

/// Gradients of the operands. No gradient goes to mask and statistics.
struct AttentionGradients {
  Tensor query;  ///< [b, s, n, d]
  Tensor key;    ///< [b, t, k, d]
  Tensor value;  ///< [b, t, k, e]
};

/// The gradient of `attention`. With P = exp(score - max) / sum, D = rowsum(grad_out * out) and dropout's mask M (0 or 1 /
/// (1 - p)): dv = (P M)^T grad_out; dS = P (M (grad_out v^T) - D); dq = scale dS k; dk = scale dS^T q. Heads of a group add
/// up.
///
/// `out` and the statistics may be those of more keys than the call has: over parts of the keys, the parts' gradients of
/// the queries add up to the whole's (context parallelism). The same bits in every run, whatever the number of threads.
struct AttentionBackwardCall {
  static constexpr std::string_view kName = "attention_backward";
  using Result = AttentionGradients;

  AttentionCall forward;  ///< without block table; what it asks for does not matter
  Tensor out;             ///< [b, s, n, e]
  Tensor softmax_max;     ///< [b, k, s, g]
  Tensor softmax_sum;
  Tensor grad_out;  ///< [b, s, n, e]
  std::optional<DType>
      gradient_dtype{};  ///< f32 where partial gradients are added later; the operands' own where there is none
};

/// By the first provider that takes the call.
AttentionResult attention(const AttentionCall& call);
AttentionGradients attention_backward(const AttentionBackwardCall& call);

namespace reference {
/// Each row by itself, in float64 whatever the storage, rounded once: cutting a plan's rows into several calls changes no
/// bit, and keys that a row does not see (NaN in padding, say) do not reach it.
AttentionResult attention(const AttentionCall& call);
AttentionGradients attention_backward(const AttentionBackwardCall& call);
}  // namespace reference

}  // namespace tessera::kernels
