// The values of few query rows, weighted and added up: their elements lie in lanes.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Where values are multiplied as floats: weights keep all their digits.
template <class Isa, DType kType>
using ValueMath = FewMath<WithoutPairs<Isa>, kType>;

/// Values, some of `RowsInTurn`.
struct ValueRows {
  const std::byte* const* rows = nullptr;
  std::int64_t count = 0;
};

/// out [rows][row_stride] += sums
template <class Isa, std::size_t kRows, std::size_t kVectors>
inline void add_sums(const Floats<Isa> (&sums)[kRows][kVectors], float* out, std::int64_t row_stride) {
#pragma GCC unroll 8
  for (const auto& row : sums) {
    float* at = out;
#pragma GCC unroll 8
    for (const Floats<Isa>& sum : row) {
      store(at, load<Floats<Isa>>(at) + sum);
      at += Isa::kLanes;
    }
    out += row_stride;
  }
}

/// out [kRows][row_stride] += weights^T values, of which each begins at byte `offset` of its row: `kVectors` whole vectors,
/// in the order of `ValueMath`.
/// @param weights [values][kRows]
template <class Isa, DType kType, int kRows, int kVectors>
[[gnu::noinline]] void add_values_tile(const ValueRows& values, std::int64_t offset, const float* weights, float* out,
                                       std::int64_t row_stride, Requests<Isa> requests) {
  using F = Floats<Isa>;
  using Math = ValueMath<Isa, kType>;
  constexpr int kParts = Math::kParts;
  static_assert(kVectors % kParts == 0);
  F sums[std::size_t{kRows}][std::size_t{kVectors}] = {};
  for (std::int64_t j = 0; j < values.count; ++j) {
    const std::byte* row = values.rows[j] + offset;
    const float* own = weights + j * kRows;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v += kParts) {
      const std::int64_t byte = v / kParts * Math::kBytes;
      requests.ask(j, offset + byte);
      const typename Math::Lanes value = Math::load_lanes(row + byte);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const F weight = broadcast<F>(own[r]);
#pragma GCC unroll 2
        for (int i = 0; i < kParts; ++i) sums[r][v + i] = sums[r][v + i] + weight * value.numbers[i];
      }
    }
  }
  add_sums<Isa>(sums, out, row_stride);
}

/// Whether values are multiplied two at a time, by dot products, with weights in bf16 as well: for so many rows arithmetic
/// takes longer than reading.
template <class Isa, DType kType, int kRows>
inline constexpr bool kPairedValues = (kType == DType::kBF16) && Isa::kPairs && (kRows >= 4);

/// Weights [values][kRows], two values' in a word: [values / 2][kRows].
/// @param weights readable to two whole vectors
template <class Isa, int kRows, std::size_t... kLane>
void pair_weights(const float* weights, std::int64_t count, std::uint32_t* pairs, std::index_sequence<kLane...>) {
  using F = Floats<Isa>;
  for (std::int64_t i = 0; i < count * kRows; i += 2 * Isa::kLanes) {
    const F a = load<F>(weights + i);
    const F b = load<F>(weights + i + Isa::kLanes);
    constexpr auto kEven = [](std::size_t lane) { return static_cast<int>(lane / kRows * 2 * kRows + lane % kRows); };
    store(pairs + i / 2, paired<Isa>(__builtin_shufflevector(a, b, kEven(kLane)...),
                                     __builtin_shufflevector(a, b, kEven(kLane) + kRows...)));
  }
}

/// out [kRows][row_stride] += weights^T values, of which each begins at byte `offset` of its row: two vectors of elements, by
/// dot products of two values. Even elements come before odd ones: words are put together by shifts then, while shuffles
/// would take a unit that multiplies.
/// @param pairs weights [values / 2, rounded up][kRows]
template <class Isa, int kRows>
[[gnu::noinline]] void add_value_pairs(const ValueRows& values, std::int64_t offset, const std::uint32_t* pairs, float* out,
                                       std::int64_t row_stride, Requests<Isa> requests) {
  using F = Floats<Isa>;
  using W = Words<Isa>;
  F sums[std::size_t{kRows}][2] = {};
  const auto add = [&](W first, W second) __attribute__((always_inline)) {
    const W even = (first & 0xFFFFu) | (second << 16);
    const W odd = (first >> 16) | (second & 0xFFFF0000u);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const W weight = broadcast<W>(pairs[r]);
      sums[r][0] = Isa::dot(sums[r][0], even, weight);
      sums[r][1] = Isa::dot(sums[r][1], odd, weight);
    }
    pairs += kRows;
  };
  std::int64_t j = 0;
  for (; j + 1 < values.count; j += 2) {
    requests.ask(j, offset);
    requests.ask(j + 1, offset);
    add(load<W>(values.rows[j] + offset), load<W>(values.rows[j + 1] + offset));
  }
  if (j < values.count) add(load<W>(values.rows[j] + offset), W{});
  add_sums<Isa>(sums, out, row_stride);
}

