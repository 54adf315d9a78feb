// Dense attention, row by row.
#include "kernels/attention.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/attention_rows.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr std::string_view kOp = "attention";
constexpr double kHidden = -std::numeric_limits<double>::infinity();

// What the mask adds to the scores of [b, n, s, t]: 0 or -inf for a bool mask. Repeated dims take no memory.
Tensor additive(const Tensor& mask, const Sizes& size) {
  const Shape scores = {size['b'], size['n'], size['s'], size['t']};
  if (mask.dtype() != DType::kBool && !is_floating(mask.dtype())) {
    fail({.code = "dtype",
          .message = fmt::format("mask is {}, but must be bool or hold floats", to_string(mask.dtype())),
          .op = std::string(kOp),
          .operand = "mask",
          .hint = "convert mask to bool"});
  }
  bool fits = mask.shape().size() <= scores.size();
  for (std::size_t back = 1; fits && back <= mask.shape().size(); ++back) {
    const std::int64_t given = mask.shape()[mask.shape().size() - back];
    fits = given == 1 || given == scores[scores.size() - back];
  }
  if (!fits) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("mask {} does not broadcast to the scores' [b, n, s, t], here {}", to_string(mask.shape()),
                                 to_string(scores)),
          .op = std::string(kOp),
          .operand = "mask",
          .hint = "give mask the scores' sizes, or 1 where it repeats"});
  }
  Tensor added = mask.to(DType::kF64);
  if (mask.dtype() == DType::kBool) {
    added = Tensor::uninitialized(mask.shape(), DType::kF64);
    const Tensor visible = mask.contiguous();
    for (std::size_t i = 0; i < visible.span<bool>().size(); ++i)
      added.span<double>()[i] = visible.span<bool>()[i] ? 0 : kHidden;
  }
  return added.broadcast_to(scores);
}

}  // namespace

AttentionResult attention(const Tensor& query, const Tensor& key, const Tensor& value, const RowPlan& plan, double scale,
                          const std::optional<Tensor>& mask) {
  const Sizes size = bind_sizes(kOp, {{"query", query, "bsnd"}, {"key", key, "btkd"}, {"value", value, "btke"}});
  const std::int64_t group = heads_per_key_head(kOp, size['n'], size['k']);
  require_float(kOp, "query", query);
  const std::optional<Tensor> bias = mask ? std::optional(additive(*mask, size)) : std::nullopt;

  const Tensor queries = query.to(DType::kF64);
  const Tensor keys = by_head(key);
  const Tensor values = by_head(value);
  AttentionResult result = zero_result(size['b'], size['s'], size['n'], size['k'], size['e']);
  for (const PlannedRow& row : rows_of(kOp, plan, size['b'], size['s'], size['t'])) {
    const std::int64_t begin = row.key_base + row.keys.begin;
    const std::int64_t seen = row.keys.end - row.keys.begin;
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, key_head * group, 0}, group, size['d']);
      const ConstPackedMap k = matrix_at(keys, {row.batch, key_head, begin, 0}, seen, size['d']);
      const ConstPackedMap v = matrix_at(values, {row.batch, key_head, begin, 0}, seen, size['e']);
      if (!bias) {
        const Matrix scores = scale * (q * k.transpose());
        write_row(result, row, key_head, key_head * group, scores, v);
        continue;
      }
      for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
        std::vector<std::int64_t> visible;  // counted from the row's first key
        std::vector<double> added;
        for (std::int64_t j = 0; j < seen; ++j) {
          const double bias_of_key = bias->at<double>({row.batch, head, row.row, begin + j});
          if (bias_of_key == kHidden) continue;
          visible.push_back(j);
          added.push_back(bias_of_key);
        }
        Matrix scores = scale * (q.row(head - key_head * group) * gather_rows(k, visible).transpose());
        scores += ConstPackedMap(added.data(), 1, scores.cols());
        write_row(result, row, key_head, head, scores, gather_rows(v, visible));
      }
    }
  }
  return rounded(result, query.dtype());
}

}  // namespace tessera::kernels
