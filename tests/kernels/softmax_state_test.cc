// Merging partial attention: the laws of the monoid, any parts of the keys are the whole, errors of float32, and refusals.
#include "kernels/softmax_state.h"

#include <array>
#include <numeric>
#include <utility>

#include "kernels/cpu/cpu.h"
#include "support/parallel.h"
#include "tests/kernels/cpu/agreement.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// --- The laws, row by row ------------------------------------------------------------------------------------------------

/// A row of a state with values of width 2.
struct Row {
  double max, sum, first, second;
};

/// Rows of every kind: without keys (also with rubbish where nobody looks), near and far maxima, signed zeros, infinities
/// and NaN.
const std::vector<Row> kEmptyRows = {
    {-kInfinity, 0, 0, 0}, {0, 0, 0, 0}, {7, 0, kNan, kInfinity}, {kNan, 0, -kInfinity, kNan}, {kInfinity, 0, 1, 1}};
const std::vector<Row> kFiniteRows = {{0, 1, 2, -0.0},       {0, 1.5, -2, 1},        {0.3, 2.7, 0.1, 0.7},
                                      {-3, 1.1, -1.3, 5},    {10000, 3, -0.0, 0.25}, {9999, 1, 4, -8},
                                      {-1e30, 2, 3.3, -3.3}, {3e38, 1.25, 0.5, 6},   {-3e38, 1, 1, 1}};
const std::vector<Row> kBadRows = {
    {kNan, kNan, kNan, kNan}, {kInfinity, kNan, kNan, kNan}, {1, 2, kNan, 3}, {-2, 1, kInfinity, -1}};

std::vector<Row> all_rows() {
  std::vector<Row> rows = kEmptyRows;
  rows.insert(rows.end(), kFiniteRows.begin(), kFiniteRows.end());
  rows.insert(rows.end(), kBadRows.begin(), kBadRows.end());
  return rows;
}

SoftmaxState state_of_rows(const std::vector<Row>& rows, DType dtype) {
  const auto count = static_cast<std::int64_t>(rows.size());
  SoftmaxState state{Tensor::zeros({1, 1, count, 1}, DType::kF64), Tensor::zeros({1, 1, count, 1}, DType::kF64),
                     Tensor::zeros({1, count, 1, 2}, DType::kF64)};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    state.max.span<double>()[i] = rows[i].max;
    state.sum.span<double>()[i] = rows[i].sum;
    state.weighted.span<double>()[2 * i] = rows[i].first;
    state.weighted.span<double>()[2 * i + 1] = rows[i].second;
  }
  return {state.max.to(dtype), state.sum.to(dtype), state.weighted.to(dtype)};
}

/// Whether all bits are the same, where every NaN counts as one.
bool same_numbers(const Tensor& a, const Tensor& b) {
  const auto one_nan = [](const Tensor& tensor) {
    Tensor copy = tensor.to(DType::kF64).clone();
    for (double& x : copy.span<double>()) x = std::isnan(x) ? kNan : x;
    return copy;
  };
  return a.dtype() == b.dtype() && same_bits(one_nan(a), one_nan(b));
}

void expect_same(const SoftmaxState& a, const SoftmaxState& b) {
  EXPECT_TRUE(same_numbers(a.max, b.max));
  EXPECT_TRUE(same_numbers(a.sum, b.sum));
  EXPECT_TRUE(same_numbers(a.weighted, b.weighted));
}

