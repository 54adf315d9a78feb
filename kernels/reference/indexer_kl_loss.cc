// The loss that teaches the lightning indexer what attention looks at, and its gradients, row by row.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "kernels/call_checks.h"
#include "kernels/lightning_indexer.h"
#include "kernels/reference/attention_rows.h"
#include "kernels/reference/softmax_statistics.h"
#include "kernels/reference/sparse_rows.h"

namespace tessera::kernels::reference {
namespace {

constexpr double kFloor = 1e-8;  // of both distributions, under the logarithm

// Rows of the key tensor that count: those that the list names, or without lists all that the row sees.
std::vector<std::int64_t> counted_rows(const std::optional<Tensor>& slots, const PlannedRow& row, std::int64_t key_head) {
  if (slots) return listed_rows(IndexerLossCall::kName, *slots, row, key_head, 1);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(row.keys.end - row.keys.begin));
  std::iota(rows.begin(), rows.end(), row.key_base + row.keys.begin);
  return rows;
}

// softmax of the one row of scores [1, m].
Matrix softmax_of(const Matrix& scores) {
  const SoftmaxStatistics statistics = softmax_statistics({scores.data(), static_cast<std::size_t>(scores.size())});
  return scores.unaryExpr([&](double score) { return softmax_weight(score, statistics); });
}

// sum_j P_j (log P_j - log Y_j) of p and y [1, m], both floored. A NaN stays one.
double divergence(const Matrix& p, const Matrix& y) {
  double sum = 0;
  for (Eigen::Index j = 0; j < p.cols(); ++j) {
    const double target = std::max(p(0, j), kFloor);
    sum += target * (std::log(target) - std::log(std::max(y(0, j), kFloor)));
  }
  return sum;
}

}  // namespace

IndexerLossResult indexer_kl_loss(const IndexerLossCall& call) {
  const Sizes size = check(call);
  const std::int64_t group = size['g'];        // main heads of a key head
  const std::int64_t index_group = size['f'];  // index heads of a key head
  const std::int64_t width = size['d'] + size['r'];
  const std::int64_t index_width = size['i'];

  const Tensor index_queries = call.query_index.to(DType::kF64);
  const Tensor index_keys = by_head(call.key_index);
  const Tensor head_weights = call.weights.to(DType::kF64);
  const Tensor queries = with_rope(call.query, call.query_rope);
  const Tensor keys = by_head(with_rope(call.key, call.key_rope));
  const Tensor maxima = call.softmax_max.to(DType::kF64);
  const Tensor sums = call.softmax_sum.to(DType::kF64);
  const std::optional<Tensor> slots = call.indices ? std::optional(call.indices->to(DType::kI64)) : std::nullopt;
  Tensor grad_query = Tensor::zeros(index_queries.shape(), DType::kF64);
  Tensor grad_key = Tensor::zeros(index_keys.shape(), DType::kF64);  // [b, k, t, i]
  Tensor grad_weights = Tensor::zeros(head_weights.shape(), DType::kF64);
  double loss = 0;

  for (const PlannedRow& row : rows_of(call.plan)) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::vector<std::int64_t> rows = counted_rows(slots, row, key_head);
      if (rows.empty()) continue;

      // p, what attention looks at.
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, key_head * group, 0}, group, width);
      const Matrix k = gather_rows(matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], width), rows);
      const Matrix weights = weights_of(call.scale * (q * k.transpose()), maxima, sums, row, key_head);
      const Matrix p = weights.colwise().sum() / static_cast<double>(group);

      // y, what the indexer thinks of it.
      const std::int64_t head = key_head * index_group;
      const ConstPackedMap index_q = matrix_at(index_queries, {row.batch, row.row, head, 0}, index_group, index_width);
      const Matrix index_k = gather_rows(matrix_at(index_keys, {row.batch, key_head, 0, 0}, size['t'], index_width), rows);
      const ConstPackedMap w = matrix_at(head_weights, {row.batch, row.row, head}, 1, index_group);
      const Matrix products = index_q * index_k.transpose();
      const Matrix positive =
          products.unaryExpr([](double product) { return product < 0 ? 0 : product; });  // a NaN stays one
      const Matrix y = softmax_of(w * positive);

      loss += divergence(p, y);
      const Matrix grad_scores = y - p;
      const Matrix active = (products.array() > 0).cast<double>();
      const Matrix grad_products = (w.transpose() * grad_scores).cwiseProduct(active);
      writable_at(grad_weights, {row.batch, row.row, head}, 1, index_group) = grad_scores * positive.transpose();
      writable_at(grad_query, {row.batch, row.row, head, 0}, index_group, index_width) = grad_products * index_k;
      scatter_add(writable_at(grad_key, {row.batch, key_head, 0, 0}, size['t'], index_width), rows,
                  grad_products.transpose() * index_q);
    }
  }

  const auto stored = [&](const Tensor& gradient, const Tensor& operand) {
    return gradient.to(call.gradient_dtype.value_or(operand.dtype()));
  };
  return {.query = stored(grad_query, call.query_index),
          .key = stored(grad_key.permute({0, 2, 1, 3}), call.key_index),
          .weights = stored(grad_weights, call.weights),
          .loss = Tensor::of<double>({1}, {loss}).to(statistics_dtype(call.query_index.dtype()))};
}

}  // namespace tessera::kernels::reference
