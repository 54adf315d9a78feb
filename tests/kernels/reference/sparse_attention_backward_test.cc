// The gradient of attention over index lists against differences of the forward kernel.
#include <limits>
#include <utility>

#include "kernels/attention.h"
#include "kernels/sparse_attention.h"
#include "tests/kernels/differences.h"
#include "tests/kernels/lists.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kTolerance = 1e-9;  // of differences

struct Heads {
  std::int64_t n, k;
};

SparseAttentionCall forward_call(const PlanCase& plan, const Heads& heads, std::int64_t block_size, DType dtype,
                                 bool rope) {
  SparseAttentionCall call{.query = sample({plan.b, plan.s, heads.n, 3}, dtype, 1),
                           .key = sample({plan.b, plan.t, heads.k, 3}, dtype, 2),
                           .value = sample({plan.b, plan.t, heads.k, 2}, dtype, 3),
                           .indices = random_lists(plan, heads.k, 4, block_size, DType::kI32),
                           .plan = plan.plan,
                           .scale = 0.6,
                           .block_size = block_size};
  if (rope) {
    call.query_rope = sample({plan.b, plan.s, heads.n, 2}, dtype, 4);
    call.key_rope = sample({plan.b, plan.t, heads.k, 2}, dtype, 5);
  }
  return call;
}

// The gradient's call for a forward one, with its own results.
SparseAttentionBackwardCall backward_call(const SparseAttentionCall& forward) {
  const AttentionResult result = reference::sparse_attention(forward);
  return {.forward = forward,
          .out = result.out,
          .softmax_max = result.softmax_max,
          .softmax_sum = result.softmax_sum,
          .grad_out = sample(result.out.shape(), forward.query.dtype(), 6)};
}

// What the gradients are the derivatives of: sum(grad_out * out).
double objective(const SparseAttentionCall& forward, const Tensor& grad_out) {
  const Tensor out = reference::sparse_attention(forward).out;
  double sum = 0;
  for (std::int64_t i = 0; i < out.count(); ++i) sum += out.data<double>()[i] * grad_out.data<double>()[i];
  return sum;
}

void expect_derivatives(const SparseAttentionCall& forward) {
  const SparseAttentionBackwardCall call = backward_call(forward);
  const SparseAttentionGradients gradients = reference::sparse_attention_backward(call);
  const auto derivative = [&](const Tensor& operand) {
    return difference_quotients(operand, [&] { return objective(forward, call.grad_out); });
  };
  expect_near(gradients.query, derivative(forward.query), kTolerance);
  expect_near(gradients.key, derivative(forward.key), kTolerance);
  expect_near(gradients.value, derivative(forward.value), kTolerance);
  if (forward.query_rope) {
    expect_near(gradients.query_rope, derivative(*forward.query_rope), kTolerance);
    expect_near(gradients.key_rope, derivative(*forward.key_rope), kTolerance);
  } else {
    EXPECT_EQ(gradients.query_rope.shape(), Shape({0}));
    EXPECT_EQ(gradients.key_rope.shape(), Shape({0}));
  }
}

void expect_same_bits(const SparseAttentionGradients& a, const SparseAttentionGradients& b) {
  EXPECT_TRUE(same_bits(a.query, b.query));
  EXPECT_TRUE(same_bits(a.key, b.key));
  EXPECT_TRUE(same_bits(a.value, b.value));
  EXPECT_TRUE(same_bits(a.query_rope, b.query_rope));
  EXPECT_TRUE(same_bits(a.key_rope, b.key_rope));
}

TEST(SparseAttentionBackward, IsTheDerivativeForEveryPlanBlockAndGrouping) {
  for (const PlanCase& plan : plan_cases()) {
    for (std::int64_t block_size : {1, 2, 3, 16}) {
      for (const Heads& heads : {Heads{1, 1}, Heads{4, 1}, Heads{4, 2}}) {
        SCOPED_TRACE(plan.name + ", blocks of " + std::to_string(block_size) + ", heads " + std::to_string(heads.n) +
                     " on " + std::to_string(heads.k));
        expect_derivatives(forward_call(plan, heads, block_size, DType::kF64, heads.k == heads.n || heads.k == 2));
      }
    }
  }
}

// One row of one head over keys [0, t) with the given list; scores are all 0.
SparseAttentionCall level_call(const std::vector<std::int64_t>& list, std::int64_t t) {
  return {.query = Tensor::zeros({1, 1, 1, 1}, DType::kF64),
          .key = Tensor::zeros({1, t, 1, 1}, DType::kF64),
          .value = Tensor::zeros({1, t, 1, 1}, DType::kF64),
          .indices = Tensor::of<std::int64_t>({1, 1, 1, static_cast<std::int64_t>(list.size())}, list),
          .plan = {{segment(0, 0, 1, 0, t, t, 0)}}};
}

