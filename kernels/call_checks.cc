// Checks of the attention kernels' calls.
#include "kernels/call_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>

#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr std::string_view kPlanHint = "build the plan for the local query and key that the call gets";

// Optional rope parts, of one width r, which is returned: 0 without.
std::int64_t check_rope(std::string_view op, const Tensor& query, const Tensor& key, bool paged,
                        const std::optional<Tensor>& query_rope, const std::optional<Tensor>& key_rope) {
  if (query_rope.has_value() != key_rope.has_value()) {
    const std::string given = query_rope ? "query_rope" : "key_rope";
    const std::string missing = query_rope ? "key_rope" : "query_rope";
    fail({.code = "rope-parts",
          .message = fmt::format("{} is given without {}", given, missing),
          .op = std::string(op),
          .operand = missing,
          .hint = "give both rope parts, or neither"});
  }
  if (!query_rope) return 0;
  const Sizes size = bind_sizes(op, {{"query", query, "bsnd"},
                                     {"key", key, paged ? "plkd" : "btkd"},
                                     {"query_rope", *query_rope, "bsnr"},
                                     {"key_rope", *key_rope, paged ? "plkr" : "btkr"}});
  require_float(op, "query_rope", *query_rope);
  require_float(op, "key_rope", *key_rope);
  return size['r'];
}

void require_float_result(std::string_view op, std::string_view name, const std::optional<DType>& dtype) {
  if (!dtype || is_floating(*dtype)) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but must be a float", name, to_string(*dtype)),
        .op = std::string(op),
        .hint = fmt::format("leave {} out, or ask for f32", name)});
}

// Gives keys that lie in blocks their t. Entries are looked at in `check_entries`, once the plan is known to fit.
void bind_block_table(std::string_view op, const Tensor& query, const std::optional<Tensor>& table, Sizes& size) {
  if (!table) return;
  size['m'] = bind_sizes(op, {{"query", query, query.rank() == 4 ? "bsnd" : "bsn"}, {"block_table", *table, "bm"}})['m'];
  size['t'] = size['m'] * size['l'];
  require_integer(op, "block_table", *table);
}

void check_entries(std::string_view op, const RowPlan& plan, const Tensor& table, const Sizes& size) {
  const Tensor entries = table.to(DType::kI64);
  for (const RowSegment& segment : plan.segments) {
    const KeyRange rows = reached_rows(segment);
    if (rows.begin >= rows.end) continue;
    for (std::int64_t slot = rows.begin / size['l']; slot <= (rows.end - 1) / size['l']; ++slot) {
      const std::int64_t block = entries.at<std::int64_t>({segment.batch, slot});
      if (block >= 0 && block < size['p']) continue;
      fail({.code = "block-table",
            .message = fmt::format("entry {} of batch entry {} names block {}, but key has {} blocks (dim 0)", slot,
                                   segment.batch, block, size['p']),
            .op = std::string(op),
            .operand = "block_table",
            .dim = 1,
            .hint = fmt::format("the plan reaches {} rows, {} entries of {} rows each: let all of them name blocks",
                                rows.end, (rows.end - 1) / size['l'] + 1, size['l'])});
    }
  }
}

// The plan, and the block table where there is one.
void check_reach(std::string_view op, const RowPlan& plan, const std::optional<Tensor>& table, const Sizes& size) {
  check_plan(op, plan, size);
  if (table) check_entries(op, plan, *table, size);
}

void check_mask(std::string_view op, const Tensor& mask, const Sizes& size) {
  if (mask.dtype() != DType::kBool && !is_floating(mask.dtype())) {
    fail({.code = "dtype",
          .message = fmt::format("mask is {}, but must be bool or hold floats", to_string(mask.dtype())),
          .op = std::string(op),
          .operand = "mask",
          .hint = "convert mask to bool"});
  }
  const Shape scores = {size['b'], size['n'], size['s'], size['t']};
  bool fits = mask.shape().size() <= scores.size();
  for (std::size_t back = 1; fits && back <= mask.shape().size(); ++back) {
    const std::int64_t given = mask.shape()[mask.shape().size() - back];
    fits = given == 1 || given == scores[scores.size() - back];
  }
  if (!fits) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("mask {} does not broadcast to the scores' [b, n, s, t], here {}", to_string(mask.shape()),
                                 to_string(scores)),
          .op = std::string(op),
          .operand = "mask",
          .hint = "give mask the scores' sizes, or 1 where it repeats"});
  }
}

void check_dropout(std::string_view op, const Dropout& dropout) {
  if (dropout.probability >= 0 && dropout.probability < 1) return;  // not so for NaN
  fail({.code = "attribute-range",
        .message = fmt::format("dropout's probability is {}, but must be at least 0 and below 1", dropout.probability),
        .op = std::string(op),
        .hint = "set it to the share of the weights to drop"});
}

