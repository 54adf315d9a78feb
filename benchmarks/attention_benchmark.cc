// Attention's kernels against the machine: dense forward and backward, decode, sparse, the indexer and its loss.
// benchmarks/README.md tells how to read it.
//
// Names are paths, so that a filter picks what it wants: forward/f32/D128/S2048/causal/threads:1,
// decode/bf16/D128/S16384/G8/bshd/threads:2, sparse/backward/f32/H64/D512r64/S8192/k2048/threads:1.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benchmarks/machine_peaks.h"
#include "benchmarks/turns.h"
#include "core/tensor/random.h"
#include "kernels/attention.h"
#include "kernels/lightning_indexer.h"
#include "kernels/provider.h"
#include "kernels/sparse_attention.h"
#include "support/parallel.h"

namespace tessera::benchmarks {
namespace {

// A few random numbers again and again: what a kernel costs does not depend on them, and drawing all of them would take
// longer than the kernel.
Tensor numbers(const Shape& shape, DType dtype, unsigned seed) {
  constexpr std::int64_t kDrawn = 65521;  // a prime: rows of the usual widths differ
  const Tensor drawn = random_normal({kDrawn}, DType::kF32, seed, "numbers");
  Tensor repeated = Tensor::uninitialized(shape, DType::kF32);
  for (std::int64_t at = 0; at < repeated.count(); at += kDrawn) {
    std::copy_n(drawn.data<float>(), std::min(kDrawn, repeated.count() - at), repeated.data<float>() + at);
  }
  return repeated.to(dtype);
}

enum class Mask : std::uint8_t { kFull, kCausal, kDocuments };

// Rows that see all keys, or, causal, as many of the first ones as the last row sees all.
RowPlan plan_of(std::int64_t rows, std::int64_t keys, bool causal) {
  return {{{.count = rows,
            .position = causal ? keys - rows : 0,
            .length = keys,
            .limit = causal ? keys - rows + 1 : keys,
            .limit_step = causal ? 1 : 0}}};
}

// Packed documents, each causal in itself: half of the rows are one, half of the others the next, and so on down to one of
// an odd length below 64.
RowPlan documents_of(std::int64_t rows) {
  RowPlan plan;
  for (std::int64_t begin = 0; begin < rows;) {
    const std::int64_t left = rows - begin;
    const std::int64_t length = left < 64 ? left : left / 2 + 1;
    plan.segments.push_back({.row = begin,
                             .count = length,
                             .sequence = std::ssize(plan.segments),
                             .key_base = begin,
                             .length = length,
                             .limit = 1,
                             .limit_step = 1});
    begin += length;
  }
  return plan;
}

RowPlan plan_of(std::int64_t rows, Mask mask) {
  return mask == Mask::kDocuments ? documents_of(rows) : plan_of(rows, rows, mask == Mask::kCausal);
}

double visible_pairs(const RowPlan& plan) {
  double pairs = 0;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      pairs += static_cast<double>(std::max<std::int64_t>(0, keys.end - keys.begin));
    }
  }
  return pairs;
}

// Times a call by the provider that takes it; the reference is minutes away from anything that is worth timing.
template <class Call>
bool is_fast(benchmark::State& state, const Call& call) {
  const kernels::Choice choice = kernels::choose(call);
  if (choice.provider != "reference") return true;
  state.SkipWithError(kernels::to_string(Call::kName, choice).c_str());
  return false;
}

template <class Call>
void run_call(const Call& call) {
  benchmark::DoNotOptimize(kernels::compute(call));
}

struct DenseCase {
  bool backward;
  DType dtype;
  std::int64_t width;
  std::int64_t rows;
  Mask mask;
};

void dense(benchmark::State& state, int threads, const DenseCase& wanted) {
  constexpr std::int64_t kHeads = 4;
  const Shape shape{1, wanted.rows, kHeads, wanted.width};
  const kernels::AttentionCall call{.query = numbers(shape, wanted.dtype, 1),
                                    .key = numbers(shape, wanted.dtype, 2),
                                    .value = numbers(shape, wanted.dtype, 3),
                                    .plan = plan_of(wanted.rows, wanted.mask),
                                    .scale = 1 / std::sqrt(static_cast<double>(wanted.width))};
  const double products = wanted.backward ? 5 : 2;
  const Work work{.flops = 2 * products * static_cast<double>(kHeads * wanted.width) * visible_pairs(call.plan)};
  if (!is_fast(state, call)) return;
  if (!wanted.backward) return run_in_turns(state, threads, work, [&] { run_call(call); });
  kernels::AttentionResult result = kernels::attention(call);
  const kernels::AttentionBackwardCall backward{.forward = call,
                                                .out = std::move(result.out),
                                                .softmax_max = std::move(result.softmax_max),
                                                .softmax_sum = std::move(result.softmax_sum),
                                                .grad_out = numbers(shape, wanted.dtype, 4)};
  if (is_fast(state, backward)) run_in_turns(state, threads, work, [&] { run_call(backward); });
}

