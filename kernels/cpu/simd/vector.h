// Vectors of one instruction set, in the compilers' vector types: included where that set is the compilation target (see
// avx512.cc).
//
// An instruction set is a struct: `kLanes` floats in a vector, `kTileRows` rows in a tile of matrix products (as many as the
// registers take with three vectors of columns), `kPairs`, whether `dot` multiplies pairs of bf16, `kLosesRequests`, whether
// its machines drop requests for memory that they cannot serve at once, `kScales`, whether `remainder` and `scaled` take
// apart and put together powers of two, and `kWidens`, whether `widened` makes floats of f16. All functions here are
// templates on it, so that each set has its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace tessera::kernels::cpu {

template <class T, int kCount>
struct VectorOf {
  using Type [[gnu::vector_size(kCount * sizeof(T))]] = T;
};
template <class Isa>
using Floats = typename VectorOf<float, Isa::kLanes>::Type;
template <class Isa>
using Words = typename VectorOf<std::uint32_t, Isa::kLanes>::Type;
template <class Isa>
using Ints = typename VectorOf<std::int32_t, Isa::kLanes>::Type;
template <class Isa>
using HalfWords = typename VectorOf<std::uint16_t, Isa::kLanes>::Type;

/// Vectors and pairs of bf16 are read wherever they lie.
template <class Vector>
inline Vector load(const void* address) {
  Vector vector;
  std::memcpy(&vector, address, sizeof(vector));
  return vector;
}
template <class Vector>
inline void store(void* address, Vector vector) {
  std::memcpy(address, &vector, sizeof(vector));
}

/// The value in every lane. `x - V{}`: added to zero instead it would cost an addition.
template <class Vector, class T>
inline Vector broadcast(T x) {
  return x - Vector{};
}

template <class Vector>
inline Vector larger(Vector a, Vector b) {  // a NaN in a is lost
  return a > b ? a : b;
}

/// Whether some lane is not 0.
template <class Isa>
inline bool any(Ints<Isa> vector) {
  std::int32_t lanes[Isa::kLanes];
  store(lanes, vector);
  std::int32_t all = 0;
  for (std::int32_t lane : lanes) all |= lane;
  return all != 0;
}

template <class To, class From>
inline To bits_as(From vector) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(vector);
}

/// One stage of `transpose`: exchanges blocks of kStep lanes between vectors that are kStep apart.
template <class Isa, int kStep, std::size_t... kLane>
inline void exchange(Words<Isa> (&rows)[sizeof...(kLane)], std::index_sequence<kLane...>) {
  constexpr int kCount = Isa::kLanes;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    if ((i & kStep) != 0) continue;
    const Words<Isa> a = rows[i];
    const Words<Isa> b = rows[i + kStep];
    rows[i] = __builtin_shufflevector(
        a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) : static_cast<int>(kLane) - kStep + kCount)...);
    rows[i + kStep] = __builtin_shufflevector(
        a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) + kStep : static_cast<int>(kLane) + kCount)...);
  }
}

/// Transposes as many vectors as they have lanes: lane c of vector r becomes lane r of vector c.
template <class Isa>
inline void transpose(Words<Isa> (&rows)[Isa::kLanes]) {
  constexpr auto kAll = std::make_index_sequence<Isa::kLanes>();
  exchange<Isa, 1>(rows, kAll);
  exchange<Isa, 2>(rows, kAll);
  if constexpr (Isa::kLanes > 4) exchange<Isa, 4>(rows, kAll);
  if constexpr (Isa::kLanes > 8) exchange<Isa, 8>(rows, kAll);
}

/// Adds neighbours in groups of kStep: vectors 2i and 2i + 1 become vector i, whose lanes c with c & kStep = 0 hold sums of
/// the first.
template <class Isa, int kStep, std::size_t kVectors, std::size_t... kLane>
inline void add_neighbours(Floats<Isa> (&vectors)[kVectors], std::index_sequence<kLane...>) {
  constexpr int kCount = Isa::kLanes;
  constexpr int kLeft = kCount / kStep / 2;
#pragma GCC unroll 8
  for (int i = 0; i < kLeft; ++i) {
    const Floats<Isa> a = vectors[2 * i];
    const Floats<Isa> b = vectors[2 * i + 1];
    vectors[i] = __builtin_shufflevector(
                     a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) : static_cast<int>(kLane) - kStep + kCount)...) +
                 __builtin_shufflevector(
                     a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) + kStep : static_cast<int>(kLane) + kCount)...);
  }
}

