// Rows of keys and values in the order in which few query rows read them, as vectors, and asking for those that come next.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/ahead.h"
#include "kernels/cpu/simd/rows.h"

namespace tessera::kernels::cpu {

/// Rows of keys that are looked up, and read before those of their values are, at most.
inline constexpr std::int64_t kMostTurnRows = 128;

/// A row is asked for into the first cache when the one so many before it is read.
inline constexpr std::int64_t kNearRows = 8;

/// Rows in the order in which they are read: those of some tokens, the last one repeated so that whole vectors of scores can
/// be computed, and behind them the first ones of what is read next.
using RowsInTurn = const std::byte * [kMostTurnRows + kNearRows];

/// `next` is read after `count` rows.
template <class Isa>
void follow(RowsInTurn& rows, std::int64_t count, const RowsInTurn& next) {
  std::memcpy(rows + count, next, kNearRows * sizeof(next[0]));
}

/// What is read of a key head.
enum Operand : std::uint8_t { kFirstPart, kSecondPart, kValues };
inline constexpr Operand kAllOperands[] = {kFirstPart, kSecondPart, kValues};
inline constexpr std::size_t kOperands = std::size(kAllOperands);

template <class Isa>
const KeyRows& rows_of(const BlockKeys& keys, Operand operand) {
  return operand == kValues ? keys.values : keys.parts[operand];
}

/// What is asked for with each vector of a row: the vector at the same place of a row that is read soon, into the first
/// cache, and that of one which is read much later, into the second; so no read waits for the second cache.
template <class Isa>
struct Requests {
  const std::byte* const* near;  ///< for each row
  const std::byte* const* far;

  void ask(std::int64_t row, std::int64_t byte) const {
    __builtin_prefetch(near[row] + byte, 0, 3);
    __builtin_prefetch(far[row] + byte, 0, 2);
  }
  [[nodiscard]] Requests from(std::int64_t row) const { return {near + row, far + row}; }
};

/// A vector of a row, as few rows multiply it. bf16 is read in words of two elements: dot products take them as they are;
/// without those, even and odd elements become floats: the upper half of a word moved up, and the word without its lower
/// half.
template <class Isa, DType kType>
struct FewMath {
  static constexpr bool kSplit = kType == DType::kBF16 && !Isa::kPairs;
  static constexpr int kDepth = kType == DType::kBF16 ? 2 : 1;                ///< elements in a lane
  static constexpr std::int64_t kWidth = std::int64_t{kDepth} * Isa::kLanes;  ///< elements
  static constexpr std::int64_t kBytes = kWidth * std::int64_t{sizeof(Bits<kType>)};
  static constexpr int kParts = kSplit ? 2 : 1;
  static constexpr bool kConverts = kSplit || kType == DType::kF16;  ///< on the way from memory into lanes
  struct Lanes {
    Floats<Isa> numbers[std::size_t{kParts}];
  };
  static Lanes lanes(Words<Isa> words) {
    if constexpr (kSplit) return {{bits_as<Floats<Isa>>(words << 16), bits_as<Floats<Isa>>(words & 0xFFFF0000u)}};
    else return {{bits_as<Floats<Isa>>(words)}};
  }
  /// Of a row whose elements lie together.
  static Lanes load_lanes(const std::byte* at) {
    if constexpr (kDepth == 2) return lanes(load<Words<Isa>>(at));
    else return lanes(bits_as<Words<Isa>>(load_elements<Isa, kType>(at, 1, Isa::kLanes)));
  }
  static Floats<Isa> multiply_add(Floats<Isa> sum, const Lanes& a, const Lanes& b) {
    if constexpr (kSplit) return sum + a.numbers[0] * b.numbers[0] + a.numbers[1] * b.numbers[1];
    else if constexpr (kDepth == 2)
      return Isa::dot(sum, bits_as<Words<Isa>>(a.numbers[0]), bits_as<Words<Isa>>(b.numbers[0]));
    else return sum + a.numbers[0] * b.numbers[0];
  }
};

/// A vector whose first `bytes` are zeros; of the others all bits are set.
template <class Isa>
inline Words<Isa> behind(std::int64_t bytes) {
  constexpr std::size_t kSize = sizeof(Words<Isa>);
  static constexpr auto kZerosAndOnes = [] {
    std::array<std::uint8_t, 2 * kSize> all{};
    std::fill(all.begin() + kSize, all.end(), std::uint8_t{0xFF});
    return all;
  }();
  return load<Words<Isa>>(kZerosAndOnes.data() + kSize - bytes);
}

/// Where the vector begins that has elements [d, ...) of a row: where it would reach beyond, it ends with the row.
/// @tparam kDepth elements in a lane
template <class Isa, int kDepth>
std::int64_t begin_of_last(std::int64_t d, std::int64_t width) {
  return std::min(d, std::max<std::int64_t>(width - kDepth * Isa::kLanes, 0));
}

/// Elements [d, ...) of a row, the last vector of it. It ends where the row does, so that it is one load that reads nothing
/// behind: elements before d are zeros. Worked example: of 72 elements in vectors of 32, that from 64 on is elements 40 to 71,
/// the first 24 of them zeros. Rows narrower than a vector have zeros behind their end instead.
template <class Isa, DType kType, int kDepth>
inline Words<Isa> last_words(const std::byte* row, std::int64_t stride, std::int64_t d, std::int64_t width) {
  const std::int64_t begin = begin_of_last<Isa, kDepth>(d, width);
  return row_words<Isa, kType, kDepth>(row, stride, begin, width) &
         behind<Isa>((d - begin) * (std::int64_t{sizeof(float)} / kDepth));
}

}  // namespace tessera::kernels::cpu
