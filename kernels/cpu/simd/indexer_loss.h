// The indexer's loss and its gradient for one query row: heads in lanes, first for what attention looks at, then for what
// the indexer thinks of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/simd/gradient.h"
#include "kernels/cpu/simd/heads.h"
#include "kernels/cpu/simd/indexer.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Natural logarithm of positive, normal numbers, to 1.2e-7 of its value or of 1: that of 2^e * (1 + x) with 1 + x between
/// sqrt(1/2) and sqrt(2), by the polynomial of Cephes' logf.
template <class Isa>
inline Floats<Isa> log_of(Floats<Isa> value) {
  using F = Floats<Isa>;
  using I = Ints<Isa>;
  const I bits = bits_as<I>(value);
  const I power = (bits - 0x3F3504F3) >> 23;
  const F e = __builtin_convertvector(power, F);
  const F x = bits_as<F>(bits - (power << 23)) - 1.0f;
  const F square = x * x;
  F sum = broadcast<F>(7.0376836292e-2f) * x - 1.1514610310e-1f;
  sum = sum * x + 1.1676998740e-1f;
  sum = sum * x - 1.2420140846e-1f;
  sum = sum * x + 1.4249322787e-1f;
  sum = sum * x - 1.6668057665e-1f;
  sum = sum * x + 2.0000714765e-1f;
  sum = sum * x - 2.4999993993e-1f;
  sum = sum * x + 3.3333331174e-1f;
  sum = sum * x * square - 2.12194440e-4f * e - 0.5f * square;
  return x + sum + 0.693359375f * e;
}

/// What the main attention makes of a block of places: its weights, added over heads.
template <class Isa, DType kType>
struct MainWeights {
  using Math = MathOf<Isa, kType>;

  const IndexerLossBlock& block;
  std::int64_t vectors;
  Panels<Isa, kType> queries[2];
  float* base;  ///< weight = exp2(score - base) * factor; lanes behind the last one have factor 0
  float* factor;
  float* products;
  float* key_scratch[2] = {};
  HeadSums<Isa> sums;

  MainWeights(Scratch& scratch, const IndexerLossBlock& of_block)
      : block(of_block),
        vectors(rounded_up(block.heads, Isa::kLanes) / Isa::kLanes),
        base(scratch.take<float>(vectors * Isa::kLanes)),
        factor(scratch.take<float>(vectors * Isa::kLanes)),
        products(scratch.take<float>(kKeyBlock * 3 * Isa::kLanes)),
        sums(scratch, 1, vectors * Isa::kLanes) {
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = block.keys.parts[part].width;
      if (width == 0) continue;
      queries[part] = Panels<Isa, kType>(scratch, block.heads, width, block.element_strides[part], [&](std::int64_t head) {
        return block.queries[part] + head * block.head_strides[part];
      });
      key_scratch[part] = scratch.take<float>(kKeyBlock * rounded_up(width, Isa::kLanes));
    }
    for (std::int64_t lane = 0; lane < vectors * Isa::kLanes; ++lane) {
      const std::int64_t head = std::min(lane, block.heads - 1);
      base[lane] = factor[lane] = 0;
      if (block.sum[head] == 0) continue;
      // The maximum is rounded on its way into the log2 domain; the factor takes up the difference.
      const double exact = static_cast<double>(block.max[head]) * 1.4426950408889634;
      base[lane] = static_cast<float>(exact);
      if (lane < block.heads)
        factor[lane] =
            static_cast<float>(std::exp2(static_cast<double>(base[lane]) - exact) / static_cast<double>(block.sum[head]));
    }
  }

  /// Sums of `count` places from `place` on.
  const float* of(std::int64_t place, std::int64_t count) {
    using F = Floats<Isa>;
    const float scale = block.scale * kLog2E;
    const std::int64_t rows = rounded_up(count, Isa::kTileRows);
    RowPointers keys[2];
    for (int part = 0; part < 2; ++part) {
      if (block.keys.parts[part].width > 0)
        keys[part] = rows_along_width<Isa, kType>(block.keys.parts[part], block.keys, place, count, key_scratch[part]);
    }
    for_each_group<Isa>(vectors, [&](std::int64_t vector, int own) {
      const std::int64_t columns = own * Isa::kLanes;
      multiply<Isa, Math, Along::kRows, false>(keys[0].rows, rows, queries[0].depth, queries[0].at(vector), columns,
                                               products, columns, own);
      if (block.keys.parts[1].width > 0)
        multiply<Isa, Math, Along::kRows, true>(keys[1].rows, rows, queries[1].depth, queries[1].at(vector), columns,
                                                products, columns, own);
      sums.add(
          vector, own, count, [&](std::int64_t j, int v) __attribute__((always_inline)) {
            const std::int64_t lane = (vector + v) * Isa::kLanes;
            return exp2<Isa>(load<F>(products + j * columns + v * Isa::kLanes) * scale - load<F>(base + lane)) *
                   load<F>(factor + lane);
          });
    });
    return sums.sums;
  }
};

