// The fast lightning indexer against the reference: the keys it chooses, their scores and statistics, on every instruction
// set.
#include "kernels/lightning_indexer.h"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "support/parallel.h"
#include "tests/kernels/cpu/agreement.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct IndexerSizes {
  std::int64_t b, k, f, s, t, d;  // f index heads on each of k key heads
};

IndexerSizes random_sizes(Draw& draw) {
  return {.b = draw.between(1, 2),
          .k = draw.of<std::int64_t>({1, 1, 2, 3}),
          .f = draw.of<std::int64_t>({1, 2, 3, 8, 16, 24, 64}),
          .s = draw.chance(40) ? draw.between(1, 3) : draw.between(1, 40),
          .t = draw.chance(10) ? draw.between(0, 3) : draw.between(1, 260),
          .d = draw.of<std::int64_t>({16, 64, 128, draw.between(1, 100)})};
}

IndexerCall random_call(Draw& draw, DType dtype, const IndexerSizes& size) {
  Tensor weights =
      random_normal({size.b, size.s, size.k * size.f}, draw.of({dtype, dtype, DType::kF32}), draw.seed(), "weights");
  if (draw.chance(30)) weights = restrided(weights);
  return {.query = scattered(draw, {size.b, size.s, size.k * size.f, size.d}, dtype),
          .key = scattered(draw, {size.b, size.t, size.k, size.d}, dtype),
          .weights = weights,
          .plan = random_plan(draw, size.b, size.s, size.t),
          .count = draw.of<std::int64_t>({1, 5, 64, size.t, draw.between(0, 300)})};
}

IndexerCall in_pages(Draw& draw, IndexerCall call) {
  const Paged pages = paged(call.key, draw.of<std::int64_t>({1, 3, 16, 64}), draw.of({DType::kI32, DType::kI64}));
  call.key = pages.blocks;
  call.block_table = pages.table;
  return call;
}

IndexerLseCall statistics_call(const IndexerCall& call) {
  return {.query = call.query, .key = call.key, .weights = call.weights, .plan = call.plan};
}

/// What the fast kernels must come near to.
struct Exact {
  IndexerResult order;  ///< every key of every row, with exact scores
  LseResult statistics;
  double most = 0;  ///< the largest score's magnitude
  double error =
      0;  ///< that float32 may leave in a score: 2e-6 of the largest, and of what heads of opposite weights cancel
};

Exact exact_results(const IndexerCall& call) {
  IndexerCall all = call;
  all.query = call.query.to(DType::kF64);
  all.count = call.key.size(1);
  IndexerLseCall lse = statistics_call(all);
  Exact exact{.order = reference::lightning_indexer(all), .statistics = reference::indexer_softmax_lse(lse)};
  for (const double score : exact.order.values.span<double>()) {
    if (!std::isinf(score)) exact.most = std::max(exact.most, std::abs(score));
  }
  lse.weights = call.weights.to(DType::kF64).clone();
  for (double& weight : lse.weights.span<double>()) weight = std::abs(weight);
  exact.error = 2e-6 * exact.most + std::ldexp(largest(reference::indexer_softmax_lse(lse).softmax_max), -23);
  return exact;
}

/// What one row and key head chose, and what the exact order is.
struct RowCase {
  std::vector<std::int64_t> keys, exact_keys;  // without the -1 behind
  std::vector<double> values, exact_scores;
};

/// Expects the chosen keys to be the best within `tolerance`, in order, and the very best in exact order where scores are
/// further apart than that.
void expect_best(const RowCase& row, std::int64_t count, double tolerance, double value_tolerance) {
  const std::size_t want = std::min(static_cast<std::size_t>(count), row.exact_keys.size());
  ASSERT_EQ(row.keys.size(), want);
  std::map<std::int64_t, double> scores;
  for (std::size_t i = 0; i < row.exact_keys.size(); ++i) scores[row.exact_keys[i]] = row.exact_scores[i];
  double before = kInfinity;
  bool apart = true;
  for (std::size_t i = 0; i < want; ++i) {
    ASSERT_EQ(scores.count(row.keys[i]), 1U) << "key " << row.keys[i] << " is not visible, or was chosen before";
    const double score = scores[row.keys[i]];
    scores.erase(row.keys[i]);
    EXPECT_GE(score, row.exact_scores[want - 1] - tolerance) << "slot " << i;
    EXPECT_LE(score, before + tolerance) << "slot " << i;
    EXPECT_NEAR(row.values[i], score, value_tolerance) << "slot " << i;
    before = score;
    apart = apart && (i + 1 >= row.exact_scores.size() || row.exact_scores[i] - row.exact_scores[i + 1] > tolerance);
  }
  if (apart) {
    EXPECT_TRUE(std::equal(row.keys.begin(), row.keys.end(), row.exact_keys.begin()));
  }
}

