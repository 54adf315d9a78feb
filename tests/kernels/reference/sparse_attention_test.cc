// The reference of attention over index lists against plain loops.
#include "kernels/sparse_attention.h"
#include "kernels/attention.h"
#include "tests/kernels/lists.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

struct Options {
  double scale = 1;
  std::int64_t block_size = 1;
};

struct Operands {
  Tensor query, key, value, indices;
  std::optional<Tensor> query_rope, key_rope;
};

// Keys of a list, as the golden tests gather them.
std::vector<std::int64_t> expected_keys(const Operands& o, const SeenBy& seen, std::int64_t block_size, std::int64_t b,
                                        std::int64_t row, std::int64_t kh) {
  std::vector<std::int64_t> keys;
  if (seen.end <= 0) return keys;
  for (std::int64_t slot = 0; slot < o.indices.size(3) && slot * block_size < seen.end; ++slot) {
    const auto block = static_cast<std::int64_t>(number(o.indices, {b, row, kh, slot}));
    if (block < 0) break;
    for (std::int64_t key = block * block_size; key < (block + 1) * block_size; ++key) {
      if (key >= seen.begin && key < seen.end) keys.push_back(seen.base + key);
    }
  }
  return keys;
}

void expect_attention(const AttentionResult& actual, const Operands& o, const RowPlan& plan, const Options& options) {
  const Shape& q = o.query.shape();
  const std::int64_t k = o.key.size(2);
  const std::int64_t g = q[2] / k;
  struct Expected {
    std::vector<double> out;
    double max = 0, sum = 0;
  };
  const auto row = [&](std::int64_t b, std::int64_t s, std::int64_t n) {
    Expected result{std::vector<double>(static_cast<std::size_t>(o.value.size(3)), 0.0)};
    const std::vector<std::int64_t> keys = expected_keys(o, seen_by(plan, b, s), options.block_size, b, s, n / g);
    std::vector<double> scores;
    for (std::int64_t key : keys) {
      double score = 0;
      for (std::int64_t d = 0; d < q[3]; ++d) score += number(o.query, {b, s, n, d}) * number(o.key, {b, key, n / g, d});
      for (std::int64_t r = 0; o.query_rope && r < o.query_rope->size(3); ++r) {
        score += number(*o.query_rope, {b, s, n, r}) * number(*o.key_rope, {b, key, n / g, r});
      }
      scores.push_back(options.scale * score);
    }
    if (scores.empty()) return result;
    result.max = *std::max_element(scores.begin(), scores.end());
    for (double score : scores) result.sum += std::exp(score - result.max);
    for (std::size_t j = 0; j < keys.size(); ++j) {
      for (std::size_t e = 0; e < result.out.size(); ++e) {
        result.out[e] += std::exp(scores[j] - result.max) / result.sum *
                         number(o.value, {b, keys[j], n / g, static_cast<std::int64_t>(e)});
      }
    }
    return result;
  };
  const DType statistics = o.query.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  expect_elements(actual.out, {q[0], q[1], q[2], o.value.size(3)}, o.query.dtype(),
                  [&](const Index& i) { return row(i[0], i[1], i[2]).out[static_cast<std::size_t>(i[3])]; });
  expect_elements(actual.softmax_max, {q[0], k, q[1], g}, statistics,
                  [&](const Index& i) { return row(i[0], i[2], i[1] * g + i[3]).max; });
  expect_elements(actual.softmax_sum, {q[0], k, q[1], g}, statistics,
                  [&](const Index& i) { return row(i[0], i[2], i[1] * g + i[3]).sum; });
}

SparseAttentionCall call_of(const Operands& o, const RowPlan& plan, const Options& options) {
  return {.query = o.query,
          .key = o.key,
          .value = o.value,
          .indices = o.indices,
          .plan = plan,
          .scale = options.scale,
          .block_size = options.block_size,
          .query_rope = o.query_rope,
          .key_rope = o.key_rope};
}