// How a cache lies in memory: [b, rows, heads, d], [b, heads, rows, d], or in blocks [rows, heads, d] anywhere.
enum class CacheLayout : std::uint8_t { kRowsFirst, kHeadsFirst, kPaged };

struct DecodeCase {
  DType dtype;
  std::int64_t width;
  std::int64_t group;
  CacheLayout layout;
};

constexpr std::int64_t kDecodeKeys = 16384;
constexpr std::int64_t kPageRows = 64;

// Per row `count` different ones of `keys` keys, in random order, as a top-k by score leaves them.
Tensor random_lists(std::int64_t rows, std::int64_t keys, std::int64_t count) {
  std::mt19937 generator(5);
  std::vector<std::int32_t> all(static_cast<std::size_t>(keys));
  std::iota(all.begin(), all.end(), 0);
  Tensor lists = Tensor::uninitialized({1, rows, 1, count}, DType::kI32);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), generator);
    std::copy_n(all.begin(), count, lists.data<std::int32_t>() + row * count);
  }
  return lists;
}

// One query row over a long cache.
void decode(benchmark::State& state, int threads, const DecodeCase& wanted) {
  constexpr std::int64_t kKeyHeads = 8;
  const auto cache = [&](unsigned seed) {
    if (wanted.layout == CacheLayout::kHeadsFirst)
      return numbers({1, kKeyHeads, kDecodeKeys, wanted.width}, wanted.dtype, seed).permute({0, 2, 1, 3});
    const std::int64_t rows = wanted.layout == CacheLayout::kPaged ? kPageRows : kDecodeKeys;
    return numbers({kDecodeKeys / rows, rows, kKeyHeads, wanted.width}, wanted.dtype, seed);
  };
  const std::int64_t heads = kKeyHeads * wanted.group;
  kernels::AttentionCall call{.query = numbers({1, 1, heads, wanted.width}, wanted.dtype, 1),
                              .key = cache(2),
                              .value = cache(3),
                              .plan = plan_of(1, kDecodeKeys, true),
                              .scale = 1 / std::sqrt(static_cast<double>(wanted.width)),
                              .return_statistics = false};
  if (wanted.layout == CacheLayout::kPaged) {  // in random order, as blocks are after many sequences have come and gone
    constexpr std::int64_t kPages = kDecodeKeys / kPageRows;
    call.block_table = random_lists(1, kPages, kPages).reshape({1, kPages});
  }
  const Work work{.flops = 4 * static_cast<double>(heads * wanted.width * kDecodeKeys),
                  .bytes = static_cast<double>(call.key.bytes() + call.value.bytes()),
                  .block_bytes = call.block_table ? call.key.bytes() / call.key.size(0) : 0};
  if (is_fast(state, call)) run_in_turns(state, threads, work, [&] { run_call(call); });
}

struct SparseCase {
  bool backward;
  DType dtype;
  std::int64_t heads;
};

constexpr std::int64_t kSparseKeys = 8192;
constexpr std::int64_t kSelected = 2048;
constexpr std::int64_t kLatent = 512;
constexpr std::int64_t kRope = 64;

