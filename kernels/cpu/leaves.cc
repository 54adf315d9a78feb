// Which instruction set this machine has, and the threads' scratch memory.
#include "kernels/cpu/leaves.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/dropout.h"
#include "support/diagnostic.h"

namespace tessera::kernels::cpu {

const Leaves& generic_leaves();
#if defined(__x86_64__)
const Leaves& avx2_leaves();
const Leaves& avx512_leaves();
const Leaves& avx512_bf16_leaves();
#endif

namespace {

#if defined(__x86_64__)
// Whether the machine multiplies pairs of bf16 as fast as floats. Intel's processors with bf16 dot products issue one every
// other cycle, floats two a cycle (Sapphire Rapids: 1.34 against 5.46 G/s), so that bf16 is multiplied as floats nearly twice
// as fast; Cooper Lake alone was made for them. By name and not by a measurement, for no number may depend on the moment.
bool fast_dot_products() { return __builtin_cpu_is("intel") == 0 || __builtin_cpu_is("cooperlake") != 0; }
#endif

}  // namespace

std::vector<const Leaves*> available_leaves() {
  std::vector<const Leaves*> available;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0;
  if (avx512) available.push_back(&avx512_leaves());
  if (avx512 && __builtin_cpu_supports("avx512bf16") != 0)
    available.insert(fast_dot_products() ? available.begin() : available.end(), &avx512_bf16_leaves());
  if (avx2) available.push_back(&avx2_leaves());
#endif
  available.push_back(&generic_leaves());
  return available;
}

namespace {

const Leaves& wanted_leaves() {
  const std::vector<const Leaves*> available = available_leaves();
  const char* wanted = std::getenv("TESSERA_ISA");
  if (wanted == nullptr || *wanted == '\0') return *available.front();
  std::vector<std::string_view> names;
  for (const Leaves* each : available) {
    if (each->name == wanted) return *each;
    names.push_back(each->name);
  }
  fail("environment", fmt::format("TESSERA_ISA is '{}', this machine has {}", wanted, fmt::join(names, ", ")),
       "unset TESSERA_ISA to take the best");
}

std::atomic<const Leaves*>& current() {
  static std::atomic<const Leaves*> leaves = &wanted_leaves();
  return leaves;
}

}  // namespace

const Leaves& leaves() { return *current().load(std::memory_order_relaxed); }

const Leaves& use_leaves(const Leaves& chosen) { return *current().exchange(&chosen); }

const float kLeastPower = -127.0f;

void write_statistics(const QueryLane& lane, float max, float base, float sum) {
  if (lane.max == nullptr) return;
  // The maximum leaves the log2 domain rounded; the sum, now relative to it, takes up the difference.
  constexpr double kLn2 = 0.6931471805599453;
  const auto natural = static_cast<float>(static_cast<double>(max) * kLn2);
  const double shift = static_cast<double>(base) * kLn2 - static_cast<double>(natural);
  *lane.max = sum == 0 ? 0 : natural;
  *lane.sum = sum == 0 ? 0 : static_cast<float>(static_cast<double>(sum) * std::exp(shift));
}

float dropout_factor(const LaneDropout& dropout, const QueryLane& lane, std::int64_t place) {
  const std::int64_t key = place - dropout.first_place;
  const auto words =
      philox({static_cast<std::uint32_t>(key / 4), lane.counter[0], lane.counter[1], lane.counter[2]}, dropout.seed);
  return words[static_cast<std::size_t>(key % 4)] >= dropout.threshold ? dropout.keep_scale : 0;
}

namespace {

struct FreeAligned {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};
struct Chunk {
  std::unique_ptr<std::byte[], FreeAligned> bytes;
  std::int64_t size = 0;
};
thread_local std::vector<Chunk> chunks;

}  // namespace

std::byte* Scratch::bytes(std::int64_t count) {
  count = rounded_up(std::max<std::int64_t>(count, 1), 64);
  while (chunk_ < chunks.size() && used_ + count > chunks[chunk_].size) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks.size()) {
    const std::int64_t size = std::max<std::int64_t>(count, std::int64_t{1} << 20);
    chunks.push_back({std::unique_ptr<std::byte[], FreeAligned>(
                          static_cast<std::byte*>(::operator new[](static_cast<std::size_t>(size), std::align_val_t{64}))),
                      size});
  }
  std::byte* result = chunks[chunk_].bytes.get() + used_;
  used_ += count;
  return result;
}

}  // namespace tessera::kernels::cpu