void expect_best_keys(const IndexerResult& actual, const Exact& exact, DType dtype) {
  const Shape& shape = actual.indices.shape();
  ASSERT_EQ(to_string(actual.values.shape()), to_string(shape));
  ASSERT_EQ(actual.values.dtype(), dtype);
  ASSERT_EQ(actual.indices.dtype(), DType::kI32);
  const Tensor values = actual.values.to(DType::kF64);
  const std::int64_t count = shape[3];
  const std::int64_t all = exact.order.indices.size(3);
  for (std::int64_t row = 0; row < shape[0] * shape[1] * shape[2]; ++row) {
    RowCase own;
    for (std::int64_t i = 0; i < all; ++i) {
      const auto at = static_cast<std::size_t>(row * all + i);
      if (exact.order.indices.span<std::int32_t>()[at] < 0) break;
      own.exact_keys.push_back(exact.order.indices.span<std::int32_t>()[at]);
      own.exact_scores.push_back(exact.order.values.span<double>()[at]);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(row * count + i);
      const std::int32_t key = actual.indices.span<std::int32_t>()[at];
      const double value = values.span<double>()[at];
      if (i >= static_cast<std::int64_t>(own.exact_keys.size())) {
        ASSERT_EQ(key, -1) << "row " << row << ", slot " << i;
        ASSERT_EQ(value, -kInfinity) << "row " << row << ", slot " << i;
      } else {
        own.keys.push_back(key);
        own.values.push_back(value);
      }
    }
    SCOPED_TRACE("row " + std::to_string(row));
    const double rounding = dtype == DType::kF32 ? 0 : allowed_error(dtype) * exact.most;
    expect_best(own, count, 2 * exact.error, exact.error + rounding);
    if (testing::Test::HasFailure()) return;
  }
}

/// Sums are relative to the maxima as returned, and off by what the scores' errors become in exponentials.
void expect_statistics(const LseResult& actual, const Exact& exact) {
  const LseResult& statistics = exact.statistics;
  expect_close("softmax_max", actual.softmax_max, statistics.softmax_max, 0, exact.error);
  for (std::size_t i = 0; i < statistics.softmax_sum.span<double>().size(); ++i) {
    const double shift =
        statistics.softmax_max.span<double>()[i] - static_cast<double>(actual.softmax_max.span<float>()[i]);
    const double sum = statistics.softmax_sum.span<double>()[i] * std::exp(shift);
    EXPECT_NEAR(static_cast<double>(actual.softmax_sum.span<float>()[i]), sum, (2e-6 + 2 * exact.error) * sum)
        << "row " << i;
  }
}

class CpuIndexer : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Storage, CpuIndexer, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& storage) { return std::string(to_string(storage.param)); });

TEST_P(CpuIndexer, ChoosesTheBestKeys) {
  Draw draw(1);
  with_calls(120, [&](int) {
    const IndexerSizes size = random_sizes(draw);
    const IndexerCall call = random_call(draw, GetParam(), size);
    const Exact exact = exact_results(call);
    const IndexerCall paged_call = in_pages(draw, call);
    with_every_isa([&] {
      const IndexerResult result = cpu::lightning_indexer(call);
      expect_best_keys(result, exact, GetParam());
      const IndexerResult from_pages = cpu::lightning_indexer(paged_call);
      EXPECT_TRUE(same_bits(from_pages.indices, result.indices));
      EXPECT_TRUE(same_bits(from_pages.values, result.values));
      expect_statistics(cpu::indexer_softmax_lse(statistics_call(call)), exact);
    });
  });
}