AttentionResult run(const Operands& o, const RowPlan& plan, const Options& options) {
  return reference::sparse_attention(call_of(o, plan, options));
}

Operands operands(const PlanCase& plan, std::int64_t n, std::int64_t k, std::int64_t block_size, DType dtype, bool rope) {
  Operands o{sample({plan.b, plan.s, n, 3}, dtype, 1),
             sample({plan.b, plan.t, k, 3}, dtype, 2),
             sample({plan.b, plan.t, k, 5}, dtype, 3),
             random_lists(plan, k, 4, block_size, DType::kI32),
             {},
             {}};
  if (rope) {
    o.query_rope = sample({plan.b, plan.s, n, 2}, dtype, 4);
    o.key_rope = sample({plan.b, plan.t, k, 2}, dtype, 5);
  }
  return o;
}

TEST(SparseAttention, AgreesWithPlainLoopsForEveryPlanBlockAndGrouping) {
  for (const PlanCase& plan : plan_cases()) {
    for (std::int64_t block_size : {1, 2, 3, 16}) {
      for (const auto& [n, k] : {std::pair(1, 1), std::pair(4, 1), std::pair(4, 2)}) {
        SCOPED_TRACE(plan.name + ", blocks of " + std::to_string(block_size) + ", heads " + std::to_string(n));
        const Operands o = operands(plan, n, k, block_size, DType::kF64, n == 4);
        const Options options{.scale = 0.6, .block_size = block_size};
        expect_attention(run(o, plan.plan, options), o, plan.plan, options);
      }
    }
  }
}

TEST(SparseAttention, RoundsOnceToTheQueriesDtype) {
  const PlanCase plan = plan_cases()[0];
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    SCOPED_TRACE(to_string(dtype));
    const Operands o = operands(plan, 4, 1, 2, dtype, true);
    expect_attention(run(o, plan.plan, {0.3, 2}), o, plan.plan, {0.3, 2});
  }
}

TEST(SparseAttention, DoesNotDependOnStridesOrTheIndicesDtype) {
  for (const PlanCase& plan : plan_cases()) {
    const Operands o = operands(plan, 4, 2, 2, DType::kF32, true);
    const Operands strided{restrided(o.query),       restrided(o.key),
                           restrided(o.value),       restrided(o.indices.to(DType::kI64)),
                           restrided(*o.query_rope), restrided(*o.key_rope)};
    const AttentionResult a = run(o, plan.plan, {1.0, 2});
    const AttentionResult b = run(strided, plan.plan, {1.0, 2});
    EXPECT_TRUE(same_bits(a.out, b.out)) << plan.name;
    EXPECT_TRUE(same_bits(a.softmax_max, b.softmax_max)) << plan.name;
    EXPECT_TRUE(same_bits(a.softmax_sum, b.softmax_sum)) << plan.name;
  }
}

TEST(SparseAttention, CuttingTheRowsIntoTwoCallsChangesNoBit) {
  for (const PlanCase& plan : plan_cases()) {
    const Operands o = operands(plan, 6, 2, 2, DType::kF64, true);
    const AttentionResult whole = run(o, plan.plan, {0.4, 2});
    for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
      for (const auto& [begin, end] : {std::pair(std::int64_t{0}, cut), std::pair(cut, plan.s)}) {
        SCOPED_TRACE(plan.name + ", rows " + std::to_string(begin) + " to " + std::to_string(end));
        const Operands local{o.query.slice(1, begin, end),       o.key,     o.value, o.indices.slice(1, begin, end),
                             o.query_rope->slice(1, begin, end), o.key_rope};
        const AttentionResult part = run(local, rows_of_plan(plan.plan, begin, end), {0.4, 2});
        EXPECT_TRUE(same_bits(part.out, whole.out.slice(1, begin, end)));
        EXPECT_TRUE(same_bits(part.softmax_max, whole.softmax_max.slice(2, begin, end)));
        EXPECT_TRUE(same_bits(part.softmax_sum, whole.softmax_sum.slice(2, begin, end)));
      }
    }
  }
}

