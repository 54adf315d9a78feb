// Scores of a group of lanes: what masks hide, and softmax's weights, in the log2 domain.
#pragma once

#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/rows.h"

namespace tessera::kernels::cpu {

inline constexpr float kLog2E = 1.44269504f;

/// Floats of which the upper halves are bf16, rounded to nearest, halves up: in one of 2^16 cases the other neighbour than
/// to even, and NaN stays NaN unless its low bits alone tell it, which no arithmetic on bf16 gives.
template <class Isa>
inline Words<Isa> rounded_above(Floats<Isa> value) {
  return bits_as<Words<Isa>>(value) + 0x8000u;
}
template <class Isa>
inline HalfWords<Isa> upper_halves(Words<Isa> words) {
  return __builtin_convertvector(words >> 16, HalfWords<Isa>);
}

/// Two rows of B in pairs, from floats: `low` has the lower k.
template <class Isa>
inline Words<Isa> paired(Floats<Isa> low, Floats<Isa> high) {
  return rounded_above<Isa>(low) >> 16 | (rounded_above<Isa>(high) & 0xFFFF0000u);
}

/// A group's scores S^T of `count` places, in rows `stride` floats apart: products of all parts, not scaled.
template <class Isa, DType kType>
void multiply_parts(const RowPointers* const (&keys)[2], const BlockKeys& block, std::int64_t count,
                    const typename MathOf<Isa, kType>::Element* const (&queries)[2], const LaneGroup<Isa>& group,
                    float* scores, std::int64_t stride, RowsAhead<Isa>* ahead = nullptr) {
  using Math = MathOf<Isa, kType>;
  const std::int64_t columns = group.columns();
  const std::int64_t rows = rounded_up(count, Isa::kTileRows);
  const auto depth = [&](int part) { return rounded_up(block.parts[part].width, Math::kDepth) / Math::kDepth; };
  multiply<Isa, Math, Along::kRows, false>(keys[0]->rows, rows, depth(0), queries[0], columns, scores, stride,
                                           group.vectors, ahead);
  if (block.parts[1].width > 0)
    multiply<Isa, Math, Along::kRows, true>(keys[1]->rows, rows, depth(1), queries[1], columns, scores, stride,
                                            group.vectors, ahead);
}

/// The largest of each lane in rows `stride` floats apart: four at a time, as each waits for the one before.
/// @param count at least 1
template <class Isa>
inline Floats<Isa> largest(const float* rows, std::int64_t stride, std::int64_t count) {
  using F = Floats<Isa>;
  const F first = load<F>(rows);
  F most[4] = {first, first, first, first};
  std::int64_t j = 0;
  for (; j + 3 < count; j += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) most[i] = larger(load<F>(rows + (j + i) * stride), most[i]);
  }
  for (; j < count; ++j) most[0] = larger(load<F>(rows + j * stride), most[0]);
  return larger(larger(most[0], most[1]), larger(most[2], most[3]));
}

/// A group's scores, in rows `stride` floats apart, become scale * score + mask in the log2 domain, and -inf where a lane
/// does not see the place.
template <class Isa>
void scale_and_mask(const AttentionBlock& block, const LaneGroup<Isa>& group, std::int64_t place, std::int64_t count,
                    float scale, float* scores, std::int64_t stride) {
  using F = Floats<Isa>;
  using I = Ints<Isa>;
  const F hidden = broadcast<F>(-__builtin_inff());
  const bool masked = block.lanes[0].mask != nullptr;
  for (std::int64_t j = 0; j < count; ++j) {
    const I here = broadcast<I>(static_cast<std::int32_t>(place + j));
    for (int v = 0; v < group.vectors; ++v) {
      const std::int64_t lane = v * Isa::kLanes;
      float* at = scores + j * stride + lane;
      F score = load<F>(at) * scale;
      if (masked) {
        float added[Isa::kLanes];
        for (int i = 0; i < Isa::kLanes; ++i) {
          const std::int64_t own = std::min(lane + i, group.count - 1);
          added[i] = block.lanes[static_cast<std::size_t>(group.first + own)].mask[(place + j) * block.mask_stride];
        }
        score = score + load<F>(added) * kLog2E;
      }
      score = here < load<I>(group.begin + lane) ? hidden : score;
      score = here >= load<I>(group.end + lane) ? hidden : score;
      store(at, score);
    }
  }
}

/// Dropout's factors of the weights [count][columns] of the places from `place` on: 0 or `keep_scale`.
template <class Isa>
void draw_dropout(const AttentionBlock& block, const LaneGroup<Isa>& group, std::int64_t place, std::int64_t count,
                  float* factors) {
  using F = Floats<Isa>;
  using W = Words<Isa>;
  const LaneDropout& dropout = block.dropout;
  const std::int64_t columns = group.columns();
  // High and low words of 32-bit products: even and odd lanes in 64 bits.
  using Wide = typename VectorOf<std::uint64_t, Isa::kLanes / 2>::Type;
  const auto multiply_words = [](W x, std::uint32_t y, W & high, W & low) __attribute__((always_inline)) {
    const Wide even = (bits_as<Wide>(x) & 0xFFFFFFFFu) * broadcast<Wide>(static_cast<std::uint64_t>(y));
    const Wide odd = (bits_as<Wide>(x) >> 32) * broadcast<Wide>(static_cast<std::uint64_t>(y));
    high = bits_as<W>((even >> 32) | (odd & 0xFFFFFFFF00000000u));
    low = bits_as<W>((even & 0xFFFFFFFFu) | (odd << 32));
  };
  const std::int64_t first_key = place - dropout.first_place;
  for (int v = 0; v < group.vectors; ++v) {
    std::uint32_t counters[3][Isa::kLanes];
    for (int i = 0; i < Isa::kLanes; ++i) {
      const std::int64_t own = std::min<std::int64_t>(v * Isa::kLanes + i, group.count - 1);
      for (int c = 0; c < 3; ++c) counters[c][i] = block.lanes[static_cast<std::size_t>(group.first + own)].counter[c];
    }
    for (std::int64_t key = first_key - first_key % 4; key < first_key + count; key += 4) {
      W word[4] = {broadcast<W>(static_cast<std::uint32_t>(key / 4)), load<W>(counters[0]), load<W>(counters[1]),
                   load<W>(counters[2])};
      auto low_key = static_cast<std::uint32_t>(dropout.seed);
      auto high_key = static_cast<std::uint32_t>(dropout.seed >> 32);
      for (int round = 0; round < 10; ++round) {
        W high[2];
        W low[2];
        multiply_words(word[0], 0xD2511F53u, high[0], low[0]);
        multiply_words(word[2], 0xCD9E8D57u, high[1], low[1]);
        word[0] = high[1] ^ word[1] ^ low_key;
        word[1] = low[1];
        word[2] = high[0] ^ word[3] ^ high_key;
        word[3] = low[0];
        low_key += 0x9E3779B9u;
        high_key += 0xBB67AE85u;
      }
      for (std::int64_t i = 0; i < 4; ++i) {
        const std::int64_t j = key + i - first_key;
        if (j < 0 || j >= count) continue;
        store(factors + j * columns + v * Isa::kLanes,
              word[i] >= broadcast<W>(dropout.threshold) ? broadcast<F>(dropout.keep_scale) : F{});
      }
    }
  }
}

}  // namespace tessera::kernels::cpu
