// Derivatives by differences of function values, to hold gradients against.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "core/tensor/tensor.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {

/// The gradient of `f()`, a double, for x [any shape], f64 and contiguous, whose memory f reads: by central differences of
/// fourth order, which move an element by up to 2 * step. x is as before when this returns. Where f is smooth and of size 1
/// the error is some 1e-14 / step + step^4.
template <class F>
Tensor difference_quotients(Tensor x, F f, double step = 1e-3) {
  Tensor gradient = Tensor::zeros(x.shape(), DType::kF64);
  for (std::int64_t i = 0; i < x.count(); ++i) {
    double& element = x.data<double>()[i];
    const double before = element;
    const auto moved = [&](double steps) {
      element = before + steps * step;
      return f();
    };
    gradient.data<double>()[i] = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step);
    element = before;
  }
  return gradient;
}

/// Expects two tensors of the same shape and dtype, each element within `tolerance` of the other's.
inline void expect_near(const Tensor& actual, const Tensor& expected, double tolerance) {
  ASSERT_EQ(to_string(actual), to_string(expected));
  for (const Index& index : all_indices(expected.shape())) {
    ASSERT_NEAR(number(actual, index), number(expected, index), tolerance)
        << "at " << to_string(Shape(index.begin(), index.end()));
  }
}

/// a + b, element by element, in f64. @pre both have one shape
inline Tensor sum_of(const Tensor& a, const Tensor& b) {
  Tensor result = Tensor::zeros(a.shape(), DType::kF64);
  for (const Index& index : all_indices(a.shape())) {
    result.data<double>()[result.offset_of(index)] = number(a, index) + number(b, index);
  }
  return result;
}

}  // namespace tessera::kernels