/// Lane i is the sum of vector i's lanes.
template <class Isa>
[[gnu::always_inline]] inline Floats<Isa> sums_across(Floats<Isa> (&vectors)[Isa::kLanes]) {
  constexpr auto kAll = std::make_index_sequence<Isa::kLanes>();
  add_neighbours<Isa, 1>(vectors, kAll);
  add_neighbours<Isa, 2>(vectors, kAll);
  if constexpr (Isa::kLanes > 4) add_neighbours<Isa, 4>(vectors, kAll);
  if constexpr (Isa::kLanes > 8) add_neighbours<Isa, 8>(vectors, kAll);
  return vectors[0];
}

/// Sums of neighbours: lane i is that of lanes 2i and 2i + 1, those of `a` before those of `b`.
template <class Isa, std::size_t... kLane>
inline Floats<Isa> add_pairs(Floats<Isa> a, Floats<Isa> b, std::index_sequence<kLane...>) {
  return __builtin_shufflevector(a, b, (2 * static_cast<int>(kLane))...) +
         __builtin_shufflevector(a, b, (2 * static_cast<int>(kLane) + 1)...);
}
template <class Isa>
inline Floats<Isa> sums_of_pairs(Floats<Isa> a, Floats<Isa> b) {
  return add_pairs<Isa>(a, b, std::make_index_sequence<Isa::kLanes>());
}

/// One stage of `largest_across`.
template <class Isa, int kStep, std::size_t... kLane>
inline Floats<Isa> largest_of_two(Floats<Isa> vector, std::index_sequence<kLane...>) {
  return larger(vector, __builtin_shufflevector(vector, vector, (static_cast<int>(kLane) ^ kStep)...));
}

/// The largest of the lanes that are a multiple of kApart from each, in all of them.
template <class Isa, int kApart>
inline Floats<Isa> largest_across(Floats<Isa> vector) {
  constexpr auto kAll = std::make_index_sequence<Isa::kLanes>();
  if constexpr (kApart <= 1) vector = largest_of_two<Isa, 1>(vector, kAll);
  if constexpr (kApart <= 2) vector = largest_of_two<Isa, 2>(vector, kAll);
  if constexpr (kApart <= 4 && Isa::kLanes > 4) vector = largest_of_two<Isa, 4>(vector, kAll);
  if constexpr (kApart <= 8 && Isa::kLanes > 8) vector = largest_of_two<Isa, 8>(vector, kAll);
  return vector;
}

/// The lanes of two vectors in turn: the first half of them, and the second.
template <class Isa>
struct Zipped {
  Floats<Isa> low, high;
};
template <class Isa, std::size_t... kLane>
inline Zipped<Isa> zip(Floats<Isa> even, Floats<Isa> odd, std::index_sequence<kLane...>) {
  constexpr int kCount = Isa::kLanes;
  return {__builtin_shufflevector(even, odd, static_cast<int>(kLane / 2 + kLane % 2 * kCount)...),
          __builtin_shufflevector(even, odd, static_cast<int>(kLane / 2 + kLane % 2 * kCount + kCount / 2)...)};
}
template <class Isa>
inline Zipped<Isa> zipped(Floats<Isa> even, Floats<Isa> odd) {
  return zip<Isa>(even, odd, std::make_index_sequence<Isa::kLanes>());
}

/// 2^x for |x| <= 1/2, to 1.7e-7 of its value: a minimax polynomial.
template <class Isa>
inline Floats<Isa> exp2_near_zero(Floats<Isa> x) {
  Floats<Isa> value = broadcast<Floats<Isa>>(1.32647285e-3f) * x + 9.67151392e-3f;
  value = value * x + 5.55073358e-2f;
  value = value * x + 2.40222424e-1f;
  value = value * x + 6.93147004e-1f;
  return value * x + 1.0f;
}

/// 2^x for x <= 127, to 1.7e-7 of its value; exactly 0 for x < -126.5, NaN for NaN: 2^round(x) times 2 to what remains.
template <class Isa>
[[gnu::always_inline]] inline Floats<Isa> exp2(Floats<Isa> x) {
  using F = Floats<Isa>;
  if constexpr (Isa::kScales) {
    const F rest = Isa::remainder(x);
    return Isa::scaled(exp2_near_zero<Isa>(rest), x - rest);
  }
  x = larger(broadcast<F>(kLeastPower), x);
  // Adding 1.5 * 2^23 leaves no bits behind the point: the low bits of the sum are round(x), and with 127 added an
  // exponent.
  const F magic = broadcast<F>(12582912.0f + 127.0f);
  const F shifted = x + magic;
  const F rest = x - (shifted - magic);
  const Words<Isa> power = bits_as<Words<Isa>>(shifted) << 23;
  return exp2_near_zero<Isa>(rest) * bits_as<F>(power);
}

}  // namespace tessera::kernels::cpu
