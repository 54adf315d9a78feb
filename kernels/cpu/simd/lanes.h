// A block's lanes in groups of up to three vectors, as tiles take them, with what each lane sees.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/vector.h"

namespace tessera::kernels::cpu {

/// Calls `visit(first, count)` for vectors in groups of up to three, as tiles take them, of nearly the same number.
template <class Isa, class Visit>
void for_each_group(std::int64_t vectors, Visit visit) {
  const std::int64_t groups = rounded_up(vectors, 3) / 3;
  std::int64_t first = 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    const int own = static_cast<int>(vectors / groups + (g < vectors % groups ? 1 : 0));
    visit(first, own);
    first += own;
  }
}

/// Up to three vectors of lanes. Lanes behind a block's last one repeat it.
template <class Isa>
struct LaneGroup {
  static constexpr std::size_t kMost = 3 * Isa::kLanes;

  std::int64_t first = 0;  ///< its lanes are [first, first + count) of the block's
  std::int64_t count = 0;
  int vectors = 0;
  std::int32_t begin[kMost];  ///< places that a lane sees: [begin, end)
  std::int32_t end[kMost];
  std::int64_t least_begin = 0;
  std::int64_t most_begin = 0;
  std::int64_t least_end = 0;
  std::int64_t most_end = 0;

  [[nodiscard]] std::int64_t columns() const { return vectors * Isa::kLanes; }
  /// Whether some lane sees some of these places, and whether all lanes see them all.
  [[nodiscard]] bool sees(std::int64_t from, std::int64_t to) const { return from < most_end && to > least_begin; }
  [[nodiscard]] bool sees_all(std::int64_t from, std::int64_t to) const { return from >= most_begin && to <= least_end; }
};

/// Groups of nearly the same number of vectors. Worked example: 64 lanes in vectors of 16 are groups of 2 and 2.
template <class Isa>
struct LaneGroups {
  static constexpr std::size_t kMost = (kMaxLanes + Isa::kLanes - 1) / Isa::kLanes;
  LaneGroup<Isa> groups[kMost];
  std::int64_t count = 0;

  explicit LaneGroups(std::span<const QueryLane> lanes) {
    const auto all = static_cast<std::int64_t>(lanes.size());
    const std::int64_t vectors = rounded_up(all, Isa::kLanes) / Isa::kLanes;
    for_each_group<Isa>(vectors, [&](std::int64_t vector, int own) {
      LaneGroup<Isa>& group = groups[count++];
      group.vectors = own;
      group.first = vector * Isa::kLanes;
      group.count = std::min<std::int64_t>(group.columns(), all - group.first);
      group.least_begin = group.least_end = INT64_MAX;
      for (std::int64_t i = 0; i < group.columns(); ++i) {
        const QueryLane& lane = lanes[static_cast<std::size_t>(group.first + std::min(i, group.count - 1))];
        group.begin[i] = static_cast<std::int32_t>(lane.begin);
        group.end[i] = static_cast<std::int32_t>(lane.end);
        group.least_begin = std::min(group.least_begin, lane.begin);
        group.most_begin = std::max(group.most_begin, lane.begin);
        group.least_end = std::min(group.least_end, lane.end);
        group.most_end = std::max(group.most_end, lane.end);
      }
    });
  }
};

}  // namespace tessera::kernels::cpu
