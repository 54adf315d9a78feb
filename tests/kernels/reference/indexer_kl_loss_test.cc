// The indexer's loss against plain loops, and its gradients against differences of it.
#include <limits>

#include "kernels/lightning_indexer.h"
#include "tests/kernels/differences.h"
#include "tests/kernels/indexer_loss_samples.h"
#include "tests/kernels/lists.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr LossHeads kHeads[] = {{1, 1, 1}, {4, 1, 2}, {4, 2, 4}, {2, 2, 2}};

void expect_same_bits(const IndexerLossResult& a, const IndexerLossResult& b) {
  EXPECT_TRUE(same_bits(a.query, b.query));
  EXPECT_TRUE(same_bits(a.key, b.key));
  EXPECT_TRUE(same_bits(a.weights, b.weights));
  EXPECT_TRUE(same_bits(a.loss, b.loss));
}

// Every plan with all heads, with lists and without, with rope parts and without.
template <class F>
void for_each_call(F f) {
  for (const PlanCase& plan : plan_cases()) {
    for (const LossHeads& heads : kHeads) {
      for (bool sparse : {false, true}) {
        for (bool rope : {false, true}) {
          SCOPED_TRACE(plan.name + (sparse ? ", sparse" : ", dense") + (rope ? ", rope" : "") + ", heads " +
                       std::to_string(heads.n) + " and " + std::to_string(heads.h) + " on " + std::to_string(heads.k));
          f(loss_call(plan, heads, DType::kF64, sparse, rope));
        }
      }
    }
  }
}

TEST(IndexerKlLoss, AgreesWithPlainLoops) {
  for_each_call([](const IndexerLossCall& call) {
    const Tensor loss = reference::indexer_kl_loss(call).loss;
    EXPECT_EQ(to_string(loss), "f64 [1]");
    EXPECT_NEAR(number(loss, {0}), expected_loss(call), 1e-12);
  });
}

double largest(const Tensor& x) {
  double result = 0;
  for (const Index& i : all_indices(x.shape())) result = std::max(result, std::abs(number(x, i)));
  return result;
}

// How near a product of an index query and an index key comes to 0, where the loss has a kink.
double nearest_kink(const IndexerLossCall& call) {
  const std::int64_t f = call.query_index.size(2) / call.key.size(2);
  double nearest = 1;
  for (const Index& i : all_indices({call.query.size(0), call.query.size(1), call.query_index.size(2)})) {
    for (std::int64_t key : expected_keys(call, i[0], i[1], i[2] / f)) {
      nearest = std::min(nearest, std::abs(dot(call.query_index, call.key_index, i[0], i[1], i[2], key, i[2] / f)));
    }
  }
  return nearest;
}

TEST(IndexerKlLoss, GradientsAreTheDerivatives) {
  constexpr double kStep = 1e-5;
  for_each_call([](const IndexerLossCall& call) {
    ASSERT_GT(nearest_kink(call), 2 * kStep * std::max(largest(call.query_index), largest(call.key_index)));
    const IndexerLossResult result = reference::indexer_kl_loss(call);
    const auto derivative = [&](const Tensor& operand) {
      return difference_quotients(
          operand, [&] { return number(reference::indexer_kl_loss(call).loss, {0}); }, kStep);
    };
    expect_near(result.query, derivative(call.query_index), 1e-9);
    expect_near(result.key, derivative(call.key_index), 1e-9);
    expect_near(result.weights, derivative(call.weights), 1e-9);
  });
}

TEST(IndexerKlLoss, CompleteListsGiveTheDenseFormBitForBit) {
  for (const PlanCase& plan : plan_cases()) {
    for (const LossHeads& heads : kHeads) {
      const IndexerLossCall dense = loss_call(plan, heads, DType::kF64, false, true);
      IndexerLossCall sparse = dense;
      sparse.indices = complete_lists(plan, heads.k, 12);
      SCOPED_TRACE(plan.name);
      expect_same_bits(reference::indexer_kl_loss(sparse), reference::indexer_kl_loss(dense));
    }
  }
}

