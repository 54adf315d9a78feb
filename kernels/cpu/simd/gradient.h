// The gradient of flash attention for one block of lanes: five products a block of keys, all by the same tiles as the
// forward pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// One operand of a group's lanes in both forms that products take: across lanes, B of the scores; and as rows, B of the
/// keys' gradients.
template <class Isa, DType kType>
struct LaneOperand {
  using Element = typename MathOf<Isa, kType>::Element;

  const Element* across = nullptr;  ///< [width][columns]
  const Element* rows =
      nullptr;  ///< [columns][row_stride], in pairs of rows [columns / 2][row_stride]; 0 behind the last lane
  std::int64_t width = 0;
  std::int64_t row_stride = 0;

  template <class Address>
  LaneOperand(Scratch& scratch, const LaneGroup<Isa>& group, std::int64_t row_width, std::int64_t stride, Address address)
      : width(row_width), row_stride(rounded_up(row_width, Isa::kLanes) + Isa::kLanes) {
    constexpr std::int64_t kDepth = MathOf<Isa, kType>::kDepth;
    auto* transposed = scratch.take<Element>(rounded_up(width, kDepth) / kDepth * group.columns());
    transpose_rows<Isa, kType>(group.count, group.columns(), width, stride, false, address, transposed);
    across = transposed;
    auto* copied = scratch.take<Element>(rounded_up(group.columns(), kDepth) / kDepth * row_stride);
    for (std::int64_t i = 0; i < group.columns(); i += kDepth) {
      Element* to = copied + i / kDepth * row_stride;
      const auto words = [&](std::int64_t lane, std::int64_t d) {
        return lane < group.count ? row_words<Isa, kType>(address(lane), stride, d, width) : Words<Isa>{};
      };
      for (std::int64_t d = 0; d < width; d += kDepth * Isa::kLanes) {
        if constexpr (kDepth == 2) {
          const auto [low, high] = interleaved<Isa>(words(i, d), words(i + 1, d));
          store(to + d, low);
          store(to + d + Isa::kLanes, high);
        } else {
          store(to + d, words(i, d));
        }
      }
    }
    rows = copied;
  }
  LaneOperand() = default;
};

/// What the gradient keeps for a group of lanes.
template <class Isa, DType kType>
struct GradientLanes {
  LaneOperand<Isa, kType> queries[2];
  LaneOperand<Isa, kType> grad_out;
  float* grad_queries[2] = {};                ///< dQ^T [width][columns]
  float base[LaneGroup<Isa>::kMost];          ///< weight = exp2(score - base) * factor
  float factor[LaneGroup<Isa>::kMost];        ///< 0 behind the last lane and for lanes without keys
  float grad_dot_out[LaneGroup<Isa>::kMost];  ///< times the scale
};

/// rowsum(grad_out * out)
template <class Isa, DType kType>
float dot_rows(const GradientBlock& block, const QueryLane& lane) {
  Floats<Isa> sum{};
  for (std::int64_t e = 0; e < block.forward.keys.values.width; e += Isa::kLanes) {
    const std::int64_t count = block.forward.keys.values.width - e;
    sum = sum + load_elements<Isa, kType>(
                    lane.grad_out + e * block.grad_out_stride * static_cast<std::int64_t>(sizeof(Bits<kType>)),
                    block.grad_out_stride, count) *
                    load_elements<Isa>(block.out_dtype, lane.out + e * block.forward.out_stride * size_of(block.out_dtype),
                                       block.forward.out_stride, count);
  }
  float lanes[Isa::kLanes];
  store(lanes, sum);
  double total = 0;
  for (const float each : lanes) total += static_cast<double>(each);
  return static_cast<float>(total);
}

/// A group's weights and score gradients of some places, as the products that follow read them.
template <class Isa, DType kType>
struct ScoreGradients {
  using Element = typename MathOf<Isa, kType>::Element;

