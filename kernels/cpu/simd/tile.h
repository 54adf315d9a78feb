// The one matrix product behind all attention kernels: C (+)= A B, where B's columns lie in lanes and A is read by
// broadcasts.
//
// C is [rows][columns], B [k][columns], both with whole vectors of columns; A is given by pointers, so that it may be any
// rows anywhere: those of a strided tensor, of pages, of an index list. In `RowsOf`, pointer r is row r of A and steps
// along k; in `ColumnsOf`, pointer k is column k of A and steps along its rows (a transposed A, unmoved). Worked example:
// scores S^T [keys][queries] = K Q^T with A = RowsOf(keys) and B = Q^T [d][queries]; then O^T [e][queries] += V^T P^T with
// A = ColumnsOf(values) and B = P^T [keys][queries].
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/ahead.h"
#include "kernels/cpu/simd/vector.h"

namespace tessera::kernels::cpu {

/// Multiplies and adds floats.
template <class Isa>
struct FloatMath {
  using Element = float;  ///< of A and, in lanes, of B
  using Lanes = Floats<Isa>;
  static constexpr int kDepth = 1;  ///< numbers along k in an element
  static Floats<Isa> multiply_add(Floats<Isa> sum, Lanes a, Lanes b) { return sum + a * b; }
};

/// Multiplies pairs of bf16, the one with the lower k in the lower half of a word, and adds both products.
template <class Isa>
struct PairMath {
  using Element = std::uint32_t;
  using Lanes = Words<Isa>;
  static constexpr int kDepth = 2;
  static Floats<Isa> multiply_add(Floats<Isa> sum, Lanes a, Lanes b) { return Isa::dot(sum, a, b); }
};

enum class Along : std::uint8_t { kRows, kColumns };  ///< whether A's pointers are its rows or its columns

/// Rows of C: a matrix's, or any rows anywhere, of which one may be several.
template <class Isa>
struct MatrixRows {
  float* base;
  std::int64_t stride;
  [[nodiscard]] float* row(std::int64_t r) const { return base + r * stride; }
};
template <class Isa>
struct ListedRows {
  float* const* rows;
  [[nodiscard]] float* row(std::int64_t r) const { return rows[r]; }
};

/// One tile: `kRows` rows of C, in `ColumnsOf` those from `first` on, and `kVectors` vectors of its columns.
/// Not inlined: alone, its loop has all registers.
template <class Isa, class Math, Along kAlong, bool kAdd, int kVectors, class Rows>
[[gnu::noinline]] void multiply_tile(const void* const* a, std::int64_t first, std::int64_t depth,
                                     const typename Math::Element* b, std::int64_t b_stride, Rows c) {
  constexpr int kRows = Isa::kTileRows;
  using F = Floats<Isa>;
  using Element = typename Math::Element;
  const auto element = [](const void* address, std::int64_t i) __attribute__((always_inline)) {
    Element value;
    __builtin_memcpy(&value, static_cast<const char*>(address) + i * static_cast<std::int64_t>(sizeof(Element)),
                     sizeof(value));
    return value;
  };
  F sums[std::size_t{kRows}][std::size_t{kVectors}];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = F{};
  }
  const void* rows[std::size_t{kRows}];
  if constexpr (kAlong == Along::kRows) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) rows[r] = a[r];
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    typename Math::Lanes columns[std::size_t{kVectors}];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) columns[v] = load<typename Math::Lanes>(b + k * b_stride + v * Isa::kLanes);
    const void* column = kAlong == Along::kColumns ? static_cast<const Element*>(a[k]) + first : nullptr;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Element x = kAlong == Along::kRows ? element(rows[r], k) : element(column, r);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = Math::multiply_add(sums[r][v], broadcast<typename Math::Lanes>(x), columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      // What is there is added last: sums over many blocks then round once a block, not once a product.
      float* at = c.row(r) + v * Isa::kLanes;
      store(at, kAdd ? load<F>(at) + sums[r][v] : sums[r][v]);
    }
  }
}

/// One tile of 1 to 3 vectors.
template <class Isa, class Math, Along kAlong, bool kAdd, class Rows>
void multiply_tile_of(int vectors, const void* const* a, std::int64_t first, std::int64_t depth,
                      const typename Math::Element* b, std::int64_t b_stride, Rows c) {
  if (vectors == 3) multiply_tile<Isa, Math, kAlong, kAdd, 3>(a, first, depth, b, b_stride, c);
  else if (vectors == 2) multiply_tile<Isa, Math, kAlong, kAdd, 2>(a, first, depth, b, b_stride, c);
  else multiply_tile<Isa, Math, kAlong, kAdd, 1>(a, first, depth, b, b_stride, c);
}

/// C (+)= A B for `rows` rows, a multiple of `kTileRows`, and 1 to 3 vectors of columns. In `RowsOf` (`Along::kRows`) there
/// are `rows` pointers, in `ColumnsOf` `depth`; `depth` counts elements, which are pairs for PairMath.
/// @param ahead asked before each tile, if given
template <class Isa, class Math, Along kAlong, bool kAdd>
void multiply(const void* const* a, std::int64_t rows, std::int64_t depth, const typename Math::Element* b,
              std::int64_t b_stride, float* c, std::int64_t c_stride, int vectors, RowsAhead<Isa>* ahead = nullptr) {
  constexpr int kRows = Isa::kTileRows;
  for (std::int64_t r = 0; r < rows; r += kRows) {
    if (ahead != nullptr) ahead->ask();
    float* tile = c + r * c_stride;
    multiply_tile_of<Isa, Math, kAlong, kAdd>(vectors, kAlong == Along::kRows ? a + r : a, kAlong == Along::kRows ? 0 : r,
                                              depth, b, b_stride, MatrixRows<Isa>{tile, c_stride});
  }
}

}  // namespace tessera::kernels::cpu
