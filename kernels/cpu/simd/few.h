// Attention of few query rows, as in decoding: the elements of a key lie in lanes, and each key and value is read once for
// all rows.
//
// So few rows are bound by memory, and what counts is how many reads are under way at once. Each vector of a key or value
// is asked for twice: into the second cache while what comes before it is multiplied (values while keys are, the next keys
// while values are), and into the first one `kNearKeys` rows ahead, so that no read waits for the second cache. Key heads
// that lie side by side take turns, so that memory is read in its order. Scores are [positions][rows], rows a power of two,
// so that one vector holds the scores of kLanes / rows keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Keys that are read before their values are: few, so that both keep streaming.
inline constexpr std::int64_t kFewKeys = 32;

/// A row is asked for into the first cache when the one so many before it is read.
inline constexpr std::int64_t kNearKeys = 8;

/// Rows in the order in which they are read: those of some keys, the last one repeated so that whole vectors of keys can be
/// read, and behind them the first ones of what is read next.
using RowsInTurn = const std::byte * [kFewKeys + kNearKeys];

/// Where the rows of some keys lie.
struct KeyAddresses {
  std::int64_t first;
  std::int64_t count;
  RowsInTurn keys[2];
  RowsInTurn values;
};

/// `next` is read after `rows`.
template <class Isa>
void follow(RowsInTurn& rows, const RowsInTurn& next) {
  std::copy_n(next, kNearKeys, rows + kFewKeys);
}

/// What follows the values remains to be said.
/// @param count at least 1
template <class Isa>
void find_keys(const BlockKeys& block, std::int64_t first, std::int64_t count, KeyAddresses& found) {
  found.first = first;
  found.count = count;
  const auto find = [&](const KeyRows& keys, const std::byte** rows) {
    find_rows<Isa>(keys, block, first, count, rows);
    repeat_last<Isa>(rows, count, kFewKeys);
  };
  for (int part = 0; part < 2; ++part) {
    if (block.parts[part].width > 0) find(block.parts[part], found.keys[part]);
  }
  find(block.values, found.values);
  for (RowsInTurn& keys : found.keys) follow<Isa>(keys, found.values);
}

/// A vector of an operand's row, as few rows multiply it. bf16 is read in words of two elements: dot products take them as
/// they are; without those, even and odd elements become floats: the upper half of a word moved up, and the word without its
/// lower half.
template <class Isa, DType kType>
struct FewMath {
  static constexpr bool kSplit = kType == DType::kBF16 && !Isa::kPairs;
  static constexpr int kDepth = kType == DType::kBF16 ? 2 : 1;  ///< elements in a lane
  struct Lanes {
    Floats<Isa> numbers[kSplit ? 2 : 1];
  };
  static Lanes lanes(Words<Isa> words) {
    if constexpr (kSplit) return {{even(words), odd(words)}};
    else return {{bits_as<Floats<Isa>>(words)}};
  }
  static Floats<Isa> even(Words<Isa> words) { return bits_as<Floats<Isa>>(words << 16); }
  static Floats<Isa> odd(Words<Isa> words) { return bits_as<Floats<Isa>>(words & 0xFFFF0000u); }
  static Floats<Isa> multiply_add(Floats<Isa> sum, const Lanes& a, const Lanes& b) {
    if constexpr (kSplit) return sum + a.numbers[0] * b.numbers[0] + a.numbers[1] * b.numbers[1];
    else if constexpr (kDepth == 2)
      return Isa::dot(sum, bits_as<Words<Isa>>(a.numbers[0]), bits_as<Words<Isa>>(b.numbers[0]));
    else return sum + a.numbers[0] * b.numbers[0];
  }
};

/// Asks for a vector of a row that is read `kNearKeys` rows later, and for one that is read much later.
template <class Isa>
inline void ask(const std::byte* near, const std::byte* far) {
  __builtin_prefetch(near, 0, 3);
  __builtin_prefetch(far, 0, 2);
}