// What attention and sparse attention share; `op` is whom errors name.
template <class Call>
Sizes check_operands(std::string_view op, const Call& call) {
  const bool paged = call.block_table.has_value();
  Sizes size = bind_sizes(op, {{"query", call.query, "bsnd"},
                               {"key", call.key, paged ? "plkd" : "btkd"},
                               {"value", call.value, paged ? "plke" : "btke"}});
  bind_block_table(op, call.query, call.block_table, size);
  size['g'] = heads_per_key_head(op, size['n'], size['k']);
  require_float(op, "query", call.query);
  require_float(op, "key", call.key);
  require_float(op, "value", call.value);
  require_float_result(op, "out_dtype", call.out_dtype);
  return size;
}

Sizes check_as(std::string_view op, const AttentionCall& call) {
  const Sizes size = check_operands(op, call);
  if (call.mask) check_mask(op, *call.mask, size);
  check_dropout(op, call.dropout);
  check_reach(op, call.plan, call.block_table, size);
  return size;
}

Sizes check_as(std::string_view op, const SparseAttentionCall& call) {
  Sizes size = check_operands(op, call);
  size['c'] = bind_sizes(op, {{"query", call.query, "bsnd"},
                              {"key", call.key, call.block_table ? "plkd" : "btkd"},
                              {"indices", call.indices, "bskc"}})['c'];
  require_integer(op, "indices", call.indices);
  size['r'] = check_rope(op, call.query, call.key, call.block_table.has_value(), call.query_rope, call.key_rope);
  if (call.block_size < 1) {
    fail({.code = "attribute-range",
          .message = fmt::format("block_size is {}, but a slot names at least 1 key", call.block_size),
          .op = std::string(op),
          .hint = "set block_size to 1 where slots name single keys"});
  }
  check_reach(op, call.plan, call.block_table, size);
  return size;
}

// Statistics [b, k, s, g] of queries and keys with these sizes.
void check_statistics(std::string_view op, const Tensor& query, const Tensor& key, const Tensor& softmax_max,
                      const Tensor& softmax_sum, std::int64_t group) {
  const std::int64_t given = bind_sizes(op, {{"query", query, "bsnd"},
                                             {"key", key, "btkd"},
                                             {"softmax_max", softmax_max, "bksg"},
                                             {"softmax_sum", softmax_sum, "bksg"}})['g'];
  if (given != group) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("softmax_max has size {} in dim 3 (g), but {} query heads share a key head", given, group),
          .op = std::string(op),
          .operand = "softmax_max",
          .dim = 3,
          .hint = "give the statistics that attention returned for this query and key"});
  }
  require_float(op, "softmax_max", softmax_max);
  require_float(op, "softmax_sum", softmax_sum);
}

template <class Call>
Sizes check_backward(std::string_view op, const Call& call) {
  if (call.forward.block_table) {
    fail({.code = "block-table",
          .message = "the gradient takes no block table",
          .op = std::string(op),
          .operand = "block_table",
          .hint = "gather the blocks into a key and a value [b, t, k, d]"});
  }
  const Sizes size = check_as(op, call.forward);
  bind_sizes(op, {{"query", call.forward.query, "bsnd"},
                  {"value", call.forward.value, "btke"},
                  {"out", call.out, "bsne"},
                  {"grad_out", call.grad_out, "bsne"}});
  require_float(op, "out", call.out);
  require_float(op, "grad_out", call.grad_out);
  check_statistics(op, call.forward.query, call.forward.key, call.softmax_max, call.softmax_sum, size['g']);
  require_float_result(op, "gradient_dtype", call.gradient_dtype);
  return size;
}

template <class Call>
Sizes check_indexer(std::string_view op, const Call& call, const std::optional<Tensor>& table) {
  Sizes size = bind_sizes(
      op, {{"query", call.query, "bshd"}, {"key", call.key, table ? "plkd" : "btkd"}, {"weights", call.weights, "bsh"}});
  bind_block_table(op, call.weights, table, size);
  size['g'] = heads_per_key_head(op, size['h'], size['k']);
  require_float(op, "query", call.query);
  require_float(op, "key", call.key);
  require_float(op, "weights", call.weights);
  return size;
}

}  // namespace

KeyRange reached_rows(const RowSegment& segment) {
  KeyRange reached{std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()};
  for (std::int64_t i = 0; i < segment.count; ++i) {
    const KeyRange keys = keys_of(segment, i);
    if (keys.begin >= keys.end) continue;
    reached = {std::min(reached.begin, keys.begin), std::max(reached.end, keys.end)};
  }
  if (reached.begin >= reached.end) return {};
  return {segment.key_base + reached.begin, segment.key_base + reached.end};
}