  RowPointers weights;    ///< rows [columns] of the places: A of the values' gradient
  RowPointers gradients;  ///< likewise, of the scores: A of the keys' gradient
  const Element* across =
      nullptr;  ///< gradients of the scores [count][columns], in pairs [count / 2][columns]: B of the queries' gradient
};

/// Weights P = exp2(scale * S - base) * factor in place of S, and `grad_scale` dS = P (grad_scale dP - grad_scale D) in
/// place of dP.
template <class Isa, DType kType, bool kDropped>
ScoreGradients<Isa, kType> differentiate(const LaneGroup<Isa>& group, const GradientLanes<Isa, kType>& own,
                                         std::int64_t count, float scale, float grad_scale, const float* factors,
                                         float* scores, float* grads, std::uint32_t* pairs, const float* zeros) {
  using F = Floats<Isa>;
  using W = Words<Isa>;
  constexpr bool kInPairs = MathOf<Isa, kType>::kDepth == 2;
  const std::int64_t columns = group.columns();
  const auto at = [columns](auto* matrix, std::int64_t j, std::int64_t lane) { return matrix + j * columns + lane; };
  for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
    const F base = load<F>(own.base + lane);
    const F factor = load<F>(own.factor + lane);
    const F dot = load<F>(own.grad_dot_out + lane);
    W before{};
    for (std::int64_t j = 0; j < count; ++j) {
      const F weight = exp2<Isa>(load<F>(at(scores, j, lane)) * scale - base) * factor;
      F grad = load<F>(at(grads, j, lane));
      F kept = weight;
      if constexpr (kDropped) {
        const F drop = load<F>(at(factors, j, lane));
        kept = weight * drop;
        grad = grad * drop;
      }
      const F score_grad = weight * (grad * grad_scale - dot);
      if constexpr (kInPairs) {
        // Rows of bf16 in the first half of the rows of floats; beside them, pairs of rows.
        const W row = rounded_above<Isa>(score_grad);
        store(reinterpret_cast<std::uint16_t*>(at(scores, j, 0)) + lane, upper_halves<Isa>(rounded_above<Isa>(kept)));
        store(reinterpret_cast<std::uint16_t*>(at(grads, j, 0)) + lane, upper_halves<Isa>(row));
        if (j % 2 == 1) store(at(pairs, j / 2, lane), before >> 16 | (row & 0xFFFF0000u));
        else if (j + 1 == count) store(at(pairs, j / 2, lane), row >> 16);
        before = row;
      } else {
        store(at(scores, j, lane), kept);
        store(at(grads, j, lane), score_grad);
      }
    }
  }
  ScoreGradients<Isa, kType> result;
  for (std::int64_t j = 0; j < count; ++j) {
    result.weights.rows[j] = at(scores, j, 0);
    result.gradients.rows[j] = at(grads, j, 0);
  }
  for (std::int64_t j = count; j < rounded_up(count, Isa::kTileRows); ++j)
    result.weights.rows[j] = result.gradients.rows[j] = zeros;
  if constexpr (kInPairs) result.across = pairs;
  else result.across = grads;
  return result;
}