/// Turns scores I and weights p, both padded to whole vectors with -inf and 0, into dI = y - p, in place of the scores.
/// @returns the row's loss
template <class Isa>
double diverge(std::int64_t count, const float* weights, float* scores) {
  using F = Floats<Isa>;
  constexpr float kFloor = 1e-8f;  // of both distributions, under the logarithm
  RunningStatistics<Isa> running;
  running.clear();
  for (std::int64_t j = 0; j < count; j += kKeyBlock) running.take(0, scores + j, std::min(kKeyBlock, count - j));
  const ScoreStatistics statistics = running.over_lanes();
  const float log_sum = static_cast<float>(std::log(static_cast<double>(statistics.sum)));
  const float share = statistics.sum == 0 ? 0.0f : 1.0f / statistics.sum;
  const F floor = broadcast<F>(kFloor);
  const F log_floor = broadcast<F>(-18.420680743952367f);
  double loss = 0;
  for (std::int64_t from = 0; from < count; from += kKeyBlock) {
    F sum{};
    for (std::int64_t j = from; j < std::min(from + kKeyBlock, count); j += Isa::kLanes) {
      const F score = load<F>(scores + j) - statistics.max;
      const F p = load<F>(weights + j);
      const F y = exp2<Isa>(score * kLog2E) * share;
      const F target = p < floor ? floor : p;
      sum = sum + target * (log_of<Isa>(target) - (y < floor ? log_floor : score - log_sum));
      store(scores + j, y - p);
    }
    float lanes[Isa::kLanes];
    store(lanes, sum);
    for (const float lane : lanes) loss += static_cast<double>(lane);
  }
  return loss;
}

/// Gradients of the products of one block of places, in the forms in which products take them: see `ScoreGradients`.
template <class Isa, DType kType>
struct ProductGradients {
  using Element = typename MathOf<Isa, kType>::Element;
  static constexpr bool kInPairs = MathOf<Isa, kType>::kDepth == 2;

  std::int64_t columns;
  std::uint16_t* halves = nullptr;  ///< [kKeyBlock][columns]
  std::uint32_t* pairs = nullptr;   ///< [kKeyBlock / 2][columns]

  ProductGradients(Scratch& scratch, std::int64_t column_count) : columns(column_count) {
    if constexpr (kInPairs) {
      halves = scratch.take<std::uint16_t>(kKeyBlock * columns);
      pairs = scratch.take<std::uint32_t>(kKeyBlock / 2 * columns);
    }
  }

  /// dA = dI w [a > 0] of `count` places from products [count][columns], which it may take the place of, and `grad_weights`
  /// += sum_j dI max(0, a).
  /// @returns B of the queries' gradient
  const Element* of(std::int64_t count, const float* grads, const float* weights, float* products, float* grad_weights) {
    using F = Floats<Isa>;
    for (std::int64_t lane = 0; lane < columns; lane += Isa::kLanes) {
      const F weight = load<F>(weights + lane);
      F sum{};
      F before{};
      for (std::int64_t j = 0; j < count; ++j) {
        float* at = products + j * columns + lane;
        const F product = load<F>(at);
        const F grad = broadcast<F>(grads[j]);
        sum = sum + grad * larger(F{}, product);
        const F own = grad * (product > 0.0f ? weight : F{});
        if constexpr (kInPairs) {
          store(halves + j * columns + lane, narrowed<Isa, DType::kBF16>(own));
          if (j % 2 == 1) store(pairs + j / 2 * columns + lane, paired<Isa>(before, own));
          else if (j + 1 == count) store(pairs + j / 2 * columns + lane, paired<Isa>(own, F{}));
          before = own;
        } else {
          store(at, own);
        }
      }
      store(grad_weights + lane, load<F>(grad_weights + lane) + sum);
    }
    if constexpr (kInPairs) return pairs;
    else return products;
  }

  /// The rows of dA: A of the keys' gradient.
  [[nodiscard]] RowPointers rows(std::int64_t count, const float* products) const {
    RowPointers result;
    for (std::int64_t j = 0; j < rounded_up(count, Isa::kTileRows); ++j) {
      const std::int64_t own = std::min(j, count - 1) * columns;
      if constexpr (kInPairs) result.rows[j] = halves + own;
      else result.rows[j] = products + own;
    }
    return result;
  }
};