class SoftmaxStateLaws : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(In, SoftmaxStateLaws, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

TEST_P(SoftmaxStateLaws, Commutes) {
  std::vector<Row> left, right;
  for (const Row& a : all_rows()) {
    for (const Row& b : all_rows()) {
      left.push_back(a);
      right.push_back(b);
    }
  }
  const SoftmaxState a = state_of_rows(left, GetParam());
  const SoftmaxState b = state_of_rows(right, GetParam());
  expect_same(merge(a, b), merge(b, a));
}

TEST_P(SoftmaxStateLaws, HasAnIdentity) {
  std::vector<Row> kept = kFiniteRows;
  kept.insert(kept.end(), kBadRows.begin(), kBadRows.end());
  const SoftmaxState state = state_of_rows(kept, GetParam());
  for (const Row& empty : kEmptyRows) {
    const SoftmaxState identity = state_of_rows(std::vector<Row>(kept.size(), empty), GetParam());
    expect_same(merge(state, identity), state);
    expect_same(merge(identity, state), state);
    const SoftmaxState parts[] = {identity, identity, state, identity};
    expect_same(merge(parts), state);
  }
  expect_same(merge(state, empty_state(state.weighted.shape(), 1, GetParam())), state);
}

TEST_P(SoftmaxStateLaws, NothingAndNothingIsNothing) {
  std::vector<Row> left, right;
  for (const Row& a : kEmptyRows) {
    for (const Row& b : kEmptyRows) {
      left.push_back(a);
      right.push_back(b);
    }
  }
  const SoftmaxState merged = merge(state_of_rows(left, GetParam()), state_of_rows(right, GetParam()));
  expect_same(merged, empty_state(merged.weighted.shape(), 1, GetParam()));
  for (const Row& row : kEmptyRows) {
    const SoftmaxState alone = state_of_rows({row}, GetParam());
    expect_same(merge(std::span(&alone, 1)), empty_state({1, 1, 1, 2}, 1, GetParam()));
    const AttentionResult finished = finish(alone, GetParam());
    for (const Tensor& tensor : {finished.out, finished.softmax_max, finished.softmax_sum})
      EXPECT_TRUE(same_bits(tensor, Tensor::zeros(tensor.shape(), GetParam())));
  }
}

TEST_P(SoftmaxStateLaws, AssociatesToRounding) {
  std::vector<Row> rows = kEmptyRows;
  rows.insert(rows.end(), kFiniteRows.begin(), kFiniteRows.end());
  std::vector<Row> a, b, c;
  for (const Row& x : rows) {
    for (const Row& y : rows) {
      for (const Row& z : rows) {
        a.push_back(x);
        b.push_back(y);
        c.push_back(z);
      }
    }
  }
  const std::array<SoftmaxState, 3> part = {state_of_rows(a, GetParam()), state_of_rows(b, GetParam()),
                                            state_of_rows(c, GetParam())};
  const SoftmaxState left = merge(merge(part[0], part[1]), part[2]);
  for (const SoftmaxState& other :
       {merge(part[0], merge(part[1], part[2])), merge(merge(part[2], part[0]), part[1]), merge(part)}) {
    EXPECT_TRUE(same_bits(other.max, left.max));
    const double rounding = 4 * half_ulp(GetParam());
    for (const Index& i : all_indices(left.sum.shape()))
      ASSERT_NEAR(number(other.sum, i), number(left.sum, i), rounding * number(left.sum, i));
    for (const Index& i : all_indices(left.weighted.shape())) {  // values are 8 at most, and so may cancel
      ASSERT_NEAR(number(other.weighted, i), number(left.weighted, i), 8 * rounding) << i[1];
    }
  }
}

TEST_P(SoftmaxStateLaws, BadNumbersStayInTheirRow) {
  const SoftmaxState good = state_of_rows({{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}}, GetParam());
  for (const Row& bad : kBadRows) {
    const SoftmaxState merged = merge(good, state_of_rows({{0, 1, 1, 1}, bad, {0, 1, 1, 1}}, GetParam()));
    for (const Tensor& tensor : {merged.max, merged.sum, merged.weighted}) {
      for (const Index& i : all_indices(tensor.shape())) {
        const bool of_bad = (tensor.size(3) == 2 ? i[1] : i[2]) == 1;
        EXPECT_TRUE(of_bad || std::isfinite(number(tensor, i)));
      }
    }
    EXPECT_FALSE(std::isfinite(number(merged.weighted, {0, 1, 0, 0})));
  }
}

TEST_P(SoftmaxStateLaws, OneOfManyIsItself) {
  std::vector<Row> rows = kFiniteRows;
  rows.insert(rows.end(), kBadRows.begin(), kBadRows.end());
  const SoftmaxState state = state_of_rows(rows, GetParam());
  expect_same(merge(std::span(&state, 1)), state);
}

// --- Parts of the keys are attention over all of them --------------------------------------------------------------------

AttentionCall call_of(const PlanCase& plan, DType dtype) {
  return {.query = sample({plan.b, plan.s, 4, 3}, dtype, 1),
          .key = sample({plan.b, plan.t, 2, 3}, dtype, 2),
          .value = sample({plan.b, plan.t, 2, 5}, dtype, 3),
          .plan = plan.plan,
          .scale = 0.9};
}

/// The call over the rows [begin, end) of its keys alone: sequences that begin later, and end earlier.
AttentionCall over_keys(AttentionCall call, std::int64_t begin, std::int64_t end) {
  for (RowSegment& segment : call.plan.segments) {
    const std::int64_t cut = std::max<std::int64_t>(0, begin - segment.key_base);
    segment.length = std::max<std::int64_t>(0, std::min(segment.length, end - segment.key_base) - cut);
    segment.first -= cut;
    segment.limit -= cut;
    segment.key_base += cut;
  }
  return call;
}

/// The states of the keys between neighbouring `cuts`.
template <class Kernel>
std::vector<SoftmaxState> parts_of(const AttentionCall& call, const std::vector<std::int64_t>& cuts, Kernel kernel) {
  std::vector<SoftmaxState> parts;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
    parts.push_back(state_of(kernel(over_keys(call, cuts[i], cuts[i + 1]))));
  return parts;
}

/// Merges in a random order along a random tree.
SoftmaxState merged_at_random(std::vector<SoftmaxState> parts, Draw& draw) {
  const auto last = [&] { return static_cast<std::int64_t>(parts.size()) - 1; };
  while (parts.size() > 1) {
    std::swap(parts[static_cast<std::size_t>(draw.between(0, last()))], parts.back());
    const SoftmaxState taken = parts.back();
    parts.pop_back();
    SoftmaxState& other = parts[static_cast<std::size_t>(draw.between(0, last()))];
    other = merge(other, taken);
  }
  return parts.front();
}

void expect_whole(const SoftmaxState& state, const AttentionResult& whole, const std::string& what) {
  const AttentionResult actual = finish(state, DType::kF64);
  EXPECT_TRUE(same_bits(actual.softmax_max, whole.softmax_max)) << what;
  expect_close("sum", actual.softmax_sum, whole.softmax_sum, 1e-14);
  expect_close("out", actual.out, whole.out, 1e-14);
}

TEST(SoftmaxState, ThreePartsInEveryOrderAndTreeAreTheWhole) {
  for (const PlanCase& plan : plan_cases()) {
    const AttentionCall call = call_of(plan, DType::kF64);
    const AttentionResult whole = reference::attention(call);
    for (std::int64_t first = 0; first <= plan.t; ++first) {
      for (std::int64_t second = first; second <= plan.t; ++second) {
        SCOPED_TRACE(plan.name + ", cut at " + std::to_string(first) + " and " + std::to_string(second));
        const auto parts = parts_of(call, {0, first, second, plan.t}, reference::attention);
        std::array<std::size_t, 3> order = {0, 1, 2};
        do {
          const SoftmaxState& a = parts[order[0]];
          const SoftmaxState& b = parts[order[1]];
          const SoftmaxState& c = parts[order[2]];
          const std::string name = std::to_string(order[0]) + std::to_string(order[1]) + std::to_string(order[2]);
          expect_whole(merge(merge(a, b), c), whole, "(ab)c of " + name);
          expect_whole(merge(a, merge(b, c)), whole, "a(bc) of " + name);
          const SoftmaxState all[] = {a, b, c};
          expect_whole(merge(all), whole, "abc of " + name);
        } while (std::next_permutation(order.begin(), order.end()));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(SoftmaxState, AKeyAPartInRandomOrdersAndTreesIsTheWhole) {
  Draw draw(3);
  for (const PlanCase& plan : plan_cases()) {
    SCOPED_TRACE(plan.name);
    const AttentionCall call = call_of(plan, DType::kF64);
    const AttentionResult whole = reference::attention(call);
    std::vector<std::int64_t> cuts(static_cast<std::size_t>(plan.t) + 1);
    std::iota(cuts.begin(), cuts.end(), 0);
    const auto parts = parts_of(call, cuts, reference::attention);
    for (int i = 0; i < 50; ++i) expect_whole(merged_at_random(parts, draw), whole, "at random");
    expect_whole(merge(parts), whole, "all at once");
  }
}

TEST(SoftmaxState, PartsOfTheFastKernelAreTheWhole) {
  Draw draw(4);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (int i = 0; i < 40; ++i) {
      SCOPED_TRACE(std::string(to_string(dtype)) + " call " + std::to_string(i));
      const std::int64_t b = draw.between(1, 2);
      const std::int64_t s = draw.between(1, 60);
      const std::int64_t t = draw.between(1, 200);
      AttentionCall call{.query = scattered(draw, {b, s, 6, 24}, dtype),
                         .key = scattered(draw, {b, t, 2, 24}, dtype),
                         .value = scattered(draw, {b, t, 2, 17}, dtype),
                         .plan = random_plan(draw, b, s, t),
                         .scale = 0.2,
                         .out_dtype = DType::kF32};
      std::vector<std::int64_t> cuts = {0, t};
      for (int cut = 0; cut < 6; ++cut) cuts.push_back(draw.between(0, t));
      std::ranges::sort(cuts);
      const auto parts = parts_of(call, cuts, cpu::attention);
      call.out_dtype = DType::kF64;
      const AttentionResult whole = reference::attention(call);
      for (const SoftmaxState& state : {merge(parts), merged_at_random(parts, draw)}) {
        const AttentionResult actual = finish(state, DType::kF32);
        expect_close("max", actual.softmax_max, whole.softmax_max, 2e-6);
        expect_close("sum", actual.softmax_sum, whole.softmax_sum, 4e-6);
        expect_close("out", actual.out, whole.out, allowed_error(dtype));
      }
    }
  }
}

// --- Errors of float32 ---------------------------------------------------------------------------------------------------

/// The largest error of 80 rows of 16 values v_j over `n` parts of 8 keys each, relative to sum_j p_j |v_j|, the terms
/// that are added up. Scores are normal numbers plus `shift`, rounded to f32, as the parts are, which are exact otherwise.
/// Merged one by one, and all at once.
double merge_error(std::int64_t n, double shift) {
  constexpr std::int64_t kRows = 80, kKeys = 8, kValues = 16;
  const Tensor noise = random_normal({kRows, n * kKeys}, DType::kF64, 1, "scores");
  const Tensor values = random_normal({n * kKeys, kValues}, DType::kF64, 2, "values");
  Tensor magnitudes = values.clone();
  for (double& x : magnitudes.span<double>()) x = std::abs(x);
  const auto score = [&](std::int64_t row, std::int64_t key) {
    return static_cast<double>(static_cast<float>(shift + noise.at<double>({row, key})));
  };
  // The state of keys [begin, end) in double.
  const auto state = [&](const Tensor& of_values, std::int64_t begin, std::int64_t end) {
    SoftmaxState part = empty_state({1, kRows, 1, kValues}, 1, DType::kF64);
    for (std::int64_t row = 0; row < kRows; ++row) {
      double& max = part.max.at<double>({0, 0, row, 0});
      for (std::int64_t key = begin; key < end; ++key) max = std::max(max, score(row, key));
      for (std::int64_t key = begin; key < end; ++key) {
        const double weight = std::exp(score(row, key) - max);
        part.sum.at<double>({0, 0, row, 0}) += weight;
        for (std::int64_t e = 0; e < kValues; ++e)
          part.weighted.at<double>({0, row, 0, e}) += weight * of_values.at<double>({key, e});
      }
    }
    return part;
  };
  std::vector<SoftmaxState> parts;
  for (std::int64_t i = 0; i < n; ++i) {
    const SoftmaxState part = state(values, i * kKeys, (i + 1) * kKeys);
    parts.push_back({part.max.to(DType::kF32), part.sum.to(DType::kF32), part.weighted.to(DType::kF32)});
  }
  SoftmaxState merged = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) merged = merge(merged, parts[i]);
  const Tensor expected = finish(state(values, 0, n * kKeys), DType::kF64).out;
  const Tensor terms = finish(state(magnitudes, 0, n * kKeys), DType::kF64).out;
  double worst = 0;
  for (const Tensor& actual : {finish(merged, DType::kF64).out, finish(merge(parts), DType::kF64).out}) {
    for (std::size_t i = 0; i < expected.span<double>().size(); ++i)
      worst = std::max(worst, std::abs(actual.span<double>()[i] - expected.span<double>()[i]) / terms.span<double>()[i]);
  }
  return worst;
}

TEST(SoftmaxState, ErrorsDoNotGrowWithTheScores) {
  for (const std::int64_t n : {2, 8, 64, 256}) {
    for (const double shift : {0.0, 100.0, 1e4, -1e4}) {
      const double error = merge_error(n, shift);
      EXPECT_LE(error, std::ldexp(1.0, -22)) << n << " parts, scores shifted by " << shift;
      EXPECT_GT(error, 0);
    }
  }
}

// --- One part, strides, threads, sizes of 0 ------------------------------------------------------------------------------

TEST(SoftmaxState, APartAloneComesBack) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const PlanCase& plan : plan_cases()) {
      SCOPED_TRACE(plan.name);
      const AttentionResult part = reference::attention(call_of(plan, dtype));
      const AttentionResult back = finish(state_of(part), dtype);
      EXPECT_TRUE(same_bits(back.softmax_max, part.softmax_max));
      EXPECT_TRUE(same_bits(back.softmax_sum, part.softmax_sum));
      EXPECT_EQ(back.out.dtype(), dtype);
      for (const Index& i : all_indices(part.out.shape())) {  // times sum, by sum: rounded twice
        const double out = number(part.out, i);
        const double unit = dtype == DType::kF64 ? std::ldexp(1.0, -53) : half_ulp(dtype);
        ASSERT_NEAR(number(back.out, i), out, 2 * unit * (1 + 1e-6) * std::abs(out));
      }
    }
  }
}

