// Flash attention of one block of lanes: keys go by in blocks, each lane keeps a running maximum, sum and weighted value.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// What a group of lanes has gathered so far.
template <class Isa, DType kType>
struct RunningSoftmax {
  const typename MathOf<Isa, kType>::Element* queries[2] = {};  ///< [width][columns]
  float* out = nullptr;                                         ///< O^T [value width][columns], not divided by the sum
  float max[LaneGroup<Isa>::kMost];                             ///< log2 domain
  float base[LaneGroup<Isa>::kMost];                            ///< what weights are relative to: exp2(score - base)
  float sum[LaneGroup<Isa>::kMost];
};

/// Turns scores [count][columns], each to be multiplied by `scale`, into weights exp2(score - base), times dropout's
/// `factors` if `kDropped`, having raised the running maximum and scaled what was gathered where the base moved. The
/// weights stand in `weights`, which may be `scores`.
template <class Isa, DType kType, bool kDropped>
void weigh(const LaneGroup<Isa>& group, std::int64_t value_width, std::int64_t count, float scale, const float* factors,
           const float* scores, RunningSoftmax<Isa, kType>& running, typename MathOf<Isa, kType>::Element* weights) {
  using F = Floats<Isa>;
  const std::int64_t columns = group.columns();
  const F hidden = broadcast<F>(-__builtin_inff());
  float shrink[LaneGroup<Isa>::kMost];
  Ints<Isa> moved{};
  for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
    const F max = larger(largest<Isa>(scores + lane, columns, count) * scale, load<F>(running.max + lane));
    store(running.max + lane, max);
    const F before = load<F>(running.base + lane);
    const F base = max > before + kSlack ? max : before;
    const F finite = base == hidden ? F{} : base;
    const F shrunk = exp2<Isa>(before - finite);
    moved |= bits_as<Ints<Isa>>(base != before);
    store(running.base + lane, base);
    store(shrink + lane, shrunk);
    F sum{};
    const auto weight = [&](std::int64_t j) __attribute__((always_inline)) {
      const F own = exp2<Isa>(load<F>(scores + j * columns + lane) * scale - finite);
      sum = sum + own;
      if constexpr (kDropped) return own * load<F>(factors + j * columns + lane);
      else return own;
    };
    if constexpr (MathOf<Isa, kType>::kDepth == 2) {
      std::int64_t j = 0;
      for (; j + 1 < count; j += 2) {
        const F low = weight(j);
        store(weights + j / 2 * columns + lane, paired<Isa>(low, weight(j + 1)));
      }
      if (j < count) store(weights + j / 2 * columns + lane, paired<Isa>(weight(j), F{}));
    } else {
      for (std::int64_t j = 0; j < count; ++j) store(weights + j * columns + lane, weight(j));
    }
    store(running.sum + lane, load<F>(running.sum + lane) * shrunk + sum);
  }
  if (!any<Isa>(moved)) return;
  for (std::int64_t e = 0; e < value_width; ++e) {
    for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
      float* at = running.out + e * columns + lane;
      store(at, load<F>(at) * load<F>(shrink + lane));
    }
  }
}

/// Writes what a group has gathered: out divided by the sum, and the statistics.
template <class Isa, DType kType>
void finish(const AttentionBlock& block, const LaneGroup<Isa>& group, const RunningSoftmax<Isa, kType>& running) {
  using F = Floats<Isa>;
  for (std::int64_t i = 0; i < group.count; ++i) {
    const QueryLane& lane = block.lanes[static_cast<std::size_t>(group.first + i)];
    write_statistics(lane, running.max[i], running.base[i], running.sum[i]);
  }
  if (!block.write_out) return;
  float factors[LaneGroup<Isa>::kMost];
  for (std::int64_t lane = 0; lane < group.columns(); lane += Isa::kLanes) {
    const F sum = load<F>(running.sum + lane);
    store(factors + lane, sum == 0.0f ? F{} : 1.0f / sum);
  }
  write_lanes<Isa>(
      running.out, block.keys.values.width, group, factors, block.out_dtype, block.out_stride,
      [&](std::int64_t i) { return const_cast<std::byte*>(block.lanes[static_cast<std::size_t>(group.first + i)].out); });
}

