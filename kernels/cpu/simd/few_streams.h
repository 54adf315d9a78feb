// Keys and values as streams of memory: those of some tokens one after the other, each token's heads side by side.
//
// For one or two rows of each head, where requests for memory get lost when too many are under way: then they have to come
// evenly and in memory's order, from one place at a time, and with as few instructions between them as may be, for the machine
// looks only so many ahead. So addresses are counted on, not looked up, and heads are unrolled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/few_values.h"

namespace tessera::kernels::cpu {

/// Rows of keys that are read before those of their values are: so many that memory seldom turns from one to the other.
inline constexpr std::int64_t kStreamRows = 4096;

/// Rows of a head that streams have at most: as many as registers hold the sums of. Several heads have two rows in f32 only:
/// what is converted leaves too many instructions between two reads then. Measured.
template <DType kType, bool kSeveralHeads>
inline constexpr int kMostStreamRows = (kSeveralHeads && kType != DType::kF32) ? 1 : 2;

/// What lies so many bytes behind a key is asked for, into the second cache: just enough to tell the machine where the stream
/// goes on, for it reads ahead by itself. Without, streams are up to an eighth slower; with 1.5 KiB, f16, which takes long to
/// convert, is a fifth slower. Of values nothing is asked for: the machine foresees them as well as they can be. Measured.
inline constexpr std::int64_t kStreamBytes = 256;

/// Rows that are a multiple of so many elements wide can be streams.
inline constexpr int kStreamStep = 32;

/// Elements of the rows of a head that are taken whole: as many as there are registers for their sums.
inline constexpr int kStreamElements = 256;

/// Of wider rows so many elements are taken at a time.
inline constexpr int kStreamTile = 128;

/// Tokens at even distances, in bytes. Their heads lie without gaps.
struct StreamOfRows {
  const std::byte* first;
  std::int64_t tokens;
  std::int64_t stride;
};

/// Calls `use.operator()<kElements>(e)` for elements [e, e + kElements) of a row, a multiple of kStreamStep wide, until it has
/// had all.
template <class Isa, class Use>
[[gnu::always_inline]] inline void for_each_tile(std::int64_t width, Use use) {
  std::int64_t e = 0;
  for (; e + kStreamTile <= width; e += kStreamTile) use.template operator()<kStreamTile>(e);
  for (; e < width; e += kStreamStep) use.template operator()<kStreamStep>(e);
}

/// Products of kElements elements of a key with those of its kRows queries, lane by lane.
/// @param queries [kRows][vectors]
/// @param sums [kRows]
template <class Isa, DType kType, int kRows, int kElements>
[[gnu::always_inline]] inline void products_of(const std::byte* key, const typename FewMath<Isa, kType>::Lanes* queries,
                                               Floats<Isa>* sums) {
  using Math = FewMath<Isa, kType>;
  constexpr int kVectors = kElements / int{Math::kWidth};
  constexpr std::int64_t kBytes = kVectors * Math::kBytes;
  Floats<Isa> own[std::size_t{kRows}][2] = {};
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const typename Math::Lanes lanes = Math::load_lanes(key + v * Math::kBytes);
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) own[r][v % 2] = Math::multiply_add(own[r][v % 2], lanes, queries[r * kVectors + v]);
  }
#pragma GCC unroll 8
  for (std::int64_t byte = 0; byte < kBytes; byte += kCacheLine) __builtin_prefetch(key + kStreamBytes + byte, 0, 2);
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) sums[r] = own[r][0] + own[r][1];
}

/// The same of a whole row, a multiple of kStreamStep wide, with one query.
template <class Isa, DType kType>
inline Floats<Isa> products_of_wide(const std::byte* key, std::int64_t width,
                                    const typename FewMath<Isa, kType>::Lanes* query) {
  using Math = FewMath<Isa, kType>;
  Floats<Isa> sum{};
  const auto add = [&]<int kElements>(std::int64_t e) __attribute__((always_inline)) {
    Floats<Isa> own;
    products_of<Isa, kType, 1, kElements>(key + e / Math::kWidth * Math::kBytes, query + e / Math::kWidth, &own);
    sum = sum + own;
  };
  for_each_tile<Isa>(width, add);
  return sum;
}