TEST(SoftmaxState, RowsWithoutKeysAreTheIdentity) {
  const AttentionCall call = call_of(plan_cases().back(), DType::kF32);  // a plan of nothing
  const SoftmaxState state = state_of(reference::attention(call));
  expect_same(state, empty_state({1, 2, 4, 5}, 2, DType::kF32));
  EXPECT_EQ(state.max.at<float>({0, 1, 1, 1}), -std::numeric_limits<float>::infinity());
}

TEST(SoftmaxState, IsFinishedWithOneRounding) {
  for (const DType own : {DType::kF32, DType::kF64}) {
    SoftmaxState state = empty_state({2, 30, 6, 40}, 3, own);
    state.max.copy_from(sample(state.max.shape(), own, 1));
    state.weighted.copy_from(sample(state.weighted.shape(), own, 2));
    state.sum.copy_from(random_integers(state.sum.shape(), own, 0, 9, 3, "sum"));
    const Tensor exact = finish(state, DType::kF64).out;
    for (const Index& i : all_indices(exact.shape())) {
      const double sum = number(state.sum, {i[0], i[2] / 2, i[1], i[2] % 2});
      ASSERT_EQ(number(exact, i), sum == 0 ? 0 : number(state.weighted, i) / sum);
    }
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const AttentionResult result = finish(state, dtype);
      EXPECT_TRUE(same_bits(result.out, exact.to(dtype))) << to_string(dtype);
      EXPECT_EQ(result.softmax_max.dtype(), own);
      EXPECT_EQ(result.softmax_sum.dtype(), own);
    }
  }
}

