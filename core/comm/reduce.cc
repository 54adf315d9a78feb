// Element-wise reduction, a block of elements at a time so that the accumulators stay in the cache.
#include "core/comm/reduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::size_t kBlock = 2048;

// What max and min, and the sums of floats, are taken in.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>, float, T>;
// What sums and products are taken in: of integers modulo 2^64, unsigned so that wrapping is defined.
template <class T>
using Modular = std::conditional_t<std::is_integral_v<T>, std::uint64_t, Accumulator<T>>;

template <class T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) return std::isnan(value);
  return false;
}

template <class T>
T larger(T a, T b) {
  return a > b || is_nan(a) ? a : b;  // a NaN stays; where b is one the comparison fails and it is taken
}

template <class T>
T smaller(T a, T b) {
  return a < b || is_nan(a) ? a : b;
}

// combine(..combine(terms[0], terms[1])..), then finish, on accumulators of type A.
template <class T, class A, class Combine, class Finish>
void fold(std::span<const Tensor> terms, Tensor& result, Combine combine, Finish finish) {
  const std::span<T> out = result.span<T>();
  std::array<A, kBlock> block;
  for (std::size_t begin = 0; begin < out.size(); begin += kBlock) {
    const std::size_t size = std::min(kBlock, out.size() - begin);
    const T* first = terms[0].data<T>() + begin;
    for (std::size_t i = 0; i < size; ++i) block[i] = static_cast<A>(first[i]);
    for (const Tensor& term : terms.subspan(1)) {
      const T* values = term.data<T>() + begin;
      for (std::size_t i = 0; i < size; ++i) block[i] = combine(block[i], static_cast<A>(values[i]));
    }
    for (std::size_t i = 0; i < size; ++i) out[begin + i] = static_cast<T>(finish(block[i]));
  }
}

template <class T, class A, class Combine>
void fold(std::span<const Tensor> terms, Tensor& result, Combine combine) {
  fold<T, A>(terms, result, combine, [](A value) { return value; });
}

template <class T>
void reduce_numbers(std::span<const Tensor> terms, Tensor& result, Reduction reduction) {
  using A = Accumulator<T>;
  using M = Modular<T>;
  const auto add = [](M a, M b) { return a + b; };
  switch (reduction) {
    case Reduction::kSum: return fold<T, M>(terms, result, add);
    case Reduction::kAvg: {
      const M divisor = static_cast<M>(terms.size());
      return fold<T, M>(terms, result, add, [divisor](M sum) { return sum / divisor; });
    }
    case Reduction::kProd: return fold<T, M>(terms, result, [](M a, M b) { return a * b; });
    case Reduction::kMax: return fold<T, A>(terms, result, [](A a, A b) { return larger(a, b); });
    case Reduction::kMin: return fold<T, A>(terms, result, [](A a, A b) { return smaller(a, b); });
    case Reduction::kAny:
    case Reduction::kAll: return;  // refused by check_reduction
  }
}

void reduce_bools(std::span<const Tensor> terms, Tensor& result, Reduction reduction) {
  if (reduction == Reduction::kAny || reduction == Reduction::kMax) {
    fold<bool, bool>(terms, result, [](bool a, bool b) { return a || b; });
  } else {
    fold<bool, bool>(terms, result, [](bool a, bool b) { return a && b; });
  }
}

}  // namespace

void check_reduction(Reduction reduction, DType dtype) {
  const bool logical = reduction == Reduction::kAny || reduction == Reduction::kAll;
  const bool ordered = reduction == Reduction::kMax || reduction == Reduction::kMin;
  std::string hint;
  if (dtype == DType::kBool) {
    if (logical || ordered) return;
    hint = "reduce bools with any or all, or convert them to i64";
  } else if (logical) {
    hint = "convert the tensor to bool, or reduce it with max or min";
  } else if (reduction == Reduction::kAvg && !is_floating(dtype)) {
    hint = "reduce with sum, or convert the tensor to f64: an average of integers is seldom whole";
  } else {
    return;
  }
  fail("comm-reduction", fmt::format("{} is not defined for {}", to_string(reduction), to_string(dtype)), hint);
}

Tensor reduce(std::span<const Tensor> terms, Reduction reduction) {
  check_reduction(reduction, terms[0].dtype());
  std::vector<Tensor> dense;
  dense.reserve(terms.size());
  for (const Tensor& term : terms) dense.push_back(term.contiguous());
  Tensor result = Tensor::uninitialized(terms[0].shape(), terms[0].dtype());
  visit_dtype(result.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      reduce_bools(dense, result, reduction);
    } else {
      reduce_numbers<T>(dense, result, reduction);
    }
  });
  return result;
}

}  // namespace tessera