template <class Isa, DType kType>
void index_loss(const IndexerLossBlock& block) {
  using F = Floats<Isa>;
  using Math = MathOf<Isa, kType>;
  constexpr std::int64_t kMostKept = std::int64_t{1} << 21;  // products of a row: 8 MiB
  const std::int64_t places = block.end - block.begin;
  const std::int64_t padded = rounded_up(places, kKeyBlock);
  const std::int64_t width = block.index_keys.width;
  const BlockKeys keys{.parts = {block.index_keys, {}}, .values = {}, .list = block.keys.list};

  Scratch scratch;
  LaneGroup<Isa> heads;  // all of them
  heads.count = block.index_heads;
  heads.vectors = static_cast<int>(rounded_up(block.index_heads, Isa::kLanes) / Isa::kLanes);
  const std::int64_t columns = heads.columns();
  const auto query = [&](std::int64_t head) { return block.index_query + head * block.index_head_stride; };
  const auto* queries = transposed_rows<Isa, kType>(scratch, heads, width, block.index_element_stride, false, query);
  const LaneRows<Isa, kType> query_rows(scratch, heads.count, width, block.index_element_stride, query);
  float* weights = scratch.take<float>(columns);
  std::fill_n(weights, columns, 0.0f);
  std::memcpy(weights, block.weights, static_cast<std::size_t>(block.index_heads) * sizeof(float));
  float* key_scratch = scratch.take<float>(kKeyBlock * rounded_up(width, Isa::kLanes));
  const bool kept = padded * columns <= kMostKept;
  float* products = scratch.take<float>((kept ? padded : kKeyBlock) * columns);
  const auto multiply_block = [&](std::int64_t done, std::int64_t count) {
    float* to = products + (kept ? done * columns : 0);
    const RowPointers rows = rows_along_width<Isa, kType>(block.index_keys, keys, block.begin + done, count, key_scratch);
    for_each_group<Isa>(heads.vectors, [&](std::int64_t vector, int own) {
      const std::int64_t lane = vector * Isa::kLanes;
      multiply<Isa, Math, Along::kRows, false>(rows.rows, rounded_up(count, Isa::kTileRows),
                                               rounded_up(width, Math::kDepth) / Math::kDepth, queries + lane, columns,
                                               to + lane, columns, own);
    });
    return to;
  };

  float* attended = scratch.take<float>(padded);
  float* scores = scratch.take<float>(padded);  // then their gradients
  std::fill_n(attended, padded, 0.0f);
  std::fill_n(scores, padded, -__builtin_inff());
  MainWeights<Isa, kType> main(scratch, block);
  HeadSums<Isa> sums(scratch, 1, columns);
  const float share = 1.0f / static_cast<float>(block.heads);
  for (std::int64_t done = 0; done < places; done += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, places - done);
    const std::int64_t next = block.begin + done + count;
    const std::int64_t after_next = std::min(next + kKeyBlock, block.end);
    for (const KeyRows& part : block.keys.parts) prefetch_rows<Isa, kType>(part, keys, next, after_next);
    prefetch_rows<Isa, kType>(block.index_keys, keys, next, after_next);
    const float* of_main = main.of(block.begin + done, count);
    for (std::int64_t j = 0; j < count; ++j) attended[done + j] = of_main[j] * share;
    const float* own = multiply_block(done, count);
    for_each_group<Isa>(heads.vectors, [&](std::int64_t vector, int taken) {
      sums.add(
          vector, taken, count, [&](std::int64_t j, int v) __attribute__((always_inline)) {
            const std::int64_t lane = (vector + v) * Isa::kLanes;
            return load<F>(weights + lane) * larger(F{}, load<F>(own + j * columns + lane));
          });
    });
    std::memcpy(scores + done, sums.sums, static_cast<std::size_t>(count) * sizeof(float));
  }
  *block.loss += diverge<Isa>(places, attended, scores);

  ProductGradients<Isa, kType> gradients(scratch, columns);
  const std::int64_t numbers = rounded_up(width, Isa::kTileRows) * columns;
  float* grad_queries = scratch.take<float>(numbers);
  std::fill_n(grad_queries, numbers, 0.0f);
  float* grad_weights = scratch.take<float>(columns);
  std::fill_n(grad_weights, columns, 0.0f);
  float* across_scratch = scratch.take<float>(kKeyBlock * rounded_up(width, Isa::kLanes));
  for (std::int64_t done = 0; done < places; done += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, places - done);
    const std::int64_t next = block.begin + done + count;
    const std::int64_t after_next = std::min(next + kKeyBlock, block.end);
    prefetch_rows<Isa, kType>(block.index_keys, keys, next, after_next);
    float* own = kept ? products + done * columns : multiply_block(done, count);
    const auto* of_products = gradients.of(count, scores + done, weights, own, grad_weights);
    add_to_keys<Isa, kType>(gradients.rows(count, own), query_rows, {0, columns}, keys, block.begin + done, count,
                            block.grad_keys);
    const RowPointers across = rows_across<Isa, kType>(block.index_keys, keys, block.begin + done, count, across_scratch);
    for_each_group<Isa>(heads.vectors, [&](std::int64_t vector, int taken) {
      const std::int64_t lane = vector * Isa::kLanes;
      multiply<Isa, Math, Along::kColumns, true>(across.rows, rounded_up(width, Isa::kTileRows),
                                                 rounded_up(count, Math::kDepth) / Math::kDepth, of_products + lane,
                                                 columns, grad_queries + lane, columns, taken);
    });
  }
  std::memcpy(block.grad_weights, grad_weights, static_cast<std::size_t>(block.index_heads) * sizeof(float));
  float* ones = scratch.take<float>(columns);
  std::fill_n(ones, columns, 1.0f);
  write_lanes<Isa>(grad_queries, width, heads, ones, block.gradient_dtype, 1,
                   [&](std::int64_t head) { return block.grad_query + head * width * size_of(block.gradient_dtype); });
}

}  // namespace tessera::kernels::cpu
