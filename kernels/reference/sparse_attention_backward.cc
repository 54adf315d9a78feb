// The gradient of attention over the keys that an index list names, row by row.
#include <vector>

#include "kernels/call_checks.h"
#include "kernels/reference/attention_rows.h"
#include "kernels/reference/sparse_rows.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels::reference {

SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call) {
  constexpr std::string_view kOp = SparseAttentionBackwardCall::kName;
  const Sizes size = check(call);
  const SparseAttentionCall& forward = call.forward;
  const std::int64_t group = size['g'];
  const std::int64_t width = size['d'] + size['r'];

  const Tensor queries = with_rope(forward.query, forward.query_rope);
  const Tensor keys = by_head(with_rope(forward.key, forward.key_rope));
  const Tensor values = by_head(forward.value);
  const Tensor slots = forward.indices.to(DType::kI64);
  const Tensor outs = call.out.to(DType::kF64);
  const Tensor grad_outs = call.grad_out.to(DType::kF64);
  const Tensor maxima = call.softmax_max.to(DType::kF64);
  const Tensor sums = call.softmax_sum.to(DType::kF64);
  Tensor grad_query = Tensor::zeros(queries.shape(), DType::kF64);  // [b, s, n, d + r]
  Tensor grad_key = Tensor::zeros(keys.shape(), DType::kF64);       // [b, k, t, d + r]
  Tensor grad_value = Tensor::zeros(values.shape(), DType::kF64);   // [b, k, t, e]

  for (const PlannedRow& row : rows_of(forward.plan)) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::int64_t head = key_head * group;
      const std::vector<std::int64_t> rows = listed_rows(kOp, slots, row, key_head, forward.block_size);
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, head, 0}, group, width);
      const Matrix k = gather_rows(matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], width), rows);
      const Matrix v = gather_rows(matrix_at(values, {row.batch, key_head, 0, 0}, size['t'], size['e']), rows);
      const ConstPackedMap out = matrix_at(outs, {row.batch, row.row, head, 0}, group, size['e']);
      const ConstPackedMap grad_out = matrix_at(grad_outs, {row.batch, row.row, head, 0}, group, size['e']);

      const Matrix weights = weights_of(forward.scale * (q * k.transpose()), maxima, sums, row, key_head);
      const Matrix grad_weights = grad_out * v.transpose();
      const Eigen::VectorXd delta = grad_out.cwiseProduct(out).rowwise().sum();
      const Matrix grad_scores = forward.scale * weights.cwiseProduct(grad_weights.colwise() - delta);

      writable_at(grad_query, {row.batch, row.row, head, 0}, group, width) = grad_scores * k;
      scatter_add(writable_at(grad_key, {row.batch, key_head, 0, 0}, size['t'], width), rows, grad_scores.transpose() * q);
      scatter_add(writable_at(grad_value, {row.batch, key_head, 0, 0}, size['t'], size['e']), rows,
                  weights.transpose() * grad_out);
    }
  }

  const Tensor of_keys = grad_key.permute({0, 2, 1, 3});
  const auto stored = [&](const Tensor& gradient, std::int64_t begin, std::int64_t end, const Tensor& operand) {
    return gradient.slice(3, begin, end).to(call.gradient_dtype.value_or(operand.dtype()));
  };
  SparseAttentionGradients result{.query = stored(grad_query, 0, size['d'], forward.query),
                                  .key = stored(of_keys, 0, size['d'], forward.key),
                                  .value = stored(grad_value.permute({0, 2, 1, 3}), 0, size['e'], forward.value),
                                  .query_rope = {},
                                  .key_rope = {}};
  if (forward.query_rope) {
    result.query_rope = stored(grad_query, size['d'], width, *forward.query_rope);
    result.key_rope = stored(of_keys, size['d'], width, *forward.key_rope);
  }
  return result;
}

}  // namespace tessera::kernels::reference
