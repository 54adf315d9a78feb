// Elements of storage as vectors of floats: f32, bf16 and f16, wherever they lie, rounded to nearest even on the way back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/tensor/dtype.h"
#include "kernels/cpu/simd/vector.h"

namespace tessera::kernels::cpu {

/// The bits of an element.
template <DType kType>
using Bits = std::conditional_t<kType == DType::kF32, std::uint32_t, std::uint16_t>;

/// bf16 or f16 as floats, exactly.
template <class Isa, DType kType>
inline Floats<Isa> widened(HalfWords<Isa> half) {
  const Words<Isa> word = __builtin_convertvector(half, Words<Isa>);
  if constexpr (kType == DType::kBF16) {
    return bits_as<Floats<Isa>>(word << 16);
  } else if constexpr (Isa::kWidens) {
    return Isa::widened(half);
  } else {
    // The exponent's bias differs by 112; multiplying instead of adding it makes normal numbers of subnormal ones.
    const Words<Isa> magnitude = word & 0x7FFFu;
    const Words<Isa> bits = bits_as<Words<Isa>>(bits_as<Floats<Isa>>(magnitude << 13) * 5.192296858534828e33f);
    const Words<Isa> infinite = bits_as<Words<Isa>>(magnitude >= broadcast<Words<Isa>>(0x7C00u)) & 0x7F800000u;
    return bits_as<Floats<Isa>>(bits | infinite | ((word & 0x8000u) << 16));
  }
}

/// Floats as the bits of bf16 in the upper half of each word, rounded; the lower half is left over.
template <class Isa>
inline Words<Isa> bfloat16_above(Floats<Isa> value) {
  const Words<Isa> bits = bits_as<Words<Isa>>(value);
  const Words<Isa> rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  const Words<Isa> is_nan = bits_as<Words<Isa>>((bits & 0x7FFFFFFFu) > broadcast<Words<Isa>>(0x7F800000u));
  return (rounded & ~is_nan) | ((bits | 0x400000u) & is_nan);
}

template <class Isa, DType kType>
inline HalfWords<Isa> narrowed(Floats<Isa> value) {
  using W = Words<Isa>;
  W half;
  if constexpr (kType == DType::kBF16) {
    half = bfloat16_above<Isa>(value) >> 16;
  } else {
    const W bits = bits_as<W>(value);
    const W magnitude = bits & 0x7FFFFFFFu;
    const W normal = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    // 0.5 has the subnormals' last place as its own last place: the addition rounds to it.
    const Floats<Isa> shifted = bits_as<Floats<Isa>>(magnitude) + 0.5f;
    const W subnormal = bits_as<W>(shifted) - 0x3F000000u;
    const W is_subnormal = bits_as<W>(magnitude < broadcast<W>(0x38800000u));
    const W is_infinite = bits_as<W>(magnitude >= broadcast<W>(0x47800000u));
    const W is_nan = bits_as<W>(magnitude > broadcast<W>(0x7F800000u));
    const W finite = (subnormal & is_subnormal) | (normal & ~is_subnormal);
    half = (finite & ~is_infinite) | ((0x7C00u | (is_nan & 0x200u)) & is_infinite) | ((bits >> 16) & 0x8000u);
  }
  return __builtin_convertvector(half, HalfWords<Isa>);
}

/// 16-bit elements of two rows in turn: words with `even`'s element in the lower half and `odd`'s in the upper, for the
/// first and the second half of the rows' elements.
template <class Isa>
struct Interleaved {
  Words<Isa> low, high;
};
template <class Isa, std::size_t... kHalf>
inline Interleaved<Isa> interleave(Words<Isa> even, Words<Isa> odd, std::index_sequence<kHalf...>) {
  using Halves = typename VectorOf<std::uint16_t, 2 * Isa::kLanes>::Type;
  constexpr std::size_t kLanes = Isa::kLanes;
  const Halves a = bits_as<Halves>(even);
  const Halves b = bits_as<Halves>(odd);
  return {
      bits_as<Words<Isa>>(__builtin_shufflevector(a, b, static_cast<int>(kHalf / 2 + kHalf % 2 * 2 * kLanes)...)),
      bits_as<Words<Isa>>(__builtin_shufflevector(a, b, static_cast<int>(kHalf / 2 + kHalf % 2 * 2 * kLanes + kLanes)...))};
}
template <class Isa>
inline Interleaved<Isa> interleaved(Words<Isa> even, Words<Isa> odd) {
  return interleave<Isa>(even, odd, std::make_index_sequence<2 * Isa::kLanes>());
}

/// 16-bit elements, half a vector of them, and zeros behind.
template <class Isa, std::size_t... kHalf>
inline Words<Isa> before_zeros(HalfWords<Isa> half, std::index_sequence<kHalf...>) {
  return bits_as<Words<Isa>>(__builtin_shufflevector(half, HalfWords<Isa>{}, static_cast<int>(kHalf)...));
}
template <class Isa>
inline Words<Isa> before_zeros(HalfWords<Isa> half) {
  return before_zeros<Isa>(half, std::make_index_sequence<2 * Isa::kLanes>());
}

/// `count` elements from `address` on, `stride` elements apart, at most a vector of them; zeros behind.
template <class Isa, DType kType>
inline Floats<Isa> load_elements(const std::byte* address, std::int64_t stride, std::int64_t count) {
  using B = Bits<kType>;
  using Vector = typename VectorOf<B, Isa::kLanes>::Type;
  Vector bits{};
  if (stride == 1 && count >= Isa::kLanes) {
    bits = load<Vector>(address);
  } else {
    B elements[Isa::kLanes] = {};
    for (std::int64_t i = 0; i < count && i < Isa::kLanes; ++i)
      std::memcpy(&elements[i], address + i * stride * static_cast<std::int64_t>(sizeof(B)), sizeof(B));
    bits = load<Vector>(elements);
  }
  if constexpr (kType == DType::kF32) return bits_as<Floats<Isa>>(bits);
  else return widened<Isa, kType>(bits);
}

template <class Isa>
inline Floats<Isa> load_elements(DType dtype, const std::byte* address, std::int64_t stride, std::int64_t count) {
  if (dtype == DType::kF32) return load_elements<Isa, DType::kF32>(address, stride, count);
  if (dtype == DType::kBF16) return load_elements<Isa, DType::kBF16>(address, stride, count);
  return load_elements<Isa, DType::kF16>(address, stride, count);
}

/// Writes the first `count` lanes.
template <class Isa, DType kType>
inline void store_elements(std::byte* address, std::int64_t stride, std::int64_t count, Floats<Isa> value) {
  using B = Bits<kType>;
  using Vector = typename VectorOf<B, Isa::kLanes>::Type;
  Vector bits;
  if constexpr (kType == DType::kF32) bits = bits_as<Vector>(value);
  else bits = narrowed<Isa, kType>(value);
  if (stride == 1 && count >= Isa::kLanes) return store(address, bits);
  B elements[Isa::kLanes];
  store(elements, bits);
  for (std::int64_t i = 0; i < count && i < Isa::kLanes; ++i)
    std::memcpy(address + i * stride * static_cast<std::int64_t>(sizeof(B)), &elements[i], sizeof(B));
}

template <class Isa>
inline void store_elements(DType dtype, std::byte* address, std::int64_t stride, std::int64_t count, Floats<Isa> value) {
  if (dtype == DType::kF32) return store_elements<Isa, DType::kF32>(address, stride, count, value);
  if (dtype == DType::kBF16) return store_elements<Isa, DType::kBF16>(address, stride, count, value);
  store_elements<Isa, DType::kF16>(address, stride, count, value);
}

/// Writes floats, readable to whole vectors, as elements `stride` apart.
template <class Isa>
void narrow(DType dtype, const float* from, std::byte* to, std::int64_t stride, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Isa::kLanes)
    store_elements<Isa>(dtype, to + i * stride * size_of(dtype), stride, count - i, load<Floats<Isa>>(from + i));
}

}  // namespace tessera::kernels::cpu