TEST(SparseAttention, ListsOfAllKeysGiveDenseAttentionBitForBit) {
  for (const PlanCase& plan : plan_cases()) {
    Operands o = operands(plan, 4, 2, 1, DType::kF64, false);
    o.indices = Tensor::zeros({plan.b, plan.s, 2, 12}, DType::kI64);
    for (const Index& i : all_indices(o.indices.shape())) {
      const SeenBy seen = seen_by(plan.plan, i[0], i[1]);
      o.indices.at<std::int64_t>({i[0], i[1], i[2], i[3]}) = i[3] < seen.end ? i[3] : -1;
    }
    const AttentionResult dense =
        reference::attention({.query = o.query, .key = o.key, .value = o.value, .plan = plan.plan, .scale = 0.9});
    const AttentionResult sparse = run(o, plan.plan, {0.9, 1});
    EXPECT_TRUE(same_bits(sparse.out, dense.out)) << plan.name;
    EXPECT_TRUE(same_bits(sparse.softmax_max, dense.softmax_max)) << plan.name;
    EXPECT_TRUE(same_bits(sparse.softmax_sum, dense.softmax_sum)) << plan.name;
  }
}

TEST(SparseAttention, KeysInBlocksGiveTheSameBits) {
  for (const PlanCase& plan : plan_cases()) {
    for (std::int64_t rows : {1, 3, 16}) {
      SCOPED_TRACE(plan.name + ", blocks of " + std::to_string(rows) + " rows");
      const Operands o = operands(plan, 4, 2, 2, DType::kF32, true);
      const AttentionResult plain = run(o, plan.plan, {0.4, 2});
      const Paged key = paged(o.key, rows, DType::kI64);
      Operands in_blocks = o;
      in_blocks.key = key.blocks;
      in_blocks.value = paged(o.value, rows, DType::kI64).blocks;
      in_blocks.key_rope = paged(*o.key_rope, rows, DType::kI64).blocks;
      SparseAttentionCall call = call_of(in_blocks, plan.plan, {0.4, 2});
      call.block_table = key.table;
      const AttentionResult result = reference::sparse_attention(call);
      EXPECT_TRUE(same_bits(result.out, plain.out));
      EXPECT_TRUE(same_bits(result.softmax_max, plain.softmax_max));
      EXPECT_TRUE(same_bits(result.softmax_sum, plain.softmax_sum));
    }
  }
}

TEST(SparseAttention, GivesWhatIsAskedForInTheDtypeAskedFor) {
  const PlanCase plan = plan_cases()[0];
  const Operands o = operands(plan, 4, 2, 2, DType::kBF16, true);
  SparseAttentionCall call = call_of(o, plan.plan, {0.4, 2});
  call.out_dtype = DType::kF32;
  call.return_statistics = false;
  const AttentionResult result = reference::sparse_attention(call);
  EXPECT_EQ(result.out.dtype(), DType::kF32);
  EXPECT_TRUE(same_bits(result.out.to(DType::kBF16), run(o, plan.plan, {0.4, 2}).out));
  EXPECT_EQ(result.softmax_max.shape(), Shape{0});
  EXPECT_EQ(result.softmax_sum.shape(), Shape{0});
  call.return_out = false;
  EXPECT_EQ(reference::sparse_attention(call).out.shape(), Shape{0});
}

