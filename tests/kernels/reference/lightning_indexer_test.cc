// The reference of the lightning indexer against plain loops.
#include "kernels/lightning_indexer.h"

#include <limits>

#include "kernels/attention.h"
#include "kernels/sparse_attention.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Operands {
  Tensor query, key, weights;
};

Operands operands(const PlanCase& plan, std::int64_t h, std::int64_t k, DType dtype) {
  return {sample({plan.b, plan.s, h, 3}, dtype, 1), sample({plan.b, plan.t, k, 3}, dtype, 2),
          sample({plan.b, plan.s, h}, DType::kF32, 3)};
}

IndexerResult pick(const Operands& o, const RowPlan& plan, std::int64_t count) {
  return reference::lightning_indexer({.query = o.query, .key = o.key, .weights = o.weights, .plan = plan, .count = count});
}

LseResult lse_of(const Operands& o, const RowPlan& plan) {
  return reference::indexer_softmax_lse({.query = o.query, .key = o.key, .weights = o.weights, .plan = plan});
}

double expected_score(const Operands& o, std::int64_t b, std::int64_t row, std::int64_t kh, std::int64_t key_row) {
  const std::int64_t group = o.query.size(2) / o.key.size(2);
  double score = 0;
  for (std::int64_t h = kh * group; h < (kh + 1) * group; ++h) {
    double product = 0;
    for (std::int64_t d = 0; d < o.query.size(3); ++d)
      product += number(o.query, {b, row, h, d}) * number(o.key, {b, key_row, kh, d});
    score += number(o.weights, {b, row, h}) * std::max(0.0, product);
  }
  return score;
}

// Key numbers, best first: how many visible keys beat a key (or tie with it and come before) is its rank.
std::vector<std::int64_t> expected_order(const Operands& o, const SeenBy& seen, std::int64_t b, std::int64_t row,
                                         std::int64_t kh) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(std::max<std::int64_t>(0, seen.end - seen.begin)));
  for (std::int64_t key = seen.begin; key < seen.end; ++key) {
    const double score = expected_score(o, b, row, kh, seen.base + key);
    std::size_t rank = 0;
    for (std::int64_t other = seen.begin; other < seen.end; ++other) {
      const double against = expected_score(o, b, row, kh, seen.base + other);
      if (against > score + 1e-12 || (std::abs(against - score) <= 1e-12 && other < key)) ++rank;
    }
    order[rank] = key;
  }
  return order;
}

void expect_indexer(const IndexerResult& actual, const Operands& o, const RowPlan& plan, std::int64_t count) {
  const Shape shape = {o.query.size(0), o.query.size(1), o.key.size(2), count};
  const auto chosen = [&](const Index& i) -> std::int64_t {
    const std::vector<std::int64_t> order = expected_order(o, seen_by(plan, i[0], i[1]), i[0], i[1], i[2]);
    return static_cast<std::size_t>(i[3]) < order.size() ? order[static_cast<std::size_t>(i[3])] : -1;
  };
  expect_elements(actual.indices, shape, DType::kI32, [&](const Index& i) { return static_cast<double>(chosen(i)); });
  expect_elements(actual.values, shape, o.query.dtype(), [&](const Index& i) {
    const std::int64_t key = chosen(i);
    return key < 0 ? -kInfinity : expected_score(o, i[0], i[1], i[2], seen_by(plan, i[0], i[1]).base + key);
  });
}

TEST(LightningIndexer, AgreesWithPlainLoopsForEveryPlanAndCount) {
  for (const PlanCase& plan : plan_cases()) {
    for (const auto& [h, k] : {std::pair(1, 1), std::pair(4, 1), std::pair(4, 2)}) {
      const Operands o = operands(plan, h, k, DType::kF64);
      for (std::int64_t count : {0, 1, 3, 12}) {
        SCOPED_TRACE(plan.name + ", heads " + std::to_string(h) + ", count " + std::to_string(count));
        expect_indexer(pick(o, plan.plan, count), o, plan.plan, count);
      }
    }
  }
}

TEST(LightningIndexer, RoundsOnceToTheQueriesDtype) {
  const PlanCase plan = plan_cases()[0];
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(to_string(dtype));
    const Operands o = operands(plan, 4, 1, dtype);
    expect_indexer(pick(o, plan.plan, 3), o, plan.plan, 3);
  }
}

TEST(LightningIndexer, DoesNotDependOnStrides) {
  for (const PlanCase& plan : plan_cases()) {
    const Operands o = operands(plan, 4, 2, DType::kF32);
    const IndexerResult a = pick(o, plan.plan, 3);
    const IndexerResult b = pick({restrided(o.query), restrided(o.key), restrided(o.weights)}, plan.plan, 3);
    EXPECT_TRUE(same_bits(a.indices, b.indices)) << plan.name;
    EXPECT_TRUE(same_bits(a.values, b.values)) << plan.name;
  }
}

