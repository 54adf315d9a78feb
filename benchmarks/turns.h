// Times a kernel in turns with the machine's peaks, and reports what share of them it reaches.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>

namespace tessera::benchmarks {

struct Work {
  double flops = 0;              ///< useful ones; a multiply-add is two
  double bytes = 0;              ///< that have to come from memory; 0 where that is not what the kernel waits for
  std::int64_t block_bytes = 0;  ///< that lie together, if they lie in blocks anywhere
};

/// The benchmark's loop. Each iteration times `call` with up to `threads` threads, and peaks before and after it. Counters,
/// medians over the iterations: `median_ms`, `gflops`, `share_of_peak` (of f32 multiply-adds, whatever the dtype) and,
/// where `work` has bytes, `share_of_bandwidth`, which is that of reading memory in as large blocks. One thread's
/// computation is timed in CPU time, all else in wall time (machine_peaks.h). `undisturbed` is the share of iterations,
/// those in wall time, beside which the peaks' threads had a core each; medians are over those alone. With fewer than three
/// of them it is 0, and medians are over all.
void run_in_turns(benchmark::State& state, int threads, const Work& work, const std::function<void()>& call);

/// Likewise, with `other` timed after each `call`; what it does is not part of `call`'s time. Another counter,
/// `times_other`: how many times as long as `call` it takes.
void run_in_turns(benchmark::State& state, int threads, const Work& work, const std::function<void()>& call,
                  const std::function<void()>& other);

}  // namespace tessera::benchmarks
