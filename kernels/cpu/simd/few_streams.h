// Keys and values as streams of memory: those of some tokens one after the other, each token's heads side by side.
//
// For one row of each head, where requests for memory get lost when too many are under way: then they have to come evenly
// and in memory's order, from one place at a time, and with as few instructions between them as may be, for the machine looks
// only so many ahead. So addresses are counted on, not looked up, and heads are unrolled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/few_values.h"

namespace tessera::kernels::cpu {

/// Rows of keys that are read before those of their values are: so many that memory seldom turns from one to the other.
inline constexpr std::int64_t kStreamRows = 1024;

/// What lies so many bytes behind a key is asked for. Of values nothing is: the machine foresees them as well as they can be.
inline constexpr std::int64_t kStreamBytes = 1536;

/// Elements of a row that a tile takes: as many as there are registers for, or fewer.
inline constexpr std::int64_t kStreamTiles[] = {128, 64, 32};

/// Tokens at even distances, in bytes. Their heads lie without gaps.
struct StreamOfRows {
  const std::byte* first;
  std::int64_t tokens;
  std::int64_t stride;
};

/// Multiplies kElements elements of keys with those of their heads' queries. Products are written where kFirst, else added to.
/// @param queries [heads][vectors]
/// @param products of each row, lane by lane
template <class Isa, DType kType, int kHeads, std::int64_t kElements, bool kFirst>
[[gnu::noinline]] void stream_keys(StreamOfRows keys, const typename FewMath<Isa, kType>::Lanes* queries,
                                   Floats<Isa>* products) {
  using Math = FewMath<Isa, kType>;
  constexpr int kVectors = kElements / Math::kWidth;
  constexpr std::int64_t kBytes = kVectors * Math::kBytes;  // of a row
  typename Math::Lanes query[std::size_t{kVectors}];        // of one head: it stays in registers
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) query[v] = queries[v];
  for (std::int64_t t = 0; t < keys.tokens; ++t, keys.first += keys.stride, products += kHeads) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const std::byte* key = keys.first + h * kBytes;
      Floats<Isa> sums[2] = {};
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v)
        sums[v % 2] = Math::multiply_add(sums[v % 2], Math::load_lanes(key + v * Math::kBytes),
                                         kHeads == 1 ? query[v] : queries[h * kVectors + v]);
#pragma GCC unroll 8
      for (std::int64_t byte = 0; byte < kBytes; byte += kCacheLine) __builtin_prefetch(key + kStreamBytes + byte, 0, 2);
      const Floats<Isa> sum = sums[0] + sums[1];
      products[h] = kFirst ? sum : products[h] + sum;
    }
  }
}

/// Adds kElements elements of values, weighted.
/// @param weights of each row
/// @param out [heads][kElements]
template <class Isa, DType kType, int kHeads, std::int64_t kElements>
[[gnu::noinline]] void stream_values(StreamOfRows values, const float* weights, float* out) {
  using F = Floats<Isa>;
  using Math = ValueMath<Isa, kType>;
  constexpr int kVectors = kElements / Isa::kLanes;
  constexpr std::int64_t kBytes = kVectors / Math::kParts * Math::kBytes;  // of a row
  F sums[std::size_t{kVectors}];
  const auto take = [&](const float* from) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[v] = load<F>(from + v * Isa::kLanes);
  };
  const auto give = [&](float* to) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(to + v * Isa::kLanes, sums[v]);
  };
  if (kHeads == 1) take(out);  // of one head they stay in registers
  for (std::int64_t t = 0; t < values.tokens; ++t, values.first += values.stride, weights += kHeads) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const std::byte* value = values.first + h * kBytes;
      const F weight = broadcast<F>(weights[h]);
      if (kHeads > 1) take(out + h * kElements);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; v += Math::kParts) {
        const typename Math::Lanes lanes = Math::load_lanes(value + v / Math::kParts * Math::kBytes);
#pragma GCC unroll 2
        for (int i = 0; i < Math::kParts; ++i) sums[v + i] = sums[v + i] + weight * lanes.numbers[i];
      }
      if (kHeads > 1) give(out + h * kElements);
    }
  }
  if (kHeads == 1) give(out);
}

/// Whether a tile takes whole rows.
template <class Isa>
bool is_stream_tile(std::int64_t width) {
  return std::find(std::begin(kStreamTiles), std::end(kStreamTiles), width) != std::end(kStreamTiles);
}

