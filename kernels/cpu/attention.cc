// Dense attention: blocks of lanes over threads.
#include <algorithm>
#include <array>

#include "kernels/call_checks.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dense_call.h"
#include "kernels/cpu/outputs.h"

namespace tessera::kernels::cpu {

std::string refusal(const AttentionCall& call) {
  return storage_refusal(std::array<NamedTensor, 3>{{{"query", &call.query}, {"key", &call.key}, {"value", &call.value}}});
}

namespace {

// Lanes of a block: as many as leave queries and values half of a second cache of 1 MiB, for each block reads all keys.
std::int64_t most_lanes(const Sizes& size) {
  constexpr std::int64_t kFloats = std::int64_t{1} << 17;
  return std::clamp<std::int64_t>(kFloats / (size['d'] + size['e']), kMaxLanes / 2, kMaxLanes);
}

}  // namespace

AttentionResult attention(const AttentionCall& call) {
  const Sizes size = check(call);
  AttentionOutputs outputs(call, size);
  const DenseCall dense(call, size, most_lanes(size));
  const auto range_count = static_cast<std::int64_t>(dense.ranges().size());
  const std::int64_t together = dense.heads_together();
  const BlocksShape shape{.count = size['k'] * range_count,
                          .most_places = size['t'],
                          .most_lanes = dense.most_lanes(),
                          .value_width = size['e'],
                          .together = together,
                          .arithmetic = arithmetic_of(call.query.dtype(), dense.keys_of_row())};
  run_blocks(shape, [&](std::int64_t block, LanedBlock& laned) {
    const std::int64_t group = block / together;
    const std::int64_t key_head = group / range_count * together + block % together;
    const LaneRange& range = dense.ranges()[static_cast<std::size_t>(group % range_count)];
    dense.fill(laned, range, key_head);
    outputs.attach(laned);
  });
  return outputs.result();
}

}  // namespace tessera::kernels::cpu
