// Vectors of four floats, which every 64-bit machine has: SSE2 on x86-64, NEON on AArch64.
#include "kernels/cpu/simd/outside.h"

#include "kernels/cpu/simd/leaves_of.h"

namespace tessera::kernels::cpu {
namespace {

struct Generic {
#if defined(__aarch64__)
  static constexpr std::string_view kName = "neon";
  static constexpr int kTileRows = 8;  // 32 registers
#else
  static constexpr std::string_view kName = "generic";
  static constexpr int kTileRows = 4;
#endif
  static constexpr int kLanes = 4;
  static constexpr bool kPairs = false;
  static constexpr bool kLosesRequests = false;
  static constexpr bool kScales = false;
  static constexpr bool kWidens = false;
};

}  // namespace

const Leaves& generic_leaves() { return kLeavesOf<Generic>; }

}  // namespace tessera::kernels::cpu
