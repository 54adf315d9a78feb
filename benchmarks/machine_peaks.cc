// The loops that reach the machine's peaks, one for each width of vectors.
#include "benchmarks/machine_peaks.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "kernels/cpu/leaves.h"
#include "support/parallel.h"

namespace tessera::benchmarks {
namespace {

template <int Lanes>
struct VectorOf {
  using Type [[gnu::vector_size(Lanes * sizeof(float))]] = float;
};

// What a loop computes is kept, so that the loop is.
thread_local volatile float kept = 0;

// Sums that do not wait for each other: enough to cover a multiply-add's latency on two units, as many as registers hold.
constexpr std::size_t sums_of(int registers) { return registers == 32 ? 24 : 12; }

constexpr std::int64_t kRounds = 1 << 12;  // some ten microseconds

// Floating-point operations done.
template <int Lanes, std::size_t Sums>
[[gnu::always_inline]] inline std::int64_t multiply_adds() {
  using Vector = typename VectorOf<Lanes>::Type;
  Vector sums[Sums];
  const float start = kept;  // not known to the compiler
  for (std::size_t i = 0; i < Sums; ++i) sums[i] = start + static_cast<float>(i) - Vector{};
  const Vector factor = 0.875f - Vector{};
  const Vector term = 0.125f - Vector{};
  for (std::int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 24
    for (std::size_t i = 0; i < Sums; ++i) sums[i] = sums[i] * factor + term;
  }
  Vector total{};
  for (const Vector& sum : sums) total += sum;
  kept = total[0];
  return kRounds * static_cast<std::int64_t>(Sums) * Lanes * 2;
}

// Four streams of whole pages each: with one, the hardware's prefetching ends at every page. Blocks are read in one: each
// stream begins anew, and that takes longer.
constexpr std::size_t kStreams = 4;

template <int Lanes, std::size_t Streams>
[[gnu::always_inline]] inline void read_all(std::span<const std::byte> bytes) {
  using Vector = typename VectorOf<Lanes>::Type;
  constexpr std::size_t kUnrolled = 8;
  constexpr std::size_t kStep = kUnrolled * sizeof(Vector);
  const std::size_t stream = bytes.size() / Streams;
  Vector sums[kUnrolled] = {};
  for (std::size_t at = 0; at < stream; at += kStep) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < Streams; ++i) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kUnrolled; ++j) {
        Vector next;
        std::memcpy(&next, bytes.data() + i * stream + at + j * sizeof(Vector), sizeof(Vector));
        sums[j] += next;
      }
    }
  }
  Vector total{};
  for (const Vector& sum : sums) total += sum;
  kept = total[0];
}

struct Loops {
  std::int64_t (*multiply_adds)();
  void (*read)(std::span<const std::byte>);
  void (*read_block)(std::span<const std::byte>);
};

#if defined(__x86_64__)
[[gnu::target("avx2,fma,avx512f,avx512vl")]] std::int64_t multiply_adds_avx512() {
  return multiply_adds<16, sums_of(32)>();
}
template <std::size_t Streams>
[[gnu::target("avx2,fma,avx512f,avx512vl")]] void read_avx512(std::span<const std::byte> bytes) {
  read_all<16, Streams>(bytes);
}
[[gnu::target("avx2,fma")]] std::int64_t multiply_adds_avx2() { return multiply_adds<8, sums_of(16)>(); }
template <std::size_t Streams>
[[gnu::target("avx2,fma")]] void read_avx2(std::span<const std::byte> bytes) {
  read_all<8, Streams>(bytes);
}
std::int64_t multiply_adds_generic() { return multiply_adds<4, sums_of(16)>(); }
#else
std::int64_t multiply_adds_generic() { return multiply_adds<4, sums_of(32)>(); }
#endif
template <std::size_t Streams>
void read_generic(std::span<const std::byte> bytes) {
  read_all<4, Streams>(bytes);
}

