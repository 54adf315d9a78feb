// The loop of a benchmark that alternates a kernel and the machine's peaks.
#include "benchmarks/turns.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include "benchmarks/machine_peaks.h"
#include "support/parallel.h"

namespace tessera::benchmarks {
namespace {

// @pre at least one
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double seconds_of(Clock clock, const std::function<void()>& call) {
  const double begin = now(clock);
  call();
  return now(clock) - begin;
}

// A peak takes half of its kernel's time: long enough to meet the same disturbances, short enough not to double a run.
double peak_seconds(double kernel_seconds) { return std::clamp(kernel_seconds / 2, 0.005, 0.05); }

// A median of fewer is an accident. Slow kernels have more turns than iterations.
constexpr std::size_t kLeastTurns = 7;

// A call and what it is held against.
struct Turn {
  double seconds = 0;
  double times_other = 0;
  double share_of_peak = 0;
  double share_of_bandwidth = 0;
  bool undisturbed = true;
};

double median_of(const std::vector<Turn>& turns, double Turn::*member) {
  std::vector<double> values;
  values.reserve(turns.size());
  for (const Turn& turn : turns) values.push_back(turn.*member);
  return median(std::move(values));
}

// The peaks' threads are never idle by themselves: with clearly fewer cores than threads, other processes had the rest.
bool had_cores(const Peak& peak, int threads) { return peak.cores > 0.93 * threads; }

double mean_rate(const Peak& before, const Peak& after) { return (before.rate + after.rate) / 2; }

}  // namespace

void run_in_turns(benchmark::State& state, int threads, const Work& work, const std::function<void()>& call) {
  run_in_turns(state, threads, work, call, {});
}

void run_in_turns(benchmark::State& state, int threads, const Work& work, const std::function<void()>& call,
                  const std::function<void()>& other) {
  const ThreadShare share(threads);
  const bool from_memory = work.bytes > 0;
  const Clock clock = from_memory ? Clock::kWall : compute_clock(threads);
  call();  // threads, memory and caches are warm from here on
  Peak fma_before = multiply_add_peak(threads, peak_seconds(0));
  Peak read_before = from_memory ? read_peak(threads, work.block_bytes) : Peak{};
  std::vector<Turn> turns;
  const auto end_turn = [&](double seconds) {
    Turn turn{.seconds = seconds};
    if (other) turn.times_other = seconds_of(clock, other) / seconds;
    if (from_memory) {
      const Peak read_after = read_peak(threads, work.block_bytes);
      turn.share_of_bandwidth = work.bytes / seconds / mean_rate(read_before, read_after);
      turn.undisturbed = had_cores(read_before, threads) && had_cores(read_after, threads);
      read_before = read_after;
    }
    const Peak fma_after = multiply_add_peak(threads, peak_seconds(seconds));
    turn.share_of_peak = work.flops / seconds / mean_rate(fma_before, fma_after);
    if (clock == Clock::kWall && !(had_cores(fma_before, threads) && had_cores(fma_after, threads)))
      turn.undisturbed = false;
    fma_before = fma_after;
    turns.push_back(turn);
  };
  for (auto _ : state) {
    const double seconds = seconds_of(clock, call);
    state.PauseTiming();
    end_turn(seconds);
    state.ResumeTiming();
  }
  while (turns.size() < kLeastTurns) end_turn(seconds_of(clock, call));

  std::vector<Turn> undisturbed;
  std::copy_if(turns.begin(), turns.end(), std::back_inserter(undisturbed),
               [](const Turn& turn) { return turn.undisturbed; });
  if (undisturbed.size() < kLeastTurns / 2) undisturbed.clear();
  state.counters["undisturbed"] = static_cast<double>(undisturbed.size()) / static_cast<double>(turns.size());
  if (!undisturbed.empty()) turns = std::move(undisturbed);
  const double seconds = median_of(turns, &Turn::seconds);
  state.counters["median_ms"] = seconds * 1e3;
  state.counters["gflops"] = work.flops / seconds * 1e-9;
  state.counters["share_of_peak"] = median_of(turns, &Turn::share_of_peak);
  if (from_memory) state.counters["share_of_bandwidth"] = median_of(turns, &Turn::share_of_bandwidth);
  if (other) state.counters["times_other"] = median_of(turns, &Turn::times_other);
}

}  // namespace tessera::benchmarks
