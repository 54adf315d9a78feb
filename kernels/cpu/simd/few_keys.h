// The products of keys with few queries: their elements lie in lanes.
#pragma once

#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_rows.h"

namespace tessera::kernels::cpu {

/// Adds the products of `kKeys` keys with queries [kRows][vectors of the part], vector by vector, to sums [kKeys][kRows]. With
/// each vector one is asked for: requests for memory then flow evenly beside the arithmetic.
/// @param keys some of `RowsInTurn`
template <class Isa, DType kType, int kRows, int kKeys>
inline void multiply_keys(const std::byte* const* keys, std::int64_t width, std::int64_t element_stride,
                          const typename FewMath<Isa, kType>::Lanes* queries, Requests<Isa> requests,
                          Floats<Isa> (&sums)[std::size_t{kKeys} * std::size_t{kRows}]) {
  using Math = FewMath<Isa, kType>;
  const std::int64_t vectors = rounded_up(width, Math::kWidth) / Math::kWidth;
  const std::int64_t whole = element_stride == 1 ? width / Math::kWidth : 0;
  const auto multiply = [&](std::int64_t v, auto lanes_of) __attribute__((always_inline)) {
    typename Math::Lanes own[std::size_t{kKeys}];
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) own[i] = lanes_of(i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < kKeys; ++i) {
        const typename Math::Lanes query = queries[r * vectors + v];
        sums[i * kRows + r] = Math::multiply_add(sums[i * kRows + r], own[i], query);
      }
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
          return Math::lanes(row_words<Isa, kType, Math::kDepth>(keys[i], element_stride, v * Math::kWidth, width));
        });
  }
}

}  // namespace tessera::kernels::cpu
