// Keys, values and queries in the form in which tiles read them: in place where that serves, else converted into scratch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/elements.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/tile.h"

namespace tessera::kernels::cpu {

/// How elements of storage are multiplied: bf16 in pairs where the machine can, else as floats.
template <class Isa, DType kType>
using MathOf = std::conditional_t<kType == DType::kBF16 && Isa::kPairs, PairMath<Isa>, FloatMath<Isa>>;

/// The same instruction set, bf16 being multiplied as floats.
template <class Isa>
struct Unpaired : Isa {
  static constexpr bool kPairs = false;
};
template <class Isa>
using WithoutPairs = std::conditional_t<Isa::kPairs, Unpaired<Isa>, Isa>;

/// `count` 16-bit elements, `stride` elements apart, as a vector of words of two; zeros behind. Apart from its callers, whose
/// loops need the registers.
template <class Isa>
[[gnu::noinline, gnu::cold]] Words<Isa> scattered_words(const std::byte* address, std::int64_t stride, std::int64_t count) {
  std::uint16_t elements[2 * Isa::kLanes] = {};
  for (std::int64_t i = 0; i < 2 * Isa::kLanes && i < count; ++i) std::memcpy(&elements[i], address + i * stride * 2, 2);
  return load<Words<Isa>>(elements);
}

/// Elements [d, ...) of a row as one vector: floats, or of bf16 with kDepth 2 words of two; zeros behind the row's end.
template <class Isa, DType kType, int kDepth = MathOf<Isa, kType>::kDepth>
inline Words<Isa> row_words(const std::byte* row, std::int64_t stride, std::int64_t d, std::int64_t width) {
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  if constexpr (kDepth == 2) {
    if (stride == 1 && d + 2 * Isa::kLanes <= width) return load<Words<Isa>>(row + d * kBytes);
    if (stride == 1 && d + Isa::kLanes == width) return before_zeros<Isa>(load<HalfWords<Isa>>(row + d * kBytes));
    return scattered_words<Isa>(row + d * stride * kBytes, stride, width - d);
  } else {
    return bits_as<Words<Isa>>(load_elements<Isa, kType>(row + d * stride * kBytes, stride, width - d));
  }
}

/// What negates such a vector, or does not.
template <class Isa, int kDepth>
inline Words<Isa> signs_of(bool negate) {
  return broadcast<Words<Isa>>(negate ? kDepth == 2 ? 0x80008000u : 0x80000000u : 0u);
}

/// Rows of A, `kKeyBlock` at most.
struct RowPointers {
  const void* rows[kKeyBlock];
};

/// `count` rows become whole tiles: the last one is repeated.
template <class Isa>
inline void pad_rows(RowPointers& pointers, std::int64_t count) {
  repeat_last<Isa>(pointers.rows, count, rounded_up(count, Isa::kTileRows));
}

/// Rows [first, first + count) of a block's keys, to be read along their width (`Along::kRows`), whole tiles of them.
/// `scratch` takes kKeyBlock * width floats.
template <class Isa, DType kType>
RowPointers rows_along_width(const KeyRows& keys, const BlockKeys& block, std::int64_t first, std::int64_t count,
                             float* scratch) {
  using Math = MathOf<Isa, kType>;
  RowPointers result;
  const bool in_place = keys.element_stride == 1 && (Math::kDepth == 2 ? keys.width % 2 == 0 : kType == DType::kF32);
  const std::int64_t width = rounded_up(keys.width, Isa::kLanes);
  find_rows<Isa>(keys, block, first, count, result.rows);
  for (std::int64_t i = 0; i < count && !in_place; ++i) {
    const auto* row = static_cast<const std::byte*>(result.rows[i]);
    if constexpr (Math::kDepth == 2) {
      auto* copy = reinterpret_cast<std::uint16_t*>(scratch) + i * width;
      for (std::int64_t d = 0; d < width; ++d) {
        copy[d] = 0;
        if (d < keys.width) std::memcpy(&copy[d], row + d * keys.element_stride * 2, 2);
      }
      result.rows[i] = copy;
    } else {
      float* copy = scratch + i * width;
      for (std::int64_t d = 0; d < width; d += Isa::kLanes) {
        constexpr std::int64_t kBytes = sizeof(Bits<kType>);
        store(copy + d,
              load_elements<Isa, kType>(row + d * keys.element_stride * kBytes, keys.element_stride, keys.width - d));
      }
      result.rows[i] = copy;
    }
  }
  pad_rows<Isa>(result, count);
  return result;
}

/// The same rows to be read across (`Along::kColumns`): pointer k is row k, or in pairs rows 2k and 2k + 1 interleaved,
/// with whole tiles of elements. `scratch` takes kKeyBlock * (width rounded up to whole vectors) floats.
template <class Isa, DType kType>
RowPointers rows_across(const KeyRows& keys, const BlockKeys& block, std::int64_t first, std::int64_t count,
                        float* scratch) {
  using Math = MathOf<Isa, kType>;
  RowPointers result;
  const std::int64_t width = rounded_up(keys.width, Isa::kLanes);
  find_rows<Isa>(keys, block, first, count, result.rows);
  if constexpr (Math::kDepth == 2) {
    auto* words = reinterpret_cast<std::uint32_t*>(scratch);
    for (std::int64_t i = 0; i < count; i += 2) {
      const auto* even = static_cast<const std::byte*>(result.rows[i]);
      const auto* odd = i + 1 < count ? static_cast<const std::byte*>(result.rows[i + 1]) : nullptr;
      std::uint32_t* pairs = words + i / 2 * width;
      for (std::int64_t d = 0; d < width; d += 2 * Isa::kLanes) {
        const auto [low, high] = interleaved<Isa>(
            row_words<Isa, kType>(even, keys.element_stride, d, keys.width),
            odd == nullptr ? Words<Isa>{} : row_words<Isa, kType>(odd, keys.element_stride, d, keys.width));
        store(pairs + d, low);
        if (d + Isa::kLanes < width) store(pairs + d + Isa::kLanes, high);
      }
      result.rows[i / 2] = pairs;  // the row that stood there has been read
    }
    return result;
  } else {
    constexpr std::int64_t kBytes = sizeof(Bits<kType>);
    const bool in_place = kType == DType::kF32 && keys.element_stride == 1 && keys.width % Isa::kTileRows == 0;
    for (std::int64_t i = 0; i < count && !in_place; ++i) {
      const auto* row = static_cast<const std::byte*>(result.rows[i]);
      float* copy = scratch + i * width;
      for (std::int64_t d = 0; d < width; d += Isa::kLanes)
        store(copy + d,
              load_elements<Isa, kType>(row + d * keys.element_stride * kBytes, keys.element_stride, keys.width - d));
      result.rows[i] = copy;
    }
    return result;
  }
}

/// The same rows to be read both ways: as floats, one copy serves both.
struct RowsBothWays {
  RowPointers along, across;
};
template <class Isa, DType kType>
RowsBothWays rows_both_ways(const KeyRows& keys, const BlockKeys& block, std::int64_t first, std::int64_t count,
                            float* along_scratch, float* across_scratch) {
  RowsBothWays result;
  result.across = rows_across<Isa, kType>(keys, block, first, count, across_scratch);
  if constexpr (MathOf<Isa, kType>::kDepth == 2) {
    result.along = rows_along_width<Isa, kType>(keys, block, first, count, along_scratch);
  } else {
    result.along = result.across;
    pad_rows<Isa>(result.along, count);
  }
  return result;
}

/// Asks for a row that will be read soon: rows of different tokens lie too far apart for the machine to foresee.
template <class Isa>
inline void prefetch_row(const std::byte* row, std::int64_t bytes) {
  std::int64_t byte = 0;
  for (; byte + 4 * kCacheLine <= bytes; byte += 4 * kCacheLine) {
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) __builtin_prefetch(row + byte + line * kCacheLine);
  }
  for (; byte < bytes; byte += kCacheLine) __builtin_prefetch(row + byte);
}

