// The few query rows of heads, and what they gather while turns of keys go by: products become weights, running maxima and
// sums. How turns follow one another is told in few.h.
//
// Scores are [tokens][rows], rows a power of two, so that one vector holds the scores of kLanes / rows tokens.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_keys.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/few_values.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Some tokens, and where their keys and values lie: those of the group whose turn it is, one group after the other.
struct TurnOfKeys {
  std::int64_t first = 0;
  std::int64_t count = 0;
  RowsInTurn rows[kOperands];
  const std::byte** in_order[kOperands] = {};  ///< [tokens][groups], if memory is asked for in its order
};

/// The rows of kHeads heads that lie side by side, and what they have gathered. A head has kRowsOfHead rows, of which the last
/// may be repeats; several heads are streams. Arrays hold one number for each row, repeated for each token of a
/// vector of scores.
template <class Isa, DType kType, int kHeads, int kRowsOfHead>
struct FewRows {
  using F = Floats<Isa>;
  using I = Ints<Isa>;
  using Keys = KeyLanes<Isa, kType, kRowsOfHead>;
  static constexpr int kRows = kHeads * kRowsOfHead;   // a power of two
  static constexpr int kTokens = Isa::kLanes / kRows;  // of a vector of scores

  std::span<const AttentionBlock* const> heads;  ///< kHeads
  const typename Keys::Lanes* queries[2] = {};   ///< [kHeads], as `KeyLanes` packs them
  float* out = nullptr;                          ///< [kRows][value_stride], not divided by the sum
  std::int64_t value_stride = 0;
  std::int64_t begin = INT64_MAX;  ///< places that some row sees
  std::int64_t end = 0;
  std::int64_t all_begin = 0;  ///< places that all rows see
  std::int64_t all_end = INT64_MAX;
  std::int32_t tokens[Isa::kLanes];  ///< of a vector of scores: each lane's
  std::int32_t begins[Isa::kLanes];
  std::int32_t ends[Isa::kLanes];
  float max[Isa::kLanes];
  float base[Isa::kLanes];
  float sum[Isa::kLanes];

  /// What the heads have in common.
  [[nodiscard]] const AttentionBlock& block() const { return *heads[0]; }
  [[nodiscard]] const QueryLane& lane(std::int64_t row) const {
    const auto r = static_cast<std::size_t>(row);
    const AttentionBlock& head = *heads[r / kRowsOfHead];
    return head.lanes[std::min(r % kRowsOfHead, head.lanes.size() - 1)];
  }