/// Whether keys and values of these heads can be streams: several heads where they lie without gaps.
template <class Isa, DType kType>
bool are_streams(std::span<const AttentionBlock* const> heads) {
  constexpr std::int64_t kNarrowest = kStreamTiles[std::size(kStreamTiles) - 1];
  const BlockKeys& first = heads[0]->keys;
  const std::int64_t width = first.values.width;
  if (first.list != nullptr || first.parts[1].width > 0 || first.parts[0].width != width || width % kNarrowest != 0)
    return false;
  if (heads.size() > 1 && !is_stream_tile<Isa>(width)) return false;
  for (const Operand operand : {Operand::kFirstPart, Operand::kValues}) {
    KeyRows rows = rows_of<Isa>(first, operand);
    if (rows.element_stride != 1) return false;
    for (const AttentionBlock* head : heads) {
      if (!(rows_of<Isa>(head->keys, operand) == rows)) return false;
      rows.base += width * std::int64_t{sizeof(Bits<kType>)};
    }
  }
  return true;
}

/// Calls `tile.operator()<kElements>(stream, row, e)` for all elements [e, ...) of tokens [first, first + count) of `heads`
/// heads: the stream's first row is the `row`th of all of them.
template <class Isa, DType kType, class Tile>
void for_each_tile(const KeyRows& rows, std::int64_t heads, std::int64_t first, std::int64_t count, Tile tile) {
  const bool whole = is_stream_tile<Isa>(rows.width);
  for_each_run<Isa>(rows, first, count, [&](std::int64_t i, std::int64_t run, const std::byte* at) {
    const std::int64_t together = whole ? run : 1;  // wide rows are read token by token, in memory's order
    for (const std::int64_t end = i + run; i < end; i += together, at += rows.row_stride) {
      const auto take = [&]<std::int64_t kElements>(std::int64_t e) __attribute__((always_inline)) {
        const std::byte* from = at + e * std::int64_t{sizeof(Bits<kType>)};
        tile.template operator()<kElements>(StreamOfRows{from, together, rows.row_stride}, i * heads, e);
      };
      std::int64_t e = 0;
      for (; e + kStreamTiles[0] <= rows.width; e += kStreamTiles[0]) take.template operator()<kStreamTiles[0]>(e);
      for (; e + kStreamTiles[1] <= rows.width; e += kStreamTiles[1]) take.template operator()<kStreamTiles[1]>(e);
      for (; e + kStreamTiles[2] <= rows.width; e += kStreamTiles[2]) take.template operator()<kStreamTiles[2]>(e);
    }
  });
}

/// Products of the keys of tokens [first, first + count) with their heads' queries, whole vectors of them.
/// @param keys those of the first head
/// @param queries [heads][vectors]
/// @param products for each row a vector
template <class Isa, DType kType, int kHeads>
[[gnu::noinline]] void multiply_stream(const KeyRows& keys, std::int64_t first, std::int64_t count,
                                       const typename FewMath<Isa, kType>::Lanes* queries, Floats<Isa>* products,
                                       float* scores) {
  for_each_tile<Isa, kType>(
      keys, kHeads, first, count,
      [&]<std::int64_t kElements>(const StreamOfRows& stream, std::int64_t row, std::int64_t e)
          __attribute__((always_inline)) {
            const auto* own = queries + e / FewMath<Isa, kType>::kWidth;
            if (e == 0) stream_keys<Isa, kType, kHeads, kElements, true>(stream, own, products + row);
            else stream_keys<Isa, kType, kHeads, kElements, false>(stream, own, products + row);
          });
  const std::int64_t rows = count * kHeads;
  std::fill(products + rows, products + rounded_up(rows, Isa::kLanes), Floats<Isa>{});
  for (std::int64_t row = 0; row < rows; row += Isa::kLanes) {
    Floats<Isa> sums[std::size_t{Isa::kLanes}];
    std::copy_n(products + row, Isa::kLanes, sums);
    store(scores + row, sums_across<Isa>(sums));
  }
}

/// Adds the values of tokens [first, first + count), weighted, to their heads' sums.
/// @param values those of the first head
/// @param out [heads][width]
template <class Isa, DType kType, int kHeads>
[[gnu::noinline]] void add_stream(const KeyRows& values, std::int64_t first, std::int64_t count, const float* weights,
                                  float* out) {
  for_each_tile<Isa, kType>(
      values, kHeads, first, count,
      [&]<std::int64_t kElements>(const StreamOfRows& stream, std::int64_t row, std::int64_t e)
          __attribute__((always_inline)) { stream_values<Isa, kType, kHeads, kElements>(stream, weights + row, out + e); });
}

}  // namespace tessera::kernels::cpu
