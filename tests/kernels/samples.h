// Tensors to try kernels on, and comparisons with plain loops.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor/random.h"
#include "core/tensor/tensor.h"
#include "kernels/row_plan.h"
#include "support/diagnostic.h"

namespace tessera::kernels {

using Index = std::vector<std::int64_t>;

/// All indices of a shape, row major.
inline std::vector<Index> all_indices(const Shape& shape) {
  std::vector<Index> result = {{}};
  for (std::int64_t size : shape) {
    std::vector<Index> longer;
    for (const Index& index : result) {
      for (std::int64_t i = 0; i < size; ++i) {
        longer.push_back(index);
        longer.back().push_back(i);
      }
    }
    result = longer;
  }
  return result;
}

/// One element as a double, whatever its dtype.
inline double number(const Tensor& tensor, const Index& index) {
  return visit_dtype(tensor.dtype(),
                     [&]<class T>(T) { return static_cast<double>(tensor.data<T>()[tensor.offset_of(index)]); });
}

/// Random numbers, the same for the same seed.
inline Tensor sample(const Shape& shape, DType dtype, unsigned seed) { return random_normal(shape, dtype, seed, "sample"); }

/// The same tensor with its dims in reversed order in memory.
inline Tensor restrided(const Tensor& tensor) {
  std::vector<int> reversed;
  for (int dim = tensor.rank(); dim > 0; --dim) reversed.push_back(dim - 1);
  return tensor.permute(reversed).clone().permute(reversed);
}

/// Half the distance between a float's neighbours, relative to it: what rounding once may change.
inline double half_ulp(DType dtype) {
  switch (dtype) {
    case DType::kF32: return std::ldexp(1.0, -24);
    case DType::kBF16: return std::ldexp(1.0, -8);
    case DType::kF16: return std::ldexp(1.0, -11);
    default: return 1e-14;
  }
}

/// Expects every element to be `expected(index)` in double, rounded once to the tensor's dtype.
template <class F>
void expect_elements(const Tensor& actual, const Shape& shape, DType dtype, F expected) {
  ASSERT_EQ(to_string(actual.shape()), to_string(shape));
  ASSERT_EQ(actual.dtype(), dtype);
  for (const Index& index : all_indices(shape)) {
    const double want = expected(index);
    const double got = number(actual, index);
    const double underflow = dtype == DType::kF16 ? std::ldexp(1.0, -25) : 1e-14;
    const double tolerance = half_ulp(dtype) * (1 + 1e-6) * std::abs(want) + underflow;
    const bool near =
        std::isfinite(want) ? std::abs(got - want) <= tolerance : got == want || (std::isnan(got) && std::isnan(want));
    ASSERT_TRUE(near) << "at " << to_string(Shape(index.begin(), index.end())) << ": " << got << " instead of " << want;
  }
}

/// Keys [b, t, k, d] in blocks of `rows`, dealt to places in descending order, with NaN where no row of theirs lies.
struct Paged {
  Tensor blocks, table;
};

inline Paged paged(const Tensor& keys, std::int64_t rows, DType table_dtype) {
  const std::int64_t slots = (keys.size(1) + rows - 1) / rows;
  const std::int64_t blocks = keys.size(0) * slots;
  Paged result{Tensor::zeros({blocks, rows, keys.size(2), keys.size(3)}, keys.dtype()),
               Tensor::zeros({keys.size(0), slots}, DType::kI64)};
  result.blocks.copy_from(
      Tensor::of<double>({1}, {std::numeric_limits<double>::quiet_NaN()}).broadcast_to(result.blocks.shape()));
  for (std::int64_t b = 0; b < keys.size(0); ++b) {
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      const std::int64_t block = blocks - 1 - (b * slots + slot);
      result.table.at<std::int64_t>({b, slot}) = block;
      const std::int64_t end = std::min(keys.size(1), (slot + 1) * rows);
      result.blocks.select(0, block).slice(0, 0, end - slot * rows).copy_from(keys.select(0, b).slice(0, slot * rows, end));
    }
  }
  result.table = result.table.to(table_dtype);
  return result;
}

/// Whether two tensors have the same shape, dtype and bits.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor x = a.contiguous();
  const Tensor y = b.contiguous();
  return x.count() == 0 || std::memcmp(x.bytes_begin(), y.bytes_begin(), static_cast<std::size_t>(x.bytes())) == 0;
}

