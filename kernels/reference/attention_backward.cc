// Gradient of dense attention, row by row and head by head.
#include "kernels/attention.h"
#include "kernels/call_checks.h"
#include "kernels/reference/attention_rows.h"
#include "kernels/reference/softmax_statistics.h"
#include "kernels/reference/sparse_rows.h"

namespace tessera::kernels::reference {
AttentionGradients attention_backward(const AttentionBackwardCall& call) {
  const AttentionCall& forward = call.forward;
  const Sizes size = check(call);
  const Tensor queries = forward.query.to(DType::kF64);
  const Tensor keys = by_head(forward.key);
  const Tensor values = by_head(forward.value);
  const Tensor outs = call.out.to(DType::kF64);
  const Tensor grad_outs = call.grad_out.to(DType::kF64);
  const Tensor maxima = call.softmax_max.to(DType::kF64);
  const Tensor sums = call.softmax_sum.to(DType::kF64);
  const std::optional<Tensor> mask =
      forward.mask ? std::optional(additive_mask(*forward.mask, size, DType::kF64)) : std::nullopt;
  Tensor grad_query = Tensor::zeros(queries.shape(), DType::kF64);
  Tensor grad_key = Tensor::zeros(keys.shape(), DType::kF64);  // [b, k, t, d], as `keys`
  Tensor grad_value = Tensor::zeros(values.shape(), DType::kF64);

  for (const PlannedRow& row : rows_of(forward.plan)) {
    for (std::int64_t head = 0; head < size['n']; ++head) {
      const std::int64_t key_head = head / size['g'];
      const VisibleKeys visible = visible_keys(mask, row, head);
      const SoftmaxStatistics statistics{maxima.at<double>({row.batch, key_head, row.row, head % size['g']}),
                                         sums.at<double>({row.batch, key_head, row.row, head % size['g']})};
      if (visible.rows.empty() || statistics.sum == 0) continue;
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, head, 0}, 1, size['d']);
      const ConstPackedMap out = matrix_at(outs, {row.batch, row.row, head, 0}, 1, size['e']);
      const ConstPackedMap grad_out = matrix_at(grad_outs, {row.batch, row.row, head, 0}, 1, size['e']);
      const Matrix k = gather_rows(matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], size['d']), visible.rows);
      const Matrix v = gather_rows(matrix_at(values, {row.batch, key_head, 0, 0}, size['t'], size['e']), visible.rows);

      const Matrix scores = forward.scale * (q * k.transpose()) + ConstPackedMap(visible.added.data(), 1, k.rows());
      const Matrix weights = scores.unaryExpr([&](double score) { return softmax_weight(score, statistics); });
      Matrix dropped = weights;                        // P M
      Matrix grad_weights = grad_out * v.transpose();  // M (grad_out v^T)
      if (const std::optional<Matrix> factors = dropout_factors(forward.dropout, row, head, 1, visible.rows)) {
        dropped.array() *= factors->array();
        grad_weights.array() *= factors->array();
      }
      const double along = (grad_out * out.transpose()).value();  // D
      const Matrix grad_scores = forward.scale * (weights.array() * (grad_weights.array() - along)).matrix();

      writable_at(grad_query, {row.batch, row.row, head, 0}, 1, size['d']) = grad_scores * k;
      scatter_add(writable_at(grad_key, {row.batch, key_head, 0, 0}, size['t'], size['d']), visible.rows,
                  grad_scores.transpose() * q);
      scatter_add(writable_at(grad_value, {row.batch, key_head, 0, 0}, size['t'], size['e']), visible.rows,
                  dropped.transpose() * grad_out);
    }
  }
  const auto stored = [&](const Tensor& gradient, const Tensor& operand) {
    return gradient.to(call.gradient_dtype.value_or(operand.dtype()));
  };
  return {stored(grad_query, forward.query), stored(grad_key.permute({0, 2, 1, 3}), forward.key),
          stored(grad_value.permute({0, 2, 1, 3}), forward.value)};
}

}  // namespace tessera::kernels::reference
