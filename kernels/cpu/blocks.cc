#include "kernels/cpu/blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/tensor/tensor.h"
#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {
namespace {

// Pieces that the places of each group of blocks are cut into. Below some 512 places, merging costs more than it gains. Beside
// few lanes, which take no longer than their keys are read, it counts up to twice as many, once a dozen threads have a task.
std::int64_t pieces_of(const BlocksShape& shape) {
  if (shape.count == 0) return 1;
  const std::int64_t groups = shape.count / shape.together;
  const auto pieces = [&](std::int64_t tasks, std::int64_t least_places) {
    return std::clamp<std::int64_t>(tasks / groups, 1, std::max<std::int64_t>(shape.most_places / least_places, 1));
  };
  if (shape.most_lanes > kWidestVector) return pieces(kTasks, 512);
  return std::max(pieces(kTasks / 2, 512), pieces(kTasks, 1024));
}

// Few lanes go by memory's speed. Listed keys are not cut into parts: memory's order is nothing to them.
void run(std::span<const LanedBlock> group, Arithmetic arithmetic) {
  const Leaves& code = leaves();
  const auto index = static_cast<std::size_t>(arithmetic);
  const AttentionBlock& first = group[0].block;
  const std::size_t lanes = first.lanes.size();
  const auto parts = static_cast<std::size_t>(code.parts_of_few(std::ssize(first.lanes)));
  if (parts == 0 || (parts > 1 && first.keys.list != nullptr)) {
    for (const LanedBlock& laned : group) code.attention[index](laned.block);
    return;
  }
  thread_local std::array<AttentionBlock, kMostTogether> few;
  std::array<const AttentionBlock*, kMostTogether> blocks{};
  const std::size_t most = (lanes + parts - 1) / parts;
  std::size_t count = 0;
  for (const LanedBlock& laned : group) {
    for (std::size_t begin = 0; begin < lanes; begin += most, ++count) {
      few[count] = laned.block;
      few[count].lanes = laned.block.lanes.subspan(begin, std::min(most, lanes - begin));
      blocks[count] = &few[count];
    }
  }
  code.attention_of_few[index]({blocks.data(), count});
}

// The thread's memory for a group of blocks.
std::span<LanedBlock> group_of(std::int64_t together) {
  thread_local std::vector<LanedBlock> group;
  if (std::ssize(group) < together) group.resize(static_cast<std::size_t>(together));
  return {group.data(), static_cast<std::size_t>(together)};
}

// What the pieces of blocks leave for each lane: out, normalised, in f32, and statistics.
class Partials {
 public:
  Partials(const BlocksShape& shape, std::int64_t pieces)
      : pieces_(pieces),
        lanes_(shape.most_lanes),
        width_(shape.value_width),
        out_(Tensor::uninitialized({shape.count * pieces * lanes_, width_}, DType::kF32)),
        statistics_(Tensor::uninitialized({shape.count * pieces * lanes_, 2}, DType::kF32)) {}

  float* out(std::int64_t block, std::int64_t piece, std::int64_t lane) {
    return out_.data<float>() + index(block, piece, lane) * width_;
  }
  float& max(std::int64_t block, std::int64_t piece, std::int64_t lane) {
    return statistics_.data<float>()[2 * index(block, piece, lane)];
  }
  float& sum(std::int64_t block, std::int64_t piece, std::int64_t lane) {
    return statistics_.data<float>()[2 * index(block, piece, lane) + 1];
  }

 private:
  [[nodiscard]] std::int64_t index(std::int64_t block, std::int64_t piece, std::int64_t lane) const {
    return (block * pieces_ + piece) * lanes_ + lane;
  }

  std::int64_t pieces_;
  std::int64_t lanes_;
  std::int64_t width_;
  Tensor out_;
  Tensor statistics_;
};

// Narrows a block's lanes to piece `piece` of `pieces` of the places that they see together. @param run_end the pieces from
// here on are not this thread's next
void narrow(LanedBlock& laned, std::int64_t piece, std::int64_t pieces, std::int64_t run_end) {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) {
    begin = std::min(begin, laned.lanes[i].begin);
    end = std::max(end, laned.lanes[i].end);
  }
  const std::int64_t size = rounded_up(std::max<std::int64_t>(end - begin, 0), pieces * kKeyBlock) / pieces;
  const std::int64_t from = begin + piece * size;
  keep_places(laned, from, from + size);
  laned.block.keys.ahead_end = std::min(end, begin + run_end * size);
}

