// Attention of few query rows, as in decoding: the elements of a key lie in lanes, and each key and value is read once for
// all rows.
//
// So few rows are bound by memory, and what counts is how many reads are under way at once: each costs one or two
// instructions, values are asked for while their keys are multiplied, and the next keys while values are. Scores are
// [positions][rows], rows a power of two, so that one vector holds the scores of kLanes / rows keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/scores.h"

namespace tessera::kernels::cpu {

/// Adds neighbours in groups of kStep: vectors 2i and 2i + 1 become vector i, whose lanes c with c & kStep = 0 hold sums of
/// the first.
template <class Isa, int kStep, std::size_t kVectors, std::size_t... kLane>
inline void add_neighbours(Floats<Isa> (&vectors)[kVectors], std::index_sequence<kLane...>) {
  constexpr int kCount = Isa::kLanes;
  constexpr int kLeft = kCount / kStep / 2;
#pragma GCC unroll 8
  for (int i = 0; i < kLeft; ++i) {
    const Floats<Isa> a = vectors[2 * i];
    const Floats<Isa> b = vectors[2 * i + 1];
    vectors[i] = __builtin_shufflevector(
                     a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) : static_cast<int>(kLane) - kStep + kCount)...) +
                 __builtin_shufflevector(
                     a, b, ((kLane & kStep) == 0 ? static_cast<int>(kLane) + kStep : static_cast<int>(kLane) + kCount)...);
  }
}

/// Lane i is the sum of vector i's lanes.
template <class Isa>
inline Floats<Isa> sums_across(Floats<Isa> (&vectors)[Isa::kLanes]) {
  constexpr auto kAll = std::make_index_sequence<Isa::kLanes>();
  add_neighbours<Isa, 1>(vectors, kAll);
  add_neighbours<Isa, 2>(vectors, kAll);
  if constexpr (Isa::kLanes > 4) add_neighbours<Isa, 4>(vectors, kAll);
  if constexpr (Isa::kLanes > 8) add_neighbours<Isa, 8>(vectors, kAll);
  return vectors[0];
}

/// Asks for the row of a place that will be read soon.
template <class Isa>
inline void prefetch_row(const KeyRows& keys, const BlockKeys& block, std::int64_t place, std::int64_t element_bytes) {
  if (keys.element_stride == 1) prefetch_row<Isa>(keys.row(block.row(place)), keys.width * element_bytes);
}

/// Keys that are read before their values are: few, so that both keep streaming.
inline constexpr std::int64_t kFewKeys = 32;

/// Where the rows of some keys lie. Positions behind the last key repeat it, to whole vectors of scores.
struct KeyAddresses {
  std::int64_t positions = 0;
  std::int32_t places[kFewKeys];  ///< of a repetition: the place behind the keys, which no lane sees
  const std::byte* keys[2][kFewKeys];
  const std::byte* values[kFewKeys];
};