  void prepare(Scratch& scratch, std::span<const AttentionBlock* const> of) {
    heads = of;
    value_stride = rounded_up(block().keys.values.width, Isa::kLanes);
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = block().keys.parts[part].width;
      const std::int64_t vectors = Keys::kVectors * Keys::vectors(width) * Keys::kGroups;
      auto* packed = scratch.take<typename Keys::Lanes>(kHeads * vectors);
      for (int row = 0; row < kRows; ++row)
        Keys::pack(lane(row).parts[part], block().element_strides[part], width, block().scale < 0, row % kRowsOfHead,
                   packed + row / kRowsOfHead * vectors);
      queries[part] = packed;
    }
    out = scratch.take<float>(kRows * value_stride);
    std::fill_n(out, kRows * value_stride, 0.0f);
    for (int c = 0; c < Isa::kLanes; ++c) {
      const QueryLane& own = lane(c % kRows);
      max[c] = base[c] = -__builtin_inff();
      sum[c] = 0;
      tokens[c] = c / kRows;
      begins[c] = static_cast<std::int32_t>(own.begin);
      ends[c] = static_cast<std::int32_t>(own.end);
      begin = std::min(begin, own.begin);
      end = std::max(end, own.end);
      all_begin = std::max(all_begin, own.begin);
      all_end = std::min(all_end, own.end);
    }
  }

  /// Products of the keys of a turn and their rows' queries [tokens][kRows], not scaled.
  /// @param first, second requests for the keys' two parts
  [[gnu::noinline]] void multiply(const TurnOfKeys& turn, Requests<Isa> first, Requests<Isa> second, float* scores) const
      requires(kHeads == 1) {
    constexpr int kTogether = Keys::kTogether;
    constexpr int kVectors = Keys::kVectors;
    constexpr int kStep = std::max(kTokens, kTogether);  // keys: whole vectors of scores
    for (std::int64_t t = 0; t < turn.count; t += kStep) {
      F sums[std::size_t{kStep / kTokens}][std::size_t{kTokens} * std::size_t{kVectors}];
#pragma GCC unroll 16
      for (int i = 0; i < kStep; i += kTogether) {
        F own[std::size_t{kTogether} * std::size_t{kVectors}] = {};
        for (int part = 0; part < 2; ++part) {
          const KeyRows& keys = block().keys.parts[part];
          if (keys.width > 0)
            multiply_keys<Isa, kType, kRows, kTogether>(turn.rows[part] + t + i, keys.width, keys.element_stride,
                                                        queries[part], (part == 0 ? first : second).from(t + i), own);
        }
#pragma GCC unroll 16
        for (int c = 0; c < kTogether * kVectors; ++c) {
          const int key = i + c / kVectors;
          sums[key / kTokens][key % kTokens * kVectors + c % kVectors] = own[c];
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < kStep / kTokens; ++v) store(scores + (t + v * kTokens) * kRows, Keys::sums_across_lanes(sums[v]));
    }
  }

  /// Of products, into the log2 domain; queries took its sign.
  [[nodiscard]] float scale() const { return std::abs(block().scale) * kLog2E; }

  /// Whether all rows see all tokens of a turn, and no mask is added.
  [[nodiscard]] bool is_plain(const TurnOfKeys& turn) const {
    return lane(0).mask == nullptr && turn.first >= all_begin && turn.first + turn.count <= all_end &&
           turn.count % kTokens == 0;
  }

  /// Products become scores, in the log2 domain, masked. @returns the largest of each lane
  F mask(const TurnOfKeys& turn, float* scores) const {
    const F factor = broadcast<F>(scale());
    const F hidden = broadcast<F>(-__builtin_inff());
    const std::int64_t to = turn.first + turn.count;
    I place = load<I>(tokens) + static_cast<std::int32_t>(turn.first);
    F most = hidden;
    for (std::int64_t t = 0; t < turn.count; t += kTokens) {
      F score = load<F>(scores + t * kRows) * factor;
      if (lane(0).mask != nullptr) {
        float added[Isa::kLanes];
        for (int c = 0; c < Isa::kLanes; ++c) {
          const std::int64_t own = std::min(turn.first + t + c / kRows, to - 1);
          added[c] = lane(c % kRows).mask[own * block().mask_stride];
        }
        score = score + load<F>(added) * kLog2E;
      }
      score = place < load<I>(begins) ? hidden : score;
      score = place >= load<I>(ends) ? hidden : score;
      score = place >= broadcast<I>(static_cast<std::int32_t>(to)) ? hidden : score;  // repeats of the last token
      most = larger(score, most);
      store(scores + t * kRows, score);
      place = place + kTokens;
    }
    return most;
  }

  /// Raises the running maxima to `most`, and scales what was gathered where a base moved.
  void raise(F most) {
    most = largest_across<Isa, kRows>(larger(most, load<F>(max)));
    store(max, most);
    const F before = load<F>(base);
    const F after = most > before + kSlack ? most : before;
    if (!any<Isa>(bits_as<I>(before != after))) return;
    store(base, after);
    const F factor = exp2<Isa>(before - finite_base());
    float shrink[Isa::kLanes];
    store(shrink, factor);
    store(sum, load<F>(sum) * factor);
    for (int r = 0; r < kRows; ++r) {
      for (std::int64_t e = 0; e < value_stride; e += Isa::kLanes)
        store(out + r * value_stride + e, load<F>(out + r * value_stride + e) * shrink[r]);
    }
  }

  /// Lanes that have seen nothing have the base -inf: their weights exp2(-inf - 0) are 0.
  [[nodiscard]] F finite_base() const {
    const F own = load<F>(base);
    return own == -__builtin_inff() ? F{} : own;
  }

  /// Takes the keys of a turn in: products [tokens][kRows], whole vectors of them, become weights.
  void weigh(const TurnOfKeys& turn, float* weights) {
    const bool plain = is_plain(turn);
    raise(plain ? largest<Isa>(weights, Isa::kLanes, turn.count / kTokens) * scale() : mask(turn, weights));
    const F finite = finite_base();
    const F rest = broadcast<F>(plain ? scale() : 1.0f);
    F total{};
    for (std::int64_t t = 0; t < turn.count; t += kTokens) {
      const F weight = exp2<Isa>(load<F>(weights + t * kRows) * rest - finite);
      total = total + weight;
      store(weights + t * kRows, weight);
    }
    store(sum, load<F>(sum) + total);  // added up over a row's lanes at the end
    const LaneDropout& dropout = block().dropout;
    if (dropout.threshold > 0) {
      for (std::int64_t t = 0; t < turn.count; ++t) {
        for (int r = 0; r < kRows; ++r) weights[t * kRows + r] *= dropout_factor(dropout, lane(r), turn.first + t);
      }
    }
  }

  /// Adds the values of a turn.
  void add(const TurnOfKeys& turn, const float* weights, Requests<Isa> requests) requires(kHeads == 1) {
    add_values_of_few<Isa, kType, kRows>(block().keys.values, {turn.rows[kValues], turn.count}, weights, out, requests);
  }

  void finish() const {
    const KeyRows& values = block().keys.values;
    const std::int64_t split = split_width<Isa, kType>(values);
    for (std::int64_t row = 0; row < kRows; ++row) {
      if (row % kRowsOfHead >= std::ssize(block().lanes)) continue;  // a repeat
      float total = 0;
      for (std::int64_t c = row; c < Isa::kLanes; c += kRows) total += sum[c];
      write_statistics(lane(row), max[row], base[row], total);
      if (!block().write_out) continue;
      const float* from = out + row * value_stride;
      const F factor = broadcast<F>(total == 0 ? 0.0f : 1.0f / total);
      const auto write = [&](std::int64_t e, F own) __attribute__((always_inline)) {
        auto* to = const_cast<std::byte*>(lane(row).out) + e * block().out_stride * size_of(block().out_dtype);
        store_elements<Isa>(block().out_dtype, to, block().out_stride, values.width - e, own * factor);
      };
      std::int64_t e = 0;
      for (; e < split; e += 2 * Isa::kLanes) {
        const auto [low, high] = zipped<Isa>(load<F>(from + e), load<F>(from + e + Isa::kLanes));
        write(e, low);
        write(e + Isa::kLanes, high);
      }
      for (; e < values.width; e += Isa::kLanes) write(e, load<F>(from + e));
    }
  }
};

}  // namespace tessera::kernels::cpu