// Merges the pieces of a block's lanes into its results. What pieces left has gone to memory by now: it is read in its order,
// piece by piece.
void merge(const AttentionBlock& block, std::int64_t index, std::int64_t pieces, Partials& partials) {
  const std::int64_t lanes = std::ssize(block.lanes);
  const std::int64_t width = block.keys.values.width;
  const std::int64_t stride = rounded_up(width, kWidestVector);
  std::vector<float> shares(static_cast<std::size_t>(pieces * lanes));
  std::vector<double> weights(static_cast<std::size_t>(pieces));
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    float max = -std::numeric_limits<float>::infinity();
    for (std::int64_t p = 0; p < pieces; ++p) {
      if (partials.sum(index, p, lane) != 0) max = std::max(max, partials.max(index, p, lane));
    }
    double sum = 0;
    for (std::int64_t p = 0; p < pieces; ++p) {
      const float own = partials.sum(index, p, lane);
      const double distance = static_cast<double>(partials.max(index, p, lane)) - static_cast<double>(max);
      double& weight = weights[static_cast<std::size_t>(p)];
      weight = own == 0 ? 0 : static_cast<double>(own) * std::exp(distance);
      sum += weight;
    }
    for (std::int64_t p = 0; p < pieces && sum != 0; ++p)
      shares[static_cast<std::size_t>(p * lanes + lane)] = static_cast<float>(weights[static_cast<std::size_t>(p)] / sum);
    const QueryLane& to = block.lanes[static_cast<std::size_t>(lane)];
    if (to.max != nullptr) {
      *to.max = sum == 0 ? 0 : max;
      *to.sum = static_cast<float>(sum);
    }
  }
  if (!block.write_out) return;
  std::vector<float> out(static_cast<std::size_t>(lanes * stride));
  for (std::int64_t p = 0; p < pieces; ++p) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      if (partials.sum(index, p, lane) == 0) continue;  // it saw no key, and left what it likes
      const float share = shares[static_cast<std::size_t>(p * lanes + lane)];
      const float* own = partials.out(index, p, lane);
      float* total = out.data() + lane * stride;
      for (std::int64_t e = 0; e < width; ++e) total[e] += share * own[e];
    }
  }
  for (std::int64_t lane = 0; lane < lanes; ++lane)
    leaves().narrow(block.out_dtype, out.data() + lane * stride,
                    const_cast<std::byte*>(block.lanes[static_cast<std::size_t>(lane)].out), block.out_stride, width);
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
  Partials partials(shape, pieces);
  const auto run_piece = [&](std::int64_t task, std::int64_t last) {
    const std::int64_t group_index = task / pieces;
    const std::int64_t piece = task % pieces;
    const std::span<LanedBlock> group = group_of(shape.together);
    for (std::int64_t b = 0; b < shape.together; ++b) {
      const std::int64_t block = group_index * shape.together + b;
      LanedBlock& laned = group[static_cast<std::size_t>(b)];
      fill(block, laned);
      narrow(laned, piece, pieces, std::min(last - group_index * pieces, pieces));
      for (std::int64_t i = 0; i < std::ssize(laned.block.lanes); ++i) {
        QueryLane& lane = laned.lanes[static_cast<std::size_t>(i)];
        lane.out = reinterpret_cast<const std::byte*>(partials.out(block, piece, i));
        lane.max = &partials.max(block, piece, i);
        lane.sum = &partials.sum(block, piece, i);
      }
      laned.block.out_dtype = DType::kF32;
      laned.block.out_stride = 1;
    }
    run(group, shape.arithmetic);
  };
  // Pieces of the same keys follow one another on a thread, so that the next one's keys can be asked for.
  parallel_for_runs(groups * pieces, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t task = first; task < last; ++task) run_piece(task, last);
  });
  parallel_for(shape.count, [&](std::int64_t block) {
    LanedBlock& laned = group_of(1)[0];
    fill(block, laned);
    merge(laned.block, block, pieces, partials);
  });
}

}  // namespace tessera::kernels::cpu
