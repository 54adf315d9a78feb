// The products of keys with few queries: elements of keys lie in lanes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"

namespace tessera::kernels::cpu {

/// How keys and queries meet in lanes.
///
/// Elements of a key lie in a vector's lanes, and each row multiplies them with a vector of its own. What is gathered then has
/// to be added up over all lanes, which takes nearly half as long as multiplying eight rows. So where rows are half as many as
/// lanes, two words of a key are repeated for each row instead, and only those two are left to add up. Elements that are
/// converted on their way from memory would have to be written back first, which takes as long as it saves.
template <class Isa, DType kType, int kRows>
struct KeyLanes {
  using Math = FewMath<Isa, kType>;
  using Lanes = typename Math::Lanes;
  using Pairs = typename VectorOf<std::uint64_t, Isa::kLanes / 2>::Type;

  static constexpr bool kRepeated = kRows > 1 && kRows == Isa::kLanes / 2 && !Math::kConverts;
  static constexpr int kVectors = kRepeated ? 1 : kRows;           ///< with the products of a key
  static constexpr int kGroups = kRepeated ? Isa::kLanes / 2 : 1;  ///< of words in a vector of memory
  /// Keys that are multiplied together, so that no vector waits for a sum: at most 16 sums are under way.
  static constexpr int kTogether = std::min(kRepeated ? 4 : Isa::kLanes / kRows, kVectors > 4 ? 2 : 4);

  static std::int64_t vectors(std::int64_t width) { return rounded_up(width, Math::kWidth) / Math::kWidth; }

  /// Vector v of any key or query. The order of elements is no matter, as long as it is the same for both.
  static Words<Isa> words_of(const std::byte* row, std::int64_t stride, std::int64_t v, std::int64_t width) {
    return last_words<Isa, kType, Math::kDepth>(row, stride, v * Math::kWidth, width);
  }
  /// Writes a row's query, one of kRows, negated where asked.
  /// @param packed [kVectors][vectors][kGroups]
  static void pack(const std::byte* query, std::int64_t stride, std::int64_t width, bool negate, int row, Lanes* packed) {
    const std::int64_t count = vectors(width);
    for (std::int64_t v = 0; v < count; ++v) {
      const Lanes lanes = Math::lanes(words_of(query, stride, v, width) ^ signs_of<Isa, Math::kDepth>(negate));
      if constexpr (!kRepeated) {
        packed[row * count + v] = lanes;
      } else {
        auto* pairs = reinterpret_cast<std::byte*>(packed + v * kGroups) + row * kPair;
        for (int g = 0; g < kGroups; ++g, pairs += kRows * kPair)
          std::memcpy(pairs, reinterpret_cast<const std::byte*>(&lanes) + g * kPair, kPair);
      }
    }
  }
  /// Two words, for each row.
  static Lanes repeated(const std::byte* at) { return {{bits_as<Floats<Isa>>(broadcast<Pairs>(load<std::uint64_t>(at)))}}; }
  /// The products of kLanes / kRows keys with their rows' queries.
  /// @param sums [keys][kVectors]
  static Floats<Isa> sums_across_lanes(Floats<Isa> (&sums)[std::size_t{Isa::kLanes / kRows * kVectors}]) {
    if constexpr (kRepeated) return sums_of_pairs<Isa>(sums[0], sums[1]);
    else return sums_across<Isa>(sums);
  }

  static constexpr std::int64_t kPair = sizeof(std::uint64_t);
};

/// Adds the products of `kKeys` keys with queries, as `KeyLanes` packs them, to sums [kKeys][kVectors]. With each vector of
/// memory one is asked for: requests for it then flow evenly beside the arithmetic.
/// @param keys some of `RowsInTurn`
template <class Isa, DType kType, int kRows, int kKeys>
inline void multiply_keys(const std::byte* const* keys, std::int64_t width, std::int64_t element_stride,
                          const typename KeyLanes<Isa, kType, kRows>::Lanes* queries, Requests<Isa> requests,
                          Floats<Isa> (&sums)[std::size_t{kKeys} * std::size_t{KeyLanes<Isa, kType, kRows>::kVectors}]) {
  using Keys = KeyLanes<Isa, kType, kRows>;
  using Math = typename Keys::Math;
  const std::int64_t vectors = Keys::vectors(width);
  const std::int64_t whole = element_stride == 1 ? width / Math::kWidth : 0;
  if constexpr (Keys::kRepeated) {
    Floats<Isa> others[std::size_t{kKeys}] = {};  // so that no sum waits for itself
    // `words(i)`: those of a vector of key i
    const auto multiply = [&](std::int64_t v, auto words) __attribute__((always_inline)) {
#pragma GCC unroll 16
      for (int g = 0; g < Keys::kGroups; ++g) {
        const auto query = queries[v * Keys::kGroups + g];
        auto& own = g % 2 == 0 ? sums : others;
#pragma GCC unroll 4
        for (int i = 0; i < kKeys; ++i)
          own[i] = Math::multiply_add(own[i], Keys::repeated(words(i) + g * Keys::kPair), query);
      }
    };
    for (std::int64_t v = 0; v < whole; ++v) {
      const std::int64_t byte = v * Math::kBytes;
#pragma GCC unroll 4
      for (int i = 0; i < kKeys; ++i) requests.ask(i, byte);
      multiply(
          v, [&](int i) __attribute__((always_inline)) { return keys[i] + byte; });
    }
    for (std::int64_t v = whole; v < vectors; ++v) {
      typename Keys::Lanes rest[std::size_t{kKeys}];
      for (int i = 0; i < kKeys; ++i) {
        requests.ask(i, v * Math::kBytes);
        rest[i] = Math::lanes(Keys::words_of(keys[i], element_stride, v, width));
      }
      multiply(
          v, [&](int i) __attribute__((always_inline)) { return reinterpret_cast<const std::byte*>(&rest[i]); });
    }
#pragma GCC unroll 4
    for (int i = 0; i < kKeys; ++i) sums[i] = sums[i] + others[i];
  } else {
    const auto multiply = [&](std::int64_t v, auto lanes_of) __attribute__((always_inline)) {
      typename Math::Lanes lanes[std::size_t{kKeys}];
#pragma GCC unroll 4
      for (int i = 0; i < kKeys; ++i) lanes[i] = lanes_of(i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto query = queries[r * vectors + v];
#pragma GCC unroll 4
        for (int i = 0; i < kKeys; ++i) sums[i * kRows + r] = Math::multiply_add(sums[i * kRows + r], lanes[i], query);
      }
    };
    for (std::int64_t v = 0; v < whole; ++v) {
      multiply(
          v, [&](int i) __attribute__((always_inline)) {
            requests.ask(i, v * Math::kBytes);
            return Math::load_lanes(keys[i] + v * Math::kBytes);
          });
    }
    for (std::int64_t v = whole; v < vectors; ++v) {
      multiply(
          v, [&](int i) __attribute__((always_inline)) {
            requests.ask(i, v * Math::kBytes);
            return Math::lanes(Keys::words_of(keys[i], element_stride, v, width));
          });
    }
  }
}

}  // namespace tessera::kernels::cpu
