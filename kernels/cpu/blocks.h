// Runs blocks of attention over threads, and where there are few of them with many keys, the keys of each in pieces.
// Private to kernels/cpu/.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cpu/leaves.h"

namespace tessera::kernels::cpu {

/// The query row that a lane is.
struct LaneOrigin {
  std::int64_t batch = 0;
  std::int64_t row = 0;
  std::int64_t head = 0;
};

/// A block with the memory that it points to.
struct LanedBlock {
  std::array<QueryLane, kMaxLanes> lanes{};
  std::array<LaneOrigin, kMaxLanes> origins{};
  AttentionBlock block{};
  std::vector<std::int64_t> list{};  ///< of `block.keys`, where it has one
};

/// Leaves a block's lanes the places [from, to) of those that they see.
void keep_places(LanedBlock& laned, std::int64_t from, std::int64_t to);

/// What blocks have in common.
struct BlocksShape {
  std::int64_t count = 0;
  std::int64_t most_places = 0;  ///< places that one block has at most
  std::int64_t most_lanes = 0;   ///< likewise
  std::int64_t value_width = 0;
  /// Blocks that are one task: they follow one another, of as many lanes over the same places, and take turns with these, so
  /// that keys which lie side by side are read together. At most kMostTogether of few lanes, or half as many of up to twice as
  /// many lanes. It divides `count`.
  std::int64_t together = 1;
  Arithmetic arithmetic = Arithmetic::kF32;
};

/// Runs `count` blocks; `fill` makes one, and may be called several times for each, by several threads at once. With less
/// than some 32 blocks (whatever the number of threads: numbers must not depend on it), the places of a block are cut into
/// pieces whose states are merged.
void run_blocks(const BlocksShape& shape, const std::function<void(std::int64_t block, LanedBlock& result)>& fill);

}  // namespace tessera::kernels::cpu