TEST(SparseAttentionBackward, AKeyNamedTwiceGetsTwice) {
  SparseAttentionBackwardCall call = backward_call(level_call({1, 1, 2, -1}, 4));
  call.grad_out = Tensor::of<double>({1, 1, 1, 1}, {3.0});
  const SparseAttentionGradients gradients = reference::sparse_attention_backward(call);
  expect_near(gradients.value, Tensor::of<double>({1, 4, 1, 1}, {0.0, 2.0, 1.0, 0.0}), 1e-15);
  // With values 0, 1, 4, 0 out is 2; keys get their part of 3 * (v - 2) * query, here of query 5.
  call = backward_call(level_call({1, 1, 2, -1}, 4));
  call.forward.query = Tensor::of<double>({1, 1, 1, 1}, {5.0});
  call.forward.value = Tensor::of<double>({1, 4, 1, 1}, {0.0, 1.0, 4.0, 0.0});
  call.out = Tensor::of<double>({1, 1, 1, 1}, {2.0});
  call.grad_out = Tensor::of<double>({1, 1, 1, 1}, {3.0});
  expect_near(reference::sparse_attention_backward(call).key, Tensor::of<double>({1, 4, 1, 1}, {0.0, -10.0, 10.0, 0.0}),
              1e-14);
}

TEST(SparseAttentionBackward, EmptyListsAndRowsWithoutKeysGiveZeros) {
  for (const std::vector<std::int64_t>& list : {std::vector<std::int64_t>{-1, 0, 1}, std::vector<std::int64_t>{}}) {
    SparseAttentionCall forward = level_call(list, 3);
    forward.query = sample({1, 1, 1, 1}, DType::kF64, 1);
    const SparseAttentionGradients gradients = reference::sparse_attention_backward(backward_call(forward));
    EXPECT_TRUE(same_bits(gradients.query, Tensor::zeros({1, 1, 1, 1}, DType::kF64)));
    EXPECT_TRUE(same_bits(gradients.key, Tensor::zeros({1, 3, 1, 1}, DType::kF64)));
    EXPECT_TRUE(same_bits(gradients.value, Tensor::zeros({1, 3, 1, 1}, DType::kF64)));
  }
  const PlanCase fewer_keys = plan_cases()[2];  // rows 0 and 1 see none
  const SparseAttentionCall forward = forward_call(fewer_keys, {4, 2}, 1, DType::kF64, true);
  const SparseAttentionGradients gradients = reference::sparse_attention_backward(backward_call(forward));
  EXPECT_TRUE(same_bits(gradients.query.slice(1, 0, 2), Tensor::zeros({1, 2, 4, 3}, DType::kF64)));
  EXPECT_TRUE(same_bits(gradients.query_rope.slice(1, 0, 2), Tensor::zeros({1, 2, 4, 2}, DType::kF64)));
}

TEST(SparseAttentionBackward, WhatNoListNamesStaysOut) {
  SparseAttentionCall forward = level_call({2, 0}, 4);
  forward.query = sample({1, 1, 1, 1}, DType::kF64, 1);
  forward.key.at<double>({0, 1, 0, 0}) = kNan;
  forward.value.at<double>({0, 3, 0, 0}) = kNan;
  const SparseAttentionGradients gradients = reference::sparse_attention_backward(backward_call(forward));
  for (const Tensor& gradient : {gradients.key, gradients.value}) {
    for (std::int64_t key = 0; key < 4; ++key) {
      const double of_key = number(gradient, {0, key, 0, 0});
      EXPECT_TRUE(std::isfinite(of_key)) << key;
      EXPECT_TRUE(key == 0 || key == 2 || of_key == 0) << key;
    }
  }
  EXPECT_TRUE(std::isfinite(number(gradients.query, {0, 0, 0, 0})));
}

TEST(SparseAttentionBackward, ListsOfAllKeysGiveTheGradientOfAttention) {
  for (const PlanCase& plan : plan_cases()) {
    for (const Heads& heads : {Heads{1, 1}, Heads{4, 2}}) {
      SCOPED_TRACE(plan.name);
      SparseAttentionCall forward = forward_call(plan, heads, 1, DType::kF64, false);
      forward.indices = complete_lists(plan, heads.k, 12);
      const SparseAttentionBackwardCall call = backward_call(forward);
      const SparseAttentionGradients sparse = reference::sparse_attention_backward(call);
      const AttentionGradients dense = reference::attention_backward({.forward = {.query = forward.query,
                                                                                  .key = forward.key,
                                                                                  .value = forward.value,
                                                                                  .plan = forward.plan,
                                                                                  .scale = forward.scale},
                                                                      .out = call.out,
                                                                      .softmax_max = call.softmax_max,
                                                                      .softmax_sum = call.softmax_sum,
                                                                      .grad_out = call.grad_out});
      expect_near(sparse.query, dense.query, 1e-14);
      expect_near(sparse.key, dense.key, 1e-14);
      expect_near(sparse.value, dense.value, 1e-14);
    }
  }
}