/// Adds the products of `kKeys` keys with each row's queries [kRows][vectors of the part], vector by vector, to sums
/// [kKeys][kRows]. With each vector of a key it asks for the one at the same place of a later key and of `ahead[key]`:
/// requests for memory then flow evenly beside the arithmetic.
/// @param keys some of `RowsInTurn`
template <class Isa, DType kType, int kRows, int kKeys>
inline void multiply_keys(const std::byte* const* keys, const std::byte* const* ahead, std::int64_t width,
                          std::int64_t element_stride, const typename FewMath<Isa, kType>::Lanes* queries,
                          Floats<Isa> (&sums)[std::size_t{kKeys} * std::size_t{kRows}]) {
  using Math = FewMath<Isa, kType>;
  constexpr std::int64_t kWidth = Math::kDepth * Isa::kLanes;  // elements of a vector
  constexpr std::int64_t kBytes = kWidth * std::int64_t{sizeof(Bits<kType>)};
  const std::int64_t vectors = rounded_up(width, kWidth) / kWidth;
  const std::int64_t whole = element_stride == 1 ? width / kWidth : 0;
  const auto multiply = [&](std::int64_t v, auto words_of) __attribute__((always_inline)) {
    typename Math::Lanes own[std::size_t{kKeys}];
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) own[i] = Math::lanes(words_of(i));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename Math::Lanes query = queries[r * vectors + v];
#pragma GCC unroll 8
      for (int i = 0; i < kKeys; ++i) sums[i * kRows + r] = Math::multiply_add(sums[i * kRows + r], own[i], query);
    }
  };
  for (std::int64_t v = 0; v < whole; ++v) {
    multiply(
        v, [&](int i) __attribute__((always_inline)) {
          const std::byte* at = keys[i] + v * kBytes;
          ask<Isa>(keys[i + kNearKeys] + v * kBytes, ahead[i] + v * kBytes);
          if constexpr (Math::kDepth == 2) return load<Words<Isa>>(at);
          else return bits_as<Words<Isa>>(load_elements<Isa, kType>(at, 1, Isa::kLanes));
        });
  }
  for (std::int64_t v = whole; v < vectors; ++v) {
    multiply(
        v, [&](int i) __attribute__((always_inline)) {
          return row_words<Isa, kType, Math::kDepth>(keys[i], element_stride, v * kWidth, width);
        });
  }
}

/// Rows of values that a tile of `add_values_tile` reads.
struct ValueRows {
  const std::byte* const* rows = nullptr;   ///< `RowsInTurn`
  const std::byte* const* ahead = nullptr;  ///< asked for meanwhile, at the same places
  std::int64_t count = 0;
  std::int64_t element_stride = 1;
};

/// out [kRows][row_stride] += weights^T rows of values, of which each row's begin at byte `offset`: `kVectors` whole
/// vectors of them. Vectors of bf16 come in twos, the even elements of both in the first.
template <class Isa, DType kType, int kRows, int kVectors>
[[gnu::noinline]] void add_values_tile(const ValueRows& values, std::int64_t offset, const float* weights, float* out,
                                       std::int64_t row_stride) {
  using F = Floats<Isa>;
  constexpr bool kSplit = kType == DType::kBF16;
  constexpr int kTogether = kSplit ? 2 : 1;
  constexpr std::int64_t kBytes = std::int64_t{kTogether} * Isa::kLanes * static_cast<std::int64_t>(sizeof(Bits<kType>));
  static_assert(kVectors % kTogether == 0);
  F sums[std::size_t{kRows}][std::size_t{kVectors}] = {};
  for (std::int64_t j = 0; j < values.count; ++j) {
    const std::byte* row = values.rows[j] + offset;
    const std::byte* near = values.rows[j + kNearKeys] + offset;
    const std::byte* far = values.ahead[j] + offset;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v += kTogether) {
      const std::byte* at = row + v / kTogether * kBytes;
      ask<Isa>(near + v / kTogether * kBytes, far + v / kTogether * kBytes);
      F value[2];
      if constexpr (kSplit) {
        const auto words = load<Words<Isa>>(at);
        value[0] = FewMath<Isa, kType>::even(words);
        value[1] = FewMath<Isa, kType>::odd(words);
      } else {
        value[0] = load_elements<Isa, kType>(at, 1, Isa::kLanes);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const F weight = broadcast<F>(weights[j * kRows + r]);
#pragma GCC unroll 2
        for (int i = 0; i < kTogether; ++i) sums[r][v + i] = sums[r][v + i] + weight * value[i];
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* at = out + r * row_stride + v * Isa::kLanes;
      store(at, load<F>(at) + sums[r][v]);
    }
  }
}