SoftmaxState sampled_state(const Shape& out, std::int64_t key_heads, unsigned seed) {
  SoftmaxState state = empty_state(out, key_heads);
  state.max.copy_from(sample(state.max.shape(), DType::kF32, seed));
  state.weighted.copy_from(sample(state.weighted.shape(), DType::kF32, seed + 1));
  state.sum.copy_from(random_integers(state.sum.shape(), DType::kF32, 0, 9, seed + 2, "sum"));
  return state;
}

TEST(SoftmaxState, StridesChangeNoBit) {
  const SoftmaxState a = sampled_state({3, 7, 6, 5}, 2, 1);
  const SoftmaxState b = sampled_state({3, 7, 6, 5}, 2, 4);
  const auto odd_strides = [](const SoftmaxState& s) {
    return SoftmaxState{restrided(s.max), restrided(s.sum), restrided(s.weighted)};
  };
  expect_same(merge(odd_strides(a), odd_strides(b)), merge(a, b));
  EXPECT_TRUE(same_bits(finish(odd_strides(a), DType::kBF16).out, finish(a, DType::kBF16).out));
  const AttentionResult part = finish(a, DType::kF32);
  expect_same(state_of({restrided(part.out), restrided(part.softmax_max), restrided(part.softmax_sum)}), state_of(part));
  // Rows of a state are a state.
  const auto rows = [](const SoftmaxState& s) {
    return SoftmaxState{s.max.slice(2, 2, 5), s.sum.slice(2, 2, 5), s.weighted.slice(1, 2, 5)};
  };
  expect_same(merge(rows(a), rows(b)), rows(merge(a, b)));
}