/// Rows as B of a tile: [width][columns], in pairs [width / 2][columns]; negated where asked. `address(lane)` gives a
/// lane's row; columns behind the last lane repeat it.
template <class Isa, DType kType, class Address>
void transpose_rows(std::int64_t lanes, std::int64_t columns, std::int64_t width, std::int64_t stride, bool negate,
                    Address address, typename MathOf<Isa, kType>::Element* to) {
  using W = Words<Isa>;
  constexpr int kDepth = MathOf<Isa, kType>::kDepth;
  const W signs = signs_of<Isa, kDepth>(negate);
  const std::int64_t depth = rounded_up(width, kDepth) / kDepth;
  for (std::int64_t i = 0; i < lanes && stride == 1; ++i)
    prefetch_row<Isa>(address(i), width * static_cast<std::int64_t>(sizeof(Bits<kType>)));
  for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
    for (std::int64_t k = 0; k < depth; k += Isa::kLanes) {
      W rows[Isa::kLanes];
      for (std::int64_t i = 0; i < Isa::kLanes; ++i)
        rows[i] = row_words<Isa, kType>(address(std::min(lane + i, lanes - 1)), stride, k * kDepth, width) ^ signs;
      transpose<Isa>(rows);
      for (std::int64_t i = 0; i < Isa::kLanes && k + i < depth; ++i) store(to + (k + i) * columns + lane, rows[i]);
    }
  }
}

/// A group's rows as B of a tile, in memory of their own. `address(lane)` gives the row of a lane of the block.
template <class Isa, DType kType, class Address>
const typename MathOf<Isa, kType>::Element* transposed_rows(Scratch& scratch, const LaneGroup<Isa>& group,
                                                            std::int64_t width, std::int64_t stride, bool negate,
                                                            Address address) {
  using Math = MathOf<Isa, kType>;
  auto* to = scratch.take<typename Math::Element>(rounded_up(width, Math::kDepth) / Math::kDepth * group.columns());
  transpose_rows<Isa, kType>(
      group.count, group.columns(), width, stride, negate, [&](std::int64_t i) { return address(group.first + i); }, to);
  return to;
}

/// Writes C [width][columns] lane by lane, each lane times its factor: the way back from `transpose_rows`. `address(lane)`
/// gives a lane's row.
template <class Isa, class Address>
void write_lanes(const float* from, std::int64_t width, const LaneGroup<Isa>& group, const float* factors, DType dtype,
                 std::int64_t stride, Address address) {
  using F = Floats<Isa>;
  using W = Words<Isa>;
  for (std::int64_t first = 0; first < group.count; first += Isa::kLanes) {
    for (std::int64_t e = 0; e < width; e += Isa::kLanes) {
      W rows[Isa::kLanes];
      const std::int64_t count = std::min<std::int64_t>(Isa::kLanes, width - e);
      for (std::int64_t i = 0; i < Isa::kLanes; ++i)
        rows[i] =
            i < count ? bits_as<W>(load<F>(from + (e + i) * group.columns() + first) * load<F>(factors + first)) : W{};
      transpose<Isa>(rows);
      for (std::int64_t i = 0; i < Isa::kLanes && first + i < group.count; ++i)
        store_elements<Isa>(dtype, address(first + i) + e * stride * size_of(dtype), stride, count, bits_as<F>(rows[i]));
    }
  }
}

}  // namespace tessera::kernels::cpu