/// Addresses of rows.
template <class Isa>
inline void address_rows(const KeyRows& keys, const std::int64_t* rows, std::int64_t count, const std::byte** addresses) {
  if (keys.pages != nullptr) {
    for (std::int64_t i = 0; i < count; ++i) addresses[i] = keys.row(rows[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) addresses[i] = keys.base + rows[i] * keys.row_stride;
  }
}

/// @param multiple of positions; it divides kFewKeys
template <class Isa>
void find_keys(const BlockKeys& block, std::int64_t first, std::int64_t count, std::int64_t multiple, KeyAddresses& found) {
  std::int64_t rows[kFewKeys];
  found.positions = rounded_up(count, multiple);
  for (std::int64_t i = 0; i < found.positions; ++i) {
    found.places[i] = static_cast<std::int32_t>(first + std::min(i, count));
    rows[i] = first + std::min(i, count - 1);
  }
  if (block.list != nullptr) {
    for (std::int64_t i = 0; i < found.positions; ++i) rows[i] = block.list[rows[i]];
  }
  for (int part = 0; part < 2; ++part) {
    if (block.parts[part].width > 0) address_rows<Isa>(block.parts[part], rows, found.positions, found.keys[part]);
  }
  address_rows<Isa>(block.values, rows, found.positions, found.values);
}

/// Adds the products of `kKeys` keys with each row's queries, vector by vector, to sums [kKeys][kRows]. With each vector of
/// a key it asks for the one at the same place of `ahead[key]`, which will be read soon: requests for memory then flow
/// evenly beside the arithmetic.
template <class Isa, DType kType, int kRows, int kKeys>
inline void multiply_keys(const std::byte* const* keys, const std::byte* const* ahead, std::int64_t width,
                          std::int64_t element_stride, const typename MathOf<Isa, kType>::Element* queries,
                          Floats<Isa> (&sums)[std::size_t{kKeys} * std::size_t{kRows}]) {
  using Math = MathOf<Isa, kType>;
  using Lanes = typename Math::Lanes;
  constexpr std::int64_t kWidth = Math::kDepth * Isa::kLanes;  // elements of a vector
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  const std::int64_t row_stride = rounded_up(width, kWidth) / Math::kDepth;
  std::int64_t d = 0;
  for (; element_stride == 1 && d + kWidth <= width; d += kWidth) {
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) {
      const Lanes key = whole_vector<Isa, kType>(keys[i] + d * kBytes);
      __builtin_prefetch(ahead[i] + d * kBytes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[i * kRows + r] =
            Math::multiply_add(sums[i * kRows + r], key, load<Lanes>(queries + r * row_stride + d / Math::kDepth));
    }
  }
  for (; d < width; d += kWidth) {
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) {
      const auto key = bits_as<Lanes>(row_words<Isa, kType>(keys[i], element_stride, d, width));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[i * kRows + r] =
            Math::multiply_add(sums[i * kRows + r], key, load<Lanes>(queries + r * row_stride + d / Math::kDepth));
    }
  }
}

/// Scores [positions][kRows], not scaled; `queries[part]` is [kRows][vectors of the part].
template <class Isa, DType kType, int kRows>
void score_few(const BlockKeys& keys, const KeyAddresses& found,
               const typename MathOf<Isa, kType>::Element* const (&queries)[2], float* scores) {
  using F = Floats<Isa>;
  constexpr int kKeys = Isa::kLanes / kRows;                     // of a vector of scores
  constexpr int kTogether = std::min(kKeys, kRows > 4 ? 2 : 4);  // at most 16 sums
  for (std::int64_t position = 0; position < found.positions; position += kKeys) {
    F sums[std::size_t{Isa::kLanes}];
    for (int i = 0; i < kKeys; i += kTogether) {
      F own[std::size_t{kTogether} * std::size_t{kRows}] = {};
      for (int part = 0; part < 2; ++part) {
        if (keys.parts[part].width > 0)
          multiply_keys<Isa, kType, kRows, kTogether>(
              found.keys[part] + position + i, (part == 0 ? found.values : found.keys[1]) + position + i,
              keys.parts[part].width, keys.parts[part].element_stride, queries[part], own);
      }
#pragma GCC unroll 16
      for (int c = 0; c < kTogether * kRows; ++c) sums[i * kRows + c] = own[c];
    }
    store(scores + position * kRows, sums_across<Isa>(sums));
  }
}