/// Products of a stream of keys with their heads' queries. Lanes are added up as soon as a vector of products can be: the
/// machine does so while it waits for memory.
/// @param queries [heads][kRows][vectors]
/// @param scores [tokens][heads][kRows], written in whole vectors
template <class Isa, DType kType, int kHeads, int kRows, int kElements>
[[gnu::noinline]] void stream_keys(StreamOfRows keys, std::int64_t width,
                                   const typename FewMath<Isa, kType>::Lanes* queries, float* scores) {
  using Math = FewMath<Isa, kType>;
  static_assert(kElements > 0 || kHeads * kRows == 1);
  constexpr int kVectors = kElements / int{Math::kWidth};
  constexpr int kTokens = Isa::kLanes / (kHeads * kRows);
  constexpr bool kInRegisters = kHeads == 1 && kElements > 0;
  typename Math::Lanes query[std::size_t{kInRegisters ? kRows * kVectors : 1}];
  if constexpr (kInRegisters) std::copy_n(queries, kRows * kVectors, query);
  const auto multiply_token = [&](Floats<Isa> * sums) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      if constexpr (kElements == 0) sums[h] = products_of_wide<Isa, kType>(keys.first, width, queries);
      else
        products_of<Isa, kType, kRows, kElements>(keys.first + h * kVectors * Math::kBytes,
                                                  kInRegisters ? query : queries + h * kRows * kVectors, sums + h * kRows);
    }
    keys.first += keys.stride;
  };
  for (; keys.tokens >= kTokens; keys.tokens -= kTokens, scores += Isa::kLanes) {
    Floats<Isa> sums[std::size_t{Isa::kLanes}];
#pragma GCC unroll 16
    for (int i = 0; i < kTokens; ++i) multiply_token(sums + i * kHeads * kRows);
    store(scores, sums_across<Isa>(sums));
  }
  if (keys.tokens == 0) return;
  Floats<Isa> sums[std::size_t{Isa::kLanes}] = {};
  for (std::int64_t i = 0; i < keys.tokens; ++i) multiply_token(sums + i * kHeads * kRows);
  store(scores, sums_across<Isa>(sums));
}

/// Adds kElements elements of values, weighted.
/// @param weights [tokens][heads][kRows]
/// @param out [heads][kRows][kElements]
template <class Isa, DType kType, int kHeads, int kRows, int kElements>
[[gnu::noinline]] void stream_values(StreamOfRows values, const float* weights, float* out) {
  using F = Floats<Isa>;
  using Math = ValueMath<Isa, kType>;
  constexpr int kVectors = kElements / Isa::kLanes;
  constexpr std::int64_t kBytes = kVectors / Math::kParts * Math::kBytes;  // of a row
  F sums[std::size_t{kRows * kVectors}];
  const auto take = [&](const float* from) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows * kVectors; ++i) sums[i] = load<F>(from + i * Isa::kLanes);
  };
  const auto give = [&](float* to) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows * kVectors; ++i) store(to + i * Isa::kLanes, sums[i]);
  };
  if (kHeads == 1) take(out);  // of one head they stay in registers
  for (std::int64_t t = 0; t < values.tokens; ++t, values.first += values.stride) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h, weights += kRows) {
      const std::byte* value = values.first + h * kBytes;
      if (kHeads > 1) take(out + h * kRows * kElements);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; v += Math::kParts) {
        const typename Math::Lanes lanes = Math::load_lanes(value + v / Math::kParts * Math::kBytes);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          const F weight = broadcast<F>(weights[r]);
#pragma GCC unroll 2
          for (int i = 0; i < Math::kParts; ++i) {
            F& sum = sums[r * kVectors + v + i];
            sum = sum + weight * lanes.numbers[i];
          }
        }
      }
      if (kHeads > 1) give(out + h * kRows * kElements);
    }
  }
  if (kHeads == 1) give(out);
}

/// Adds one value, a multiple of kStreamStep wide.
template <class Isa, DType kType>
void add_wide(const std::byte* value, std::int64_t width, float weight, float* out) {
  const auto add = [&]<int kElements>(std::int64_t e) __attribute__((always_inline)) {
    const std::byte* from = value + e * std::int64_t{sizeof(Bits<kType>)};
    stream_values<Isa, kType, 1, 1, kElements>({from, 1, 0}, &weight, out + e);
  };
  for_each_tile<Isa>(width, add);
}