/// The same for `width` elements, one vector at most, in their order, wherever they lie.
template <class Isa, DType kType, int kRows>
[[gnu::noinline]] void add_value_elements(const ValueRows& values, std::int64_t offset, std::int64_t width,
                                          const float* weights, float* out, std::int64_t row_stride) {
  using F = Floats<Isa>;
  F sums[std::size_t{kRows}] = {};
  for (std::int64_t j = 0; j < values.count; ++j) {
    const F value = load_elements<Isa, kType>(values.rows[j] + offset, values.element_stride, width);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = sums[r] + broadcast<F>(weights[j * kRows + r]) * value;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) store(out + r * row_stride, load<F>(out + r * row_stride) + sums[r]);
}

/// Elements of a value that `add_values_of_few` leaves split: the first so many, in groups of two vectors, even ones first.
template <class Isa, DType kType>
std::int64_t split_width(const KeyRows& values) {
  constexpr std::int64_t kGroup = 2 * Isa::kLanes;
  return kType == DType::kBF16 && values.element_stride == 1 ? values.width / kGroup * kGroup : 0;
}

/// out [kRows][width] += weights^T values.
template <class Isa, DType kType, int kRows>
void add_values_of_few(const KeyRows& keys, const ValueRows& values, const float* weights, float* out) {
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  // As many sums as there are registers for; of bf16 in twos.
  constexpr int kMost = kRows > 2 ? Isa::kTileRows * 3 / kRows : 8;
  constexpr int kVectors = kType == DType::kBF16 ? kMost / 2 * 2 : kMost;
  const std::int64_t row_stride = rounded_up(keys.width, Isa::kLanes);
  for (std::int64_t e = 0; e < keys.width;) {
    const std::int64_t left = keys.width - e;
    const std::int64_t offset = e * keys.element_stride * kBytes;
    if (keys.element_stride == 1 && left >= kVectors * Isa::kLanes && kVectors > 2) {
      add_values_tile<Isa, kType, kRows, kVectors>(values, offset, weights, out + e, row_stride);
      e += kVectors * Isa::kLanes;
    } else if (keys.element_stride == 1 && left >= 2 * Isa::kLanes) {
      add_values_tile<Isa, kType, kRows, 2>(values, offset, weights, out + e, row_stride);
      e += 2 * Isa::kLanes;
    } else {
      add_value_elements<Isa, kType, kRows>(values, offset, left, weights, out + e, row_stride);
      e += Isa::kLanes;
    }
  }
}

/// The rows of one block, and what they have gathered. Arrays hold one number for each row, repeated for each key of a vector.
template <class Isa, DType kType, int kRows>
struct FewRows {
  using F = Floats<Isa>;
  using I = Ints<Isa>;
  using Math = FewMath<Isa, kType>;
  static constexpr int kKeys = Isa::kLanes / kRows;  // of a vector of scores

  const AttentionBlock* block = nullptr;
  const typename Math::Lanes* queries[2] = {};  ///< [kRows][vectors of the part]
  float* out = nullptr;                         ///< [kRows][value_stride], not divided by the sum
  std::int64_t value_stride = 0;
  std::int64_t begin = INT64_MAX;  ///< places that some row sees
  std::int64_t end = 0;
  std::int32_t begins[Isa::kLanes];
  std::int32_t ends[Isa::kLanes];
  float max[Isa::kLanes];
  float base[Isa::kLanes];
  float sum[Isa::kLanes];

  [[nodiscard]] const QueryLane& lane(std::int64_t r) const {
    return block->lanes[std::min(static_cast<std::size_t>(r), block->lanes.size() - 1)];
  }