template <class Isa, DType kType>
void attend(const AttentionBlock& block) {
  using Math = MathOf<Isa, kType>;
  using Element = typename Math::Element;
  LaneGroups<Isa> lanes(block.lanes);
  const std::int64_t value_width = block.keys.values.width;
  const std::int64_t value_rows = rounded_up(value_width, Isa::kTileRows);
  constexpr std::int64_t kColumns = LaneGroup<Isa>::kMost;

  Scratch scratch;
  RunningSoftmax<Isa, kType> running[LaneGroups<Isa>::kMost];
  std::int64_t begin = INT64_MAX;
  std::int64_t end = 0;
  for (std::int64_t g = 0; g < lanes.count; ++g) {
    const LaneGroup<Isa>& group = lanes.groups[g];
    RunningSoftmax<Isa, kType>& own = running[g];
    const std::int64_t columns = group.columns();
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = block.keys.parts[part].width;
      if (width == 0) continue;
      own.queries[part] =
          transposed_rows<Isa, kType>(scratch, group, width, block.element_strides[part], block.scale < 0,
                                      [&](std::int64_t i) { return block.lanes[static_cast<std::size_t>(i)].parts[part]; });
    }
    own.out = scratch.take<float>(value_rows * columns);
    std::fill_n(own.out, value_rows * columns, 0.0f);
    std::fill_n(own.max, columns, -__builtin_inff());
    std::fill_n(own.base, columns, -__builtin_inff());
    std::fill_n(own.sum, columns, 0.0f);
    begin = std::min(begin, group.least_begin);
    end = std::max(end, group.most_end);
  }
  float* scores = scratch.take<float>(kKeyBlock * kColumns);
  float* factors = block.dropout.threshold > 0 ? scratch.take<float>(kKeyBlock * kColumns) : nullptr;
  float* part_scratch[2] = {};
  for (int part = 0; part < 2; ++part)
    part_scratch[part] = scratch.take<float>(kKeyBlock * rounded_up(block.keys.parts[part].width, Isa::kLanes));
  float* value_scratch = scratch.take<float>(kKeyBlock * rounded_up(value_width, Isa::kLanes));

  const float scale = std::abs(block.scale) * kLog2E;
  const bool masked = block.lanes[0].mask != nullptr;
  const bool latent = block.keys.values == block.keys.parts[0];  // keys are their own values
  const std::int64_t tiles_of_group =
      (kKeyBlock * (block.keys.parts[1].width > 0 ? 2 : 1) + value_rows) / std::int64_t{Isa::kTileRows};
  RowsAhead<Isa> ahead;
  for (std::int64_t from = begin; from < end;) {
    const std::int64_t to = std::min(end, from - from % kKeyBlock + kKeyBlock);
    const std::int64_t count = to - from;
    RowPointers keys[2];
    RowPointers values;
    if (latent) {
      const RowsBothWays rows =
          rows_both_ways<Isa, kType>(block.keys.values, block.keys, from, count, part_scratch[0], value_scratch);
      keys[0] = rows.along;
      values = rows.across;
    } else {
      keys[0] = rows_along_width<Isa, kType>(block.keys.parts[0], block.keys, from, count, part_scratch[0]);
      values = rows_across<Isa, kType>(block.keys.values, block.keys, from, count, value_scratch);
    }
    if (block.keys.parts[1].width > 0)
      keys[1] = rows_along_width<Isa, kType>(block.keys.parts[1], block.keys, from, count, part_scratch[1]);
    ahead.start(block.keys, sizeof(Bits<kType>), to, std::min(end, to + kKeyBlock), lanes.count * tiles_of_group);
    for (std::int64_t g = 0; g < lanes.count; ++g) {
      const LaneGroup<Isa>& group = lanes.groups[g];
      if (!group.sees(from, to)) continue;
      RunningSoftmax<Isa, kType>& own = running[g];
      const std::int64_t seen = std::min(to, group.most_end) - from;
      multiply_parts<Isa, kType>({&keys[0], &keys[1]}, block.keys, seen, own.queries, group, scores, group.columns(),
                                 &ahead);
      const bool plain = !masked && group.sees_all(from, from + seen);
      if (!plain) scale_and_mask(block, group, from, seen, scale, scores, group.columns());
      auto* weights = reinterpret_cast<Element*>(scores);  // rows become weights in place
      const float rest = plain ? scale : 1.0f;
      if (factors == nullptr) {
        weigh<Isa, kType, false>(group, value_width, seen, rest, nullptr, scores, own, weights);
      } else {
        draw_dropout(block, group, from, seen, factors);
        weigh<Isa, kType, true>(group, value_width, seen, rest, factors, scores, own, weights);
      }
      multiply<Isa, Math, Along::kColumns, true>(values.rows, value_rows, rounded_up(seen, Math::kDepth) / Math::kDepth,
                                                 weights, group.columns(), own.out, group.columns(), group.vectors, &ahead);
    }
    from = to;
  }
  for (std::int64_t g = 0; g < lanes.count; ++g) finish<Isa, kType>(block, lanes.groups[g], running[g]);
}

}  // namespace tessera::kernels::cpu
