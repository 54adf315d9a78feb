// The reference of dense attention against plain loops.
#include "kernels/attention.h"

#include <limits>
#include <tuple>

#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Heads {
  std::int64_t n, k, d, e;
};

struct Operands {
  Tensor query, key, value;
};

Operands operands(const PlanCase& plan, const Heads& heads, DType dtype) {
  return {sample({plan.b, plan.s, heads.n, heads.d}, dtype, 1), sample({plan.b, plan.t, heads.k, heads.d}, dtype, 2),
          sample({plan.b, plan.t, heads.k, heads.e}, dtype, 3)};
}

AttentionCall call_of(const Operands& o, const RowPlan& plan, double scale,
                      const std::optional<Tensor>& mask = std::nullopt) {
  return {.query = o.query, .key = o.key, .value = o.value, .plan = plan, .scale = scale, .mask = mask};
}

// What attention gives one head of one row: out, max and sum, by definition.
struct Expected {
  std::vector<double> out;
  double max = 0;
  double sum = 0;
};

template <class Bias>
Expected expected_row(const Operands& o, const RowPlan& plan, double scale, std::int64_t b, std::int64_t row,
                      std::int64_t n, Bias bias) {
  const std::int64_t kh = n / (o.query.size(2) / o.key.size(2));
  const SeenBy seen = seen_by(plan, b, row);
  Expected result{std::vector<double>(static_cast<std::size_t>(o.value.size(3)), 0.0)};
  double max = -kInfinity;
  for (int pass = 0; pass < 3; ++pass) {
    for (std::int64_t j = seen.begin; j < seen.end; ++j) {
      double score = 0;
      for (std::int64_t d = 0; d < o.query.size(3); ++d) {
        score += number(o.query, {b, row, n, d}) * number(o.key, {b, seen.base + j, kh, d});
      }
      score = score * scale + bias(seen.base + j);
      if (score == -kInfinity) continue;
      if (pass == 0) max = std::max(max, score);
      if (pass == 1) result.sum += std::exp(score - max);
      if (pass == 2) {
        for (std::size_t e = 0; e < result.out.size(); ++e) {
          const double v = number(o.value, {b, seen.base + j, kh, static_cast<std::int64_t>(e)});
          result.out[e] += std::exp(score - max) / result.sum * v;
        }
      }
    }
  }
  if (max > -kInfinity) result.max = max;
  return result;
}

// `bias(b, n, row, key)` is what the mask adds.
template <class Bias>
void expect_attention(const AttentionResult& actual, const Operands& o, const RowPlan& plan, double scale, Bias bias) {
  const Shape& q = o.query.shape();
  const std::int64_t k = o.key.size(2);
  const std::int64_t g = q[2] / k;
  const DType dtype = o.query.dtype();
  const DType statistics = dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  const auto row = [&](std::int64_t b, std::int64_t s, std::int64_t n) {
    return expected_row(o, plan, scale, b, s, n, [&](std::int64_t key) { return bias(b, n, s, key); });
  };
  expect_elements(actual.out, {q[0], q[1], q[2], o.value.size(3)}, dtype,
                  [&](const Index& i) { return row(i[0], i[1], i[2]).out[static_cast<std::size_t>(i[3])]; });
  expect_elements(actual.softmax_max, {q[0], k, q[1], g}, statistics,
                  [&](const Index& i) { return row(i[0], i[2], i[1] * g + i[3]).max; });
  expect_elements(actual.softmax_sum, {q[0], k, q[1], g}, statistics,
                  [&](const Index& i) { return row(i[0], i[2], i[1] * g + i[3]).sum; });
}

double no_bias(std::int64_t, std::int64_t, std::int64_t, std::int64_t) { return 0; }