// A few tokens of many heads that share one latent key, in turns with dense attention over the same keys: `proportionality`
// is the dense kernel's time for a key of all over the sparse one's for a key that it selects. Backward, whatever is
// selected, the gradients of all keys are cleared and written, which only many tokens make up for.
void sparse(benchmark::State& state, int threads, const SparseCase& wanted) {
  const std::int64_t tokens = wanted.backward ? 64 : 16;
  const Tensor query = numbers({1, tokens, wanted.heads, kLatent + kRope}, wanted.dtype, 1);
  const Tensor key = numbers({1, kSparseKeys, 1, kLatent + kRope}, wanted.dtype, 2);
  const Tensor latent = key.slice(3, 0, kLatent);
  const RowPlan plan = plan_of(tokens, kSparseKeys, false);
  const double scale = 1 / std::sqrt(static_cast<double>(kLatent + kRope));
  const kernels::SparseAttentionCall call{.query = query.slice(3, 0, kLatent),
                                          .key = latent,
                                          .value = latent,
                                          .indices = random_lists(tokens, kSparseKeys, kSelected),
                                          .plan = plan,
                                          .scale = scale,
                                          .query_rope = query.slice(3, kLatent, kLatent + kRope),
                                          .key_rope = key.slice(3, kLatent, kLatent + kRope)};
  const kernels::AttentionCall all{.query = query, .key = key, .value = latent, .plan = plan, .scale = scale};
  const double widths = wanted.backward ? 3 * (kLatent + kRope) + 2 * kLatent : kLatent + kRope + kLatent;
  const Work work{.flops = 2 * widths * static_cast<double>(tokens * wanted.heads * kSelected)};
  if (!is_fast(state, call) || !is_fast(state, all)) return;
  if (wanted.backward) {
    const Tensor grad_out = numbers({1, tokens, wanted.heads, kLatent}, wanted.dtype, 4);
    const auto gradient_of = [&]<class Backward>(const auto& forward, Backward backward) {
      kernels::AttentionResult result = kernels::compute(forward);
      backward.forward = forward;
      backward.out = std::move(result.out);
      backward.softmax_max = std::move(result.softmax_max);
      backward.softmax_sum = std::move(result.softmax_sum);
      backward.grad_out = grad_out;
      return backward;
    };
    const auto sparse_gradient = gradient_of(call, kernels::SparseAttentionBackwardCall{});
    const auto dense_gradient = gradient_of(all, kernels::AttentionBackwardCall{});
    if (!is_fast(state, sparse_gradient) || !is_fast(state, dense_gradient)) return;
    run_in_turns(
        state, threads, work, [&] { run_call(sparse_gradient); }, [&] { run_call(dense_gradient); });
  } else {
    run_in_turns(
        state, threads, work, [&] { run_call(call); }, [&] { run_call(all); });
  }
  state.counters["proportionality"] =
      state.counters["times_other"] * static_cast<double>(kSelected) / static_cast<double>(kSparseKeys);
}

constexpr std::int64_t kIndexRows = 2048;
constexpr std::int64_t kIndexHeads = 64;
constexpr std::int64_t kIndexWidth = 128;
constexpr std::int64_t kIndexCount = 512;

void indexer(benchmark::State& state, int threads, DType dtype) {
  const kernels::IndexerCall call{.query = numbers({1, kIndexRows, kIndexHeads, kIndexWidth}, dtype, 1),
                                  .key = numbers({1, kIndexRows, 1, kIndexWidth}, dtype, 2),
                                  .weights = numbers({1, kIndexRows, kIndexHeads}, dtype, 3),
                                  .plan = plan_of(kIndexRows, kIndexRows, true),
                                  .count = kIndexCount};
  const Work work{.flops = 2 * static_cast<double>(kIndexHeads * kIndexWidth) * visible_pairs(call.plan)};
  if (is_fast(state, call)) run_in_turns(state, threads, work, [&] { run_call(call); });
}

struct LossCase {
  DType dtype;
  bool listed;  // over the indexer's choice, else over all keys that a row sees
};

constexpr std::int64_t kLossRows = 128;
constexpr std::int64_t kMainHeads = 128;

