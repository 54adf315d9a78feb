// Attention over the keys that an index list names.
#include "kernels/sparse_attention.h"

#include "kernels/call_checks.h"
#include "kernels/reference/attention_rows.h"
#include "kernels/reference/sparse_rows.h"

namespace tessera::kernels::reference {

AttentionResult sparse_attention(const SparseAttentionCall& call) {
  const Sizes size = check(call);
  const auto plain = [&](const Tensor& keys) { return plain_keys(keys, call.block_table, call.plan, size); };
  const std::int64_t width = size['d'] + size['r'];
  const Tensor queries = with_rope(call.query, call.query_rope);
  const Tensor keys =
      by_head(with_rope(plain(call.key), call.key_rope ? std::optional(plain(*call.key_rope)) : std::nullopt));
  const Tensor values = by_head(plain(call.value));
  const Tensor slots = call.indices.to(DType::kI64);
  AttentionResult result = zero_result(size);
  for (const PlannedRow& row : rows_of(call.plan)) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::int64_t head = key_head * size['g'];
      const std::vector<std::int64_t> rows = listed_rows(SparseAttentionCall::kName, slots, row, key_head, call.block_size);
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, head, 0}, size['g'], width);
      const Matrix k = gather_rows(matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], width), rows);
      const Matrix v = gather_rows(matrix_at(values, {row.batch, key_head, 0, 0}, size['t'], size['e']), rows);
      write_row(result, row, key_head, head, call.scale * (q * k.transpose()), v);
    }
  }
  return rounded(result, call);
}

}  // namespace tessera::kernels::reference
