// Keys and values as two streams, side by side: the values of one turn beside the keys of the next one.
//
// For one row of each head, where requests for memory get lost when too many are under way: then they have to come evenly,
// without a pause, and in memory's order. So each token's value is added and its key multiplied in turn, and what lies a few
// rows behind in both streams is asked for meanwhile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/few_values.h"

namespace tessera::kernels::cpu {

/// A row is asked for when the one so many bytes before it is read. Worked example: six rows of 128 floats.
inline constexpr std::int64_t kStreamBytes = 3072;

/// Elements of a row that a tile takes: as many as there are registers for, or fewer.
inline constexpr std::int64_t kStreamTiles[] = {128, 64, 32};

/// Values of a turn, and what they are added to.
template <class Isa>
struct ValueStream {
  const std::byte* const* rows;  ///< `RowsInTurn`
  const float* weights;          ///< of each row
  float* out;                    ///< [heads][width]
};

/// Keys of a turn, and what they are multiplied with.
template <class Isa, DType kType>
struct KeyStream {
  const std::byte* const* rows;                        ///< `RowsInTurn`
  const typename FewMath<Isa, kType>::Lanes* queries;  ///< [heads][vectors]
  Floats<Isa>* products;                               ///< of each row, lane by lane
};

/// kElements elements, from `e` on, of one head's rows [row, end), kStep apart. What lies `ahead` rows behind them is asked
/// for. Products are written where kFirst, else added to.
/// @param out, query those of the elements
template <class Isa, DType kType, int kStep, std::int64_t kElements, bool kFirst>
[[gnu::noinline]] void stream_tile(const ValueStream<Isa>& values, float* out, const KeyStream<Isa, kType>& keys,
                                   const typename FewMath<Isa, kType>::Lanes* query, std::int64_t e, std::int64_t row,
                                   std::int64_t end, std::int64_t ahead) {
  using F = Floats<Isa>;
  using KeyMath = FewMath<Isa, kType>;
  using Values = ValueMath<Isa, kType>;
  constexpr int kKeyVectors = kElements / KeyMath::kWidth;
  constexpr int kValueVectors = kElements / Isa::kLanes;
  constexpr std::int64_t kBytes = kElements * std::int64_t{sizeof(Bits<kType>)};
  const std::int64_t offset = e * std::int64_t{sizeof(Bits<kType>)};
  const auto ask = [offset](const std::byte* at) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (std::int64_t byte = 0; byte < kBytes; byte += kCacheLine) __builtin_prefetch(at + offset + byte, 0, 2);
  };
  typename KeyMath::Lanes queries[std::size_t{kKeyVectors}];
  F sums[std::size_t{kValueVectors}];
#pragma GCC unroll 16
  for (int v = 0; v < kKeyVectors; ++v) queries[v] = query[v];
#pragma GCC unroll 16
  for (int v = 0; v < kValueVectors; ++v) sums[v] = load<F>(out + v * Isa::kLanes);
  for (; row < end; row += kStep) {
    const std::byte* key = keys.rows[row] + offset;
    F product[2] = {};
#pragma GCC unroll 16
    for (int v = 0; v < kKeyVectors; ++v)
      product[v % 2] = KeyMath::multiply_add(product[v % 2], KeyMath::load_lanes(key + v * KeyMath::kBytes), queries[v]);
    ask(keys.rows[row + ahead]);
    const F own = product[0] + product[1];
    keys.products[row] = kFirst ? own : keys.products[row] + own;

    const std::byte* value = values.rows[row] + offset;
    const F weight = broadcast<F>(values.weights[row]);
#pragma GCC unroll 16
    for (int v = 0; v < kValueVectors; v += Values::kParts) {
      const typename Values::Lanes lanes = Values::load_lanes(value + v / Values::kParts * Values::kBytes);
#pragma GCC unroll 2
      for (int i = 0; i < Values::kParts; ++i) sums[v + i] = sums[v + i] + weight * lanes.numbers[i];
    }
    ask(values.rows[row + ahead]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < kValueVectors; ++v) store(out + v * Isa::kLanes, sums[v]);
}

/// Whether keys and values of this kind can be streams.
template <class Isa>
bool are_streams(const BlockKeys& keys) {
  constexpr std::int64_t kNarrowest = kStreamTiles[std::size(kStreamTiles) - 1];
  return keys.parts[1].width == 0 && keys.parts[0].width == keys.values.width && keys.values.width % kNarrowest == 0 &&
         keys.parts[0].element_stride == 1 && keys.values.element_stride == 1;
}

/// A turn of kMostTurnRows rows, of kStep heads side by side: adds the values, weighted, and multiplies the keys.
/// @param width of keys and values, in elements
template <class Isa, DType kType, int kStep>
[[gnu::noinline]] void add_and_multiply(const ValueStream<Isa>& values, const KeyStream<Isa, kType>& keys,
                                        std::int64_t width) {
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  const std::int64_t ahead = std::clamp<std::int64_t>(kStreamBytes / (width * kBytes), 1, kKnownRows);
  // One head's query and sums stay in registers; of several heads, or wide ones, memory's order comes first.
  const std::int64_t together = kStep == 1 && width <= kStreamTiles[0] ? kMostTurnRows : kStep;
  for (std::int64_t first = 0; first < kMostTurnRows; first += together) {
    for (std::int64_t h = 0; h < kStep; ++h) {
      const auto take = [&]<std::int64_t kElements>(std::int64_t e) __attribute__((always_inline)) {
        const auto tile = [&]<bool kFirst>() __attribute__((always_inline)) {
          stream_tile<Isa, kType, kStep, kElements, kFirst>(values, values.out + h * width + e, keys,
                                                            keys.queries + (h * width + e) / FewMath<Isa, kType>::kWidth, e,
                                                            first + h, first + together, ahead);
        };
        if (e == 0) tile.template operator()<true>();
        else tile.template operator()<false>();
      };
      std::int64_t e = 0;
      for (; e + kStreamTiles[0] <= width; e += kStreamTiles[0]) take.template operator()<kStreamTiles[0]>(e);
      for (; e + kStreamTiles[1] <= width; e += kStreamTiles[1]) take.template operator()<kStreamTiles[1]>(e);
      for (; e + kStreamTiles[2] <= width; e += kStreamTiles[2]) take.template operator()<kStreamTiles[2]>(e);
    }
  }
}

}  // namespace tessera::kernels::cpu
