// The reference of attention's gradient against finite differences.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/attention.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

AttentionCall call_of(const PlanCase& plan, std::int64_t n, std::int64_t k, DType dtype = DType::kF64) {
  AttentionCall call{.query = sample({plan.b, plan.s, n, 3}, dtype, 1),
                     .key = sample({plan.b, plan.t, k, 3}, dtype, 2),
                     .value = sample({plan.b, plan.t, k, 2}, dtype, 3),
                     .plan = plan.plan,
                     .scale = 0.7};
  for (std::size_t i = 0; i < call.plan.segments.size(); ++i) {
    call.plan.segments[i].sequence = static_cast<std::int64_t>(i);
    call.plan.segments[i].position = 10 + call.plan.segments[i].row;
  }
  return call;
}

AttentionBackwardCall backward_of(const AttentionCall& call) {
  const AttentionResult result = reference::attention(call);
  return {.forward = call,
          .out = result.out,
          .softmax_max = result.softmax_max,
          .softmax_sum = result.softmax_sum,
          .grad_out = sample(result.out.shape(), call.query.dtype(), 4)};
}

double loss(const AttentionCall& call, const Tensor& grad_out) {
  const Tensor out = reference::attention(call).out;
  double sum = 0;
  for (std::size_t i = 0; i < out.span<double>().size(); ++i) sum += out.span<double>()[i] * grad_out.span<double>()[i];
  return sum;
}

// Expects `gradient` to be how the loss changes with each element of the operand.
void expect_slope(const AttentionBackwardCall& call, const Tensor& gradient, Tensor AttentionCall::*operand) {
  constexpr double kStep = 1e-5;
  const Tensor& at = call.forward.*operand;
  ASSERT_EQ(to_string(gradient.shape()), to_string(at.shape()));
  for (const Index& index : all_indices(at.shape())) {
    const auto moved = [&](double by) {
      AttentionCall forward = call.forward;
      Tensor elements = at.clone();
      elements.data<double>()[elements.offset_of(index)] += by;
      forward.*operand = elements;
      return loss(forward, call.grad_out);
    };
    const double slope = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    ASSERT_NEAR(number(gradient, index), slope, 1e-8) << "at " << to_string(Shape(index.begin(), index.end()));
  }
}

void expect_slopes(const AttentionCall& call) {
  const AttentionBackwardCall backward = backward_of(call);
  const AttentionGradients gradients = reference::attention_backward(backward);
  expect_slope(backward, gradients.query, &AttentionCall::query);
  expect_slope(backward, gradients.key, &AttentionCall::key);
  expect_slope(backward, gradients.value, &AttentionCall::value);
}

TEST(AttentionBackward, IsTheSlopeForEveryPlanAndGrouping) {
  for (const PlanCase& plan : plan_cases()) {
    for (const auto& [n, k] : {std::pair(1, 1), std::pair(2, 2), std::pair(4, 2), std::pair(3, 1)}) {
      SCOPED_TRACE(plan.name + ", heads " + std::to_string(n) + " on " + std::to_string(k));
      expect_slopes(call_of(plan, n, k));
    }
  }
}

TEST(AttentionBackward, IsTheSlopeUnderMasksAndDropout) {
  for (const PlanCase& plan : plan_cases()) {
    AttentionCall call = call_of(plan, 4, 2);
    for (const Shape& shape : {Shape{plan.t}, Shape{plan.s, 1}, Shape{4, plan.s, plan.t}, Shape{plan.b, 1, 1, plan.t}}) {
      SCOPED_TRACE(plan.name + ", mask " + to_string(shape));
      const Tensor numbers = sample(shape, DType::kF32, 9);
      call.mask = numbers;
      call.dropout = {};
      expect_slopes(call);
      call.mask = numbers.to(DType::kI32).to(DType::kBool);  // |number| >= 1: whole rows are hidden too
      expect_slopes(call);
      call.dropout = {.probability = 0.4, .seed = 6, .first_head = 1};
      expect_slopes(call);
    }
    SCOPED_TRACE(plan.name + ", dropout alone");
    call.mask.reset();
    expect_slopes(call);
  }
}

// The keys [begin, end) of the plan's key rows, as a rank holds them that has only those.
RowPlan keys_of_plan(const RowPlan& plan, std::int64_t begin, std::int64_t end) {
  RowPlan part;
  for (const RowSegment& whole : plan.segments) {
    for (std::int64_t i = 0; i < whole.count; ++i) {
      RowSegment row = whole;
      const KeyRange keys = keys_of(whole, i);
      row.row += i;
      row.position += i;
      row.count = 1;
      row.first_step = row.limit_step = 0;
      row.first = std::max(keys.begin, begin - whole.key_base);
      row.limit = std::min(keys.end, end - whole.key_base);
      row.key_base -= begin;
      part.segments.push_back(row);
    }
  }
  return part;
}

