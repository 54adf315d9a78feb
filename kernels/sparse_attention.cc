// Attention over the keys that an index list names.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/attention_rows.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr std::string_view kOp = "sparse_attention";

// x [a, b, c, d] with its rope part [a, b, c, r] behind it, [a, b, c, d + r] in f64: one product then gives q.k + q_rope.k_rope.
Tensor with_rope(const Tensor& x, const std::optional<Tensor>& rope) {
  if (!rope) return x.to(DType::kF64);
  const std::int64_t d = x.size(3);
  const std::int64_t both = d + rope->size(3);
  Tensor joined = Tensor::uninitialized({x.size(0), x.size(1), x.size(2), both}, DType::kF64);
  joined.slice(3, 0, d).copy_from(x);
  joined.slice(3, d, both).copy_from(*rope);
  return joined;
}

// Rows of the key tensor that a list names, in its order.
std::vector<std::int64_t> listed_rows(std::span<const std::int64_t> slots, const PlannedRow& row, std::int64_t block_size,
                                      std::int64_t key_head) {
  const std::int64_t limit = row.keys.end;
  const std::int64_t blocks = (limit - 1) / block_size + 1;
  const std::int64_t all_blocks = (row.length - 1) / block_size + 1;
  std::vector<std::int64_t> rows;
  for (std::size_t slot = 0; slot < slots.size() && static_cast<std::int64_t>(slot) < blocks; ++slot) {
    const std::int64_t block = slots[slot];
    if (block < 0) break;
    if (block >= all_blocks) {
      fail({.code = "index-out-of-range",
            .message =
                fmt::format("slot {} of row {} (batch {}, key head {}) names block {}, but its sequence of {} keys has {} "
                            "blocks of {}",
                            slot, row.row, row.batch, key_head, block, row.length, all_blocks, block_size),
            .op = std::string(kOp),
            .operand = "indices",
            .dim = 3,
            .hint = "count blocks from the start of the row's own sequence, and end the list with -1"});
    }
    const std::int64_t end = std::min((block + 1) * block_size, limit);
    for (std::int64_t key = std::max(block * block_size, row.keys.begin); key < end; ++key)
      rows.push_back(row.key_base + key);
  }
  return rows;
}

}  // namespace

AttentionResult sparse_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& indices,
                                 const RowPlan& plan, const SparseOptions& options, const std::optional<Tensor>& query_rope,
                                 const std::optional<Tensor>& key_rope) {
  const Sizes size = bind_sizes(
      kOp, {{"query", query, "bsnd"}, {"key", key, "btkd"}, {"value", value, "btke"}, {"indices", indices, "bskc"}});
  const std::int64_t group = heads_per_key_head(kOp, size['n'], size['k']);
  require_float(kOp, "query", query);
  require_integer(kOp, "indices", indices);
  if (query_rope.has_value() != key_rope.has_value()) {
    const std::string given = query_rope ? "query_rope" : "key_rope";
    const std::string missing = query_rope ? "key_rope" : "query_rope";
    fail({.code = "rope-parts",
          .message = fmt::format("{} is given without {}", given, missing),
          .op = std::string(kOp),
          .operand = missing,
          .hint = "give both rope parts, or neither"});
  }
  if (query_rope) {
    bind_sizes(kOp, {{"query", query, "bsnd"},
                     {"key", key, "btkd"},
                     {"query_rope", *query_rope, "bsnr"},
                     {"key_rope", *key_rope, "btkr"}});
  }
  if (options.block_size < 1) {
    fail({.code = "attribute-range",
          .message = fmt::format("block_size is {}, but a slot names at least 1 key", options.block_size),
          .op = std::string(kOp),
          .hint = "set block_size to 1 where slots name single keys"});
  }

  const Tensor queries = with_rope(query, query_rope);
  const Tensor keys = by_head(with_rope(key, key_rope));
  const Tensor values = by_head(value);
  const Tensor slots = indices.to(DType::kI64);
  const std::int64_t width = queries.size(3);
  const auto slot_count = static_cast<std::size_t>(size['c']);
  AttentionResult result = zero_result(size['b'], size['s'], size['n'], size['k'], size['e']);
  for (const PlannedRow& row : rows_of(kOp, plan, size['b'], size['s'], size['t'])) {
    for (std::int64_t key_head = 0; key_head < size['k']; ++key_head) {
      const std::int64_t* list = address_of<std::int64_t>(slots, {row.batch, row.row, key_head, 0});
      const std::vector<std::int64_t> rows = listed_rows({list, slot_count}, row, options.block_size, key_head);
      const ConstPackedMap q = matrix_at(queries, {row.batch, row.row, key_head * group, 0}, group, width);
      const Matrix k = gather_rows(matrix_at(keys, {row.batch, key_head, 0, 0}, size['t'], width), rows);
      const Matrix v = gather_rows(matrix_at(values, {row.batch, key_head, 0, 0}, size['t'], size['e']), rows);
      write_row(result, row, key_head, key_head * group, options.scale * (q * k.transpose()), v);
    }
  }
  return rounded(result, query.dtype());
}

}  // namespace tessera::kernels