  void prepare(Scratch& scratch, const AttentionBlock& of) {
    block = &of;
    value_stride = rounded_up(of.keys.values.width, Isa::kLanes);
    for (int part = 0; part < 2; ++part) {
      const std::int64_t width = of.keys.parts[part].width;
      constexpr std::int64_t kWidth = Math::kDepth * Isa::kLanes;
      const std::int64_t vectors = rounded_up(width, kWidth) / kWidth;
      auto* packed = scratch.take<typename Math::Lanes>(kRows * vectors);
      for (std::int64_t i = 0; i < kRows * vectors; ++i)
        packed[i] = Math::lanes(row_words<Isa, kType, Math::kDepth>(lane(i / vectors).parts[part], of.element_strides[part],
                                                                    i % vectors * kWidth, width));
      queries[part] = packed;
    }
    out = scratch.take<float>(kRows * value_stride);
    std::fill_n(out, kRows * value_stride, 0.0f);
    for (int c = 0; c < Isa::kLanes; ++c) {
      const QueryLane& own = lane(c % kRows);
      max[c] = base[c] = -__builtin_inff();
      sum[c] = 0;
      begins[c] = static_cast<std::int32_t>(own.begin);
      ends[c] = static_cast<std::int32_t>(own.end);
      begin = std::min(begin, own.begin);
      end = std::max(end, own.end);
    }
  }

  /// Scores [positions][kRows] of some keys, in the log2 domain, masked. @returns the largest of each lane
  F score(const KeyAddresses& found, float* scores) const {
    constexpr int kTogether = std::min(kKeys, kRows > 4 ? 2 : 4);  // keys that are multiplied together: at most 16 sums
    const BlockKeys& keys = block->keys;
    const F scale = broadcast<F>(block->scale * kLog2E);
    const F hidden = broadcast<F>(-__builtin_inff());
    const std::int64_t to = found.first + found.count;
    std::int32_t places[Isa::kLanes];
    for (int c = 0; c < Isa::kLanes; ++c) places[c] = static_cast<std::int32_t>(found.first) + c / kRows;
    I place = load<I>(places);
    F most = hidden;
    for (std::int64_t j = 0; j < found.count; j += kKeys) {
      F sums[std::size_t{Isa::kLanes}];
      for (int i = 0; i < kKeys; i += kTogether) {
        F own[std::size_t{kTogether} * std::size_t{kRows}] = {};
        for (int part = 0; part < 2; ++part) {
          if (keys.parts[part].width > 0)
            multiply_keys<Isa, kType, kRows, kTogether>(
                found.keys[part] + j + i, (part == 0 ? found.values : found.keys[1]) + j + i, keys.parts[part].width,
                keys.parts[part].element_stride, queries[part], own);
        }
#pragma GCC unroll 16
        for (int c = 0; c < kTogether * kRows; ++c) sums[i * kRows + c] = own[c];
      }
      F score = sums_across<Isa>(sums) * scale;
      if (lane(0).mask != nullptr) {
        float added[Isa::kLanes];
        for (int c = 0; c < Isa::kLanes; ++c) {
          const std::int64_t own = std::min(found.first + j + c / kRows, to - 1);
          added[c] = lane(c % kRows).mask[own * block->mask_stride];
        }
        score = score + load<F>(added) * kLog2E;
      }
      score = place < load<I>(begins) ? hidden : score;
      score = place >= load<I>(ends) ? hidden : score;
      score = place >= broadcast<I>(static_cast<std::int32_t>(to)) ? hidden : score;  // repeats of the last key
      most = larger(score, most);
      store(scores + j * kRows, score);
      place = place + kKeys;
    }
    return most;
  }