TEST(SparseAttentionBackward, RopePartsAreWiderHeads) {
  for (const PlanCase& plan : plan_cases()) {
    SCOPED_TRACE(plan.name);
    const SparseAttentionCall forward = forward_call(plan, {4, 2}, 2, DType::kF64, true);
    const SparseAttentionBackwardCall call = backward_call(forward);
    const auto joined = [](const Tensor& x, const Tensor& rope) {
      Tensor both = Tensor::zeros({x.size(0), x.size(1), x.size(2), 5}, DType::kF64);
      both.slice(3, 0, 3).copy_from(x);
      both.slice(3, 3, 5).copy_from(rope);
      return both;
    };
    SparseAttentionBackwardCall wide = call;
    wide.forward.query = joined(forward.query, *forward.query_rope);
    wide.forward.key = joined(forward.key, *forward.key_rope);
    wide.forward.query_rope.reset();
    wide.forward.key_rope.reset();
    const SparseAttentionGradients parts = reference::sparse_attention_backward(call);
    const SparseAttentionGradients whole = reference::sparse_attention_backward(wide);
    EXPECT_TRUE(same_bits(joined(parts.query, parts.query_rope), whole.query));
    EXPECT_TRUE(same_bits(joined(parts.key, parts.key_rope), whole.key));
    EXPECT_TRUE(same_bits(parts.value, whole.value));
  }
}

TEST(SparseAttentionBackward, RoundsOnceToEachOperandsDtype) {
  const PlanCase plan = plan_cases()[0];
  const SparseAttentionCall exact = forward_call(plan, {4, 1}, 2, DType::kF64, true);
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    SCOPED_TRACE(to_string(dtype));
    SparseAttentionBackwardCall call = backward_call(exact);
    call.forward.query = exact.query.to(dtype);
    call.forward.key = exact.key.to(DType::kF32);
    call.forward.value = exact.value.to(dtype);
    call.forward.query_rope = exact.query_rope->to(DType::kF16);
    call.forward.key_rope = exact.key_rope->to(dtype);
    SparseAttentionBackwardCall same_numbers = call;
    for (Tensor* operand : {&same_numbers.forward.query, &same_numbers.forward.key, &same_numbers.forward.value,
                            &*same_numbers.forward.query_rope, &*same_numbers.forward.key_rope}) {
      *operand = operand->to(DType::kF64);
    }
    const SparseAttentionGradients rounded = reference::sparse_attention_backward(call);
    const SparseAttentionGradients whole = reference::sparse_attention_backward(same_numbers);
    expect_same_bits(rounded, {.query = whole.query.to(dtype),
                               .key = whole.key.to(DType::kF32),
                               .value = whole.value.to(dtype),
                               .query_rope = whole.query_rope.to(DType::kF16),
                               .key_rope = whole.key_rope.to(dtype)});
    call.gradient_dtype = DType::kF32;
    expect_same_bits(reference::sparse_attention_backward(call), {.query = whole.query.to(DType::kF32),
                                                                  .key = whole.key.to(DType::kF32),
                                                                  .value = whole.value.to(DType::kF32),
                                                                  .query_rope = whole.query_rope.to(DType::kF32),
                                                                  .key_rope = whole.key_rope.to(DType::kF32)});
  }
}

TEST(SparseAttentionBackward, DoesNotDependOnStridesOrTheIndicesDtype) {
  for (const PlanCase& plan : plan_cases()) {
    SCOPED_TRACE(plan.name);
    const SparseAttentionBackwardCall call = backward_call(forward_call(plan, {4, 2}, 2, DType::kF32, true));
    SparseAttentionBackwardCall strided = call;
    strided.forward.indices = call.forward.indices.to(DType::kI64);
    for (Tensor* operand : {&strided.forward.query, &strided.forward.key, &strided.forward.value, &strided.forward.indices,
                            &*strided.forward.query_rope, &*strided.forward.key_rope, &strided.out, &strided.softmax_max,
                            &strided.softmax_sum, &strided.grad_out}) {
      *operand = restrided(*operand);
    }
    expect_same_bits(reference::sparse_attention_backward(call), reference::sparse_attention_backward(strided));
  }
}