// One row with one head of width 1 of each kind over keys 0, ..., t - 1. Queries are 1, so a is the index key, and the
// score the key.
IndexerLossCall one_row(const std::vector<double>& index_keys, const std::vector<double>& keys, double weight) {
  const auto t = static_cast<std::int64_t>(keys.size());
  const Tensor one = Tensor::of<double>({1, 1, 1, 1}, {1.0});
  IndexerLossCall call{.query_index = one,
                       .key_index = Tensor::of<double>({1, t, 1, 1}, index_keys),
                       .weights = Tensor::of<double>({1, 1, 1}, {weight}),
                       .query = one,
                       .key = Tensor::of<double>({1, t, 1, 1}, keys),
                       .softmax_max = {},
                       .softmax_sum = {},
                       .plan = {{segment(0, 0, 1, 0, t, t, 0)}}};
  return with_statistics(call);
}

TEST(IndexerKlLoss, WorkedExample) {
  // p = (1/4, 3/4); the indexer's scores are 2 * (0, log 2), so y = (1/5, 4/5) and dI = (-1/20, 1/20).
  const IndexerLossResult result = reference::indexer_kl_loss(one_row({-3.0, std::log(2.0)}, {0.0, std::log(3.0)}, 2.0));
  EXPECT_NEAR(number(result.loss, {0}), 0.25 * std::log(0.25 / 0.2) + 0.75 * std::log(0.75 / 0.8), 1e-15);
  expect_near(result.weights, Tensor::of<double>({1, 1, 1}, {0.05 * std::log(2.0)}), 1e-15);
  expect_near(result.query, Tensor::of<double>({1, 1, 1, 1}, {0.05 * 2 * std::log(2.0)}), 1e-15);
  expect_near(result.key, Tensor::of<double>({1, 2, 1, 1}, {0.0, 0.05 * 2}), 1e-15);  // a is below 0 at key 0
}

TEST(IndexerKlLoss, AProductOfZeroHasNoGradient) {
  const IndexerLossResult result = reference::indexer_kl_loss(one_row({0.0, 1.0}, {0.5, 0.0}, 1.0));
  EXPECT_EQ(number(result.key, {0, 0, 0, 0}), 0);
  EXPECT_NE(number(result.key, {0, 1, 0, 0}), 0);
}

TEST(IndexerKlLoss, BothDistributionsHaveAFloorUnderTheLogarithmOnly) {
  // p = (1, e^-50) and y = (e^-60, 1) but for what is below 1e-16.
  const IndexerLossResult result = reference::indexer_kl_loss(one_row({0.0, 60.0}, {50.0, 0.0}, 1.0));
  EXPECT_NEAR(number(result.loss, {0}), 1 * (0 - std::log(1e-8)) + 1e-8 * (std::log(1e-8) - 0), 1e-12);
  expect_near(result.key, Tensor::of<double>({1, 2, 1, 1}, {0.0, 1.0}), 1e-15);
}

TEST(IndexerKlLoss, AKeyNamedTwiceCountsTwice) {
  IndexerLossCall call = one_row({0.4, 0.9, 0.1}, {0.3, -0.2, 0.8}, 1.5);
  call.indices = Tensor::of<std::int32_t>({1, 1, 1, 3}, {1, 0, 1});
  call = with_statistics(call);
  const IndexerLossCall copied = one_row({0.9, 0.4, 0.9}, {-0.2, 0.3, -0.2}, 1.5);  // the same, each key by itself
  const IndexerLossResult twice = reference::indexer_kl_loss(call);
  const IndexerLossResult each = reference::indexer_kl_loss(copied);
  expect_near(twice.loss, each.loss, 1e-15);
  expect_near(twice.query, each.query, 1e-15);
  expect_near(twice.weights, each.weights, 1e-15);
  const double both = number(each.key, {0, 0, 0, 0}) + number(each.key, {0, 2, 0, 0});
  expect_near(twice.key, Tensor::of<double>({1, 3, 1, 1}, {number(each.key, {0, 1, 0, 0}), both, 0.0}), 1e-15);
}