TEST_P(CpuIndexer, ChoosesAmongManyKeysInPieces) {
  Draw draw(2);
  for (const std::int64_t count : {1, 700, 5000}) {
    SCOPED_TRACE("count " + std::to_string(count));
    const IndexerSizes size{.b = 1, .k = 1, .f = 8, .s = 3, .t = 9000, .d = 16};
    IndexerCall call = random_call(draw, GetParam(), size);
    call.plan = {{{.count = 3, .length = 9000, .limit = 6000, .limit_step = 1}}};
    call.count = count;
    const Exact exact = exact_results(call);
    with_every_isa([&] {
      const IndexerResult result = cpu::lightning_indexer(call);
      expect_best_keys(result, exact, GetParam());
      const LseResult own = cpu::indexer_softmax_lse(statistics_call(call));
      expect_statistics(own, exact);
      const ThreadShare alone(1);
      EXPECT_TRUE(same_bits(cpu::lightning_indexer(call).indices, result.indices));
      EXPECT_TRUE(same_bits(cpu::indexer_softmax_lse(statistics_call(call)).softmax_sum, own.softmax_sum));
    });
  }
}

/// Small whole numbers: every score is exact, and many are the same.
IndexerCall call_of_integers(Draw& draw, DType dtype, const IndexerSizes& size) {
  IndexerCall call = random_call(draw, dtype, size);
  const auto integers = [&](const Shape& shape) { return random_integers(shape, dtype, -1, 2, draw.seed(), "integers"); };
  call.query.copy_from(integers(call.query.shape()));
  call.key.copy_from(integers(call.key.shape()));
  call.weights = integers(call.weights.shape());
  return call;
}

TEST_P(CpuIndexer, GivesTiesToTheLowerKey) {
  Draw draw(3);
  with_calls(60, [&](int i) {
    IndexerSizes size = random_sizes(draw);
    size.d = draw.between(1, 5);
    if (i % 10 == 0) size = {.b = 1, .k = 1, .f = 2, .s = 2, .t = 5000, .d = 2};
    const IndexerCall call = call_of_integers(draw, GetParam(), size);
    const IndexerResult expected = reference::lightning_indexer(call);
    const Tensor expected_values = expected.values.to(DType::kF64);
    with_every_isa([&] {
      const IndexerResult actual = cpu::lightning_indexer(call);
      EXPECT_TRUE(same_bits(actual.indices, expected.indices));
      const Tensor values = actual.values.to(DType::kF64);
      EXPECT_TRUE(std::ranges::equal(values.span<double>(), expected_values.span<double>()));
    });
  });
}

