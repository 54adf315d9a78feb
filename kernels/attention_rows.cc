// What the attention kernels share.
#include "kernels/attention_rows.h"

#include <fmt/format.h>

#include <string>

#include "kernels/operands.h"
#include "kernels/softmax_statistics.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr const char* kPlanHint = "build the plan for the local query and key that the call gets";

double* writable(Tensor& tensor, std::initializer_list<std::int64_t> index) {
  return tensor.count() == 0 ? tensor.data<double>()
                             : tensor.data<double>() + tensor.offset_of({index.begin(), index.size()});
}

}  // namespace

std::vector<PlannedRow> rows_of(std::string_view op, const RowPlan& plan, std::int64_t batches, std::int64_t rows,
                                std::int64_t key_rows) {
  std::vector<PlannedRow> result;
  for (std::size_t number = 0; number < plan.segments.size(); ++number) {
    const RowSegment& segment = plan.segments[number];
    if (segment.batch < 0 || segment.batch >= batches || segment.row < 0 || segment.count < 0 ||
        segment.row > rows - segment.count) {
      fail({.code = "plan-out-of-range",
            .message =
                fmt::format("segment {} of the plan covers {} rows from row {} of batch {}, but query has {} rows (dim 1) "
                            "in {} batch entries (dim 0)",
                            number, segment.count, segment.row, segment.batch, rows, batches),
            .op = std::string(op),
            .operand = "query",
            .hint = kPlanHint});
    }
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      if (keys.begin >= keys.end) continue;
      if (segment.key_base + keys.begin < 0 || segment.key_base > key_rows - keys.end) {
        fail({.code = "plan-out-of-range",
              .message =
                  fmt::format("segment {} of the plan lets row {} see keys [{}, {}), which lie from row {} on, but key has "
                              "{} rows (dim 1)",
                              number, segment.row + i, keys.begin, keys.end, segment.key_base + keys.begin, key_rows),
              .op = std::string(op),
              .operand = "key",
              .dim = 1,
              .hint = kPlanHint});
      }
      result.push_back({segment.batch, segment.row + i, segment.key_base, segment.length, keys});
    }
  }
  return result;
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

AttentionResult zero_result(std::int64_t b, std::int64_t s, std::int64_t n, std::int64_t k, std::int64_t e) {
  const Shape statistics = {b, k, s, k == 0 ? 0 : n / k};
  return {Tensor::zeros({b, s, n, e}, DType::kF64), Tensor::zeros(statistics, DType::kF64),
          Tensor::zeros(statistics, DType::kF64)};
}

void write_row(AttentionResult& result, const PlannedRow& row, std::int64_t key_head, std::int64_t head,
               const Matrix& scores, const MatrixRef& values) {
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
  const Matrix out = weights * values;
  PackedMap(writable(result.out, {row.batch, row.row, head, 0}), out.rows(), out.cols()) = out;
}

AttentionResult rounded(const AttentionResult& result, DType query_dtype) {
  const DType statistics = statistics_dtype(query_dtype);
  return {result.out.to(query_dtype), result.softmax_max.to(statistics), result.softmax_sum.to(statistics)};
}

}  // namespace tessera::kernels
