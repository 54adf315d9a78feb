#include "kernels/cpu/sparse_call.h"

#include <algorithm>

#include "kernels/key_lists.h"

namespace tessera::kernels::cpu {
SparseCall::SparseCall(const SparseAttentionCall& call, const Sizes& size)
    : call_(call),
      indices_(call.indices.contiguous()),
      table_(call.block_table ? std::optional(call.block_table->to(DType::kI64)) : std::nullopt),
      group_(size['g']) {
  // As few blocks as hold all heads, and those of nearly the same number.
  const std::int64_t chunks = std::max<std::int64_t>(rounded_up(group_, kMaxLanes) / kMaxLanes, 1);
  heads_of_block_ = rounded_up(group_, chunks) / chunks;
  blocks_of_row_ = size['k'] * (group_ == 0 ? 0 : rounded_up(group_, heads_of_block_) / heads_of_block_);
  std::int64_t most_limit = 0;
  for (const RowSegment& segment : call.plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      rows_.push_back({&segment, segment.row + i});
      most_limit = std::max(most_limit, keys_of(segment, i).end);
    }
  }
  most_keys_ = most_listed_rows(size['c'], call.block_size, most_limit);
}

ListedRow SparseCall::at(std::int64_t block) const {
  const Row& row = rows_[static_cast<std::size_t>(block / blocks_of_row_)];
  const std::int64_t chunks = rounded_up(group_, heads_of_block_) / heads_of_block_;
  const std::int64_t key_head = block % blocks_of_row_ / chunks;
  const std::int64_t first = block % chunks * heads_of_block_;
  return {row.segment, row.row, key_head, key_head * group_ + first, std::min(heads_of_block_, group_ - first)};
}

void SparseCall::fill(LanedBlock& result, const ListedRow& row) const {
  const std::int64_t batch = row.segment->batch;
  list_rows(SparseAttentionCall::kName, indices_, call_.block_size, *row.segment, row.row, row.key_head, result.list);
  for (std::int64_t i = 0; i < row.count; ++i) {
    QueryLane& lane = result.lanes[static_cast<std::size_t>(i)];
    lane = {};
    result.origins[static_cast<std::size_t>(i)] = {batch, row.row, row.head + i};
    lane.parts[0] = element(call_.query, batch, row.row, row.head + i);
    if (call_.query_rope) lane.parts[1] = element(*call_.query_rope, batch, row.row, row.head + i);
    lane.end = static_cast<std::int64_t>(result.list.size());
  }
  result.block = {.lanes = {result.lanes.data(), static_cast<std::size_t>(row.count)},
                  .keys = {.parts = {key_rows(call_.key, batch, row.key_head, table_),
                                     call_.key_rope ? key_rows(*call_.key_rope, batch, row.key_head, table_) : KeyRows{}},
                           .values = key_rows(call_.value, batch, row.key_head, table_),
                           .list = result.list.data()},
                  .element_strides = {call_.query.strides()[3], call_.query_rope ? call_.query_rope->strides()[3] : 1},
                  .scale = static_cast<float>(call_.scale)};
}

}  // namespace tessera::kernels::cpu
