// The lightning indexer's scores of one block of rows, block of keys by block of keys, and the statistics of their softmax.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/simd/heads.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Calls `take(row, place, scores, count)` for each row and block of keys of which it sees some, in order: `scores` are
/// those of the `count` places from `place` on, all of them in one stretch of kKeyBlock that begins at a multiple of
/// kKeyBlock.
template <class Isa, DType kType, class Take>
void score_rows(Scratch& scratch, const IndexerBlock& block, Take take) {
  using F = Floats<Isa>;
  using Math = MathOf<Isa, kType>;
  const auto rows = static_cast<std::int64_t>(block.rows.size());
  const std::int64_t heads = block.heads;
  const std::int64_t lanes = rows * heads;
  const std::int64_t vectors = rounded_up(lanes, Isa::kLanes) / Isa::kLanes;
  const auto row = [&](std::int64_t r) -> const IndexerRow& { return block.rows[static_cast<std::size_t>(r)]; };

  const KeyRows& keys = block.keys.parts[0];
  const Panels<Isa, kType> queries(scratch, lanes, keys.width, block.element_stride, [&](std::int64_t lane) {
    return row(lane / heads).query + lane % heads * block.head_stride;
  });
  float* weights = scratch.take<float>(vectors * Isa::kLanes);
  std::fill_n(weights, vectors * Isa::kLanes, 0.0f);
  for (std::int64_t lane = 0; lane < lanes; ++lane) weights[lane] = row(lane / heads).weights[lane % heads];
  HeadSums<Isa> sums(scratch, rows, heads);
  float* products = scratch.take<float>(kKeyBlock * 3 * Isa::kLanes);
  float* key_scratch = scratch.take<float>(kKeyBlock * rounded_up(keys.width, Isa::kLanes));

  std::int64_t begin = INT64_MAX;
  std::int64_t end = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (row(r).begin >= row(r).end) continue;
    begin = std::min(begin, row(r).begin);
    end = std::max(end, row(r).end);
  }
  for (std::int64_t base = begin - begin % kKeyBlock; base < end; base += kKeyBlock) {
    const std::int64_t from = std::max(base, begin);
    const std::int64_t to = std::min(end, base + kKeyBlock);
    const RowPointers key_rows = rows_along_width<Isa, kType>(keys, block.keys, from, to - from, key_scratch);
    prefetch_rows<Isa, kType>(keys, block.keys, to, std::min(to + kKeyBlock, end));
    for_each_group<Isa>(vectors, [&](std::int64_t vector, int count) {
      const std::int64_t first = vector * Isa::kLanes;
      const std::int64_t columns = count * Isa::kLanes;
      std::int64_t least = to;
      std::int64_t most = from;
      for (std::int64_t r = first / heads; r <= (std::min(first + columns, lanes) - 1) / heads; ++r) {
        least = std::min(least, row(r).begin);
        most = std::max(most, row(r).end);
      }
      most = std::min(most, to);
      if (least >= most) return;
      multiply<Isa, Math, Along::kRows, false>(key_rows.rows, rounded_up(most - from, Isa::kTileRows), queries.depth,
                                               queries.at(vector), columns, products, columns, count);
      sums.add(
          vector, count, most - from, [&](std::int64_t j, int v) __attribute__((always_inline)) {
            return load<F>(weights + first + v * Isa::kLanes) *
                   larger(F{}, load<F>(products + j * columns + v * Isa::kLanes));
          });
    });
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t own = std::max(row(r).begin, from);
      const std::int64_t count = std::min(row(r).end, to) - own;
      if (count > 0) take(r, own, sums.sums + r * kKeyBlock + (own - from), count);
    }
  }
}

template <class Isa, DType kType>
void index_scores(const IndexerBlock& block) {
  Scratch scratch;
  score_rows<Isa, kType>(scratch, block,
                         [&](std::int64_t row, std::int64_t place, const float* scores, std::int64_t count) {
                           block.take.call(block.take.taker, row, place, scores, count);
                         });
}

/// Maximum and sum of exp(score - max) of a row's scores, by lane. A score's lane goes by its place alone.
template <class Isa>
struct RunningStatistics {
  float max[Isa::kLanes];
  float sum[Isa::kLanes];
  std::int32_t unordered[Isa::kLanes];  ///< -1 where a score was NaN

  void clear() {
    for (int i = 0; i < Isa::kLanes; ++i) {
      max[i] = -__builtin_inff();
      sum[i] = 0;
      unordered[i] = 0;
    }
  }

  /// Takes up to kKeyBlock scores of places that lie between two multiples of kKeyBlock.
  void take(std::int64_t place, const float* scores, std::int64_t count) {
    using F = Floats<Isa>;
    float padded[kKeyBlock];
    for (float& score : padded) score = -__builtin_inff();
    std::memcpy(padded + place % kKeyBlock, scores, static_cast<std::size_t>(count) * sizeof(float));
    const F before = load<F>(max);
    F most = before;
    Ints<Isa> not_numbers = load<Ints<Isa>>(unordered);
    for (std::int64_t j = 0; j < kKeyBlock; j += Isa::kLanes) {
      const F score = load<F>(padded + j);
      most = larger(score, most);
      not_numbers |= bits_as<Ints<Isa>>(score != score);  // NOLINT(misc-redundant-expression): NaN
    }
    const F finite = most == -__builtin_inff() ? F{} : most;
    F total = load<F>(sum) * exp2<Isa>((before - finite) * kLog2E);
    for (std::int64_t j = 0; j < kKeyBlock; j += Isa::kLanes)
      total = total + exp2<Isa>((load<F>(padded + j) - finite) * kLog2E);
    store(max, most);
    store(sum, total);
    store(unordered, not_numbers);
  }

  [[nodiscard]] ScoreStatistics over_lanes() const {
    ScoreStatistics lanes[Isa::kLanes];
    for (int i = 0; i < Isa::kLanes; ++i) lanes[i] = {unordered[i] == 0 ? max[i] : __builtin_nanf(""), sum[i]};
    return merged(lanes, Isa::kLanes);
  }
};

template <class Isa, DType kType>
void index_statistics(const IndexerBlock& block) {
  Scratch scratch;
  const auto rows = static_cast<std::int64_t>(block.rows.size());
  auto* running = scratch.take<RunningStatistics<Isa>>(rows);
  for (std::int64_t r = 0; r < rows; ++r) running[r].clear();
  score_rows<Isa, kType>(scratch, block,
                         [&](std::int64_t row, std::int64_t place, const float* scores, std::int64_t count) {
                           running[row].take(place, scores, count);
                         });
  for (std::int64_t r = 0; r < rows; ++r) block.statistics[static_cast<std::size_t>(r)] = running[r].over_lanes();
}

}  // namespace tessera::kernels::cpu