TEST(Attention, AgreesWithPlainLoopsForEveryPlanAndGrouping) {
  for (const PlanCase& plan : plan_cases()) {
    for (const Heads& heads : {Heads{1, 1, 3, 3}, Heads{2, 2, 4, 5}, Heads{4, 2, 3, 2}, Heads{6, 1, 2, 1}}) {
      SCOPED_TRACE(plan.name + ", heads " + std::to_string(heads.n));
      const Operands o = operands(plan, heads, DType::kF64);
      expect_attention(reference::attention(call_of(o, plan.plan, 0.7)), o, plan.plan, 0.7, no_bias);
    }
  }
}

TEST(Attention, RoundsOnceToTheQueriesDtype) {
  const PlanCase plan = plan_cases()[0];
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    SCOPED_TRACE(to_string(dtype));
    const Operands o = operands(plan, {4, 2, 8, 6}, dtype);
    expect_attention(reference::attention(call_of(o, plan.plan, 0.35)), o, plan.plan, 0.35, no_bias);
  }
}

TEST(Attention, DoesNotDependOnStrides) {
  for (const PlanCase& plan : plan_cases()) {
    const Operands o = operands(plan, {4, 2, 3, 5}, DType::kF32);
    const AttentionResult packed = reference::attention(call_of(o, plan.plan, 1.3));
    const AttentionResult strided =
        reference::attention(call_of({restrided(o.query), restrided(o.key), restrided(o.value)}, plan.plan, 1.3));
    EXPECT_TRUE(same_bits(packed.out, strided.out)) << plan.name;
    EXPECT_TRUE(same_bits(packed.softmax_max, strided.softmax_max)) << plan.name;
    EXPECT_TRUE(same_bits(packed.softmax_sum, strided.softmax_sum)) << plan.name;
  }
}

TEST(Attention, RowsWithoutKeysAreZero) {
  const Operands o{sample({1, 6, 2, 3}, DType::kF32, 1), sample({1, 4, 1, 3}, DType::kF32, 2),
                   sample({1, 4, 1, 2}, DType::kF32, 3)};
  const AttentionResult result = reference::attention(call_of(o, {{segment(0, 0, 6, 0, 4, -1, 1)}}, 1.0));
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t n = 0; n < 2; ++n) {
      const bool sees_none = row < 2;
      EXPECT_EQ(number(result.out, {0, row, n, 0}) == 0, sees_none) << row;
      EXPECT_EQ(number(result.softmax_max, {0, 0, row, n}) == 0, sees_none) << row;
      EXPECT_EQ(number(result.softmax_sum, {0, 0, row, n}) == 0, sees_none) << row;
    }
  }
}

TEST(Attention, CuttingTheRowsIntoTwoCallsChangesNoBit) {
  for (const PlanCase& plan : plan_cases()) {
    for (const Heads& heads : {Heads{1, 1, 5, 3}, Heads{6, 2, 16, 32}}) {
      const Operands o = operands(plan, heads, DType::kF64);
      const AttentionResult whole = reference::attention(call_of(o, plan.plan, 0.4));
      for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
        for (const auto& [begin, end] : {std::pair(std::int64_t{0}, cut), std::pair(cut, plan.s)}) {
          SCOPED_TRACE(plan.name + ", rows " + std::to_string(begin) + " to " + std::to_string(end));
          const AttentionResult part = reference::attention(
              call_of({o.query.slice(1, begin, end), o.key, o.value}, rows_of_plan(plan.plan, begin, end), 0.4));
          EXPECT_TRUE(same_bits(part.out, whole.out.slice(1, begin, end)));
          EXPECT_TRUE(same_bits(part.softmax_max, whole.softmax_max.slice(2, begin, end)));
          EXPECT_TRUE(same_bits(part.softmax_sum, whole.softmax_sum.slice(2, begin, end)));
        }
      }
    }
  }
}