TEST(SoftmaxState, ThreadsChangeNoBit) {
  const SoftmaxState a = sampled_state({2, 500, 8, 64}, 4, 1);
  const SoftmaxState b = sampled_state({2, 500, 8, 64}, 4, 4);
  const SoftmaxState threaded = merge(a, b);
  const ThreadShare alone(1);
  expect_same(merge(a, b), threaded);
}

TEST(SoftmaxState, OperandsAreNotWrittenTo) {
  const SoftmaxState a = sampled_state({1, 9, 4, 5}, 2, 1);
  const SoftmaxState before{a.max.clone(), a.sum.clone(), a.weighted.clone()};
  (void)merge(a, sampled_state({1, 9, 4, 5}, 2, 4));
  (void)finish(a, DType::kF32);
  expect_same(a, before);
}

TEST(SoftmaxState, MayHaveSizesOfNothing) {
  for (const Shape& out : {Shape{0, 3, 4, 5}, Shape{2, 0, 4, 5}, Shape{2, 3, 0, 5}, Shape{2, 3, 4, 0}}) {
    const SoftmaxState state = empty_state(out, out[2] == 0 ? 0 : 2);
    const AttentionResult result = finish(merge(state, state), DType::kF16);
    EXPECT_EQ(result.out.shape(), out);
    EXPECT_EQ(state_of({result.out.to(DType::kF32), result.softmax_max, result.softmax_sum}).weighted.shape(), out);
  }
}