// One query 0 over keys of score 0 and values 1, 2, 4, 8, ...: `out * sum` tells which keys were taken, and how often.
double values_taken(const std::vector<std::int64_t>& list, std::int64_t length, std::int64_t limit, std::int64_t block_size,
                    std::int64_t key_base = 0) {
  const std::int64_t t = key_base + length;
  Tensor value = Tensor::zeros({1, t, 1, 1}, DType::kF64);
  for (std::int64_t key = 0; key < t; ++key) value.at<double>({0, key, 0, 0}) = std::ldexp(1.0, static_cast<int>(key));
  const Tensor indices = Tensor::of<std::int64_t>({1, 1, 1, static_cast<std::int64_t>(list.size())}, list);
  const AttentionResult result =
      run({Tensor::zeros({1, 1, 1, 1}, DType::kF64), Tensor::zeros({1, t, 1, 1}, DType::kF64), value, indices, {}, {}},
          {{segment(0, 0, 1, key_base, length, limit, 0)}}, {.block_size = block_size});
  return number(result.out, {0, 0, 0, 0}) * number(result.softmax_sum, {0, 0, 0, 0});
}

TEST(SparseAttention, AMinusOneEndsTheList) {
  EXPECT_NEAR(values_taken({2, 0, -1, 3}, 4, 4, 1), 4 + 1, 1e-12);
  EXPECT_EQ(values_taken({-1, 0, 1, 2}, 4, 4, 1), 0);
  EXPECT_EQ(values_taken({}, 4, 4, 1), 0);
}

TEST(SparseAttention, AKeyNamedTwiceCountsTwice) { EXPECT_NEAR(values_taken({1, 1, 2, -1}, 4, 4, 1), 2 + 2 + 4, 1e-12); }

TEST(SparseAttention, ABlockThatCrossesTheLimitGivesItsKeysBelow) {
  EXPECT_NEAR(values_taken({1, 0}, 6, 5, 3), 1 + 2 + 4 + 8 + 16, 1e-12);
  EXPECT_NEAR(values_taken({1}, 6, 6, 4), 16 + 32, 1e-12);                // the last block has 2 keys
  EXPECT_NEAR(values_taken({2, 0, 1}, 6, 3, 2), 1 + 2, 1e-12);            // block 2 starts past it, block 1 is in slot 2
  EXPECT_NEAR(values_taken({0}, 3, 3, std::int64_t{1} << 62), 7, 1e-12);  // a block larger than everything
}

TEST(SparseAttention, SlotsBeyondTheLimitAreNotRead) {
  EXPECT_EQ(values_taken({3, 0, 1, 2}, 4, 1, 1), 0);  // row 0 reads slot 0 only, which names a key that it does not see
  EXPECT_NEAR(values_taken({3, 0, 1, 2}, 4, 2, 1), 1, 1e-12);
  EXPECT_NEAR(values_taken({3, 0, 1, 2}, 4, 4, 1), 15, 1e-12);
  EXPECT_NEAR(values_taken({0, 99}, 4, 1, 1), 1, 1e-12);  // nor judged
}

TEST(SparseAttention, NumbersCountFromTheRowsOwnSequence) {
  EXPECT_NEAR(values_taken({1, 0}, 3, 3, 1, 5), 32 + 64, 1e-12);
  EXPECT_NEAR(values_taken({1, 0}, 3, 3, 2, 5), 32 + 64 + 128, 1e-12);
}

TEST(SparseAttention, AnyDimMayBeEmpty) {
  // b, s, t, n, k, c
  const std::int64_t sizes[][6] = {{0, 2, 2, 2, 1, 3}, {1, 0, 2, 2, 1, 3}, {1, 2, 0, 2, 1, 3}, {1, 2, 2, 0, 0, 3},
                                   {1, 2, 2, 0, 2, 3}, {1, 2, 2, 2, 1, 0}, {0, 0, 0, 0, 0, 0}};
  for (const auto& [b, s, t, n, k, c] : sizes) {
    RowPlan plan;
    if (b > 0) plan.segments.push_back(segment(0, 0, s, 0, t, t, 0));
    const AttentionResult result = run({sample({b, s, n, 3}, DType::kF32, 1), sample({b, t, k, 3}, DType::kF32, 2),
                                        sample({b, t, k, 2}, DType::kF32, 3), Tensor::zeros({b, s, k, c}, DType::kI32),
                                        sample({b, s, n, 0}, DType::kF32, 4), sample({b, t, k, 0}, DType::kF32, 5)},
                                       plan, {});
    EXPECT_EQ(result.out.shape(), Shape({b, s, n, 2}));
    EXPECT_EQ(result.softmax_max.shape(), Shape({b, k, s, k == 0 ? 0 : n / k}));
    EXPECT_EQ(result.softmax_sum.shape(), result.softmax_max.shape());
    EXPECT_TRUE((t > 0 && c > 0) || same_bits(result.out, Tensor::zeros({b, s, n, 2}, DType::kF32)));
  }
}