// Large enough that a matrix product would be cut into blocks.
TEST(Attention, CuttingLongRowsChangesNoBit) {
  const std::int64_t s = 40, t = 300;
  const RowPlan plan{{segment(0, 0, s, 0, t, t - s + 1, 1)}};
  const Operands o{sample({1, s, 3, 33}, DType::kF64, 1), sample({1, t, 1, 33}, DType::kF64, 2),
                   sample({1, t, 1, 17}, DType::kF64, 3)};
  const Tensor whole = reference::attention(call_of(o, plan, 0.2)).out;
  for (std::int64_t cut : {1, 7, 16, 39}) {
    const Tensor head =
        reference::attention(call_of({o.query.slice(1, 0, cut), o.key, o.value}, rows_of_plan(plan, 0, cut), 0.2)).out;
    const Tensor tail =
        reference::attention(call_of({o.query.slice(1, cut, s), o.key, o.value}, rows_of_plan(plan, cut, s), 0.2)).out;
    EXPECT_TRUE(same_bits(head, whole.slice(1, 0, cut))) << cut;
    EXPECT_TRUE(same_bits(tail, whole.slice(1, cut, s))) << cut;
  }
}

TEST(Attention, WhatARowDoesNotSeeCannotReachIt) {
  const RowPlan plan{{segment(0, 0, 3, 0, 3, 3, 0)}};
  const Tensor query = sample({1, 3, 2, 4}, DType::kF32, 1);
  Tensor key = sample({1, 5, 1, 4}, DType::kF32, 2);
  Tensor value = sample({1, 5, 1, 4}, DType::kF32, 3);
  const AttentionResult clean = reference::attention(call_of({query, key, value}, plan, 1.0));
  const Tensor mask = Tensor::of<bool>({5}, {true, true, true, false, true});
  const AttentionResult masked =
      reference::attention(call_of({query, key, value}, {{segment(0, 0, 3, 0, 4, 4, 0)}}, 1.0, mask));
  key.at<float>({0, 3, 0, 1}) = value.at<float>({0, 3, 0, 2}) = static_cast<float>(kNan);
  value.at<float>({0, 4, 0, 0}) = static_cast<float>(kInfinity);
  EXPECT_TRUE(same_bits(reference::attention(call_of({query, key, value}, plan, 1.0)).out, clean.out));
  EXPECT_TRUE(same_bits(reference::attention(call_of({query, key, value}, {{segment(0, 0, 3, 0, 4, 4, 0)}}, 1.0, mask)).out,
                        masked.out));
}

TEST(Attention, ANanThatARowSeesIsNotSwallowed) {
  Tensor key = sample({1, 2, 1, 2}, DType::kF32, 2);
  for (std::int64_t place : {0, 1}) {
    Tensor broken = key.clone();
    broken.at<float>({0, place, 0, 0}) = static_cast<float>(kNan);
    const AttentionResult result = reference::attention(
        call_of({sample({1, 1, 1, 2}, DType::kF32, 1), broken, key}, {{segment(0, 0, 1, 0, 2, 2, 0)}}, 1.0));
    EXPECT_TRUE(std::isnan(number(result.out, {0, 0, 0, 0})));
    EXPECT_TRUE(std::isnan(number(result.softmax_max, {0, 0, 0, 0})));
    EXPECT_TRUE(std::isnan(number(result.softmax_sum, {0, 0, 0, 0})));
  }
}

TEST(Attention, MasksOfEveryShapeNarrowEveryPlan) {
  const std::int64_t n = 4;
  for (const PlanCase& plan : plan_cases()) {
    const auto [b, s, t] = std::tuple(plan.b, plan.s, plan.t);
    const Operands o = operands(plan, {n, 2, 3, 2}, DType::kF32);
    for (const Shape& shape : {Shape{}, Shape{t}, Shape{s, t}, Shape{s, 1}, Shape{n, 1, 1}, Shape{b, 1, s, t},
                               Shape{1, n, s, t}, Shape{b, n, s, t}}) {
      SCOPED_TRACE(plan.name + ", mask " + to_string(shape));
      const Tensor numbers = sample(shape, DType::kF32, 9);
      const Tensor full = numbers.broadcast_to({b, n, s, t});
      const Tensor visible = numbers.to(DType::kI32).to(DType::kBool);  // |number| >= 1
      expect_attention(reference::attention(call_of(o, plan.plan, 0.5, numbers)), o, plan.plan, 0.5,
                       [&](auto... index) { return number(full, {index...}); });
      expect_attention(reference::attention(call_of(o, plan.plan, 0.5, restrided(visible))), o, plan.plan, 0.5,
                       [&](auto... index) { return std::abs(number(full, {index...})) >= 1 ? 0 : -kInfinity; });
    }
  }
}