TEST(IndexerKlLoss, EmptyListsAndRowsWithoutKeysGiveZeros) {
  IndexerLossCall call = one_row({0.4, 0.9}, {0.3, -0.2}, 1.5);
  for (const Tensor& lists : {Tensor::of<std::int64_t>({1, 1, 1, 2}, {-1, 0}), Tensor::zeros({1, 1, 1, 0}, DType::kI64)}) {
    call.indices = lists;
    call = with_statistics(call);
    expect_same_bits(reference::indexer_kl_loss(call), {.query = Tensor::zeros({1, 1, 1, 1}, DType::kF64),
                                                        .key = Tensor::zeros({1, 2, 1, 1}, DType::kF64),
                                                        .weights = Tensor::zeros({1, 1, 1}, DType::kF64),
                                                        .loss = Tensor::zeros({1}, DType::kF64)});
  }
  const PlanCase fewer_keys = plan_cases()[2];  // rows 0 and 1 see none
  const IndexerLossResult result = reference::indexer_kl_loss(loss_call(fewer_keys, {4, 2, 4}, DType::kF64, false, true));
  EXPECT_TRUE(same_bits(result.query.slice(1, 0, 2), Tensor::zeros({1, 2, 4, 3}, DType::kF64)));
  EXPECT_TRUE(same_bits(result.weights.slice(1, 0, 2), Tensor::zeros({1, 2, 4}, DType::kF64)));
}

TEST(IndexerKlLoss, WhatDoesNotCountStaysOutAndANanThatCountsIsSeen) {
  IndexerLossCall call = one_row({0.4, 0.9, 0.1}, {0.3, -0.2, 0.8}, 1.5);
  call.indices = Tensor::of<std::int32_t>({1, 1, 1, 2}, {2, 0});
  call = with_statistics(call);
  const IndexerLossResult clean = reference::indexer_kl_loss(call);
  call.key_index.at<double>({0, 1, 0, 0}) = kNan;
  call.key.at<double>({0, 1, 0, 0}) = kNan;
  expect_same_bits(reference::indexer_kl_loss(call), clean);
  call.key_index.at<double>({0, 2, 0, 0}) = kNan;
  EXPECT_TRUE(std::isnan(number(reference::indexer_kl_loss(call).loss, {0})));
}

TEST(IndexerKlLoss, RoundsOnceToEachOperandsDtype) {
  const PlanCase plan = plan_cases()[0];
  for (bool sparse : {false, true}) {
    const IndexerLossCall exact = loss_call(plan, {4, 2, 4}, DType::kF64, sparse, true);
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
      SCOPED_TRACE(to_string(dtype));
      IndexerLossCall call = exact;
      call.query_index = exact.query_index.to(dtype);
      call.key_index = exact.key_index.to(DType::kF16);
      call.weights = exact.weights.to(DType::kF32);
      call.query = exact.query.to(dtype);
      call.key = exact.key.to(dtype);
      IndexerLossCall same_numbers = call;
      for (Tensor* operand : {&same_numbers.query_index, &same_numbers.key_index, &same_numbers.weights,
                              &same_numbers.query, &same_numbers.key}) {
        *operand = operand->to(DType::kF64);
      }
      const IndexerLossResult whole = reference::indexer_kl_loss(same_numbers);
      const Tensor loss = whole.loss.to(dtype == DType::kF64 ? DType::kF64 : DType::kF32);
      expect_same_bits(reference::indexer_kl_loss(call), {.query = whole.query.to(dtype),
                                                          .key = whole.key.to(DType::kF16),
                                                          .weights = whole.weights.to(DType::kF32),
                                                          .loss = loss});
      call.gradient_dtype = DType::kBF16;
      expect_same_bits(reference::indexer_kl_loss(call), {.query = whole.query.to(DType::kBF16),
                                                          .key = whole.key.to(DType::kBF16),
                                                          .weights = whole.weights.to(DType::kBF16),
                                                          .loss = loss});
    }
  }
}