/// out [kRows][row_stride] += weights^T rows of values: `kVectors` whole vectors of each row, or `width` elements where
/// those do not lie together.
template <class Isa, DType kType, int kRows, int kVectors, bool kWhole>
[[gnu::noinline]] void add_values_tile(const std::byte* const* rows, std::int64_t offset, std::int64_t element_stride,
                                       std::int64_t width, std::int64_t count, const float* weights, float* out,
                                       std::int64_t row_stride, const std::byte* const* ahead) {
  using F = Floats<Isa>;
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  F sums[std::size_t{kRows}][std::size_t{kVectors}] = {};
  for (std::int64_t j = 0; j < count; ++j) {
    const std::byte* row = rows[j] + offset;
    const std::byte* next = ahead[j] + offset;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      F values;
      __builtin_prefetch(next + v * Isa::kLanes * kBytes);
      if constexpr (kWhole) values = load_elements<Isa, kType>(row + v * Isa::kLanes * kBytes, 1, Isa::kLanes);
      else
        values = load_elements<Isa, kType>(row + v * Isa::kLanes * element_stride * kBytes, element_stride,
                                           width - v * Isa::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][v] = sums[r][v] + broadcast<F>(weights[j * kRows + r]) * values;
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

/// out [kRows][width] += weights^T values.
template <class Isa, DType kType, int kRows>
void add_values_of_few(const KeyRows& values, const std::byte* const* rows, std::int64_t count, const float* weights,
                       float* out, const std::byte* const* ahead) {
  constexpr std::int64_t kBytes = sizeof(Bits<kType>);
  constexpr int kVectors = kRows > 2 ? Isa::kTileRows * 3 / kRows : 8;  // as many sums as there are registers for
  const std::int64_t row_stride = rounded_up(values.width, Isa::kLanes);
  for (std::int64_t e = 0; e < values.width;) {
    const std::int64_t left = values.width - e;
    const std::int64_t offset = e * values.element_stride * kBytes;
    const auto run = [&](auto add, std::int64_t vectors) {
      add(rows, offset, values.element_stride, left, count, weights, out + e, row_stride, ahead);
      e += vectors * Isa::kLanes;
    };
    if (values.element_stride != 1 || left < Isa::kLanes) run(add_values_tile<Isa, kType, kRows, 1, false>, 1);
    else if (left >= kVectors * Isa::kLanes) run(add_values_tile<Isa, kType, kRows, kVectors, true>, kVectors);
    else if (left >= 2 * Isa::kLanes && kVectors > 2) run(add_values_tile<Isa, kType, kRows, 2, true>, 2);
    else run(add_values_tile<Isa, kType, kRows, 1, true>, 1);
  }
}

template <class Isa, DType kType, int kRows>
void attend_rows(const AttentionBlock& block) {
  using F = Floats<Isa>;
  using I = Ints<Isa>;
  using Math = MathOf<Isa, kType>;
  using Element = typename Math::Element;
  constexpr int kKeys = Isa::kLanes / kRows;
  const auto lane = [&](std::int64_t r) -> const QueryLane& {
    return block.lanes[std::min(static_cast<std::size_t>(r), block.lanes.size() - 1)];
  };
  const bool masked = lane(0).mask != nullptr;
  const std::int64_t value_stride = rounded_up(block.keys.values.width, Isa::kLanes);

  Scratch scratch;
  const Element* queries[2] = {};
  for (int part = 0; part < 2; ++part) {
    const std::int64_t width = block.keys.parts[part].width;
    const std::int64_t row_stride = rounded_up(rounded_up(width, Math::kDepth) / Math::kDepth, Isa::kLanes);
    auto* packed = scratch.take<Element>(kRows * row_stride);
    for (std::int64_t r = 0; r < kRows && width > 0; ++r) {
      for (std::int64_t k = 0; k < row_stride; k += Isa::kLanes)
        store(packed + r * row_stride + k,
              row_words<Isa, kType>(lane(r).parts[part], block.element_strides[part], k * Math::kDepth, width));
    }
    queries[part] = packed;
  }
  float* out = scratch.take<float>(kRows * value_stride);
  std::fill_n(out, kRows * value_stride, 0.0f);
  float* scores = scratch.take<float>(kFewKeys * kRows + Isa::kLanes);
  // One number for each row, repeated for each key of a vector.
  float max[Isa::kLanes];
  float base[Isa::kLanes];
  float sum[Isa::kLanes];
  std::int32_t begins[Isa::kLanes];
  std::int32_t ends[Isa::kLanes];
  std::int64_t begin = INT64_MAX;
  std::int64_t end = 0;
  for (int c = 0; c < Isa::kLanes; ++c) {
    max[c] = base[c] = -__builtin_inff();
    sum[c] = 0;
    begins[c] = static_cast<std::int32_t>(lane(c % kRows).begin);
    ends[c] = static_cast<std::int32_t>(lane(c % kRows).end);
    begin = std::min(begin, lane(c % kRows).begin);
    end = std::max(end, lane(c % kRows).end);
  }
  const F scale = broadcast<F>(block.scale * kLog2E);
  const F hidden = broadcast<F>(-__builtin_inff());
  const auto end_of = [end](std::int64_t first) { return std::min(end, first - first % kFewKeys + kFewKeys); };
  KeyAddresses addresses[2];  // of these keys and the next ones
  int turn = 0;
  if (begin < end) find_keys<Isa>(block.keys, begin, end_of(begin) - begin, kKeys, addresses[0]);
  for (std::int64_t from = begin; from < end;) {
    const std::int64_t to = end_of(from);
    const std::int64_t count = to - from;
    const KeyAddresses& found = addresses[turn];
    KeyAddresses& next = addresses[1 - turn];
    if (to < end) find_keys<Isa>(block.keys, to, end_of(to) - to, kKeys, next);
    turn = 1 - turn;
    score_few<Isa, kType, kRows>(block.keys, found, queries, scores);
    F most = hidden;
    for (std::int64_t j = 0; j < found.positions; j += kKeys) {
      std::int32_t places[Isa::kLanes];
      for (int c = 0; c < Isa::kLanes; ++c) places[c] = found.places[j + c / kRows];
      const I place = load<I>(places);
      F score = load<F>(scores + j * kRows) * scale;
      if (masked) {
        float added[Isa::kLanes];
        for (int c = 0; c < Isa::kLanes; ++c) {
          const std::int64_t own = std::min<std::int64_t>(places[c], to - 1);
          added[c] = lane(c % kRows).mask[own * block.mask_stride];
        }
        score = score + load<F>(added) * kLog2E;
      }
      score = place < load<I>(begins) ? hidden : score;
      score = place >= load<I>(ends) ? hidden : score;
      score = place >= broadcast<I>(static_cast<std::int32_t>(to)) ? hidden : score;  // repeats of the last key
      most = larger(score, most);
      store(scores + j * kRows, score);
    }
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
    const F finite = load<F>(base) == hidden ? F{} : load<F>(base);
    store(shrink, exp2<Isa>(load<F>(shrink) - finite));
    F total{};
    for (std::int64_t j = 0; j < found.positions; j += kKeys) {
      const F weight = exp2<Isa>(load<F>(scores + j * kRows) - finite);
      total = total + weight;
      store(scores + j * kRows, weight);
    }
    store(each, total);
    for (int r = 0; r < kRows; ++r) {
      float own = 0;
      for (int c = r; c < Isa::kLanes; c += kRows) own += each[c];
      sum[r] = sum[r] * shrink[r] + own;
    }
    if (moved) {
      for (int r = 0; r < kRows; ++r) {
        for (std::int64_t e = 0; e < value_stride; e += Isa::kLanes)
          store(out + r * value_stride + e, load<F>(out + r * value_stride + e) * shrink[r]);
      }
    }
    if (block.dropout.threshold > 0) {
      for (std::int64_t j = 0; j < count; ++j) {
        for (int r = 0; r < kRows; ++r) scores[j * kRows + r] *= dropout_factor(block.dropout, lane(r), found.places[j]);
      }
    }
    add_values_of_few<Isa, kType, kRows>(block.keys.values, found.values, count, scores, out,
                                         end - to >= count ? next.keys[0] : found.keys[0]);
    from = to;
  }
  for (std::size_t r = 0; r < block.lanes.size(); ++r) {
    write_statistics(lane(static_cast<std::int64_t>(r)), max[r], base[r], sum[r]);
    if (!block.write_out) continue;
    const F factor = broadcast<F>(sum[r] == 0 ? 0.0f : 1.0f / sum[r]);
    for (std::int64_t e = 0; e < block.keys.values.width; e += Isa::kLanes) {
      auto* to = const_cast<std::byte*>(block.lanes[r].out) + e * block.out_stride * size_of(block.out_dtype);
      store_elements<Isa>(block.out_dtype, to, block.out_stride, block.keys.values.width - e,
                          load<F>(out + static_cast<std::int64_t>(r) * value_stride + e) * factor);
    }
  }
}

template <class Isa, DType kType>
void attend_few(const AttentionBlock& block) {
  if (block.lanes.size() == 1) return attend_rows<Isa, kType, 1>(block);
  if (block.lanes.size() == 2) return attend_rows<Isa, kType, 2>(block);
  if constexpr (Isa::kLanes >= 8) {
    if (block.lanes.size() <= 4) return attend_rows<Isa, kType, 4>(block);
  }
  if constexpr (Isa::kLanes >= 16) attend_rows<Isa, kType, 8>(block);
}

}  // namespace tessera::kernels::cpu