/// Whether keys and values of these heads can be streams: several heads where they lie without gaps.
/// @param rows_of_head query rows of each
template <class Isa, DType kType>
bool are_streams(std::span<const AttentionBlock* const> heads, int rows_of_head) {
  const BlockKeys& first = heads[0]->keys;
  const std::int64_t width = first.values.width;
  if (first.list != nullptr || first.parts[1].width > 0 || first.parts[0].width != width || width % kStreamStep != 0)
    return false;
  if ((heads.size() > 1 || rows_of_head > 1) && width * rows_of_head > kStreamElements) return false;
  for (const Operand operand : {kFirstPart, kValues}) {
    KeyRows rows = rows_of<Isa>(first, operand);
    if (rows.element_stride != 1) return false;
    for (const AttentionBlock* head : heads) {
      if (!(rows_of<Isa>(head->keys, operand) == rows)) return false;
      rows.base += width * std::int64_t{sizeof(Bits<kType>)};
    }
  }
  return true;
}

/// Calls `use.operator()<kElements>()` with the width of rows, or with 0 where they are not taken whole.
template <class Isa, int kHeads, int kRows, class Use, int... kStep>
[[gnu::always_inline]] inline void with_width(std::int64_t width, Use use, std::integer_sequence<int, kStep...>) {
  const auto use_if = [&]<int kElements>() __attribute__((always_inline)) {
    if (width == kElements) use.template operator()<kElements>();
    return width == kElements;
  };
  const bool used = (use_if.template operator()<(kStep + 1) * kStreamStep>() || ...);
  if constexpr (kHeads * kRows == 1) {
    if (!used) use.template operator()<0>();
  }
}
template <class Isa, int kHeads, int kRows, class Use>
[[gnu::always_inline]] inline void with_width(std::int64_t width, Use use) {
  with_width<Isa, kHeads, kRows>(width, use, std::make_integer_sequence<int, kStreamElements / kRows / kStreamStep>());
}

/// Products of the keys of tokens [first, first + count) with their heads' queries.
/// @param keys those of the first head
/// @param queries [heads][kRows][vectors]
/// @param scores [tokens][heads][kRows], written in whole vectors
template <class Isa, DType kType, int kHeads, int kRows>
[[gnu::noinline]] void multiply_stream(const KeyRows& keys, std::int64_t first, std::int64_t count,
                                       const typename FewMath<Isa, kType>::Lanes* queries, float* scores) {
  for_each_run<Isa>(keys, first, count, [&](std::int64_t i, std::int64_t run, const std::byte* at) {
    with_width<Isa, kHeads, kRows>(
        keys.width, [&]<int kElements>() __attribute__((always_inline)) {
          stream_keys<Isa, kType, kHeads, kRows, kElements>({at, run, keys.row_stride}, keys.width, queries,
                                                            scores + i * kHeads * kRows);
        });
  });
}

/// Adds the values of tokens [first, first + count), weighted, to their heads' sums.
/// @param values those of the first head
/// @param weights [tokens][heads][kRows]
/// @param out [heads][kRows][width]
template <class Isa, DType kType, int kHeads, int kRows>
[[gnu::noinline]] void add_stream(const KeyRows& values, std::int64_t first, std::int64_t count, const float* weights,
                                  float* out) {
  for_each_run<Isa>(values, first, count, [&](std::int64_t i, std::int64_t run, const std::byte* at) {
    const float* own = weights + i * kHeads * kRows;
    with_width<Isa, kHeads, kRows>(
        values.width, [&]<int kElements>() __attribute__((always_inline)) {
          if constexpr (kElements > 0)
            stream_values<Isa, kType, kHeads, kRows, kElements>({at, run, values.row_stride}, own, out);
          else
            for (std::int64_t t = 0; t < run; ++t)
              add_wide<Isa, kType>(at + t * values.row_stride, values.width, own[t], out);
        });
  });
}

}  // namespace tessera::kernels::cpu
