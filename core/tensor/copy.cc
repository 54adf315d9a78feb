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

// The addresses of a tensor's elements: tensors that know nothing of one another may see the same memory of a caller's.
struct Bytes {
  std::uintptr_t begin;
  std::uintptr_t end;
};

// @pre not empty
Bytes bytes_of(const Tensor& tensor) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < tensor.shape().size(); ++i) last += (tensor.shape()[i] - 1) * tensor.strides()[i];
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.bytes_begin());
  return {begin, begin + static_cast<std::uintptr_t>((last + 1) * size_of(tensor.dtype()))};
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
  const Bytes to = bytes_of(*this);
  const Bytes from = bytes_of(source);
  if (to.begin < from.end && from.begin < to.end) {
    if (to.begin == from.begin && strides_ == source.strides_ && dtype_ == source.dtype_) return;
    return copy_from(source.clone());
  }
  Loops loops = loops_of(shape_, strides_, source.strides_);
  order_for_tiles(loops);
  visit_dtype(dtype_, [&]<class To>(To) {
    visit_dtype(source.dtype_,
                [&]<class From>(From) { copy_loops(data<To>(), source.data<From>(), std::span<const Loop>(loops)); });
  });
}

}  // namespace tessera
