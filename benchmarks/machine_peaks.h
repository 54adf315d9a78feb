// What this machine can do at best: multiply-adds and bytes read a second, measured beside the kernels held against it.
//
// A shared machine's speed drifts within seconds, so a peak is worth something only next to what is compared with it:
// measure it before and after each run of a kernel, and divide by the mean of both. Clocks: what one thread computes is
// timed in its own CPU time, which time slices of other processes do not count in; what several threads do, and all that
// waits for memory, in wall time.
#pragma once

#include <cstdint>
#include <string_view>

namespace tessera::benchmarks {

enum class Clock {
  kThread,   ///< CPU time of the calling thread
  kProcess,  ///< CPU time of all threads
  kWall,
};
/// The clock to time `threads` threads of computation with.
constexpr Clock compute_clock(int threads) { return threads == 1 ? Clock::kThread : Clock::kWall; }
/// Seconds since some fixed moment.
double now(Clock clock);

/// The instruction set that the kernels use, and that peaks are measured with: "avx512_bf16", "avx2", ...
std::string_view instruction_set();

struct Peak {
  double rate = 0;   ///< a second
  double cores = 0;  ///< CPU time over wall time: how many cores the threads really had, others' processes beside them
};

/// Floating-point operations a second, a multiply-add counted as two, of `threads` threads that do nothing but
/// multiply-adds of f32 vectors in registers for about `seconds`. In the time of `compute_clock(threads)`.
Peak multiply_add_peak(int threads, double seconds);

/// Bytes a second that `threads` threads read of memory far larger than the last cache: a sum over it, in wall time. A call
/// takes a few milliseconds; the first one also allocates that memory, in huge pages where the system has them.
/// @param block_bytes memory is read in blocks of so many bytes in random order, as a paged cache is: one thread reads such
/// blocks of 128 KiB a fifth slower than memory in its order (Zen 4). A power of two from 4 KiB on; 0: in its order
Peak read_peak(int threads, std::int64_t block_bytes = 0);

}  // namespace tessera::benchmarks
