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

/// Lanes as the rows of B: [lanes][row_stride], in pairs of lanes [lanes / 2][row_stride], whole vectors of lanes and 0
/// behind the last one.
template <class Isa, DType kType>
struct LaneRows {
  using Element = typename MathOf<Isa, kType>::Element;

  const Element* rows = nullptr;
  std::int64_t width = 0;
  std::int64_t row_stride = 0;

  /// @param address of a lane's row, its elements `stride` apart
  template <class Address>
  LaneRows(Scratch& scratch, std::int64_t lanes, std::int64_t row_width, std::int64_t stride, Address address)
      : width(row_width), row_stride(rounded_up(row_width, Isa::kLanes) + Isa::kLanes) {
    constexpr std::int64_t kDepth = MathOf<Isa, kType>::kDepth;
    const std::int64_t padded = rounded_up(lanes, Isa::kLanes);
    auto* copied = scratch.take<Element>(rounded_up(padded, kDepth) / kDepth * row_stride);
    for (std::int64_t i = 0; i < padded; i += kDepth) {
      Element* to = copied + i / kDepth * row_stride;
      const auto words = [&](std::int64_t lane, std::int64_t d) {
        return lane < lanes ? row_words<Isa, kType>(address(lane), stride, d, width) : Words<Isa>{};
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
  LaneRows() = default;
};

/// What the gradient keeps for a group of lanes.
template <class Isa, DType kType>
struct GradientLanes {
  const typename MathOf<Isa, kType>::Element* queries[2] = {};     ///< [width][columns]
  const typename MathOf<Isa, kType>::Element* grad_out = nullptr;  ///< likewise
  float* grad_queries[2] = {};                                     ///< dQ^T [width][columns]
  float base[LaneGroup<Isa>::kMost];                               ///< weight = exp2(score - base) * factor
  float factor[LaneGroup<Isa>::kMost];                             ///< 0 behind the last lane and for lanes without keys
  float grad_dot_out[LaneGroup<Isa>::kMost];                       ///< times the scale
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

/// B of a product.
template <class Element>
struct Columns {
  const Element* elements = nullptr;
  std::int64_t stride = 0;
};

/// For one group's lanes of `count` rows, `stride` floats apart: weights P = exp2(scale * S - base) * factor in place of
/// scores S, and `grad_scale` dS = P (grad_scale dP - grad_scale D) in place of dP. In pairs, a row's bf16 stand in the
/// first half of its floats: lane i takes two of the bytes that lane i / 2 is done with.
/// @param pairs [count / 2][columns], where the gradients of scores go in pairs of rows
/// @returns the gradients of the scores as B of the queries' gradient
template <class Isa, DType kType, bool kDropped>
Columns<typename MathOf<Isa, kType>::Element> differentiate(const LaneGroup<Isa>& group,
                                                            const GradientLanes<Isa, kType>& own, std::int64_t count,
                                                            std::int64_t stride, float scale, float grad_scale,
                                                            const float* factors, float* scores, float* grads,
                                                            std::uint32_t* pairs) {
  using F = Floats<Isa>;
  using W = Words<Isa>;
  constexpr bool kInPairs = MathOf<Isa, kType>::kDepth == 2;
  const std::int64_t columns = group.columns();
  for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
    const F base = load<F>(own.base + lane);
    const F factor = load<F>(own.factor + lane);
    const F dot = load<F>(own.grad_dot_out + lane);
    const std::int64_t column = group.first + lane;
    W before{};
    for (std::int64_t j = 0; j < count; ++j) {
      float* scores_of = scores + j * stride;
      float* grads_of = grads + j * stride;
      const F weight = exp2<Isa>(load<F>(scores_of + column) * scale - base) * factor;
      F grad = load<F>(grads_of + column);
      F kept = weight;
      if constexpr (kDropped) {
        const F drop = load<F>(factors + j * columns + lane);
        kept = weight * drop;
        grad = grad * drop;
      }
      const F score_grad = weight * (grad * grad_scale - dot);
      if constexpr (kInPairs) {
        const W row = rounded_above<Isa>(score_grad);
        store(reinterpret_cast<std::uint16_t*>(scores_of) + column, upper_halves<Isa>(rounded_above<Isa>(kept)));
        store(reinterpret_cast<std::uint16_t*>(grads_of) + column, upper_halves<Isa>(row));
        std::uint32_t* pair = pairs + j / 2 * columns + lane;
        if (j % 2 == 1) store(pair, before >> 16 | (row & 0xFFFF0000u));
        else if (j + 1 == count) store(pair, row >> 16);
        before = row;
      } else {
        store(scores_of + column, kept);
        store(grads_of + column, score_grad);
      }
    }
  }
  if constexpr (kInPairs) return {pairs, columns};
  else return {grads + group.first, stride};
}

/// Some of a block's lanes, whole vectors.
struct LaneSpan {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// What `differentiate` left in `matrix`, for some lanes: A of a product, padded with rows of zeros to whole tiles.
template <class Isa, DType kType>
RowPointers lane_columns(const float* matrix, std::int64_t stride, LaneSpan lanes, std::int64_t count, const float* zeros) {
  using Math = MathOf<Isa, kType>;
  RowPointers result;
  for (std::int64_t j = 0; j < rounded_up(count, Isa::kTileRows); ++j) {
    const float* row = j < count ? matrix + j * stride : zeros;
    result.rows[j] = reinterpret_cast<const typename Math::Element*>(row) + lanes.first / Math::kDepth;
  }
  return result;
}

/// Adds A B to the gradients of `count` places: A [places][lanes], B some of `b`'s lanes. Rows of a list may repeat; all are
/// found one by one, and asked for while they are multiplied: the first cache has had other rows since.
template <class Isa, DType kType>
void add_to_keys(const RowPointers& a, const LaneRows<Isa, kType>& b, LaneSpan lanes, const BlockKeys& keys,
                 std::int64_t place, std::int64_t count, const GradientRows& rows) {
  using Math = MathOf<Isa, kType>;
  const std::int64_t vectors = rounded_up(b.width, Isa::kLanes) / Isa::kLanes;
  float nowhere[3 * std::size_t{Isa::kLanes}] = {};  // rows behind the last place
  for (std::int64_t v = 0; v < vectors; v += 3) {
    const int taken = static_cast<int>(std::min<std::int64_t>(3, vectors - v));
    const std::int64_t column = v * Isa::kLanes;
    const std::int64_t bytes = taken * Isa::kLanes * static_cast<std::int64_t>(sizeof(float));
    const auto* lane_rows = b.rows + lanes.first / Math::kDepth * b.row_stride + column;
    for (std::int64_t first = 0; first < count; first += Isa::kTileRows) {
      float* to[std::size_t{Isa::kTileRows}];
      for (std::int64_t j = 0; j < Isa::kTileRows; ++j) {
        to[j] = first + j < count ? rows.row(keys.row(place + first + j)) + column : nowhere;
        prefetch_row<Isa>(reinterpret_cast<const std::byte*>(to[j]), bytes);
      }
      multiply_tile_of<Isa, Math, Along::kRows, true>(taken, a.rows + first, 0, lanes.count / Math::kDepth, lane_rows,
                                                      b.row_stride, ListedRows<Isa>{to});
    }
  }
}

template <class Isa, DType kType>
void attend_backward(const GradientBlock& block) {
  using Math = MathOf<Isa, kType>;
  const AttentionBlock& forward = block.forward;
  const BlockKeys& keys = forward.keys;
  const LaneGroups<Isa> lanes(forward.lanes);
  const auto lane_count = static_cast<std::int64_t>(forward.lanes.size());
  const std::int64_t columns = rounded_up(lane_count, Isa::kLanes);  // of all groups
  constexpr std::int64_t kGroupColumns = LaneGroup<Isa>::kMost;
  const float scale = std::abs(forward.scale) * kLog2E;
  const bool masked = forward.lanes[0].mask != nullptr;

  Scratch scratch;
  const auto lane = [&](std::int64_t i) -> const QueryLane& { return forward.lanes[static_cast<std::size_t>(i)]; };
  LaneRows<Isa, kType> query_rows[2];
  for (int part = 0; part < 2; ++part) {
    if (keys.parts[part].width == 0) continue;
    query_rows[part] = LaneRows<Isa, kType>(scratch, lane_count, keys.parts[part].width, forward.element_strides[part],
                                            [&](std::int64_t i) { return lane(i).parts[part]; });
  }
  const LaneRows<Isa, kType> grad_out_rows(scratch, lane_count, keys.values.width, block.grad_out_stride,
                                           [&](std::int64_t i) { return lane(i).grad_out; });
  GradientLanes<Isa, kType> prepared[LaneGroups<Isa>::kMost];
  std::int64_t begin = INT64_MAX;
  std::int64_t end = 0;
  for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count); ++g) {
    const LaneGroup<Isa>& group = lanes.groups[g];
    GradientLanes<Isa, kType>& own = prepared[g];
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = keys.parts[part].width;
      if (width == 0) continue;
      own.queries[part] = transposed_rows<Isa, kType>(scratch, group, width, forward.element_strides[part], false,
                                                      [&](std::int64_t i) { return lane(i).parts[part]; });
      const std::int64_t numbers = rounded_up(width, Isa::kTileRows) * group.columns();
      own.grad_queries[part] = scratch.take<float>(numbers);
      std::fill_n(own.grad_queries[part], numbers, 0.0f);
    }
    own.grad_out = transposed_rows<Isa, kType>(scratch, group, keys.values.width, block.grad_out_stride, false,
                                               [&](std::int64_t i) { return lane(i).grad_out; });
    for (std::int64_t i = 0; i < group.columns(); ++i) {
      own.base[i] = own.factor[i] = own.grad_dot_out[i] = 0;
      if (i >= group.count) continue;
      const QueryLane& from = lane(group.first + i);
      if (*from.sum == 0) continue;
      // The maximum is rounded on its way into the log2 domain; the factor takes up the difference.
      const double exact = static_cast<double>(*from.max) * 1.4426950408889634;
      own.base[i] = static_cast<float>(exact);
      own.factor[i] =
          static_cast<float>(std::exp2(static_cast<double>(own.base[i]) - exact) / static_cast<double>(*from.sum));
      own.grad_dot_out[i] = dot_rows<Isa, kType>(block, from) * forward.scale;
    }
    begin = std::min(begin, group.least_begin);
    end = std::max(end, group.most_end);
  }
  float* scores = scratch.take<float>(kKeyBlock * columns);
  float* grads = scratch.take<float>(kKeyBlock * columns);
  auto* pairs = scratch.take<std::uint32_t>(kKeyBlock * kGroupColumns / 2);
  float* factors = forward.dropout.threshold > 0 ? scratch.take<float>(kKeyBlock * kGroupColumns) : nullptr;
  float* zeros = scratch.take<float>(columns);
  std::fill_n(zeros, columns, 0.0f);
  const auto key_scratch = [&](const KeyRows& rows) {
    return scratch.take<float>(kKeyBlock * rounded_up(rows.width, Isa::kLanes));
  };
  float* along_scratch[2] = {key_scratch(keys.parts[0]), key_scratch(keys.parts[1])};
  float* across_scratch[2] = {key_scratch(keys.parts[0]), key_scratch(keys.parts[1])};
  float* value_scratch = key_scratch(keys.values);

  const bool two_parts = keys.parts[1].width > 0;
  const std::int64_t tiles_of_group =
      (kKeyBlock * (two_parts ? 3 : 2) + keys.parts[0].width + keys.parts[1].width) / std::int64_t{Isa::kTileRows};
  RowsAhead<Isa> ahead;
  for (std::int64_t from = begin; from < end;) {
    const std::int64_t to = std::min(end, from - from % kKeyBlock + kKeyBlock);
    RowsBothWays rows[2];
    for (int part = 0; part < 2; ++part) {
      if (keys.parts[part].width > 0)
        rows[part] =
            rows_both_ways<Isa, kType>(keys.parts[part], keys, from, to - from, along_scratch[part], across_scratch[part]);
    }
    const RowPointers values = keys.values == keys.parts[0]
                                   ? rows[0].along
                                   : rows_along_width<Isa, kType>(keys.values, keys, from, to - from, value_scratch);
    ahead.start(keys, sizeof(Bits<kType>), to, std::min(end, to + kKeyBlock), lanes.count * tiles_of_group, &block);
    std::int64_t seen[LaneGroups<Isa>::kMost];  // places of this block that a group sees: the first so many
    for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count); ++g) {
      const LaneGroup<Isa>& group = lanes.groups[g];
      const GradientLanes<Isa, kType>& own = prepared[g];
      seen[g] = group.sees(from, to) ? std::min(to, group.most_end) - from : 0;
      const std::int64_t count = seen[g];
      if (count == 0) continue;
      multiply_parts<Isa, kType>({&rows[0].along, &rows[1].along}, keys, count, own.queries, group, scores + group.first,
                                 columns, &ahead);
      multiply<Isa, Math, Along::kRows, false>(values.rows, rounded_up(count, Isa::kTileRows),
                                               rounded_up(keys.values.width, Math::kDepth) / Math::kDepth, own.grad_out,
                                               group.columns(), grads + group.first, columns, group.vectors, &ahead);
      const bool plain = !masked && group.sees_all(from, from + count);
      const float signed_scale = forward.scale < 0 ? -scale : scale;
      if (!plain) scale_and_mask(forward, group, from, count, signed_scale, scores + group.first, columns);
      const float rest = plain ? signed_scale : 1.0f;
      if (factors != nullptr) draw_dropout(forward, group, from, count, factors);
      const auto of_scores = factors == nullptr
                                 ? differentiate<Isa, kType, false>(group, own, count, columns, rest, forward.scale,
                                                                    nullptr, scores, grads, pairs)
                                 : differentiate<Isa, kType, true>(group, own, count, columns, rest, forward.scale, factors,
                                                                   scores, grads, pairs);
      for (int part = 0; part < 2; ++part) {
        if (keys.parts[part].width == 0) continue;
        multiply<Isa, Math, Along::kColumns, true>(
            rows[part].across.rows, rounded_up(keys.parts[part].width, Isa::kTileRows),
            rounded_up(count, Math::kDepth) / Math::kDepth, of_scores.elements, of_scores.stride, own.grad_queries[part],
            group.columns(), group.vectors, &ahead);
      }
    }
    // Groups that see as many places are added to the keys together: one long product instead of several short ones.
    for (std::size_t g = 0; g < static_cast<std::size_t>(lanes.count);) {
      const std::int64_t count = seen[g];
      LaneSpan span{lanes.groups[g].first, 0};
      for (; g < static_cast<std::size_t>(lanes.count) && seen[g] == count; ++g) span.count += lanes.groups[g].columns();
      if (count == 0) continue;
      const RowPointers weights = lane_columns<Isa, kType>(scores, columns, span, count, zeros);
      add_to_keys<Isa, kType>(weights, grad_out_rows, span, keys, from, count, block.values);
      const RowPointers gradients = lane_columns<Isa, kType>(grads, columns, span, count, zeros);
      for (int part = 0; part < 2; ++part) {
        if (keys.parts[part].width == 0) continue;
        add_to_keys<Isa, kType>(gradients, query_rows[part], span, keys, from, count, block.parts[part]);
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