TEST(IndexerKlLoss, DoesNotDependOnStridesOrTheIndicesDtype) {
  for (const PlanCase& plan : plan_cases()) {
    SCOPED_TRACE(plan.name);
    const IndexerLossCall call = loss_call(plan, {4, 2, 4}, DType::kF32, true, true);
    IndexerLossCall strided = call;
    strided.indices = call.indices->to(DType::kI64);
    for (Tensor* operand :
         {&strided.query_index, &strided.key_index, &strided.weights, &strided.query, &strided.key, &strided.softmax_max,
          &strided.softmax_sum, &*strided.indices, &*strided.query_rope, &*strided.key_rope}) {
      *operand = restrided(*operand);
    }
    expect_same_bits(reference::indexer_kl_loss(call), reference::indexer_kl_loss(strided));
  }
}

TEST(IndexerKlLoss, CutsOfTheRowsGiveTheirQueriesAndAddUpOverKeysAndLoss) {
  for (const PlanCase& plan : plan_cases()) {
    const IndexerLossCall call = loss_call(plan, {4, 2, 4}, DType::kF64, true, true);
    const IndexerLossResult whole = reference::indexer_kl_loss(call);
    for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
      SCOPED_TRACE(plan.name + ", cut at row " + std::to_string(cut));
      const auto part = [&](std::int64_t begin, std::int64_t end) {
        IndexerLossCall local = call;
        local.plan = rows_of_plan(plan.plan, begin, end);
        for (Tensor* operand : {&local.query_index, &local.weights, &local.query, &*local.query_rope, &*local.indices}) {
          *operand = operand->slice(1, begin, end);
        }
        local.softmax_max = call.softmax_max.slice(2, begin, end);
        local.softmax_sum = call.softmax_sum.slice(2, begin, end);
        const IndexerLossResult result = reference::indexer_kl_loss(local);
        EXPECT_TRUE(same_bits(result.query, whole.query.slice(1, begin, end)));
        EXPECT_TRUE(same_bits(result.weights, whole.weights.slice(1, begin, end)));
        return result;
      };
      const IndexerLossResult head = part(0, cut);
      const IndexerLossResult tail = part(cut, plan.s);
      expect_near(sum_of(head.key, tail.key), whole.key, 1e-14);
      expect_near(sum_of(head.loss, tail.loss), whole.loss, 1e-14);
    }
  }
}

TEST(IndexerKlLoss, AnyDimMayBeEmpty) {
  // b, s, t, k, index heads, c
  const std::int64_t sizes[][6] = {{0, 2, 2, 1, 2, 3}, {1, 0, 2, 1, 2, 3}, {1, 2, 0, 1, 2, 3},
                                   {1, 2, 2, 0, 0, 3}, {1, 2, 2, 1, 0, 3}, {1, 2, 2, 1, 2, 0}};
  for (const auto& [b, s, t, k, h, c] : sizes) {
    const std::int64_t n = 2 * k;
    IndexerLossCall call{.query_index = sample({b, s, h, 3}, DType::kF64, 1),
                         .key_index = sample({b, t, k, 3}, DType::kF64, 2),
                         .weights = sample({b, s, h}, DType::kF64, 3),
                         .query = sample({b, s, n, 3}, DType::kF64, 4),
                         .key = sample({b, t, k, 3}, DType::kF64, 5),
                         .softmax_max = {},
                         .softmax_sum = {},
                         .plan = {},
                         .indices = Tensor::zeros({b, s, k, c}, DType::kI32)};
    if (b > 0) call.plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    call = with_statistics(call);
    const IndexerLossResult result = reference::indexer_kl_loss(call);
    EXPECT_EQ(to_string(result.query), to_string(call.query_index));
    EXPECT_EQ(to_string(result.key), to_string(call.key_index));
    EXPECT_EQ(to_string(result.weights), to_string(call.weights));
    EXPECT_TRUE(same_bits(result.key, Tensor::zeros(call.key_index.shape(), DType::kF64)));
    EXPECT_EQ(number(result.loss, {0}), 0);  // without index heads too: the list names key 0 twice, and p is y
  }
}