TEST(Attention, AMaskThatHidesARowGivesZeros) {
  const PlanCase plan = plan_cases()[3];
  const Operands o = operands(plan, {2, 1, 3, 2}, DType::kF32);
  const Tensor by_bool = Tensor::of<bool>({3, 1}, {true, false, true});
  const Tensor by_float = Tensor::of<float>({3, 1}, {0.0f, -std::numeric_limits<float>::infinity(), 0.0f});
  for (const Tensor& mask : {by_bool, by_float}) {
    const AttentionResult result = reference::attention(call_of(o, plan.plan, 1.0, mask));
    for (std::int64_t row = 0; row < 3; ++row) {
      EXPECT_EQ(number(result.out, {1, row, 1, 0}) == 0, row == 1);
      EXPECT_EQ(number(result.softmax_max, {1, 0, row, 1}) == 0, row == 1);
      EXPECT_EQ(number(result.softmax_sum, {1, 0, row, 1}) == 0, row == 1);
    }
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  const Tensor query = Tensor::of<double>({1, 1, 1, 1}, {1.0});
  const Tensor key = Tensor::of<double>({1, 3, 1, 1}, {5000.0, 5000.0, -5000.0});
  const Tensor value = Tensor::of<double>({1, 3, 1, 1}, {1.0, 2.0, 7.0});
  const AttentionResult result = reference::attention(call_of({query, key, value}, {{segment(0, 0, 1, 0, 3, 3, 0)}}, 1.0));
  EXPECT_EQ(number(result.out, {0, 0, 0, 0}), 1.5);
  EXPECT_EQ(number(result.softmax_max, {0, 0, 0, 0}), 5000.0);
  EXPECT_EQ(number(result.softmax_sum, {0, 0, 0, 0}), 2.0);
}

TEST(Attention, AnyDimMayBeEmpty) {
  // b, s, t, n, k, d, e
  const std::int64_t sizes[][7] = {{0, 2, 2, 2, 1, 3, 3}, {1, 0, 2, 2, 1, 3, 3}, {1, 2, 0, 2, 1, 3, 3},
                                   {1, 2, 2, 0, 0, 3, 3}, {1, 2, 2, 0, 2, 3, 3}, {1, 2, 2, 2, 1, 3, 0},
                                   {0, 0, 0, 0, 0, 0, 0}};
  for (const auto& [b, s, t, n, k, d, e] : sizes) {
    RowPlan plan;
    if (b > 0) plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    for (const std::optional<Tensor>& mask : {std::optional<Tensor>(), std::optional(sample({1}, DType::kF32, 1))}) {
      const AttentionResult result =
          reference::attention(call_of({sample({b, s, n, d}, DType::kF32, 1), sample({b, t, k, d}, DType::kF32, 2),
                                        sample({b, t, k, e}, DType::kF32, 3)},
                                       plan, 1.0, mask));
      EXPECT_EQ(result.out.shape(), Shape({b, s, n, e}));
      EXPECT_EQ(result.softmax_max.shape(), Shape({b, k, s, k == 0 ? 0 : n / k}));
      EXPECT_EQ(result.softmax_sum.shape(), result.softmax_max.shape());
      EXPECT_TRUE(t > 0 || same_bits(result.out, Tensor::zeros({b, s, n, e}, DType::kF32)));
    }
  }
}

TEST(Attention, WithoutWidthEveryKeyWeighsTheSame) {
  const Tensor value = Tensor::of<float>({1, 2, 1, 1}, {1.0f, 4.0f});
  const AttentionResult result = reference::attention(
      call_of({Tensor::zeros({1, 1, 1, 0}, DType::kF32), Tensor::zeros({1, 2, 1, 0}, DType::kF32), value},
              {{segment(0, 0, 1, 0, 2, 2, 0)}}, 1.0));
  EXPECT_EQ(number(result.out, {0, 0, 0, 0}), 2.5);
}

TEST(Attention, ErrorsNameOperandsDimsAndSizes) {
  const auto run = [](const Shape& query, const Shape& key, const Shape& value, const RowPlan& plan = {},
                      DType dtype = DType::kF32, const std::optional<Tensor>& mask = std::nullopt) {
    return [=] {
      reference::attention(
          call_of({Tensor::zeros(query, dtype), Tensor::zeros(key, DType::kF32), Tensor::zeros(value, DType::kF32)}, plan,
                  1.0, mask));
    };
  };
  expect_error(run({1, 2, 4, 8}, {1, 3, 2, 6}, {1, 3, 2, 8}), "shape-mismatch",
               "attention: key has size 6 in dim 3 (d), but query has size 8 in its dim 3\n"
               "  hint       query is [b, s, n, d] and key is [b, t, k, d]: give both the same d");
  expect_error(run({1, 2, 4, 8}, {1, 3, 2, 8}, {1, 5, 2, 8}), "shape-mismatch",
               "attention: value has size 5 in dim 1 (t), but key has size 3 in its dim 1\n"
               "  hint       key is [b, t, k, d] and value is [b, t, k, e]: give both the same t");
  expect_error(run({2, 4, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}), "shape-mismatch",
               "attention: query [2, 4, 8] has 3 dims, but must have 4: [b, s, n, d]\n"
               "  hint       reshape query to [b, s, n, d]");
  expect_error(run({1, 2, 6, 8}, {1, 3, 4, 8}, {1, 3, 4, 8}), "shape-mismatch",
               "attention: query's 6 heads (dim 2) are no multiple of key's 4 (dim 2)\n"
               "  hint       give key a number of heads that divides 6");
  expect_error(run({1, 2, 2, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}, {}, DType::kI32), "dtype",
               "attention: query is i32, but must hold floats\n"
               "  hint       convert query to f32");
  expect_error(
      run({1, 2, 2, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}, {{segment(0, 1, 2, 0, 3, 3, 0)}}), "plan-out-of-range",
      "attention: segment 0 of the plan covers 2 rows from row 1 of batch 0, but query has 2 rows (dim 1) in 1 batch "
      "entries (dim 0)\n"
      "  hint       build the plan for the local query and key that the call gets");
  expect_error(
      run({1, 2, 2, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}, {{segment(0, 0, 0, 0, 3, 3, 0), segment(0, 0, 2, 0, 4, 3, 1)}}),
      "plan-out-of-range",
      "attention: segment 1 of the plan lets row 1 see keys [0, 4), which lie from row 0 on, but key has 3 rows (dim 1)\n"
      "  hint       build the plan for the local query and key that the call gets");
  expect_error(run({1, 2, 2, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}, {}, DType::kF32, Tensor::zeros({3, 3}, DType::kBool)),
               "shape-mismatch",
               "attention: mask [3, 3] does not broadcast to the scores' [b, n, s, t], here [1, 2, 2, 3]\n"
               "  hint       give mask the scores' sizes, or 1 where it repeats");
  expect_error(run({1, 2, 2, 8}, {1, 3, 2, 8}, {1, 3, 2, 8}, {}, DType::kF32, Tensor::zeros({3}, DType::kI64)), "dtype",
               "attention: mask is i64, but must be bool or hold floats\n"
               "  hint       convert mask to bool");
}

}  // namespace
}  // namespace tessera::kernels
