#include "kernels/cpu/blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {
namespace {

// Pieces that the places of each group of blocks are cut into.
std::int64_t pieces_of(const BlocksShape& shape) {
  constexpr std::int64_t kLeastPlaces = 512;  // of a piece: else merging costs more than it gains
  if (shape.count == 0) return 1;
  const std::int64_t groups = shape.count / shape.together;
  return std::clamp<std::int64_t>(kTasks / groups, 1, std::max<std::int64_t>(shape.most_places / kLeastPlaces, 1));
}

void run(std::span<const LanedBlock> group, Arithmetic arithmetic) {
  const Leaves& code = leaves();
  const auto index = static_cast<std::size_t>(arithmetic);
  if (static_cast<std::int64_t>(group[0].block.lanes.size()) > code.few()) {
    for (const LanedBlock& laned : group) code.attention[index](laned.block);
    return;
  }
  std::array<const AttentionBlock*, kMostTogether> blocks{};
  for (std::size_t i = 0; i < group.size(); ++i) blocks[i] = &group[i].block;
  code.attention_of_few[index]({blocks.data(), group.size()});
}

// The thread's memory for a group of blocks.
std::span<LanedBlock> group_of(std::int64_t together) {
  thread_local std::vector<LanedBlock> group;
  if (std::ssize(group) < together) group.resize(static_cast<std::size_t>(together));
  return {group.data(), static_cast<std::size_t>(together)};
}

// What a piece of a block leaves: out, normalised, in f32, and statistics of each lane.
struct Partials {
  std::vector<float> out;  // [lane][width]
  std::vector<float> max;  // [lane]
  std::vector<float> sum;
};

// Narrows a block's lanes to piece `piece` of `pieces` of the places that they see together.
void narrow(LanedBlock& laned, std::int64_t piece, std::int64_t pieces) {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) {
    begin = std::min(begin, laned.lanes[i].begin);
    end = std::max(end, laned.lanes[i].end);
  }
  const std::int64_t size = rounded_up(std::max<std::int64_t>(end - begin, 0), pieces * kKeyBlock) / pieces;
  const std::int64_t from = begin + piece * size;
  keep_places(laned, from, from + size);
}

// Merges the pieces of one lane into its results.
void merge(const AttentionBlock& block, std::size_t lane, std::span<const Partials> pieces) {
  const auto width = static_cast<std::size_t>(block.keys.values.width);
  const QueryLane& to = block.lanes[lane];
  float max = -std::numeric_limits<float>::infinity();
  for (const Partials& piece : pieces) {
    if (piece.sum[lane] != 0) max = std::max(max, piece.max[lane]);
  }
  std::vector<double> weights(pieces.size(), 0.0);
  double sum = 0;
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    const Partials& piece = pieces[p];
    if (piece.sum[lane] == 0) continue;
    weights[p] =
        static_cast<double>(piece.sum[lane]) * std::exp(static_cast<double>(piece.max[lane]) - static_cast<double>(max));
    sum += weights[p];
  }
  if (to.max != nullptr) {
    *to.max = sum == 0 ? 0 : max;
    *to.sum = static_cast<float>(sum);
  }
  if (!block.write_out) return;
  std::vector<double> total(width, 0.0);
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    if (weights[p] == 0) continue;
    const double share = weights[p] / sum;
    const float* own = &pieces[p].out[lane * width];
    for (std::size_t e = 0; e < width; ++e) total[e] += share * static_cast<double>(own[e]);
  }
  std::vector<float> out(static_cast<std::size_t>(rounded_up(block.keys.values.width, kWidestVector)), 0.0f);
  std::ranges::transform(total, out.begin(), [](double value) { return static_cast<float>(value); });
  leaves().narrow(block.out_dtype, out.data(), const_cast<std::byte*>(to.out), block.out_stride, block.keys.values.width);
}

}  // namespace

void keep_places(LanedBlock& laned, std::int64_t from, std::int64_t to) {
  for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) {
    QueryLane& lane = laned.lanes[i];
    lane.begin = std::max(lane.begin, from);
    lane.end = std::min(lane.end, to);
    if (lane.begin < lane.end) continue;
    lane.begin = std::numeric_limits<std::int32_t>::max();
    lane.end = 0;
  }
}

void run_blocks(const BlocksShape& shape, const std::function<void(std::int64_t, LanedBlock&)>& fill) {
  const std::int64_t pieces = pieces_of(shape);
  const std::int64_t groups = shape.count / shape.together;
  if (pieces == 1) {
    parallel_for(groups, [&](std::int64_t task) {
      const std::span<LanedBlock> group = group_of(shape.together);
      for (std::int64_t i = 0; i < shape.together; ++i) fill(task * shape.together + i, group[static_cast<std::size_t>(i)]);
      run(group, shape.arithmetic);
    });
    return;
  }
  std::vector<Partials> partials(static_cast<std::size_t>(shape.count * pieces));  // [block][piece]
  parallel_for(groups * pieces, [&](std::int64_t task) {
    const std::span<LanedBlock> group = group_of(shape.together);
    for (std::int64_t b = 0; b < shape.together; ++b) {
      const std::int64_t block = task / pieces * shape.together + b;
      LanedBlock& laned = group[static_cast<std::size_t>(b)];
      fill(block, laned);
      narrow(laned, task % pieces, pieces);
      Partials& own = partials[static_cast<std::size_t>(block * pieces + task % pieces)];
      const std::size_t lanes = laned.block.lanes.size();
      const auto width = static_cast<std::size_t>(laned.block.keys.values.width);
      own.out.resize(lanes * width);
      own.max.resize(lanes);
      own.sum.resize(lanes);
      for (std::size_t i = 0; i < lanes; ++i) {
        laned.lanes[i].out = reinterpret_cast<const std::byte*>(&own.out[i * width]);
        laned.lanes[i].max = &own.max[i];
        laned.lanes[i].sum = &own.sum[i];
      }
      laned.block.out_dtype = DType::kF32;
      laned.block.out_stride = 1;
    }
    run(group, shape.arithmetic);
  });
  parallel_for(shape.count, [&](std::int64_t block) {
    LanedBlock& laned = group_of(1)[0];
    fill(block, laned);
    const std::span<const Partials> own(&partials[static_cast<std::size_t>(block * pieces)],
                                        static_cast<std::size_t>(pieces));
    for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) merge(laned.block, i, own);
  });
}

}  // namespace tessera::kernels::cpu