TEST_P(CpuIndexer, ShowsNaNsInTheirRowsAlone) {
  Draw draw(4);
  const IndexerSizes size{.b = 1, .k = 1, .f = 8, .s = 9, .t = 150, .d = 24};
  IndexerCall call = random_call(draw, GetParam(), size);
  call.plan = {{{.count = 9, .length = 150, .limit = 80, .limit_step = 1}}};
  call.count = 40;
  with_every_isa([&] {
    const IndexerResult before = cpu::lightning_indexer(call);
    const LseResult statistics = cpu::indexer_softmax_lse(statistics_call(call));
    const Tensor nan = Tensor::of<double>({1}, {kNan}).to(GetParam());
    IndexerCall with_key = call;
    with_key.key = call.key.clone();
    with_key.key.select(1, 84).copy_from(nan.broadcast_to({1, 1, 24}));  // rows 5 to 8 see it
    IndexerCall with_query = call;
    with_query.query = call.query.clone();
    with_query.query.select(1, 3).select(1, 2).copy_from(nan.broadcast_to({1, 24}));
    const IndexerResult of_key = cpu::lightning_indexer(with_key);
    const IndexerResult of_query = cpu::lightning_indexer(with_query);
    const LseResult lse_of_key = cpu::indexer_softmax_lse(statistics_call(with_key));
    const LseResult lse_of_query = cpu::indexer_softmax_lse(statistics_call(with_query));
    for (std::int64_t row = 0; row < size.s; ++row) {
      SCOPED_TRACE("row " + std::to_string(row));
      const auto same = [&](const IndexerResult& result, const LseResult& lse) {
        return same_bits(result.indices.select(1, row), before.indices.select(1, row)) &&
               same_bits(result.values.select(1, row), before.values.select(1, row)) &&
               same_bits(lse.softmax_max.select(2, row), statistics.softmax_max.select(2, row)) &&
               same_bits(lse.softmax_sum.select(2, row), statistics.softmax_sum.select(2, row));
      };
      EXPECT_EQ(same(of_key, lse_of_key), row < 5);
      if (row >= 5) {
        EXPECT_EQ(number(of_key.indices, {0, row, 0, 0}), 84);
        EXPECT_TRUE(std::isnan(number(of_key.values, {0, row, 0, 0})));
        EXPECT_FALSE(std::isnan(number(of_key.values, {0, row, 0, 1})));
        EXPECT_TRUE(std::isnan(number(lse_of_key.softmax_max, {0, 0, row})));
        EXPECT_TRUE(std::isnan(number(lse_of_key.softmax_sum, {0, 0, row})));
      }
      EXPECT_EQ(same(of_query, lse_of_query), row != 3);
      if (row == 3) {
        for (std::int64_t i = 0; i < call.count; ++i) {
          EXPECT_EQ(number(of_query.indices, {0, 3, 0, i}), static_cast<double>(i));
          EXPECT_TRUE(std::isnan(number(of_query.values, {0, 3, 0, i})));
        }
        EXPECT_TRUE(std::isnan(number(lse_of_query.softmax_max, {0, 0, 3})));
      }
    }
  });
}

TEST_P(CpuIndexer, RowsDoNotDependOnOthers) {
  Draw draw(5);
  for (int i = 0; i < 10; ++i) {
    const IndexerSizes size = random_sizes(draw);
    const IndexerCall call = random_call(draw, GetParam(), size);
    with_every_isa([&] {
      const IndexerResult all = cpu::lightning_indexer(call);
      const LseResult statistics = cpu::indexer_softmax_lse(statistics_call(call));
      for (std::int64_t row = 0; row < size.s; row += 2) {
        IndexerCall alone = call;
        alone.query = call.query.slice(1, row, row + 1);
        alone.weights = call.weights.slice(1, row, row + 1);
        alone.plan = rows_of_plan(call.plan, row, row + 1);
        const IndexerResult own = cpu::lightning_indexer(alone);
        EXPECT_TRUE(same_bits(own.indices, all.indices.slice(1, row, row + 1)));
        EXPECT_TRUE(same_bits(own.values, all.values.slice(1, row, row + 1)));
        const LseResult of_row = cpu::indexer_softmax_lse(statistics_call(alone));
        EXPECT_TRUE(same_bits(of_row.softmax_max, statistics.softmax_max.slice(2, row, row + 1)));
        EXPECT_TRUE(same_bits(of_row.softmax_sum, statistics.softmax_sum.slice(2, row, row + 1)));
      }
    });
  }
}

TEST(CpuIndexerRefusal, TakesF32BF16AndF16) {
  Draw draw(6);
  const IndexerSizes size{.b = 1, .k = 1, .f = 2, .s = 2, .t = 5, .d = 4};
  IndexerCall call = random_call(draw, DType::kF32, size);
  call.weights = call.weights.to(DType::kBF16);
  EXPECT_EQ(cpu::refusal(call), "");
  EXPECT_EQ(cpu::refusal(statistics_call(call)), "");
  call.weights = call.weights.to(DType::kF64);
  EXPECT_EQ(cpu::refusal(call), "weights is f64, not f32, bf16 or f16");
  EXPECT_EQ(cpu::refusal(statistics_call(call)), "weights is f64, not f32, bf16 or f16");
  call.key = call.key.to(DType::kF16);
  EXPECT_EQ(cpu::refusal(call), "query is f32, key is f16");
  call.query = call.query.to(DType::kF64);
  EXPECT_EQ(cpu::refusal(call), "query is f64, not f32, bf16 or f16");
}

}  // namespace
}  // namespace tessera::kernels
