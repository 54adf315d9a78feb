#include "kernels/cpu/blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/tensor/convert.h"
#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {
namespace {

// Pieces that the places of each block are cut into.
std::int64_t pieces_of(const BlocksShape& shape) {
  constexpr std::int64_t kLeastPlaces = 1024;  // of a piece: else merging costs more than it gains
  if (shape.count == 0) return 1;
  return std::clamp<std::int64_t>(kTasks / shape.count, 1, std::max<std::int64_t>(shape.most_places / kLeastPlaces, 1));
}

void run(const AttentionBlock& block, Arithmetic arithmetic) {
  const Leaves& code = leaves();
  const bool few = static_cast<std::int64_t>(block.lanes.size()) <= code.few();
  (few ? code.attention_of_few : code.attention)[static_cast<std::size_t>(arithmetic)](block);
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

void store_element(DType dtype, std::byte* at, float value) {
  visit_dtype(dtype, [&]<class T>(T) { *reinterpret_cast<T*>(at) = convert_to<T>(value); });
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
  const std::int64_t bytes = size_of(block.out_dtype);
  for (std::size_t e = 0; e < width; ++e) {
    double value = 0;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      if (weights[p] != 0) value += weights[p] * static_cast<double>(pieces[p].out[lane * width + e]);
    }
    auto* at = const_cast<std::byte*>(to.out) + static_cast<std::int64_t>(e) * block.out_stride * bytes;
    store_element(block.out_dtype, at, sum == 0 ? 0.0f : static_cast<float>(value / sum));
  }
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
  if (pieces == 1) {
    parallel_for(shape.count, [&](std::int64_t task) {
      thread_local LanedBlock laned;
      fill(task, laned);
      run(laned.block, shape.arithmetic);
    });
    return;
  }
  std::vector<Partials> partials(static_cast<std::size_t>(shape.count * pieces));
  parallel_for(shape.count * pieces, [&](std::int64_t task) {
    thread_local LanedBlock laned;
    fill(task / pieces, laned);
    narrow(laned, task % pieces, pieces);
    Partials& own = partials[static_cast<std::size_t>(task)];
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
    run(laned.block, shape.arithmetic);
  });
  parallel_for(shape.count, [&](std::int64_t task) {
    thread_local LanedBlock laned;
    fill(task, laned);
    const std::span<const Partials> own(&partials[static_cast<std::size_t>(task * pieces)],
                                        static_cast<std::size_t>(pieces));
    for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) merge(laned.block, i, own);
  });
}

}  // namespace tessera::kernels::cpu
