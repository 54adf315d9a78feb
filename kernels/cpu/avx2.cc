// AVX2 with fused multiply-add: Haswell, Zen and later.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/simd/outside.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include "kernels/cpu/simd/leaves_of.h"

namespace tessera::kernels::cpu {
namespace {

struct Avx2 {
  static constexpr std::string_view kName = "avx2";
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 4;
  static constexpr bool kPairs = false;
  static constexpr bool kLosesRequests = false;
  static constexpr bool kScales = false;
  static constexpr bool kWidens = true;
  static Floats<Avx2> widened(HalfWords<Avx2> half) {
    return bits_as<Floats<Avx2>>(_mm256_cvtph_ps(bits_as<__m128i>(half)));
  }
};

}  // namespace

const Leaves& avx2_leaves() { return kLeavesOf<Avx2>; }

}  // namespace tessera::kernels::cpu

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