/// Expects `f()` to throw an Error with this code and this text.
template <class F>
void expect_error(F f, const std::string& code, const std::string& text) {
  try {
    f();
    ADD_FAILURE() << "no error, but expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.diagnostic().code, code);
    EXPECT_EQ(error.what(), text);
  }
}

/// A plan with a name for messages, and the sizes that it is for.
struct PlanCase {
  std::string name;
  std::int64_t b, s, t;
  RowPlan plan;
};

/// A segment for the queries [row, row + count) of a batch entry, which see keys [0, limit), moving by `step` a row.
inline RowSegment segment(std::int64_t batch, std::int64_t row, std::int64_t count, std::int64_t key_base,
                          std::int64_t length, std::int64_t limit, std::int64_t step) {
  return {.batch = batch,
          .row = row,
          .count = count,
          .key_base = key_base,
          .length = length,
          .limit = limit,
          .limit_step = step};
}

/// Plans of every kind: causal, more keys, fewer keys (rows without), whole, windows, documents, gaps, folded parts.
inline std::vector<PlanCase> plan_cases() {
  RowSegment window = segment(0, 0, 6, 0, 6, 1, 1);
  window.first = -1;  // row i sees keys i - 1 and i
  window.first_step = 1;
  RowSegment from_two = segment(0, 0, 4, 0, 6, 6, 0);
  from_two.first = 2;
  RowSegment tile = segment(0, 0, 3, -4, 9, 6, 1);  // the local keys are keys 4..8 of the sequence
  tile.first = 4;
  return {
      {"causal", 2, 5, 5, {{segment(0, 0, 5, 0, 5, 1, 1), segment(1, 0, 5, 0, 5, 1, 1)}}},
      {"more keys than queries", 1, 3, 7, {{segment(0, 0, 3, 0, 7, 5, 1)}}},
      {"fewer keys than queries", 1, 6, 4, {{segment(0, 0, 6, 0, 4, -1, 1)}}},
      {"whole", 2, 3, 4, {{segment(0, 0, 3, 0, 4, 4, 0), segment(1, 0, 3, 0, 4, 4, 0)}}},
      {"beyond the length", 1, 3, 6, {{segment(0, 0, 3, 0, 4, 3, 1)}}},
      {"window", 1, 6, 6, {{window}}},
      {"from key 2", 1, 4, 6, {{from_two}}},
      {"documents with a tail", 1, 9, 10, {{segment(0, 0, 3, 0, 4, 2, 1), segment(0, 3, 5, 4, 5, 1, 1)}}},
      {"a row and a batch entry left out", 2, 4, 4, {{segment(1, 1, 3, 0, 4, 2, 1)}}},
      {"head and tail", 1, 4, 8, {{segment(0, 0, 2, 0, 8, 1, 1), segment(0, 2, 2, 0, 8, 7, 1)}}},
      {"tile", 1, 3, 5, {{tile}}},
      {"nothing", 1, 2, 2, {}},
  };
}

/// Keys that a row sees, asked of the plan in the plainest way; nothing where no segment covers the row.
struct SeenBy {
  std::int64_t base = 0, length = 0, begin = 0, end = 0;
};

inline SeenBy seen_by(const RowPlan& plan, std::int64_t batch, std::int64_t row) {
  for (const RowSegment& part : plan.segments) {
    if (part.batch != batch || row < part.row || row >= part.row + part.count) continue;
    const std::int64_t i = row - part.row;
    return {part.key_base, part.length, std::max<std::int64_t>(0, part.first + i * part.first_step),
            std::min(part.length, part.limit + i * part.limit_step)};
  }
  return {};
}

/// The plan of rows [begin, end) of every batch entry, as a call with only these rows takes it.
inline RowPlan rows_of_plan(const RowPlan& plan, std::int64_t begin, std::int64_t end) {
  RowPlan part;
  for (RowSegment cut : plan.segments) {
    const std::int64_t from = std::max(begin, cut.row);
    const std::int64_t to = std::min(end, cut.row + cut.count);
    if (from >= to) continue;
    cut.position += from - cut.row;
    cut.first += cut.first_step * (from - cut.row);
    cut.limit += cut.limit_step * (from - cut.row);
    cut.row = from - begin;
    cut.count = to - from;
    part.segments.push_back(cut);
  }
  return part;
}

}  // namespace tessera::kernels
