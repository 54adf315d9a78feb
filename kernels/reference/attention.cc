// Dense attention, row by row.
#include "kernels/attention.h"

#include "kernels/call_checks.h"
#include "kernels/reference/attention_rows.h"

namespace tessera::kernels::reference {

AttentionResult attention(const AttentionCall& call) {
  const Sizes size = check(call);
  const std::int64_t group = size['g'];
  const Tensor queries = call.query.to(DType::kF64);
  const Tensor keys = by_head(plain_keys(call.key, call.block_table, call.plan, size));
  const Tensor values = by_head(plain_keys(call.value, call.block_table, call.plan, size));
  const std::optional<Tensor> mask = call.mask ? std::optional(additive_mask(*call.mask, size, DType::kF64)) : std::nullopt;
  AttentionResult result = zero_result(size);
  for (const PlannedRow& row : rows_of(call.plan)) {
    const std::int64_t begin = row.key_base + row.keys.begin;
    const std::int64_t seen = row.keys.end - row.keys.begin;
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::int64_t first_head = key_head * group;
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, first_head, 0}, group, size['d']);
      if (!mask) {  // the heads of the group see the same keys: all of them together
        const ConstPackedMap k = matrix_at(keys, {row.batch, key_head, begin, 0}, seen, size['d']);
        const ConstPackedMap v = matrix_at(values, {row.batch, key_head, begin, 0}, seen, size['e']);
        write_row(result, row, key_head, first_head, call.scale * (q * k.transpose()), v,
                  dropout_factors(call.dropout, row, first_head, group, visible_keys(mask, row, first_head).rows));
        continue;
      }
      const ConstPackedMap k = matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], size['d']);
      const ConstPackedMap v = matrix_at(values, {row.batch, key_head, 0, 0}, size['t'], size['e']);
      for (std::int64_t head = first_head; head < first_head + group; ++head) {
        const VisibleKeys visible = visible_keys(mask, row, head);
        Matrix scores = call.scale * (q.row(head - first_head) * gather_rows(k, visible.rows).transpose());
        scores += ConstPackedMap(visible.added.data(), 1, scores.cols());
        write_row(result, row, key_head, head, scores, gather_rows(v, visible.rows),
                  dropout_factors(call.dropout, row, head, 1, visible.rows));
      }
    }
  }
  return rounded(result, call);
}

}  // namespace tessera::kernels::reference