TEST(LightningIndexer, CuttingTheRowsIntoTwoCallsChangesNoBit) {
  for (const PlanCase& plan : plan_cases()) {
    const Operands o = operands(plan, 6, 2, DType::kF64);
    const IndexerResult whole = pick(o, plan.plan, 4);
    const LseResult lse = lse_of(o, plan.plan);
    for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
      for (const auto& [begin, end] : {std::pair(std::int64_t{0}, cut), std::pair(cut, plan.s)}) {
        SCOPED_TRACE(plan.name + ", rows " + std::to_string(begin) + " to " + std::to_string(end));
        const Tensor query = o.query.slice(1, begin, end);
        const Tensor weights = o.weights.slice(1, begin, end);
        const RowPlan local = rows_of_plan(plan.plan, begin, end);
        const IndexerResult part = pick({query, o.key, weights}, local, 4);
        EXPECT_TRUE(same_bits(part.indices, whole.indices.slice(1, begin, end)));
        EXPECT_TRUE(same_bits(part.values, whole.values.slice(1, begin, end)));
        const LseResult lse_part = lse_of({query, o.key, weights}, local);
        EXPECT_TRUE(same_bits(lse_part.softmax_max, lse.softmax_max.slice(2, begin, end)));
        EXPECT_TRUE(same_bits(lse_part.softmax_sum, lse.softmax_sum.slice(2, begin, end)));
      }
    }
  }
}

TEST(LightningIndexer, KeysInBlocksGiveTheSameBits) {
  for (const PlanCase& plan : plan_cases()) {
    for (std::int64_t rows : {1, 3, 16}) {
      const Operands o = operands(plan, 4, 2, DType::kF32);
      const Paged key = paged(o.key, rows, DType::kI32);
      const IndexerResult plain = pick(o, plan.plan, 3);
      const IndexerResult in_blocks = reference::lightning_indexer({.query = o.query,
                                                                    .key = key.blocks,
                                                                    .weights = o.weights,
                                                                    .plan = plan.plan,
                                                                    .count = 3,
                                                                    .block_table = key.table});
      EXPECT_TRUE(same_bits(in_blocks.indices, plain.indices)) << plan.name;
      EXPECT_TRUE(same_bits(in_blocks.values, plain.values)) << plan.name;
    }
  }
}

// One row, one head of width 1: query 1, so the scores are weight * max(0, key).
IndexerResult pick_of(const std::vector<double>& keys, double weight, std::int64_t limit, std::int64_t count) {
  const auto t = static_cast<std::int64_t>(keys.size());
  return pick({Tensor::of<double>({1, 1, 1, 1}, {1.0}), Tensor::of<double>({1, t, 1, 1}, keys),
               Tensor::of<double>({1, 1, 1}, {weight})},
              {{segment(0, 0, 1, 0, t, limit, 0)}}, count);
}

std::vector<std::int32_t> indices_of(const IndexerResult& result) {
  return {result.indices.span<std::int32_t>().begin(), result.indices.span<std::int32_t>().end()};
}

TEST(LightningIndexer, TiesGoToTheLowerKey) {
  EXPECT_EQ(indices_of(pick_of({1, 3, 2, 3, 2, 3}, 1, 6, 5)), (std::vector<std::int32_t>{1, 3, 5, 2, 4}));
  EXPECT_EQ(indices_of(pick_of({-1, -2, 0, -3}, 1, 4, 3)), (std::vector<std::int32_t>{0, 1, 2}));  // all score 0
}

TEST(LightningIndexer, NegativeScoresAreChosen) {
  const IndexerResult result = pick_of({3, 1, 2, 0}, -2, 3, 4);
  EXPECT_EQ(indices_of(result), (std::vector<std::int32_t>{1, 2, 0, -1}));
  const std::vector<double> values(result.values.span<double>().begin(), result.values.span<double>().end());
  EXPECT_EQ(values, (std::vector<double>{-2, -4, -6, -kInfinity}));
}

TEST(LightningIndexer, ACountBeyondTheLimitTakesAllVisibleKeys) {
  EXPECT_EQ(indices_of(pick_of({1, 2, 3}, 1, 2, 5)), (std::vector<std::int32_t>{1, 0, -1, -1, -1}));
  EXPECT_EQ(indices_of(pick_of({1, 2, 3}, 1, 0, 2)), (std::vector<std::int32_t>{-1, -1}));
  EXPECT_EQ(indices_of(pick_of({1, 2, 3}, 1, -4, 2)), (std::vector<std::int32_t>{-1, -1}));
}

TEST(LightningIndexer, ANanComesFirst) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(indices_of(pick_of({1, nan, 3, nan}, 1, 4, 3)), (std::vector<std::int32_t>{1, 3, 2}));
}