// The indexer's loss and gradients: what sparse attention makes of each key, and then what the indexer does. The statistics
// are made up: the time does not depend on them.
void indexer_loss(benchmark::State& state, int threads, const LossCase& wanted) {
  const RowPlan plan = plan_of(kLossRows, kSparseKeys, true);
  const Tensor query = numbers({1, kLossRows, kMainHeads, kLatent + kRope}, wanted.dtype, 4);
  const Tensor key = numbers({1, kSparseKeys, 1, kLatent + kRope}, wanted.dtype, 5);
  kernels::IndexerLossCall call{.query_index = numbers({1, kLossRows, kIndexHeads, kIndexWidth}, wanted.dtype, 1),
                                .key_index = numbers({1, kSparseKeys, 1, kIndexWidth}, wanted.dtype, 2),
                                .weights = numbers({1, kLossRows, kIndexHeads}, wanted.dtype, 3),
                                .query = query.slice(3, 0, kLatent),
                                .key = key.slice(3, 0, kLatent),
                                .softmax_max = Tensor::zeros({1, 1, kLossRows, kMainHeads}, DType::kF32),
                                .softmax_sum = Tensor::zeros({1, 1, kLossRows, kMainHeads}, DType::kF32),
                                .plan = plan,
                                .scale = 1 / std::sqrt(static_cast<double>(kLatent + kRope)),
                                .query_rope = query.slice(3, kLatent, kLatent + kRope),
                                .key_rope = key.slice(3, kLatent, kLatent + kRope)};
  std::ranges::fill(call.softmax_sum.span<float>(), static_cast<float>(kSparseKeys));
  double pairs = visible_pairs(plan);
  if (wanted.listed) {
    call.indices = random_lists(kLossRows, kSparseKeys - kLossRows, kSelected);
    pairs = static_cast<double>(kLossRows * kSelected);
  }
  const double widths = static_cast<double>(kMainHeads * (kLatent + kRope) + 3 * kIndexHeads * kIndexWidth);
  if (is_fast(state, call)) run_in_turns(state, threads, {.flops = 2 * widths * pairs}, [&] { run_call(call); });
}

// One, two, and all threads that there are.
std::set<int> thread_counts() { return {1, std::min(2, thread_count()), thread_count()}; }

template <class Run, class Case>
void add(const std::string& name, Run run, const Case& wanted) {
  for (int threads : thread_counts()) {
    benchmark::RegisterBenchmark(fmt::format("{}/threads:{}", name, threads).c_str(), [run, wanted,
                                                                                       threads](benchmark::State& state) {
      run(state, threads, wanted);
    })->Unit(benchmark::kMillisecond);
  }
}

void add_dense() {
  for (bool backward : {false, true}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (std::int64_t width : {64, 128}) {
        for (std::int64_t rows : {2048, 4096}) {
          for (const auto& [mask, name] :
               {std::pair{Mask::kFull, "full"}, {Mask::kCausal, "causal"}, {Mask::kDocuments, "documents"}}) {
            if (mask == Mask::kDocuments && (width != 128 || rows != 4096 || dtype == DType::kF16)) continue;
            add(fmt::format("{}/{}/D{}/S{}/{}", backward ? "backward" : "forward", to_string(dtype), width, rows, name),
                dense, DenseCase{backward, dtype, width, rows, mask});
          }
        }
      }
    }
  }
}

void add_decode() {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (std::int64_t width : {128, 96, 256}) {
      for (std::int64_t group : {1, 8}) {
        for (const auto& [layout, name] : {std::pair{CacheLayout::kRowsFirst, "bshd"},
                                           {CacheLayout::kHeadsFirst, "bhsd"},
                                           {CacheLayout::kPaged, "paged"}}) {
          if (width != 128 && (group != 1 || layout == CacheLayout::kPaged)) continue;
          add(fmt::format("decode/{}/D{}/S{}/G{}/{}", to_string(dtype), width, kDecodeKeys, group, name), decode,
              DecodeCase{dtype, width, group, layout});
        }
      }
    }
  }
}

void add_sparse() {
  for (bool backward : {false, true}) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (std::int64_t heads : {64, 128}) {
        add(fmt::format("sparse/{}/{}/H{}/D{}r{}/S{}/k{}", backward ? "backward" : "forward", to_string(dtype), heads,
                        kLatent, kRope, kSparseKeys, kSelected),
            sparse, SparseCase{backward, dtype, heads});
      }
    }
  }
}

void add_indexer() {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    add(fmt::format("indexer/{}/H{}/D{}/S{}/causal/k{}", to_string(dtype), kIndexHeads, kIndexWidth, kIndexRows,
                    kIndexCount),
        indexer, dtype);
    for (bool listed : {false, true}) {
      add(fmt::format("loss/{}/N{}D{}r{}/H{}D{}/S{}/{}", to_string(dtype), kMainHeads, kLatent, kRope, kIndexHeads,
                      kIndexWidth, kSparseKeys, listed ? fmt::format("k{}", kSelected) : "causal"),
          indexer_loss, LossCase{dtype, listed});
    }
  }
}

}  // namespace
}  // namespace tessera::benchmarks

int main(int argc, char** argv) {
  using namespace tessera::benchmarks;
  benchmark::AddCustomContext("instruction_set", std::string(instruction_set()));
  add_dense();
  add_decode();
  add_sparse();
  add_indexer();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