TEST(SparseAttentionBackward, CutsOfTheRowsGiveTheirQueriesAndAddUpOverTheKeys) {
  for (const PlanCase& plan : plan_cases()) {
    const SparseAttentionBackwardCall call = backward_call(forward_call(plan, {4, 2}, 2, DType::kF64, true));
    const SparseAttentionGradients whole = reference::sparse_attention_backward(call);
    for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
      SCOPED_TRACE(plan.name + ", cut at row " + std::to_string(cut));
      const auto part = [&](std::int64_t begin, std::int64_t end) {
        SparseAttentionBackwardCall local = call;
        local.forward.plan = rows_of_plan(plan.plan, begin, end);
        local.forward.query = call.forward.query.slice(1, begin, end);
        local.forward.query_rope = call.forward.query_rope->slice(1, begin, end);
        local.forward.indices = call.forward.indices.slice(1, begin, end);
        local.out = call.out.slice(1, begin, end);
        local.grad_out = call.grad_out.slice(1, begin, end);
        local.softmax_max = call.softmax_max.slice(2, begin, end);
        local.softmax_sum = call.softmax_sum.slice(2, begin, end);
        const SparseAttentionGradients gradients = reference::sparse_attention_backward(local);
        EXPECT_TRUE(same_bits(gradients.query, whole.query.slice(1, begin, end)));
        EXPECT_TRUE(same_bits(gradients.query_rope, whole.query_rope.slice(1, begin, end)));
        return gradients;
      };
      const SparseAttentionGradients head = part(0, cut);
      const SparseAttentionGradients tail = part(cut, plan.s);
      expect_near(sum_of(head.key, tail.key), whole.key, 1e-14);
      expect_near(sum_of(head.value, tail.value), whole.value, 1e-14);
      expect_near(sum_of(head.key_rope, tail.key_rope), whole.key_rope, 1e-14);
    }
  }
}

TEST(SparseAttentionBackward, PartsOfTheListsAddUpUnderTheWholesStatistics) {
  const PlanCase plan = plan_cases()[3];  // 4 keys, all seen: 4 slots of one key each
  SparseAttentionCall forward = forward_call(plan, {4, 2}, 1, DType::kF64, true);
  forward.indices = random_integers(forward.indices.shape(), DType::kI64, 0, 4, 8, "lists");
  const SparseAttentionBackwardCall call = backward_call(forward);
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    SparseAttentionBackwardCall local = call;
    local.forward.indices = forward.indices.slice(3, begin, end);
    return reference::sparse_attention_backward(local);
  };
  const SparseAttentionGradients whole = part(0, 4);
  for (std::int64_t cut = 0; cut <= 4; ++cut) {
    const SparseAttentionGradients head = part(0, cut);
    const SparseAttentionGradients tail = part(cut, 4);
    expect_near(sum_of(head.query, tail.query), whole.query, 1e-14);
    expect_near(sum_of(head.key, tail.key), whole.key, 1e-14);
    expect_near(sum_of(head.value, tail.value), whole.value, 1e-14);
    expect_near(sum_of(head.query_rope, tail.query_rope), whole.query_rope, 1e-14);
    expect_near(sum_of(head.key_rope, tail.key_rope), whole.key_rope, 1e-14);
  }
}

TEST(SparseAttentionBackward, AnyDimMayBeEmpty) {
  // b, s, t, n, k, c
  const std::int64_t sizes[][6] = {{0, 2, 2, 2, 1, 3}, {1, 0, 2, 2, 1, 3}, {1, 2, 0, 2, 1, 3}, {1, 2, 2, 0, 0, 3},
                                   {1, 2, 2, 0, 2, 3}, {1, 2, 2, 2, 1, 0}, {0, 0, 0, 0, 0, 0}};
  for (const auto& [b, s, t, n, k, c] : sizes) {
    SparseAttentionCall forward{.query = sample({b, s, n, 3}, DType::kF32, 1),
                                .key = sample({b, t, k, 3}, DType::kF32, 2),
                                .value = sample({b, t, k, 2}, DType::kF32, 3),
                                .indices = Tensor::zeros({b, s, k, c}, DType::kI32),
                                .plan = {},
                                .query_rope = sample({b, s, n, 0}, DType::kF32, 4),
                                .key_rope = sample({b, t, k, 0}, DType::kF32, 5)};
    if (b > 0) forward.plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    const SparseAttentionGradients gradients = reference::sparse_attention_backward(backward_call(forward));
    EXPECT_TRUE(same_bits(gradients.query, Tensor::zeros({b, s, n, 3}, DType::kF32)));
    EXPECT_TRUE(same_bits(gradients.key, Tensor::zeros({b, t, k, 3}, DType::kF32)));
    EXPECT_TRUE(same_bits(gradients.value, Tensor::zeros({b, t, k, 2}, DType::kF32)));
    EXPECT_EQ(gradients.query_rope.shape(), Shape({b, s, n, 0}));
    EXPECT_EQ(gradients.key_rope.shape(), Shape({b, t, k, 0}));
  }
}

