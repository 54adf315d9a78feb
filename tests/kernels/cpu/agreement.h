// Random calls of the attention kernels, and how near the fast ones must come to the reference.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/random.h"
#include "core/tensor/tensor.h"
#include "kernels/attention.h"
#include "kernels/cpu/leaves.h"
#include "kernels/row_plan.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {

/// Numbers drawn one after the other, the same in every run.
class Draw {
 public:
  explicit Draw(unsigned seed) : engine_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }
  unsigned seed() { return static_cast<unsigned>(engine_()); }

 private:
  std::mt19937_64 engine_;
};

/// A tensor of random numbers whose memory has some other order of dims, and sometimes gaps between its elements.
inline Tensor scattered(Draw& draw, const Shape& shape, DType dtype) {
  std::vector<int> order(shape.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  if (draw.chance(60)) std::swap(order[1], order[2]);                                             // heads before rows
  if (draw.chance(15)) std::swap(order[3], order[static_cast<std::size_t>(draw.between(0, 2))]);  // elements of a row apart
  Shape memory;
  for (int dim : order) memory.push_back(shape[static_cast<std::size_t>(dim)] + (draw.chance(10) ? draw.between(1, 3) : 0));
  std::vector<int> back(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) back[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
  Tensor tensor = random_normal(memory, dtype, draw.seed(), "scattered").permute(back);
  for (int dim = 0; dim < tensor.rank(); ++dim) tensor = tensor.slice(dim, 0, shape[static_cast<std::size_t>(dim)]);
  return tensor;
}

/// Who sees what: everything, a causal or another band, padding, documents with gaps between them, parts of sequences, rows
/// without keys.
inline RowPlan random_plan(Draw& draw, std::int64_t batch, std::int64_t rows, std::int64_t keys) {
  RowPlan plan;
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t row = draw.chance(20) ? draw.between(0, rows) : 0;
    std::int64_t base = 0;
    const std::int64_t documents = draw.chance(60) ? 1 : draw.between(2, 5);
    for (std::int64_t document = 0; document < documents && row < rows; ++document) {
      const bool last = document + 1 == documents;
      const std::int64_t count = last ? rows - row : draw.between(0, rows - row);
      const std::int64_t length = last ? keys - base : draw.between(0, keys - base);
      RowSegment segment{.batch = b,
                         .row = row,
                         .count = count,
                         .sequence = draw.between(0, 9),
                         .position = draw.between(0, 1000),
                         .key_base = base,
                         .length = length,
                         .limit = length};
      if (draw.chance(50)) {
        segment.limit = draw.chance(70) ? length - count + 1 : draw.between(-count, length);
        segment.limit_step = 1;
      }
      if (draw.chance(30)) {
        segment.first = segment.limit - draw.between(1, 100) - (segment.limit_step == 0 ? count : 0);
        segment.first_step = 1;
      }
      plan.segments.push_back(segment);
      row += count;
      base += length;
    }
  }
  return plan;
}

/// The largest magnitude of a tensor.
inline double largest(const Tensor& tensor) {
  const Tensor numbers = tensor.to(DType::kF64);
  double most = 0;
  for (const double x : numbers.span<double>()) most = std::max(most, std::abs(x));
  return most;
}

/// What a fast kernel may be off by, over the largest magnitude: 2e-6 in f32; 1.5 roundings of bf16 and f16.
inline double allowed_error(DType dtype) { return dtype == DType::kF32 ? 2e-6 : 1.5 * half_ulp(dtype); }

/// Expects `actual` to be within `allowed` of `expected`, over the largest magnitude, and `floor`.
inline void expect_close(const char* name, const Tensor& actual, const Tensor& expected, double allowed, double floor = 0) {
  ASSERT_EQ(to_string(actual.shape()), to_string(expected.shape())) << name;
  const Tensor got = actual.to(DType::kF64);
  const Tensor want = expected.to(DType::kF64);
  double worst = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < want.span<double>().size(); ++i) {
    const double error = std::abs(got.span<double>()[i] - want.span<double>()[i]);
    if (error <= worst) continue;  // not so for NaN
    worst = error;
    where = i;
    if (std::isnan(error)) break;
  }
  const double magnitude = largest(expected);
  EXPECT_LE(worst, allowed * magnitude + floor)
      << name << " " << to_string(expected.shape()) << " at element " << where << ": error " << worst / magnitude
      << " of the magnitude " << magnitude << ", floor " << floor;
}

/// What float32 may leave where the gradients of scores cancel: dS = P (dP - D) is 0 for a row that sees one key, but dP
/// and D = grad_out . out, sums of terms of this magnitude, are each rounded. Times what dS is multiplied by, `scale` and
/// the largest key or query.
inline double cancellation(const Tensor& grad_out, const Tensor& out, double factor) {
  const Tensor a = grad_out.to(DType::kF64);
  const Tensor b = out.to(DType::kF64);
  const auto width = static_cast<std::size_t>(out.size(3));
  double most = 0;
  for (std::size_t row = 0; row < b.span<double>().size(); row += width) {
    double terms = 0;
    for (std::size_t e = row; e < row + width; ++e) terms += std::abs(a.span<double>()[e] * b.span<double>()[e]);
    most = std::max(most, terms);
  }
  return std::ldexp(1.0, -22) * most * std::abs(factor);
}

/// Runs a test body with the number of call after call, until one fails.
template <class Body>
void with_calls(int count, Body body) {
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("call " + std::to_string(i));
    body(i);
  }
}

/// Runs a test body once with each instruction set that the machine has.
template <class Body>
void with_every_isa(Body body) {
  for (const cpu::Leaves* leaves : cpu::available_leaves()) {
    SCOPED_TRACE(std::string(leaves->name));
    const cpu::Leaves& before = cpu::use_leaves(*leaves);
    body();
    cpu::use_leaves(before);
  }
}

/// Expects a forward call's results to agree with the reference on every instruction set, in the storage type.
template <class Call, class Reference, class Fast>
void expect_forward_agrees(const Call& call, Reference reference, Fast fast) {
  const DType dtype = call.query.dtype();
  Call exact = call;
  exact.out_dtype = DType::kF64;
  const AttentionResult expected = reference(exact);
  with_every_isa([&] {
    const AttentionResult actual = fast(call);
    EXPECT_EQ(actual.out.dtype(), dtype);
    expect_close("out", actual.out, expected.out, allowed_error(dtype));
    expect_close("softmax_max", actual.softmax_max, expected.softmax_max, 2e-6);
    // Sums are relative to the maxima as returned: both together must be right.
    Tensor sum = expected.softmax_sum.to(DType::kF64);
    const Tensor own = actual.softmax_max.to(DType::kF64);
    const Tensor others = expected.softmax_max.to(DType::kF64);
    for (std::size_t i = 0; i < sum.span<double>().size(); ++i)
      sum.span<double>()[i] *= std::exp(others.span<double>()[i] - own.span<double>()[i]);
    expect_close("softmax_sum", actual.softmax_sum, sum, 2e-6);
  });
}

}  // namespace tessera::kernels