// --- Refusals ------------------------------------------------------------------------------------------------------------

TEST(SoftmaxStateRefuses, NothingToMerge) {
  expect_error([] { merge(std::span<const SoftmaxState>()); }, "no-parts",
               "merge: there is nothing to merge\n  hint       begin with empty_state(out, key_heads)");
}

TEST(SoftmaxStateRefuses, ShapesThatDisagree) {
  const SoftmaxState state = empty_state({2, 3, 4, 5}, 2);
  expect_error(
      [&] {
        merge(state, empty_state({2, 3, 4, 6}, 2));
      },
      "shape-mismatch",
      "merge: part 1.weighted has size 6 in dim 3 (e), but part 0.weighted has size 5 in its dim 3\n"
      "  hint       part 0.weighted is [b, s, n, e] and part 1.weighted is [b, s, n, e]: give both the same e");
  expect_error(
      [&] {
        merge(state, empty_state({2, 3, 4, 5}, 4));
      },
      "shape-mismatch",
      "merge: part 1.max has size 4 in dim 1 (k), but part 0.max has size 2 in its dim 1\n"
      "  hint       part 0.max is [b, k, s, g] and part 1.max is [b, k, s, g]: give both the same k");
  SoftmaxState other = state;
  other.sum = Tensor::zeros({2, 2, 3, 1}, DType::kF32);
  expect_error([&] { merge(state, other); }, "shape-mismatch",
               "merge: part 1.sum has size 1 in dim 3 (g), but part 1.max has size 2 in its dim 3\n"
               "  hint       part 1.max is [b, k, s, g] and part 1.sum is [b, k, s, g]: give both the same g");
  other.max = other.sum;
  expect_error(
      [&] { finish(other, DType::kF32); }, "shape-mismatch",
      "finish: state.weighted has 4 heads (dim 2), but state.max [2, 2, 3, 1] is of 2 key heads (dim 1) with 1 query heads "
      "each (dim 3)\n"
      "  hint       give statistics of 4 query heads");
  AttentionResult part = finish(state, DType::kF32);
  part.softmax_max = Tensor();
  expect_error([&] { state_of(part); }, "shape-mismatch",
               "state_of: softmax_max [0] has 1 dims, but must have 4: [b, k, s, g]\n"
               "  hint       reshape softmax_max to [b, k, s, g]");
  expect_error(
      [] {
        empty_state({2, 3, 4}, 2);
      },
      "shape-mismatch",
      "empty_state: out [2, 3, 4] has 3 dims, but must have 4: [b, s, n, e]\n"
      "  hint       give the shape of attention's result");
  for (const std::int64_t heads : {3, 0, -2}) {
    expect_error(
        [&] {
          empty_state({2, 3, 4, 5}, heads);
        },
        "shape-mismatch",
        "empty_state: out's 4 heads (dim 2) are no multiple of " + std::to_string(heads) +
            " key heads\n  hint       give a number of key heads that divides 4");
  }
}