/// Adds A B to the gradients of `count` places: A [places][lanes], B the lanes' rows. Whole tiles of places that follow one
/// another are added in place; those of a list, which may repeat, and the rest one by one.
template <class Isa, DType kType>
void add_to_keys(const RowPointers& a, const LaneOperand<Isa, kType>& b, const LaneGroup<Isa>& group, const BlockKeys& keys,
                 std::int64_t place, std::int64_t count, const GradientRows& rows, float* scratch) {
  using Math = MathOf<Isa, kType>;
  using F = Floats<Isa>;
  const std::int64_t vectors = rounded_up(b.width, Isa::kLanes) / Isa::kLanes;
  const std::int64_t in_place = keys.list == nullptr ? count / Isa::kTileRows * Isa::kTileRows : 0;
  const std::int64_t others = rounded_up(count - in_place, Isa::kTileRows);
  const std::int64_t depth = group.columns() / Math::kDepth;
  for (std::int64_t v = 0; v < vectors; v += 3) {
    const int taken = static_cast<int>(std::min<std::int64_t>(3, vectors - v));
    const std::int64_t column = v * Isa::kLanes;
    const std::int64_t width = taken * Isa::kLanes;
    multiply<Isa, Math, Along::kRows, true>(a.rows, in_place, depth, b.rows + column, b.row_stride,
                                            rows.base + place * rows.row_stride + column, rows.row_stride, taken);
    multiply<Isa, Math, Along::kRows, false>(a.rows + in_place, others, depth, b.rows + column, b.row_stride, scratch,
                                             width, taken);
    for (std::int64_t j = in_place; j < count; ++j) {
      float* to = rows.base + keys.row(place + j) * rows.row_stride + column;
      const float* from = scratch + (j - in_place) * width;
      for (std::int64_t i = 0; i < width; i += Isa::kLanes) store(to + i, load<F>(to + i) + load<F>(from + i));
    }
  }
}