TEST(AttentionBackward, OverPartsOfTheKeysAddsUpToTheWhole) {
  for (const PlanCase& plan : plan_cases()) {
    for (double probability : {0.0, 0.3}) {
      AttentionCall call = call_of(plan, 4, 2);
      call.dropout = {.probability = probability, .seed = 1};
      const AttentionBackwardCall backward = backward_of(call);
      const AttentionGradients whole = reference::attention_backward(backward);
      for (std::int64_t cut = 0; cut <= plan.t; ++cut) {
        SCOPED_TRACE(plan.name + ", cut at key " + std::to_string(cut));
        Tensor query = Tensor::zeros(call.query.shape(), DType::kF64);
        for (const auto& [begin, end] : {std::pair(std::int64_t{0}, cut), std::pair(cut, plan.t)}) {
          AttentionBackwardCall part = backward;  // with out and statistics of all keys
          part.forward.key = call.key.slice(1, begin, end);
          part.forward.value = call.value.slice(1, begin, end);
          part.forward.plan = keys_of_plan(call.plan, begin, end);
          const AttentionGradients gradients = reference::attention_backward(part);
          for (std::size_t i = 0; i < query.span<double>().size(); ++i)
            query.span<double>()[i] += gradients.query.span<double>()[i];
          const Tensor key = whole.key.slice(1, begin, end);
          const Tensor value = whole.value.slice(1, begin, end);
          expect_elements(gradients.key, key.shape(), DType::kF64, [&](const Index& i) { return number(key, i); });
          expect_elements(gradients.value, value.shape(), DType::kF64, [&](const Index& i) { return number(value, i); });
        }
        expect_elements(query, whole.query.shape(), DType::kF64, [&](const Index& i) { return number(whole.query, i); });
      }
    }
  }
}

TEST(AttentionBackward, RoundsOnceAndReadsAnyStrides) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(to_string(dtype));
    AttentionBackwardCall call = backward_of(call_of(plan_cases()[0], 4, 2, dtype));
    AttentionBackwardCall exact = call;
    for (Tensor* tensor : {&exact.forward.query, &exact.forward.key, &exact.forward.value, &exact.out, &exact.softmax_max,
                           &exact.softmax_sum, &exact.grad_out})
      *tensor = restrided(tensor->to(DType::kF64));
    const AttentionGradients expected = reference::attention_backward(exact);
    for (const std::optional<DType>& asked :
         {std::optional<DType>(), std::optional(DType::kF32), std::optional(DType::kF64)}) {
      call.gradient_dtype = asked;
      const DType stored = asked.value_or(dtype);
      const AttentionGradients gradients = reference::attention_backward(call);
      EXPECT_TRUE(same_bits(gradients.query, expected.query.to(stored)));
      EXPECT_TRUE(same_bits(gradients.key, expected.key.to(stored)));
      EXPECT_TRUE(same_bits(gradients.value, expected.value.to(stored)));
    }
  }
}

TEST(AttentionBackward, WhatARowDoesNotSeeCannotReachIt) {
  const PlanCase plan{"", 1, 3, 5, {{segment(0, 0, 2, 0, 3, 3, 0)}}};  // row 2 and keys 3 and 4 have no part in it
  AttentionBackwardCall call = backward_of(call_of(plan, 2, 1));
  const AttentionGradients clean = reference::attention_backward(call);
  for (const Tensor& gradient : {clean.key, clean.value})
    EXPECT_TRUE(same_bits(gradient.slice(1, 3, 5), Tensor::zeros({1, 2, 1, gradient.size(3)}, DType::kF64)));
  EXPECT_TRUE(same_bits(clean.query.slice(1, 2, 3), Tensor::zeros({1, 1, 2, 3}, DType::kF64)));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  call.forward.key.at<double>({0, 3, 0, 1}) = call.forward.value.at<double>({0, 4, 0, 1}) = nan;
  call.grad_out.at<double>({0, 2, 1, 0}) = call.forward.query.at<double>({0, 2, 0, 0}) = nan;
  const AttentionGradients dirty = reference::attention_backward(call);
  EXPECT_TRUE(same_bits(dirty.query, clean.query));
  EXPECT_TRUE(same_bits(dirty.key, clean.key));
  EXPECT_TRUE(same_bits(dirty.value, clean.value));
}

// A row of which the mask hides every key has max and sum 0, which must not be divided by.
TEST(AttentionBackward, ARowWithoutKeysGivesAndGetsNothing) {
  AttentionCall call = call_of(plan_cases()[3], 2, 1);
  call.mask = Tensor::of<bool>({1}, {false});
  const AttentionGradients gradients = reference::attention_backward(backward_of(call));
  for (const Tensor& gradient : {gradients.query, gradients.key, gradients.value})
    EXPECT_TRUE(same_bits(gradient, Tensor::zeros(gradient.shape(), DType::kF64)));
}

TEST(AttentionBackward, AnyDimMayBeEmpty) {
  // b, s, t, n, k, d, e
  const std::int64_t sizes[][7] = {{0, 2, 2, 2, 1, 3, 3}, {1, 0, 2, 2, 1, 3, 3}, {1, 2, 0, 2, 1, 3, 3},
                                   {1, 2, 2, 0, 0, 3, 3}, {1, 2, 2, 0, 2, 3, 3}, {1, 2, 2, 2, 1, 3, 0},
                                   {1, 2, 2, 2, 1, 0, 3}, {0, 0, 0, 0, 0, 0, 0}};
  for (const auto& [b, s, t, n, k, d, e] : sizes) {
    AttentionCall call{.query = sample({b, s, n, d}, DType::kF32, 1),
                       .key = sample({b, t, k, d}, DType::kF32, 2),
                       .value = sample({b, t, k, e}, DType::kF32, 3),
                       .plan = {}};
    if (b > 0) call.plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    const AttentionGradients gradients = reference::attention_backward(backward_of(call));
    EXPECT_EQ(gradients.query.shape(), Shape({b, s, n, d}));
    EXPECT_EQ(gradients.key.shape(), Shape({b, t, k, d}));
    EXPECT_EQ(gradients.value.shape(), Shape({b, t, k, e}));
  }
}

}  // namespace
}  // namespace tessera::kernels