Loops loops() {
#if defined(__x86_64__)
  const std::int64_t lanes = kernels::cpu::leaves().lanes;
  if (lanes == 16) return {multiply_adds_avx512, read_avx512<kStreams>, read_avx512<1>};
  if (lanes == 8) return {multiply_adds_avx2, read_avx2<kStreams>, read_avx2<1>};
#endif
  return {multiply_adds_generic, read_generic<kStreams>, read_generic<1>};
}

constexpr std::size_t kPiece = std::size_t{4} << 20;  // what a thread reads at a time

std::size_t memory_size() {
  std::size_t cache = std::size_t{32} << 20;
#if defined(__linux__) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long level3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (level3 > 0) cache = static_cast<std::size_t>(level3);
#endif
  return std::clamp(8 * cache, std::size_t{256} << 20, std::size_t{1} << 30) / kPiece * kPiece;
}

// Written once, for untouched pages all lie in one page of zeros, which fits any cache.
std::span<const std::byte> memory() {
  static const std::span<const std::byte> memory = [] {
    const std::size_t size = memory_size();
    auto* bytes = static_cast<std::byte*>(::operator new (size, std::align_val_t{std::size_t{2} << 20}));
#ifdef __linux__
    madvise(bytes, size, MADV_HUGEPAGE);  // a system without huge pages reads as fast as it can
#endif
    std::memset(bytes, 1, size);
    return std::span<const std::byte>(bytes, size);
  }();
  return memory;
}

class Stopwatch {
 public:
  explicit Stopwatch(Clock clock)
      : clock_(clock), begin_(now(clock)), wall_(now(Clock::kWall)), process_(now(Clock::kProcess)) {}

  [[nodiscard]] Peak peak(double done) const {
    return {.rate = done / (now(clock_) - begin_),
            .cores = (now(Clock::kProcess) - process_) / (now(Clock::kWall) - wall_)};
  }

 private:
  Clock clock_;
  double begin_;
  double wall_;
  double process_;
};

}  // namespace

double now(Clock clock) {
  timespec time{};
  clock_gettime(clock == Clock::kThread    ? CLOCK_THREAD_CPUTIME_ID
                : clock == Clock::kProcess ? CLOCK_PROCESS_CPUTIME_ID
                                           : CLOCK_MONOTONIC,
                &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string_view instruction_set() { return kernels::cpu::leaves().name; }

Peak multiply_add_peak(int threads, double seconds) {
  const ThreadShare share(threads);
  std::atomic<std::int64_t> operations = 0;
  const auto run = loops().multiply_adds;
  const Stopwatch watch(compute_clock(threads));
  const double deadline = now(Clock::kWall) + seconds;
  parallel_for(threads, [&](std::int64_t) {
    std::int64_t done = 0;
    do {
      done += run();
    } while (now(Clock::kWall) < deadline);
    operations += done;
  });
  return watch.peak(static_cast<double>(operations));
}

Peak read_peak(int threads, std::int64_t block_bytes) {
  const std::span<const std::byte> bytes = memory();
  const std::size_t block = block_bytes == 0 ? kPiece : std::min(static_cast<std::size_t>(block_bytes), kPiece);
  std::vector<std::size_t> order(bytes.size() / block);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (block_bytes != 0) std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const std::size_t blocks = kPiece / block;  // of a piece
  const ThreadShare share(threads);
  const auto run = block_bytes == 0 ? loops().read : loops().read_block;
  const Stopwatch watch(Clock::kWall);
  parallel_for(static_cast<std::int64_t>(order.size() / blocks), [&](std::int64_t piece) {
    for (std::size_t i = 0; i < blocks; ++i)
      run(bytes.subspan(order[static_cast<std::size_t>(piece) * blocks + i] * block, block));
  });
  return watch.peak(static_cast<double>(bytes.size()));
}

}  // namespace tessera::benchmarks