TEST(IndexerKlLoss, ErrorsNameOperandsAndValues) {
  IndexerLossCall call{.query_index = Tensor::zeros({1, 2, 4, 3}, DType::kF32),
                       .key_index = Tensor::zeros({1, 5, 2, 3}, DType::kF32),
                       .weights = Tensor::zeros({1, 2, 4}, DType::kF32),
                       .query = Tensor::zeros({1, 2, 6, 8}, DType::kF32),
                       .key = Tensor::zeros({1, 5, 2, 8}, DType::kF32),
                       .softmax_max = {},
                       .softmax_sum = {},
                       .plan = {{segment(0, 0, 2, 0, 5, 4, 1)}}};
  call = with_statistics(call);
  const auto expect_refused = [&](auto change, const std::string& code, const std::string& text) {
    IndexerLossCall changed = call;
    change(changed);
    expect_error([&] { reference::indexer_kl_loss(changed); }, code, "indexer_kl_loss: " + text);
  };
  using Call = IndexerLossCall;
  expect_refused(
      [](Call& c) {
        c.indices = Tensor::of<std::int64_t>({1, 2, 2, 1}, {0, 5, 1, 1});
      },
      "index-out-of-range",
      "slot 0 of row 0 (batch 0, key head 1) names block 5, but its sequence of 5 keys has 5 blocks of 1\n"
      "  hint       count blocks from the start of the row's own sequence, and end the list with -1");
  expect_refused(
      [](Call& c) {
        c.indices = Tensor::zeros({1, 2, 2, 1}, DType::kF32);
      },
      "dtype",
      "indices is f32, but must be i32 or i64\n"
      "  hint       convert indices to i64");
  expect_refused(
      [](Call& c) {
        c.indices = Tensor::zeros({1, 2, 1, 4}, DType::kI32);
      },
      "shape-mismatch",
      "indices has size 1 in dim 2 (k), but key has size 2 in its dim 2\n"
      "  hint       key is [b, t, k, d] and indices is [b, s, k, c]: give both the same k");
  expect_refused(
      [](Call& c) {
        c.query_index = Tensor::zeros({1, 2, 3, 3}, DType::kF32);
        c.weights = Tensor::zeros({1, 2, 3}, DType::kF32);
      },
      "shape-mismatch",
      "query_index's 3 heads (dim 2) are no multiple of key_index's 2 (dim 2)\n"
      "  hint       give key_index a number of heads that divides 3");
  expect_refused(
      [](Call& c) {
        c.weights = Tensor::zeros({1, 2, 2}, DType::kF32);
      },
      "shape-mismatch",
      "weights has size 2 in dim 2 (h), but query_index has size 4 in its dim 2\n"
      "  hint       query_index is [b, s, h, i] and weights is [b, s, h]: give both the same h");
  expect_refused(
      [](Call& c) {
        c.softmax_max = Tensor::zeros({1, 2, 2}, DType::kF32);
      },
      "shape-mismatch",
      "softmax_max [1, 2, 2] has 3 dims, but must have 4: [b, k, s, g]\n"
      "  hint       reshape softmax_max to [b, k, s, g]");
  expect_refused(
      [](Call& c) {
        c.key_rope = Tensor::zeros({1, 5, 2, 3}, DType::kF32);
      },
      "rope-parts",
      "key_rope is given without query_rope\n"
      "  hint       give both rope parts, or neither");
  expect_refused([](Call& c) { c.gradient_dtype = DType::kBool; }, "dtype",
                 "gradient_dtype is bool, but must be a float\n"
                 "  hint       leave gradient_dtype out, or ask for f32");
  expect_refused([](Call& c) { c.plan.segments[0].key_base = 1; }, "plan-out-of-range",
                 "segment 0 of the plan lets row 1 see keys [0, 5), which lie from row 1 on, but key has 5 rows (dim 1)\n"
                 "  hint       build the plan for the local query and key that the call gets");
}

}  // namespace
}  // namespace tessera::kernels
