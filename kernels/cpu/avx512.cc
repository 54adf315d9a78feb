// AVX-512 without bf16 dot products: Skylake-X and later.
#if defined(__x86_64__)
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
