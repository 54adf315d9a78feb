// AVX-512 without bf16 dot products: Skylake-X and later.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/simd/outside.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")
#endif
#include "kernels/cpu/simd/leaves_of.h"

namespace tessera::kernels::cpu {
namespace {

struct Avx512 {
  static constexpr std::string_view kName = "avx512";
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 8;
  static constexpr bool kPairs = false;
  static constexpr bool kLosesRequests = false;
  static constexpr bool kScales = true;
  static constexpr bool kWidens = true;
  static Floats<Avx512> widened(HalfWords<Avx512> half) {
    return bits_as<Floats<Avx512>>(_mm512_maskz_cvtph_ps(0xFFFF, bits_as<__m256i>(half)));
  }
  /// x - round(x)
  static Floats<Avx512> remainder(Floats<Avx512> x) {
    return bits_as<Floats<Avx512>>(_mm512_reduce_ps(bits_as<__m512>(x), _MM_FROUND_TO_NEAREST_INT));
  }
  /// x * 2^power, 0 for powers below -126: they would give numbers below the normal ones, which are slow ever after.
  static Floats<Avx512> scaled(Floats<Avx512> x, Floats<Avx512> power) {
    const __mmask16 normal = _mm512_cmp_ps_mask(bits_as<__m512>(power), _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return bits_as<Floats<Avx512>>(_mm512_maskz_scalef_ps(normal, bits_as<__m512>(x), bits_as<__m512>(power)));
  }
};

}  // namespace

const Leaves& avx512_leaves() { return kLeavesOf<Avx512>; }

}  // namespace tessera::kernels::cpu

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
