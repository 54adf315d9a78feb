// Rows of queries with all their heads in lanes: products with blocks of keys, and sums over each row's heads.
//
// Lane x is head x % heads of row x / heads. What a row's sum comes to does not depend on where in a vector its lanes lie:
// where heads fill whole vectors, they are added vector by vector and then across; else one after the other, lanes having
// become keys by a transposition.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/tile.h"

namespace tessera::kernels::cpu {

/// Asks for the rows of places [from, to), kKeyBlock at most, which will be read soon; below `from` there are none.
template <class Isa, DType kType>
void prefetch_rows(const KeyRows& keys, const BlockKeys& block, std::int64_t from, std::int64_t to) {
  if (keys.element_stride != 1) return;
  const std::byte* rows[kKeyBlock];
  find_rows<Isa>(keys, block, from, to - from, rows);
  for (std::int64_t i = 0; i < to - from; ++i)
    prefetch_row<Isa>(rows[i], keys.width * static_cast<std::int64_t>(sizeof(Bits<kType>)));
}

/// Lanes as B of tiles: for each group of vectors a panel [depth][columns], those of a group that begins at vector v at
/// `at(v)`.
template <class Isa, DType kType>
struct Panels {
  using Element = typename MathOf<Isa, kType>::Element;

  const Element* elements = nullptr;
  std::int64_t depth = 0;  ///< elements, which are pairs in pairs

  /// `address(lane)` gives a lane's elements, `stride` apart.
  template <class Address>
  Panels(Scratch& scratch, std::int64_t lanes, std::int64_t width, std::int64_t stride, Address address)
      : depth(rounded_up(width, MathOf<Isa, kType>::kDepth) / MathOf<Isa, kType>::kDepth) {
    const std::int64_t vectors = rounded_up(lanes, Isa::kLanes) / Isa::kLanes;
    auto* to = scratch.take<Element>(depth * vectors * Isa::kLanes);
    for_each_group<Isa>(vectors, [&](std::int64_t vector, int count) {
      const std::int64_t first = vector * Isa::kLanes;
      transpose_rows<Isa, kType>(
          std::min<std::int64_t>(count * Isa::kLanes, lanes - first), count * Isa::kLanes, width, stride, false,
          [&](std::int64_t lane) { return address(first + lane); }, to + first * depth);
    });
    elements = to;
  }
  Panels() = default;

  [[nodiscard]] const Element* at(std::int64_t vector) const { return elements + vector * Isa::kLanes * depth; }
};

/// Sums over heads of `count` places of a block of keys.
template <class Isa>
struct HeadSums {
  std::int64_t heads = 0;
  std::int64_t lanes = 0;    ///< rows * heads
  float* partial = nullptr;  ///< of the row that is being added up: [kKeyBlock][kLanes]
  float* sums = nullptr;     ///< [rows][kKeyBlock]

  HeadSums(Scratch& scratch, std::int64_t rows, std::int64_t head_count)
      : heads(head_count),
        lanes(rows * head_count),
        partial(scratch.take<float>(kKeyBlock * Isa::kLanes)),
        sums(scratch.take<float>(rows * kKeyBlock)) {
    std::fill_n(sums, rows * kKeyBlock, 0.0f);
  }

  /// Adds the lanes of vectors [first, first + count): `term(j, v)` gives vector first + v of place j, 0 <= j < places.
  /// Vectors come in order.
  template <class Term>
  void add(std::int64_t first, int count, std::int64_t places, Term term) {
    if (heads % Isa::kLanes == 0) add_vectors(first, count, places, term);
    else add_one_by_one(first, count, places, term);
  }

 private:
  template <class Term>
  void add_vectors(std::int64_t first, int count, std::int64_t places, Term term) {
    using F = Floats<Isa>;
    const std::int64_t of_row = heads / Isa::kLanes;
    for (int v = 0; v < count;) {
      const std::int64_t done = (first + v) % of_row;
      const int own = static_cast<int>(std::min<std::int64_t>(count - v, of_row - done));
      if (own == 1) add_up<1>(done == 0, v, places, term);
      else if (own == 2) add_up<2>(done == 0, v, places, term);
      else add_up<3>(done == 0, v, places, term);
      if (done + own == of_row) {
        float* to = sums + (first + v) / of_row * kKeyBlock;
        std::fill_n(partial + places * Isa::kLanes, (rounded_up(places, Isa::kLanes) - places) * Isa::kLanes, 0.0f);
        for (std::int64_t j = 0; j < places; j += Isa::kLanes) {
          F vectors[Isa::kLanes];
          for (std::int64_t i = 0; i < Isa::kLanes; ++i) vectors[i] = load<F>(partial + (j + i) * Isa::kLanes);
          store(to + j, sums_across<Isa>(vectors));
        }
      }
      v += own;
    }
  }
  // Vector after vector, so that it does not matter how they are grouped. Each is added, the first one to 0, so that a
  // compiler fuses the product in a term with its addition everywhere or nowhere.
  template <int kOwn, class Term>
  void add_up(bool fresh, int first, std::int64_t places, Term term) {
    using F = Floats<Isa>;
    for (std::int64_t j = 0; j < places; ++j) {
      F sum = fresh ? F{} : load<F>(partial + j * Isa::kLanes);
      for (int v = 0; v < kOwn; ++v) sum = sum + term(j, first + v);
      store(partial + j * Isa::kLanes, sum);
    }
  }

  template <class Term>
  void add_one_by_one(std::int64_t first, int count, std::int64_t places, Term term) {
    using F = Floats<Isa>;
    for (int v = 0; v < count; ++v) {
      const std::int64_t lane = (first + v) * Isa::kLanes;
      const std::int64_t own = std::min<std::int64_t>(Isa::kLanes, lanes - lane);
      for (std::int64_t j = 0; j < places; j += Isa::kLanes) {
        Words<Isa> terms[Isa::kLanes];
        for (std::int64_t i = 0; i < Isa::kLanes; ++i)
          terms[i] = j + i < places ? bits_as<Words<Isa>>(term(j + i, v)) : Words<Isa>{};
        transpose<Isa>(terms);
        for (std::int64_t i = 0; i < own; ++i) {
          float* to = sums + (lane + i) / heads * kKeyBlock + j;
          const F before = (lane + i) % heads == 0 ? F{} : load<F>(to);
          store(to, before + bits_as<F>(terms[i]));
        }
      }
    }
  }
};

}  // namespace tessera::kernels::cpu
