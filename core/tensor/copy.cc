// Copying and converting elements between tensors of any strides.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <type_traits>
#include <utility>

#include "core/tensor/convert.h"
#include "core/tensor/tensor.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

// One loop of a copy: how often, and how far the two sides move each time.
struct Loop {
  std::int64_t size;
  std::int64_t to;
  std::int64_t from;
};
using Loops = StaticVector<Loop, kMaxRank>;

// The fewest loops that visit every pair of elements, outermost first: ordered so that the destination is written in order,
// loops that continue one another joined. Two contiguous tensors of any shape become one loop; a transposition two.
Loops loops_of(const Shape& shape, const Shape& to, const Shape& from) {
  Loops loops;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1) loops.push_back({shape[i], to[i], from[i]});
  }
  std::stable_sort(loops.begin(), loops.end(), [](const Loop& a, const Loop& b) { return a.to > b.to; });
  Loops joined;
  for (const Loop& inner : loops) {
    if (!joined.empty()) {
      const Loop outer = joined.back();
      if (outer.to == inner.size * inner.to && outer.from == inner.size * inner.from) {
        joined.back() = {outer.size * inner.size, inner.to, inner.from};
        continue;
      }
    }
    joined.push_back(inner);
  }
  if (joined.empty()) joined.push_back({1, 1, 1});
  return joined;
}

template <class To, class From>
void copy_row(To* to, const From* from, const Loop& row) {
  if (row.to == 1 && row.from == 1) {
    if constexpr (std::is_same_v<To, From>) {
      std::copy_n(from, row.size, to);
    } else {
      for (std::int64_t i = 0; i < row.size; ++i) to[i] = convert_to<To>(from[i]);
    }
  } else {
    for (std::int64_t i = 0; i < row.size; ++i) to[i * row.to] = convert_to<To>(from[i * row.from]);
  }
}

// Whether the source is denser along the outer loop than along the inner one, neither of which repeats elements.
bool is_transposed(const Loop& outer, const Loop& inner) { return outer.from > 0 && outer.from < inner.from; }

// A transposition, in tiles whose lines of memory stay in the cache on both sides.
template <class To, class From>
void copy_tiles(To* to, const From* from, const Loop& outer, const Loop& inner) {
  constexpr std::int64_t kTile = 32;
  for (std::int64_t i = 0; i < outer.size; i += kTile) {
    for (std::int64_t j = 0; j < inner.size; j += kTile) {
      const Loop row{std::min(kTile, inner.size - j), inner.to, inner.from};
      for (std::int64_t k = i; k < std::min(i + kTile, outer.size); ++k) {
        copy_row(to + k * outer.to + j * inner.to, from + k * outer.from + j * inner.from, row);
      }
    }
  }
}

template <class To, class From>
void copy_loops(To* to, const From* from, std::span<const Loop> loops) {
  const Loop& first = loops.front();
  if (loops.size() == 1) return copy_row(to, from, first);
  if (loops.size() == 2 && is_transposed(first, loops[1])) return copy_tiles(to, from, first, loops[1]);
  for (std::int64_t i = 0; i < first.size; ++i) {
    copy_loops(to + i * first.to, from + i * first.from, loops.subspan(1));
  }
}

// Brings the loop along which the source is densest beside the innermost, so that the two make tiles.
void order_for_tiles(Loops& loops) {
  const auto denser = [](const Loop& a, const Loop& b) { return a.from != 0 && (b.from == 0 || a.from < b.from); };
  const auto densest = std::min_element(loops.begin(), loops.end(), denser);
  if (is_transposed(*densest, loops.back())) std::rotate(densest, densest + 1, loops.end() - 1);
}

// Elements from the first to the last in memory, both counted. @pre not empty
std::int64_t extent(const Shape& shape, const Shape& strides) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) last += (shape[i] - 1) * strides[i];
  return last + 1;
}

}  // namespace

void Tensor::copy_from(const Tensor& source) {
  if (shape_ != source.shape_) {
    fail("shape-mismatch", fmt::format("{} cannot be copied into {}", to_string(source), to_string(*this)),
         "slice, reshape or broadcast the source to the destination's shape");
  }
  if (count_ == 0) return;
  for (std::size_t i = 0; i < shape_.size(); ++i) {
    if (shape_[i] > 1 && strides_[i] == 0) {
      fail("broadcast-write",
           fmt::format("{} cannot be written to: it repeats its elements along dim {}", to_string(*this), i),
           "clone it first");
    }
  }
  if (memory_ == source.memory_) {
    const bool same = offset_ == source.offset_ && strides_ == source.strides_;
    if (same) return;
    const bool apart =
        offset_ + extent(shape_, strides_) <= source.offset_ || source.offset_ + extent(shape_, source.strides_) <= offset_;
    if (!apart) return copy_from(source.clone());
  }
  Loops loops = loops_of(shape_, strides_, source.strides_);
  order_for_tiles(loops);
  visit_dtype(dtype_, [&]<class To>(To) {
    visit_dtype(source.dtype_,
                [&]<class From>(From) { copy_loops(data<To>(), source.data<From>(), std::span<const Loop>(loops)); });
  });
}

}  // namespace tessera