TEST(SoftmaxStateRefuses, OtherDTypes) {
  const SoftmaxState state = empty_state({2, 3, 4, 5}, 2);
  expect_error(
      [] {
        empty_state({2, 3, 4, 5}, 2, DType::kBF16);
      },
      "dtype", "empty_state: dtype is bf16, but parts are merged in f32 or f64\n  hint       use f32");
  expect_error([&] { state_of(finish(state, DType::kF16)); }, "dtype",
               "state_of: out is f16, but parts are merged in f32 or f64\n"
               "  hint       ask attention for out in f32 (out_dtype)");
  expect_error([&] { state_of(finish(state, DType::kF64)); }, "dtype",
               "state_of: softmax_max is f32, but out is f64\n  hint       convert softmax_max to f64");
  expect_error(
      [&] {
        merge(state, empty_state({2, 3, 4, 5}, 2, DType::kF64));
      },
      "dtype", "merge: part 1 is f64, but part 0 is f32\n  hint       convert part 1 to f32");
  SoftmaxState other = state;
  other.weighted = state.weighted.to(DType::kBF16);
  expect_error([&] { merge(other, state); }, "dtype",
               "merge: part 0.weighted is bf16, but parts are merged in f32 or f64\n"
               "  hint       convert it to f32");
  expect_error([&] { finish(state, DType::kI32); }, "dtype",
               "finish: out is to be i32, but holds floats\n  hint       ask for f32, or for the queries' dtype");
}

}  // namespace
}  // namespace tessera::kernels
