// What the attention kernels share.
#include "kernels/reference/attention_rows.h"

#include <limits>

#include "kernels/call_checks.h"
#include "kernels/dropout.h"
#include "kernels/reference/softmax_statistics.h"

namespace tessera::kernels {
namespace {

double* writable(Tensor& tensor, std::initializer_list<std::int64_t> index) {
  return tensor.count() == 0 ? tensor.data<double>()
                             : tensor.data<double>() + tensor.offset_of({index.begin(), index.size()});
}

}  // namespace

std::vector<PlannedRow> rows_of(const RowPlan& plan) {
  std::vector<PlannedRow> result;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      if (keys.begin >= keys.end) continue;
      result.push_back(
          {segment.batch, segment.row + i, segment.key_base, segment.length, keys, segment.sequence, segment.position + i});
    }
  }
  return result;
}

Tensor plain_keys(const Tensor& keys, const std::optional<Tensor>& block_table, const RowPlan& plan, const Sizes& size) {
  if (!block_table) return keys;
  const Tensor entries = block_table->to(DType::kI64);
  const std::int64_t rows = size['l'];
  Tensor plain = Tensor::zeros({size['b'], size['t'], keys.size(2), keys.size(3)}, keys.dtype());
  for (const RowSegment& segment : plan.segments) {
    const KeyRange reached = reached_rows(segment);
    if (reached.begin >= reached.end) continue;
    Tensor sequence = plain.select(0, segment.batch);
    for (std::int64_t slot = reached.begin / rows; slot <= (reached.end - 1) / rows; ++slot) {
      sequence.slice(0, slot * rows, (slot + 1) * rows)
          .copy_from(keys.select(0, entries.at<std::int64_t>({segment.batch, slot})));
    }
  }
  return plain;
}

Tensor by_head(const Tensor& keys) { return keys.permute({0, 2, 1, 3}).to(DType::kF64); }

ConstPackedMap matrix_at(const Tensor& tensor, std::initializer_list<std::int64_t> index, std::int64_t rows,
                         std::int64_t cols) {
  return {address_of<double>(tensor, index), rows, cols};
}

Matrix gather_rows(const MatrixRef& matrix, std::span<const std::int64_t> rows) {
  Matrix result(static_cast<Eigen::Index>(rows.size()), matrix.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) result.row(static_cast<Eigen::Index>(i)) = matrix.row(rows[i]);
  return result;
}

AttentionResult zero_result(const Sizes& size) {
  const Shape statistics = {size['b'], size['k'], size['s'], size['g']};
  return {Tensor::zeros({size['b'], size['s'], size['n'], size['e']}, DType::kF64), Tensor::zeros(statistics, DType::kF64),
          Tensor::zeros(statistics, DType::kF64)};
}

VisibleKeys visible_keys(const std::optional<Tensor>& mask, const PlannedRow& row, std::int64_t head) {
  VisibleKeys visible;
  for (std::int64_t key = row.key_base + row.keys.begin; key < row.key_base + row.keys.end; ++key) {
    const double added = mask ? mask->at<double>({row.batch, head, row.row, key}) : 0;
    if (added == -std::numeric_limits<double>::infinity()) continue;
    visible.rows.push_back(key);
    visible.added.push_back(added);
  }
  return visible;
}

std::optional<Matrix> dropout_factors(const Dropout& dropout, const PlannedRow& row, std::int64_t head, std::int64_t heads,
                                      std::span<const std::int64_t> rows) {
  if (dropout.probability == 0) return std::nullopt;
  const auto word = [](std::int64_t number) { return static_cast<std::uint32_t>(number); };
  const std::uint32_t threshold = dropout_threshold(dropout.probability);
  return Matrix::NullaryExpr(heads, static_cast<Eigen::Index>(rows.size()), [&](Eigen::Index h, Eigen::Index j) {
    const std::int64_t key = rows[static_cast<std::size_t>(j)] - row.key_base;
    const auto words =
        philox({word(key / 4), word(row.position), word(dropout.first_head + head + h), word(row.sequence)}, dropout.seed);
    return words[static_cast<std::size_t>(key % 4)] >= threshold ? 1 / (1 - dropout.probability) : 0;
  });
}

void write_row(AttentionResult& result, const PlannedRow& row, std::int64_t key_head, std::int64_t head,
               const Matrix& scores, const MatrixRef& values, const std::optional<Matrix>& factors) {
  const std::int64_t first = head - key_head * result.softmax_max.size(3);  // of the heads, inside those of this key head
  double* max = writable(result.softmax_max, {row.batch, key_head, row.row, first});
  double* sum = writable(result.softmax_sum, {row.batch, key_head, row.row, first});
  Matrix weights(scores.rows(), scores.cols());
  for (Eigen::Index h = 0; h < scores.rows(); ++h) {
    const std::span<const double> of_head(scores.row(h).data(), static_cast<std::size_t>(scores.cols()));
    const SoftmaxStatistics statistics = softmax_statistics(of_head);
    for (Eigen::Index j = 0; j < scores.cols(); ++j) weights(h, j) = softmax_weight(scores(h, j), statistics);
    max[h] = statistics.max;
    sum[h] = statistics.sum;
  }
  if (factors) weights.array() *= factors->array();
  const Matrix out = weights * values;
  PackedMap(writable(result.out, {row.batch, row.row, head, 0}), out.rows(), out.cols()) = out;
}

}  // namespace tessera::kernels