  /// Raises the running maxima to `most`, and scales what was gathered where a base moved.
  void raise(F most) {
    float each[Isa::kLanes];
    float shrink[Isa::kLanes];
    store(each, most);
    bool moved = false;
    for (int r = 0; r < kRows; ++r) {
      float own = max[r];
      for (int c = r; c < Isa::kLanes; c += kRows) own = each[c] > own ? each[c] : own;
      const float before = base[r];
      const float after = own > before + kSlack ? own : before;
      moved = moved || after != before;
      for (int c = r; c < Isa::kLanes; c += kRows) {
        max[c] = own;
        base[c] = after;
        shrink[c] = before;  // turned into the factor below
      }
    }
    if (!moved) return;
    const F factor = exp2<Isa>(load<F>(shrink) - finite_base());
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

  /// Takes some keys in; `ahead` will be read next.
  void take(const KeyAddresses& found, const RowsInTurn& ahead, float* scores) {
    raise(score(found, scores));
    const F finite = finite_base();
    F total{};
    for (std::int64_t j = 0; j < found.count; j += kKeys) {
      const F weight = exp2<Isa>(load<F>(scores + j * kRows) - finite);
      total = total + weight;
      store(scores + j * kRows, weight);
    }
    store(sum, load<F>(sum) + total);  // added up over a row's lanes at the end
    if (block->dropout.threshold > 0) {
      for (std::int64_t j = 0; j < found.count; ++j) {
        for (int r = 0; r < kRows; ++r) scores[j * kRows + r] *= dropout_factor(block->dropout, lane(r), found.first + j);
      }
    }
    add_values_of_few<Isa, kType, kRows>(
        block->keys.values,
        {.rows = found.values, .ahead = ahead, .count = found.count, .element_stride = block->keys.values.element_stride},
        scores, out);
  }

  void finish() const {
    const KeyRows& values = block->keys.values;
    const std::int64_t split = split_width<Isa, kType>(values);
    for (std::size_t r = 0; r < block->lanes.size(); ++r) {
      const auto row = static_cast<std::int64_t>(r);
      float total = 0;
      for (std::int64_t c = row; c < Isa::kLanes; c += kRows) total += sum[c];
      write_statistics(lane(row), max[r], base[r], total);
      if (!block->write_out) continue;
      const float* from = out + row * value_stride;
      const F factor = broadcast<F>(total == 0 ? 0.0f : 1.0f / total);
      const auto write = [&](std::int64_t e, F own) __attribute__((always_inline)) {
        auto* to = const_cast<std::byte*>(lane(row).out) + e * block->out_stride * size_of(block->out_dtype);
        store_elements<Isa>(block->out_dtype, to, block->out_stride, values.width - e, own * factor);
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

template <class Isa, DType kType, int kRows>
void attend_rows(std::span<const AttentionBlock* const> blocks) {
  Scratch scratch;
  FewRows<Isa, kType, kRows> rows[kMostTogether];
  for (std::size_t i = 0; i < blocks.size(); ++i) rows[i].prepare(scratch, *blocks[i]);
  float* scores = scratch.take<float>(kFewKeys * kRows + Isa::kLanes);
  const std::int64_t end = rows[0].end;
  const auto keys_from = [end](std::int64_t first) { return std::min(end, first - first % kFewKeys + kFewKeys) - first; };
  KeyAddresses addresses[2];  // of these keys and the next ones
  int turn = 0;
  if (rows[0].begin < end) find_keys<Isa>(blocks[0]->keys, rows[0].begin, keys_from(rows[0].begin), addresses[0]);
  for (std::int64_t from = rows[0].begin; from < end; from += keys_from(from)) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      KeyAddresses& found = addresses[turn];
      KeyAddresses& next = addresses[1 - turn];
      turn = 1 - turn;
      const bool turns = i + 1 == blocks.size();
      const std::int64_t first = turns ? from + keys_from(from) : from;
      const bool last = first >= end;
      if (!last) find_keys<Isa>(blocks[turns ? 0 : i + 1]->keys, first, keys_from(first), next);
      const RowsInTurn& ahead = last ? found.keys[0] : next.keys[0];
      follow<Isa>(found.values, ahead);
      rows[i].take(found, ahead, scores);
    }
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) rows[i].finish();
}

template <class Isa, DType kType>
void attend_few(std::span<const AttentionBlock* const> blocks) {
  const std::size_t rows = blocks[0]->lanes.size();
  if (rows == 1) return attend_rows<Isa, kType, 1>(blocks);
  if (rows == 2) return attend_rows<Isa, kType, 2>(blocks);
  if constexpr (Isa::kLanes >= 8) {
    if (rows <= 4) return attend_rows<Isa, kType, 4>(blocks);
  }
  if constexpr (Isa::kLanes >= 16) attend_rows<Isa, kType, 8>(blocks);
}

}  // namespace tessera::kernels::cpu