void check_plan(std::string_view op, const RowPlan& plan, const Sizes& size) {
  for (std::size_t number = 0; number < plan.segments.size(); ++number) {
    const RowSegment& segment = plan.segments[number];
    if (segment.batch < 0 || segment.batch >= size['b'] || segment.row < 0 || segment.count < 0 ||
        segment.row > size['s'] - segment.count) {
      fail({.code = "plan-out-of-range",
            .message =
                fmt::format("segment {} of the plan covers {} rows from row {} of batch {}, but query has {} rows (dim 1) "
                            "in {} batch entries (dim 0)",
                            number, segment.count, segment.row, segment.batch, size['s'], size['b']),
            .op = std::string(op),
            .operand = "query",
            .hint = std::string(kPlanHint)});
    }
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      if (keys.begin >= keys.end) continue;
      if (segment.key_base + keys.begin < 0 || segment.key_base > size['t'] - keys.end) {
        fail({.code = "plan-out-of-range",
              .message =
                  fmt::format("segment {} of the plan lets row {} see keys [{}, {}), which lie from row {} on, but key has "
                              "{} rows (dim 1)",
                              number, segment.row + i, keys.begin, keys.end, segment.key_base + keys.begin, size['t']),
              .op = std::string(op),
              .operand = "key",
              .dim = 1,
              .hint = std::string(kPlanHint)});
      }
    }
  }
}

Sizes check(const AttentionCall& call) { return check_as(AttentionCall::kName, call); }
Sizes check(const AttentionBackwardCall& call) { return check_backward(AttentionBackwardCall::kName, call); }
Sizes check(const SparseAttentionCall& call) { return check_as(SparseAttentionCall::kName, call); }
Sizes check(const SparseAttentionBackwardCall& call) { return check_backward(SparseAttentionBackwardCall::kName, call); }

Sizes check(const IndexerCall& call) {
  const Sizes size = check_indexer(IndexerCall::kName, call, call.block_table);
  if (call.count < 0) {
    fail({.code = "attribute-range",
          .message = fmt::format("count is {}, but must be 0 or more", call.count),
          .op = std::string(IndexerCall::kName),
          .hint = "set count to the keys to keep for each row"});
  }
  check_reach(IndexerCall::kName, call.plan, call.block_table, size);
  return size;
}

Sizes check(const IndexerLseCall& call) {
  const Sizes size = check_indexer(IndexerLseCall::kName, call, std::nullopt);
  check_reach(IndexerLseCall::kName, call.plan, std::nullopt, size);
  return size;
}

Sizes check(const IndexerLossCall& call) {
  constexpr std::string_view kOp = IndexerLossCall::kName;
  Sizes size = bind_sizes(kOp, {{"query_index", call.query_index, "bshi"},
                                {"key_index", call.key_index, "btki"},
                                {"weights", call.weights, "bsh"},
                                {"query", call.query, "bsnd"},
                                {"key", call.key, "btkd"}});
  size['f'] = heads_per_key_head(kOp, size['h'], size['k'], "query_index", "key_index");
  size['g'] = heads_per_key_head(kOp, size['n'], size['k']);
  require_float(kOp, "query_index", call.query_index);
  require_float(kOp, "key_index", call.key_index);
  require_float(kOp, "weights", call.weights);
  require_float(kOp, "query", call.query);
  require_float(kOp, "key", call.key);
  check_statistics(kOp, call.query, call.key, call.softmax_max, call.softmax_sum, size['g']);
  if (call.indices) {
    size['c'] = bind_sizes(
        kOp, {{"query", call.query, "bsnd"}, {"key", call.key, "btkd"}, {"indices", *call.indices, "bskc"}})['c'];
    require_integer(kOp, "indices", *call.indices);
  }
  size['r'] = check_rope(kOp, call.query, call.key, false, call.query_rope, call.key_rope);
  require_float_result(kOp, "gradient_dtype", call.gradient_dtype);
  check_reach(kOp, call.plan, std::nullopt, size);
  return size;
}

Tensor additive_mask(const Tensor& mask, const Sizes& size, DType dtype) {
  Tensor once = mask;  // each number that repeats only once
  for (int dim = 0; dim < mask.rank(); ++dim) {
    if (mask.strides()[static_cast<std::size_t>(dim)] == 0 && mask.size(dim) > 1) once = once.slice(dim, 0, 1);
  }
  Tensor added = once.to(dtype);
  if (mask.dtype() == DType::kBool) {
    const Tensor visible = once.contiguous();
    added = Tensor::uninitialized(once.shape(), dtype);
    visit_dtype(dtype, [&]<class T>(T) {
      if constexpr (std::is_floating_point_v<T>) {
        std::ranges::transform(visible.span<bool>(), added.span<T>().begin(),
                               [](bool seen) { return seen ? T{0} : -std::numeric_limits<T>::infinity(); });
      }
    });
  }
  return added.broadcast_to({size['b'], size['n'], size['s'], size['t']});
}

}  // namespace tessera::kernels
