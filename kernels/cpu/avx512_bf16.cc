// AVX-512 with bf16 dot products: Zen 4 and Cooper Lake. Later processors of Intel have them too, but are faster without.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/simd/outside.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")
#endif
#include "kernels/cpu/simd/leaves_of.h"

namespace tessera::kernels::cpu {
namespace {

struct Avx512Bf16 {
  static constexpr std::string_view kName = "avx512_bf16";
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 8;
  static constexpr bool kPairs = true;
  static constexpr bool kLosesRequests = true;  // measured on Zen 4
  static constexpr bool kScales = false;
  static constexpr bool kWidens = true;
  static Floats<Avx512Bf16> widened(HalfWords<Avx512Bf16> half) {
    return bits_as<Floats<Avx512Bf16>>(_mm512_maskz_cvtph_ps(0xFFFF, bits_as<__m256i>(half)));
  }
  static Floats<Avx512Bf16> dot(Floats<Avx512Bf16> sum, Words<Avx512Bf16> a, Words<Avx512Bf16> b) {
#ifdef __clang__
    using Pairs = Ints<Avx512Bf16>;
    return __builtin_ia32_dpbf16ps_512(sum, reinterpret_cast<Pairs>(a), reinterpret_cast<Pairs>(b));
#else
    using Pairs = VectorOf<std::int16_t, 32>::Type;
    return __builtin_ia32_dpbf16ps_v16sf(sum, reinterpret_cast<Pairs>(a), reinterpret_cast<Pairs>(b));
#endif
  }
};

}  // namespace

const Leaves& avx512_bf16_leaves() { return kLeavesOf<Avx512Bf16>; }

}  // namespace tessera::kernels::cpu

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