TEST(LightningIndexer, ItsListsAreWhatSparseAttentionTakes) {
  const RowPlan plan{{segment(0, 0, 4, 0, 6, 3, 1)}};
  const Tensor query = sample({1, 4, 2, 3}, DType::kF64, 1);
  const Tensor key = sample({1, 6, 1, 3}, DType::kF64, 2);
  const IndexerResult picked = pick({query, key, sample({1, 4, 2}, DType::kF64, 3)}, plan, 6);
  const AttentionResult sparse =
      reference::sparse_attention({.query = query, .key = key, .value = key, .indices = picked.indices, .plan = plan});
  const AttentionResult dense =
      reference::attention({.query = query, .key = key, .value = key, .plan = plan});  // all visible keys are picked
  expect_elements(sparse.out, {1, 4, 2, 3}, DType::kF64, [&](const Index& i) { return number(dense.out, i); });
}

TEST(IndexerSoftmaxLse, AgreesWithPlainLoopsForEveryPlan) {
  for (const PlanCase& plan : plan_cases()) {
    for (DType dtype : {DType::kF64, DType::kBF16}) {
      SCOPED_TRACE(plan.name);
      const Operands o = operands(plan, 4, 2, dtype);
      const LseResult actual = lse_of(o, plan.plan);
      const auto maximum = [&](const Index& i) {
        const SeenBy seen = seen_by(plan.plan, i[0], i[2]);
        if (seen.begin >= seen.end) return 0.0;
        double max = -kInfinity;
        for (std::int64_t j = seen.begin; j < seen.end; ++j)
          max = std::max(max, expected_score(o, i[0], i[2], i[1], seen.base + j));
        return max;
      };
      const DType statistics = dtype == DType::kF64 ? DType::kF64 : DType::kF32;
      expect_elements(actual.softmax_max, {plan.b, 2, plan.s}, statistics, maximum);
      expect_elements(actual.softmax_sum, {plan.b, 2, plan.s}, statistics, [&](const Index& i) {
        const SeenBy seen = seen_by(plan.plan, i[0], i[2]);
        double sum = 0;
        for (std::int64_t j = seen.begin; j < seen.end; ++j) {
          sum += std::exp(expected_score(o, i[0], i[2], i[1], seen.base + j) - maximum(i));
        }
        return sum;
      });
    }
  }
}

TEST(LightningIndexer, AnyDimMayBeEmpty) {
  // b, s, t, h, k, d
  const std::int64_t sizes[][6] = {{0, 2, 2, 2, 1, 3}, {1, 0, 2, 2, 1, 3}, {1, 2, 0, 2, 1, 3}, {1, 2, 2, 0, 0, 3},
                                   {1, 2, 2, 0, 1, 3}, {1, 2, 2, 2, 1, 0}, {0, 0, 0, 0, 0, 0}};
  for (const auto& [b, s, t, h, k, d] : sizes) {
    RowPlan plan;
    if (b > 0) plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    const Operands o{sample({b, s, h, d}, DType::kF32, 1), sample({b, t, k, d}, DType::kF32, 2),
                     sample({b, s, h}, DType::kF32, 3)};
    const IndexerResult result = pick(o, plan, 2);
    EXPECT_EQ(result.indices.shape(), Shape({b, s, k, 2}));
    EXPECT_EQ(result.values.shape(), Shape({b, s, k, 2}));
    EXPECT_EQ(lse_of(o, plan).softmax_max.shape(), Shape({b, k, s}));
    expect_indexer(result, o, plan, 2);
  }
}

TEST(LightningIndexer, ErrorsNameOperandsAndValues) {
  const Tensor query = Tensor::zeros({1, 2, 4, 8}, DType::kF32);
  const Tensor key = Tensor::zeros({1, 5, 1, 8}, DType::kF32);
  const Tensor weights = Tensor::zeros({1, 2, 4}, DType::kF32);
  expect_error(
      [&] {
        pick({query, key, weights.slice(2, 0, 3)}, {}, 2);
      },
      "shape-mismatch",
      "lightning_indexer: weights has size 3 in dim 2 (h), but query has size 4 in its dim 2\n"
      "  hint       query is [b, s, h, d] and weights is [b, s, h]: give both the same h");
  expect_error(
      [&] {
        pick({query, key, weights}, {}, -1);
      },
      "attribute-range",
      "lightning_indexer: count is -1, but must be 0 or more\n"
      "  hint       set count to the keys to keep for each row");
  expect_error(
      [&] {
        lse_of({query, key.slice(3, 0, 7), weights}, {});
      },
      "shape-mismatch",
      "indexer_softmax_lse: key has size 7 in dim 3 (d), but query has size 8 in its dim 3\n"
      "  hint       query is [b, s, h, d] and key is [b, t, k, d]: give both the same d");
  expect_error(
      [&] {
        lse_of({query, key, weights}, {{segment(0, 0, 2, 3, 3, 3, 0)}});
      },
      "plan-out-of-range",
      "indexer_softmax_lse: segment 0 of the plan lets row 0 see keys [0, 3), which lie from row 3 on, but key has 5 rows "
      "(dim 1)\n"
      "  hint       build the plan for the local query and key that the call gets");
}

}  // namespace
}  // namespace tessera::kernels
