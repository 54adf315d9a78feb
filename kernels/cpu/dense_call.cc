#include "kernels/cpu/dense_call.h"

#include <algorithm>

#include "kernels/call_checks.h"

namespace tessera::kernels::cpu {
namespace {

// Lanes of a block, whole groups of three vectors for every width of vectors: many, so that keys are read and converted
// seldom, but less where that leaves too few blocks for many threads.
std::int64_t block_lanes(const AttentionCall& call, const Sizes& size, std::int64_t most) {
  constexpr std::int64_t kGroup = 48;
  std::int64_t lanes = 0;
  for (const RowSegment& segment : call.plan.segments) lanes += segment.count * size['n'];
  return std::clamp(lanes / kTasks, 2 * kGroup, most) / kGroup * kGroup;
}

std::uint32_t word(std::int64_t number) { return static_cast<std::uint32_t>(number); }

}  // namespace

DenseCall::DenseCall(const AttentionCall& call, const Sizes& size, std::int64_t most_lanes)
    : call_(call),
      group_(size['g']),
      mask_(call.mask ? std::optional(additive_mask(*call.mask, size, DType::kF32)) : std::nullopt),
      table_(call.block_table ? std::optional(call.block_table->to(DType::kI64)) : std::nullopt),
      ranges_(lane_ranges(call.plan, group_, block_lanes(call, size, most_lanes))),
      keys_(static_cast<double>(size['b'] * size['t'])) {
  for (const RowSegment& segment : call.plan.segments) {
    // Near enough for an average: as many keys as the middle row sees, for each row.
    const KeyRange seen = segment.count == 0 ? KeyRange{} : keys_of(segment, segment.count / 2);
    pairs_ += static_cast<double>(segment.count * std::max<std::int64_t>(seen.end - seen.begin, 0));
    rows_ += static_cast<double>(segment.count);
  }
}

std::int64_t DenseCall::most_lanes() const {
  std::int64_t most = 0;
  for (const LaneRange& range : ranges_) most = std::max(most, range.count);
  return most;
}

std::int64_t DenseCall::heads_together() const {
  const auto side_by_side = [](const Tensor& keys) { return keys.strides()[2] < keys.strides()[1]; };
  const std::int64_t parts = leaves().parts_of_few(most_lanes());
  if (parts == 0 || !side_by_side(call_.key) || !side_by_side(call_.value)) return 1;
  std::int64_t together = std::min(call_.key.size(2), kMostTogether / parts);
  while (together > 1 && call_.key.size(2) % together != 0) --together;
  return std::max<std::int64_t>(together, 1);
}

void DenseCall::fill(LanedBlock& result, const LaneRange& range, std::int64_t key_head) const {
  const RowSegment& segment = *range.segment;
  for (std::int64_t i = 0; i < range.count; ++i) {
    const std::int64_t row = range.row(i, group_);
    const std::int64_t query_head = key_head * group_ + range.head(i, group_);
    const KeyRange places = range.places(i, group_);
    QueryLane& lane = result.lanes[static_cast<std::size_t>(i)];
    lane = {};
    result.origins[static_cast<std::size_t>(i)] = {segment.batch, row, query_head};
    lane.parts[0] = element(call_.query, segment.batch, row, query_head);
    lane.begin = places.begin;
    lane.end = places.end;
    if (mask_) lane.mask = reinterpret_cast<const float*>(element(*mask_, segment.batch, query_head, row));
    lane.counter[0] = word(segment.position + row - segment.row);
    lane.counter[1] = word(call_.dropout.first_head + query_head);
    lane.counter[2] = word(segment.sequence);
  }
  result.block = {.lanes = {result.lanes.data(), static_cast<std::size_t>(range.count)},
                  .keys = {.parts = {key_rows(call_.key, segment.batch, key_head, table_), {}},
                           .values = key_rows(call_.value, segment.batch, key_head, table_)},
                  .element_strides = {call_.query.strides()[3], 1},
                  .mask_stride = mask_ ? mask_->strides()[3] : 0,
                  .scale = static_cast<float>(call_.scale),
                  .dropout = {.threshold = dropout_threshold(call_.dropout.probability),
                              .keep_scale = static_cast<float>(1 / (1 - call_.dropout.probability)),
                              .seed = call_.dropout.seed,
                              .first_place = segment.key_base}};
}

}  // namespace tessera::kernels::cpu