TEST(SparseAttentionBackward, ErrorsNameOperandsAndValues) {
  const SparseAttentionCall forward{.query = Tensor::zeros({1, 2, 4, 8}, DType::kF32),
                                    .key = Tensor::zeros({1, 5, 2, 8}, DType::kF32),
                                    .value = Tensor::zeros({1, 5, 2, 6}, DType::kF32),
                                    .indices = Tensor::zeros({1, 2, 2, 3}, DType::kI32),
                                    .plan = {{segment(0, 0, 2, 0, 5, 4, 1)}},
                                    .block_size = 2};
  const SparseAttentionBackwardCall call = backward_call(forward);
  const auto expect_refused = [&](auto change, const std::string& code, const std::string& text) {
    SparseAttentionBackwardCall changed = call;
    change(changed);
    expect_error([&] { reference::sparse_attention_backward(changed); }, code, "sparse_attention_backward: " + text);
  };
  using Call = SparseAttentionBackwardCall;
  expect_refused(
      [](Call& c) {
        c.forward.indices = Tensor::of<std::int32_t>({1, 2, 2, 2}, {0, 1, 1, 3, 0, 1, 2, 0});
      },
      "index-out-of-range",
      "slot 1 of row 0 (batch 0, key head 1) names block 3, but its sequence of 5 keys has 3 blocks of 2\n"
      "  hint       count blocks from the start of the row's own sequence, and end the list with -1");
  expect_refused([](Call& c) { c.forward.block_size = 0; }, "attribute-range",
                 "block_size is 0, but a slot names at least 1 key\n"
                 "  hint       set block_size to 1 where slots name single keys");
  expect_refused(
      [](Call& c) {
        c.forward.query_rope = Tensor::zeros({1, 2, 4, 3}, DType::kF32);
      },
      "rope-parts",
      "query_rope is given without key_rope\n"
      "  hint       give both rope parts, or neither");
  expect_refused(
      [](Call& c) {
        c.forward.block_table = Tensor::zeros({1, 1}, DType::kI32);
      },
      "block-table",
      "the gradient takes no block table\n"
      "  hint       gather the blocks into a key and a value [b, t, k, d]");
  expect_refused(
      [](Call& c) {
        c.grad_out = Tensor::zeros({1, 2, 4, 8}, DType::kF32);
      },
      "shape-mismatch",
      "grad_out has size 8 in dim 3 (e), but value has size 6 in its dim 3\n"
      "  hint       value is [b, t, k, e] and grad_out is [b, s, n, e]: give both the same e");
  expect_refused(
      [](Call& c) {
        c.softmax_sum = Tensor::zeros({1, 2, 3, 2}, DType::kF32);
      },
      "shape-mismatch",
      "softmax_sum has size 3 in dim 2 (s), but query has size 2 in its dim 1\n"
      "  hint       query is [b, s, n, d] and softmax_sum is [b, k, s, g]: give both the same s");
  expect_refused(
      [](Call& c) {
        c.softmax_max = Tensor::zeros({1, 2, 2, 4}, DType::kF32);
        c.softmax_sum = c.softmax_max;
      },
      "shape-mismatch",
      "softmax_max has size 4 in dim 3 (g), but 2 query heads share a key head\n"
      "  hint       give the statistics that attention returned for this query and key");
  expect_refused([](Call& c) { c.gradient_dtype = DType::kI32; }, "dtype",
                 "gradient_dtype is i32, but must be a float\n"
                 "  hint       leave gradient_dtype out, or ask for f32");
  expect_refused([](Call& c) { c.grad_out = c.grad_out.to(DType::kI32); }, "dtype",
                 "grad_out is i32, but must hold floats\n"
                 "  hint       convert grad_out to f32");
  expect_refused(
      [](Call& c) { c.forward.plan.segments[0].row = 1; }, "plan-out-of-range",
      "segment 0 of the plan covers 2 rows from row 1 of batch 0, but query has 2 rows (dim 1) in 1 batch entries "
      "(dim 0)\n"
      "  hint       build the plan for the local query and key that the call gets");
}

}  // namespace
}  // namespace tessera::kernels