TEST(SparseAttention, ErrorsNameOperandsAndValues) {
  const Tensor query = Tensor::zeros({1, 2, 4, 8}, DType::kF32);
  const Tensor key = Tensor::zeros({1, 5, 1, 8}, DType::kF32);
  const Tensor lists = Tensor::of<std::int32_t>({1, 2, 1, 2}, {0, 1, 1, 3});
  const Tensor query_rope = Tensor::zeros({1, 2, 4, 3}, DType::kF32);
  const Tensor key_rope = Tensor::zeros({1, 5, 1, 3}, DType::kF32);
  const RowPlan plan{{segment(0, 0, 2, 0, 5, 4, 1)}};
  expect_error(
      [&] {
        run({query, key, key, lists, {}, {}}, plan, {.block_size = 2});
      },
      "index-out-of-range",
      "sparse_attention: slot 1 of row 1 (batch 0, key head 0) names block 3, but its sequence of 5 keys has 3 "
      "blocks of 2\n"
      "  hint       count blocks from the start of the row's own sequence, and end the list with -1");
  expect_error(
      [&] {
        run({query, key, key, lists, {}, {}}, plan, {.block_size = 0});
      },
      "attribute-range",
      "sparse_attention: block_size is 0, but a slot names at least 1 key\n"
      "  hint       set block_size to 1 where slots name single keys");
  expect_error(
      [&] {
        run({query, key, key, lists, query_rope, {}}, plan, {});
      },
      "rope-parts",
      "sparse_attention: query_rope is given without key_rope\n"
      "  hint       give both rope parts, or neither");
  expect_error(
      [&] {
        run({query, key, key, lists, {}, key_rope}, plan, {});
      },
      "rope-parts",
      "sparse_attention: key_rope is given without query_rope\n"
      "  hint       give both rope parts, or neither");
  expect_error(
      [&] {
        run({query, key, key, lists, query_rope, key_rope.slice(3, 0, 2)}, plan, {});
      },
      "shape-mismatch",
      "sparse_attention: key_rope has size 2 in dim 3 (r), but query_rope has size 3 in its dim 3\n"
      "  hint       query_rope is [b, s, n, r] and key_rope is [b, t, k, r]: give both the same r");
  expect_error(
      [&] {
        run({query, key, key, lists.slice(1, 0, 1), {}, {}}, plan, {});
      },
      "shape-mismatch",
      "sparse_attention: indices has size 1 in dim 1 (s), but query has size 2 in its dim 1\n"
      "  hint       query is [b, s, n, d] and indices is [b, s, k, c]: give both the same s");
  expect_error(
      [&] {
        run({query, key, key, lists.to(DType::kF32), {}, {}}, plan, {});
      },
      "dtype",
      "sparse_attention: indices is f32, but must be i32 or i64\n"
      "  hint       convert indices to i64");
  expect_error(
      [&] {
        run({query, key, key, lists, {}, {}}, {{segment(1, 0, 2, 0, 5, 4, 1)}}, {});
      },
      "plan-out-of-range",
      "sparse_attention: segment 0 of the plan covers 2 rows from row 0 of batch 1, but query has 2 rows (dim 1) "
      "in 1 batch "
      "entries (dim 0)\n"
      "  hint       build the plan for the local query and key that the call gets");
}

}  // namespace
}  // namespace tessera::kernels