/// The same for the vector of elements from `e` on, in their order, wherever they lie, as `last_words` takes them.
/// @param out that of element 0
template <class Isa, DType kType, int kRows>
[[gnu::noinline]] void add_value_elements(const KeyRows& keys, const ValueRows& values, std::int64_t e,
                                          const float* weights, float* out, std::int64_t row_stride,
                                          Requests<Isa> requests) {
  using F = Floats<Isa>;
  const std::int64_t begin = begin_of_last<Isa, 1>(e, keys.width);
  const std::int64_t offset = begin * keys.element_stride * std::int64_t{sizeof(Bits<kType>)};
  F sums[std::size_t{kRows}] = {};
  for (std::int64_t j = 0; j < values.count; ++j) {
    requests.ask(j, offset);
    const F value = bits_as<F>(last_words<Isa, kType, 1>(values.rows[j], keys.element_stride, e, keys.width));
    const float* own = weights + j * kRows;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = sums[r] + broadcast<F>(own[r]) * value;
  }
  out += begin;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) store(out + r * row_stride, load<F>(out + r * row_stride) + sums[r]);
}

/// Elements of a value that `add_values_of_few` leaves split: the first so many, in groups of two vectors, even ones first.
template <class Isa, DType kType>
std::int64_t split_width(const KeyRows& values) {
  constexpr std::int64_t kGroup = 2 * Isa::kLanes;
  return ValueMath<Isa, kType>::kSplit && values.element_stride == 1 ? values.width / kGroup * kGroup : 0;
}

/// out [kRows][width rounded up to whole vectors] += weights^T values.
/// @param weights [values][kRows]
template <class Isa, DType kType, int kRows>
void add_values_of_few(const KeyRows& keys, const ValueRows& values, const float* weights, float* out,
                       Requests<Isa> requests) {
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  constexpr int kParts = ValueMath<Isa, kType>::kParts;
  // As many sums as there are registers for, in whole vectors of storage.
  constexpr int kMost = kRows > 2 ? Isa::kTileRows * 3 / kRows : 8;
  constexpr int kVectors = kMost / kParts * kParts;
  const std::int64_t row_stride = rounded_up(keys.width, Isa::kLanes);
  [[maybe_unused]] std::uint32_t pairs[std::size_t{kMostTurnRows} * std::size_t{kRows} / 2];
  for (std::int64_t e = 0; e < keys.width;) {
    const std::int64_t left = keys.width - e;
    if constexpr (kPairedValues<Isa, kType, kRows>) {
      if (keys.element_stride == 1 && left >= 2 * Isa::kLanes) {
        if (e == 0) pair_weights<Isa, kRows>(weights, values.count, pairs, std::make_index_sequence<Isa::kLanes>());
        add_value_pairs<Isa, kRows>(values, e * kBytes, pairs, out + e, row_stride, requests);
        e += 2 * Isa::kLanes;
        continue;
      }
    }
    if (keys.element_stride == 1 && left >= kVectors * Isa::kLanes && kVectors > 2) {
      add_values_tile<Isa, kType, kRows, kVectors>(values, e * kBytes, weights, out + e, row_stride, requests);
      e += kVectors * Isa::kLanes;
    } else if (keys.element_stride == 1 && left >= 2 * Isa::kLanes) {
      add_values_tile<Isa, kType, kRows, 2>(values, e * kBytes, weights, out + e, row_stride, requests);
      e += 2 * Isa::kLanes;
    } else {
      add_value_elements<Isa, kType, kRows>(keys, values, e, weights, out, row_stride, requests);
      e += Isa::kLanes;
    }
  }
}

}  // namespace tessera::kernels::cpu