template <class Isa, DType kType>
void attend_backward(const GradientBlock& block) {
  using Math = MathOf<Isa, kType>;
  const AttentionBlock& forward = block.forward;
  const BlockKeys& keys = forward.keys;
  const LaneGroups<Isa> lanes(forward.lanes);
  constexpr std::int64_t kColumns = LaneGroup<Isa>::kMost;
  const float scale = std::abs(forward.scale) * kLog2E;
  const bool masked = forward.lanes[0].mask != nullptr;

  Scratch scratch;
  GradientLanes<Isa, kType> prepared[LaneGroups<Isa>::kMost];
  std::int64_t begin = INT64_MAX;
  std::int64_t end = 0;
  for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count); ++g) {
    const LaneGroup<Isa>& group = lanes.groups[g];
    GradientLanes<Isa, kType>& own = prepared[g];
    const auto lane = [&](std::int64_t i) -> const QueryLane& {
      return forward.lanes[static_cast<std::size_t>(group.first + i)];
    };
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = keys.parts[part].width;
      if (width == 0) continue;
      own.queries[part] = LaneOperand<Isa, kType>(scratch, group, width, forward.element_strides[part],
                                                  [&](std::int64_t i) { return lane(i).parts[part]; });
      const std::int64_t numbers = rounded_up(width, Isa::kTileRows) * group.columns();
      own.grad_queries[part] = scratch.take<float>(numbers);
      std::fill_n(own.grad_queries[part], numbers, 0.0f);
    }
    own.grad_out = LaneOperand<Isa, kType>(scratch, group, keys.values.width, block.grad_out_stride,
                                           [&](std::int64_t i) { return lane(i).grad_out; });
    for (std::int64_t i = 0; i < group.columns(); ++i) {
      own.base[i] = own.factor[i] = own.grad_dot_out[i] = 0;
      if (i >= group.count || *lane(i).sum == 0) continue;
      // The maximum is rounded on its way into the log2 domain; the factor takes up the difference.
      const double exact = static_cast<double>(*lane(i).max) * 1.4426950408889634;
      own.base[i] = static_cast<float>(exact);
      own.factor[i] =
          static_cast<float>(std::exp2(static_cast<double>(own.base[i]) - exact) / static_cast<double>(*lane(i).sum));
      own.grad_dot_out[i] = dot_rows<Isa, kType>(block, lane(i)) * forward.scale;
    }
    begin = std::min(begin, group.least_begin);
    end = std::max(end, group.most_end);
  }
  float* scores = scratch.take<float>(kKeyBlock * kColumns);
  float* grads = scratch.take<float>(kKeyBlock * kColumns);
  auto* pairs = scratch.take<std::uint32_t>(kKeyBlock * kColumns / 2);
  float* factors = forward.dropout.threshold > 0 ? scratch.take<float>(kKeyBlock * kColumns) : nullptr;
  float* products = scratch.take<float>(kKeyBlock * kColumns);
  float* zeros = scratch.take<float>(kColumns);
  std::fill_n(zeros, kColumns, 0.0f);
  const auto key_scratch = [&](const KeyRows& rows) {
    return scratch.take<float>(kKeyBlock * rounded_up(rows.width, Isa::kLanes));
  };
  float* along_scratch[2] = {key_scratch(keys.parts[0]), key_scratch(keys.parts[1])};
  float* across_scratch[2] = {key_scratch(keys.parts[0]), key_scratch(keys.parts[1])};
  float* value_scratch = key_scratch(keys.values);

  for (std::int64_t from = begin; from < end;) {
    const std::int64_t to = std::min(end, from - from % kKeyBlock + kKeyBlock);
    RowPointers along[2];
    RowPointers across[2];
    for (int part = 0; part < 2; ++part) {
      if (keys.parts[part].width == 0) continue;
      along[part] = rows_along_width<Isa, kType>(keys.parts[part], keys, from, to - from, along_scratch[part]);
      across[part] = rows_across<Isa, kType>(keys.parts[part], keys, from, to - from, across_scratch[part]);
    }
    const RowPointers values = rows_along_width<Isa, kType>(keys.values, keys, from, to - from, value_scratch);
    for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count); ++g) {
      const LaneGroup<Isa>& group = lanes.groups[g];
      if (!group.sees(from, to)) continue;
      const GradientLanes<Isa, kType>& own = prepared[g];
      const std::int64_t count = std::min(to, group.most_end) - from;
      const std::int64_t columns = group.columns();
      multiply_parts<Isa, kType>(along, keys, count, {own.queries[0].across, own.queries[1].across}, group, scores);
      multiply<Isa, Math, Along::kRows, false>(values.rows, rounded_up(count, Isa::kTileRows),
                                               rounded_up(keys.values.width, Math::kDepth) / Math::kDepth,
                                               own.grad_out.across, columns, grads, columns, group.vectors);
      const bool plain = !masked && group.sees_all(from, from + count);
      const float signed_scale = forward.scale < 0 ? -scale : scale;
      if (!plain) scale_and_mask(forward, group, from, count, signed_scale, scores);
      const float rest = plain ? signed_scale : 1.0f;
      if (factors != nullptr) draw_dropout(forward, group, from, count, factors);
      const ScoreGradients<Isa, kType> of_scores =
          factors == nullptr ? differentiate<Isa, kType, false>(group, own, count, rest, forward.scale, nullptr, scores,
                                                                grads, pairs, zeros)
                             : differentiate<Isa, kType, true>(group, own, count, rest, forward.scale, factors, scores,
                                                               grads, pairs, zeros);
      add_to_keys<Isa, kType>(of_scores.weights, own.grad_out, group, keys, from, count, block.values, products);
      for (int part = 0; part < 2; ++part) {
        if (keys.parts[part].width == 0) continue;
        add_to_keys<Isa, kType>(of_scores.gradients, own.queries[part], group, keys, from, count, block.parts[part],
                                products);
        multiply<Isa, Math, Along::kColumns, true>(across[part].rows, rounded_up(keys.parts[part].width, Isa::kTileRows),
                                                   rounded_up(count, Math::kDepth) / Math::kDepth, of_scores.across,
                                                   columns, own.grad_queries[part], columns, group.vectors);
      }
    }
    from = to;
  }
  for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count); ++g) {
    const LaneGroup<Isa>& group = lanes.groups[g];
    float ones[LaneGroup<Isa>::kMost];
    std::fill_n(ones, group.columns(), 1.0f);
    for (int part = 0; part < 2; ++part) {
      if (keys.parts[part].width == 0) continue;
      write_lanes<Isa>(prepared[g].grad_queries[part], keys.parts[part].width, group, ones, block.gradient_dtype, 1,
                       [&](std::int64_t i) { return block.queries[part][static_cast<std::size_t>(group.first + i)]; });
    }
  }
}

}  // namespace tessera::kernels::cpu
