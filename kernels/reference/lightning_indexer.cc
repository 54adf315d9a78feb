// Lightning indexer: scores of all visible keys, the best of them, and the statistics of their softmax.
#include "kernels/lightning_indexer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/call_checks.h"
#include "kernels/reference/attention_rows.h"
#include "kernels/reference/softmax_statistics.h"

namespace tessera::kernels::reference {
namespace {

// The operands in f64, the keys of a head together.
struct Indexer {
  Sizes size;
  Tensor queries;  // [b, s, h, d]
  Tensor keys;     // [b, k, t, d]
  Tensor weights;  // [b, s, h]
};

template <class Call>
Indexer prepare(const Call& call, const Sizes& size, const Tensor& keys) {
  return {size, call.query.to(DType::kF64), by_head(keys), call.weights.to(DType::kF64)};
}

// Scores of the keys that a row sees: sum_h w_h * max(0, q_h . k_j), from the first head to the last.
std::vector<double> scores_of(const Indexer& indexer, const PlannedRow& row, std::int64_t key_head) {
  const std::int64_t d = indexer.size['d'];
  const std::int64_t group = indexer.size['g'];
  const std::int64_t head = key_head * group;
  const std::int64_t seen = row.keys.end - row.keys.begin;
  const ConstPackedMap q = matrix_at(indexer.queries, {row.batch, row.row, head, 0}, group, d);
  const ConstPackedMap k = matrix_at(indexer.keys, {row.batch, key_head, row.key_base + row.keys.begin, 0}, seen, d);
  const ConstPackedMap w = matrix_at(indexer.weights, {row.batch, row.row, head}, 1, group);
  const Matrix products = q * k.transpose();
  std::vector<double> scores(static_cast<std::size_t>(seen), 0.0);
  for (Eigen::Index h = 0; h < products.rows(); ++h) {
    for (Eigen::Index j = 0; j < seen; ++j) {
      const double product = products(h, j);
      scores[static_cast<std::size_t>(j)] += w(0, h) * (product < 0 ? 0 : product);  // a NaN stays one
    }
  }
  return scores;
}

// Positions of the `count` largest scores, largest first, ties to the lower position. NaN counts as largest, to be seen.
std::vector<std::size_t> largest(const std::vector<double>& scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto before = [&](std::size_t a, std::size_t b) {
    if (std::isnan(scores[a]) != std::isnan(scores[b])) return std::isnan(scores[a]);
    if (scores[a] != scores[b] && !std::isnan(scores[a])) return scores[a] > scores[b];
    return a < b;
  };
  const std::size_t kept = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), before);
  order.resize(kept);
  return order;
}

}  // namespace

IndexerResult lightning_indexer(const IndexerCall& call) {
  const Sizes size = check(call);
  const Indexer indexer = prepare(call, size, plain_keys(call.key, call.block_table, call.plan, size));
  const Shape shape = {size['b'], size['s'], size['k'], call.count};
  Tensor indices = Tensor::uninitialized(shape, DType::kI32);
  Tensor values = Tensor::uninitialized(shape, DType::kF64);
  std::ranges::fill(indices.span<std::int32_t>(), -1);
  std::ranges::fill(values.span<double>(), -std::numeric_limits<double>::infinity());
  for (const PlannedRow& row : rows_of(call.plan)) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::vector<double> scores = scores_of(indexer, row, key_head);
      std::int64_t slot = 0;
      for (std::size_t best : largest(scores, static_cast<std::size_t>(call.count))) {
        const std::int64_t number = row.keys.begin + static_cast<std::int64_t>(best);
        indices.at<std::int32_t>({row.batch, row.row, key_head, slot}) = static_cast<std::int32_t>(number);
        values.at<double>({row.batch, row.row, key_head, slot}) = scores[best];
        ++slot;
      }
    }
  }
  return {indices, values.to(call.query.dtype())};
}

LseResult indexer_softmax_lse(const IndexerLseCall& call) {
  const Sizes size = check(call);
  const Indexer indexer = prepare(call, size, call.key);
  const Shape shape = {size['b'], size['k'], size['s']};
  Tensor max = Tensor::zeros(shape, DType::kF64);
  Tensor sum = Tensor::zeros(shape, DType::kF64);
  for (const PlannedRow& row : rows_of(call.plan)) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const SoftmaxStatistics statistics = softmax_statistics(scores_of(indexer, row, key_head));
      max.at<double>({row.batch, key_head, row.row}) = statistics.max;
      sum.at<double>({row.batch, key_head, row.row}) = statistics.sum;
    }
  }
  const DType dtype = statistics_dtype(call.query.dtype());
  return {max.to(dtype), sum.to(dtype)};
}

}  // namespace tessera::kernels::reference
