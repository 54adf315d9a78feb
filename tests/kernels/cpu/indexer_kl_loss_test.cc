// The fast loss of the indexer and its gradients against the reference: lists and dense calls, rope parts, strides, on
// every instruction set.
#include <algorithm>
#include <limits>
#include <optional>

#include "kernels/cpu/cpu.h"
#include "kernels/lightning_indexer.h"
#include "support/parallel.h"
#include "tests/kernels/cpu/agreement.h"
#include "tests/kernels/indexer_loss_samples.h"

namespace tessera::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct LossSizes {
  std::int64_t b, k, g, f, s, t, d, i,
      r;  // g main heads of width d (and r), f index heads of width i, on each of k key heads
};

LossSizes random_sizes(Draw& draw) {
  return {.b = draw.between(1, 2),
          .k = draw.of<std::int64_t>({1, 1, 2}),
          .g = draw.of<std::int64_t>({1, 2, 5, 16, 64}),
          .f = draw.of<std::int64_t>({1, 3, 8, 16, 40}),
          .s = draw.between(1, 20),
          .t = draw.chance(10) ? draw.between(0, 3) : draw.between(1, 200),
          .d = draw.of<std::int64_t>({16, 64, draw.between(1, 60)}),
          .i = draw.of<std::int64_t>({16, 64, draw.between(1, 60)}),
          .r = draw.chance(50) ? 0 : draw.between(1, 20)};
}

/// Index lists [b, s, k, c], each of different keys of its row's sequence, in any order, then -1.
Tensor lists_of_different_keys(Draw& draw, const RowPlan& plan, const Shape& shape) {
  Tensor lists = Tensor::zeros(shape, DType::kI32);
  std::ranges::fill(lists.span<std::int32_t>(), -1);
  for (const Index& at : all_indices({shape[0], shape[1], shape[2]})) {
    const std::int64_t length = seen_by(plan, at[0], at[1]).length;
    std::vector<std::int32_t> keys(static_cast<std::size_t>(length));
    for (std::int64_t key = 0; key < length; ++key) {
      const auto other = static_cast<std::size_t>(draw.between(0, key));
      keys[static_cast<std::size_t>(key)] = keys[other];
      keys[other] = static_cast<std::int32_t>(key);
    }
    const std::int64_t listed = draw.chance(80) ? shape[3] : draw.between(0, shape[3]);
    for (std::int64_t slot = 0; slot < std::min(listed, length); ++slot)
      lists.at<std::int32_t>({at[0], at[1], at[2], slot}) = keys[static_cast<std::size_t>(slot)];
  }
  return lists;
}

/// The indexer's queries and keys are small whole numbers: whether a product is above 0 does then not hang on rounding.
IndexerLossCall random_call(Draw& draw, DType dtype, const LossSizes& size) {
  const auto integers = [&](const Shape& shape) {
    Tensor tensor = scattered(draw, shape, dtype);
    tensor.copy_from(random_integers(shape, dtype, -2, 3, draw.seed(), "integers"));
    return tensor;
  };
  const std::int64_t n = size.k * size.g;
  const std::int64_t h = size.k * size.f;
  const DType weights = draw.of({dtype, DType::kF32});
  IndexerLossCall call{.query_index = integers({size.b, size.s, h, size.i}),
                       .key_index = integers({size.b, size.t, size.k, size.i}),
                       .weights = Tensor::zeros({size.b, size.s, h}, weights),
                       .query = scattered(draw, {size.b, size.s, n, size.d}, dtype),
                       .key = scattered(draw, {size.b, size.t, size.k, size.d}, dtype),
                       .softmax_max = {},
                       .softmax_sum = {},
                       .plan = random_plan(draw, size.b, size.s, size.t),
                       .scale = draw.of({1.0, -0.6}) / std::sqrt(static_cast<double>(size.d + size.r))};
  Tensor unscaled = random_normal(call.weights.shape(), DType::kF32, draw.seed(), "weights");
  for (float& weight : unscaled.span<float>()) weight *= 0.3f / std::sqrt(static_cast<float>(size.f * size.i));
  call.weights.copy_from(unscaled);
  if (size.r > 0) {
    call.query_rope = scattered(draw, {size.b, size.s, n, size.r}, dtype);
    call.key_rope = scattered(draw, {size.b, size.t, size.k, size.r}, dtype);
  }
  if (draw.chance(60)) {
    const std::int64_t slots = draw.of<std::int64_t>({1, 16, size.t, draw.between(0, 100)});
    call.indices =
        lists_of_different_keys(draw, call.plan, {size.b, size.s, size.k, slots}).to(draw.of({DType::kI32, DType::kI64}));
  }
  call = with_statistics(call);
  if (draw.chance(10)) call.gradient_dtype = draw.of({DType::kF32, DType::kF64, DType::kBF16});
  return call;
}

void expect_agreement(const IndexerLossCall& call, const IndexerLossResult& expected) {
  const IndexerLossResult actual = cpu::indexer_kl_loss(call);
  const DType dtype = call.query_index.dtype();
  const auto in = [&](const Tensor& operand) { return call.gradient_dtype.value_or(operand.dtype()); };
  EXPECT_EQ(actual.query.dtype(), in(call.query_index));
  EXPECT_EQ(actual.key.dtype(), in(call.key_index));
  EXPECT_EQ(actual.weights.dtype(), in(call.weights));
  EXPECT_EQ(to_string(actual.loss), "f32 [1]");

  // dI = y - p is a difference of softmaxes, each off by as much as float32 is in the scores, however small it comes out.
  IndexerLseCall scores{.query = call.query_index, .key = call.key_index, .weights = call.weights, .plan = call.plan};
  const double magnitude = 1 + largest(reference::indexer_softmax_lse(scores).softmax_max) + largest(call.softmax_max);
  const double of_scores = std::ldexp(1.0, -21) * magnitude;
  const auto rows = static_cast<double>(call.query.size(0) * call.query.size(1) * call.key.size(2));
  const auto width = static_cast<double>(call.query_index.size(3));
  const std::int64_t heads_of_key = call.query_index.size(2) / call.key.size(2);
  const auto rows_of_key = static_cast<double>(call.query_index.size(1) * heads_of_key);
  const double weight = largest(call.weights);
  const double query = largest(call.query_index);
  const double key = largest(call.key_index);
  const double product = query * key * width;
  const auto allowed = [&](const Tensor& gradient) {
    return allowed_error(gradient.dtype() == DType::kF64 ? dtype : gradient.dtype());
  };
  const auto at_least = [&](const Tensor& gradient) {
    return std::max(allowed(gradient), dtype == DType::kF32 ? 0 : allowed_error(dtype));
  };
  EXPECT_NEAR(number(actual.loss, {0}), number(expected.loss, {0}),
              2e-6 * std::abs(number(expected.loss, {0})) + rows * of_scores);
  expect_close("dq", actual.query, expected.query, at_least(actual.query), of_scores * weight * key);
  expect_close("dk", actual.key, expected.key, at_least(actual.key), of_scores * weight * query * std::sqrt(rows_of_key));
  expect_close("dw", actual.weights, expected.weights, allowed(actual.weights), of_scores * product);
}

class CpuIndexerLoss : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Storage, CpuIndexerLoss, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& storage) { return std::string(to_string(storage.param)); });

void expect_agreement_on_every_isa(const IndexerLossCall& call) {
  IndexerLossCall exact = call;
  exact.gradient_dtype = DType::kF64;
  exact.query_index = call.query_index.to(DType::kF64);  // for a loss in f64
  const IndexerLossResult expected = reference::indexer_kl_loss(exact);
  with_every_isa([&] { expect_agreement(call, expected); });
}

TEST_P(CpuIndexerLoss, AgreesWithTheReference) {
  Draw draw(1);
  with_calls(60, [&](int) { expect_agreement_on_every_isa(random_call(draw, GetParam(), random_sizes(draw))); });
}

TEST_P(CpuIndexerLoss, AgreesOverManyRowsAndKeys) {
  Draw draw(2);
  const auto dense = [&](const LossSizes& size) {
    IndexerLossCall call = random_call(draw, GetParam(), size);
    call.plan = {{{.count = size.s, .length = size.t, .limit = size.t - size.s + 1, .limit_step = 1}}};
    call.indices.reset();
    return with_statistics(call);
  };
  expect_agreement_on_every_isa(dense({.b = 1, .k = 1, .g = 2, .f = 5, .s = 90, .t = 500, .d = 16, .i = 24, .r = 0}));
  // Products of a row beyond what is kept: they are computed twice.
  expect_agreement_on_every_isa(dense({.b = 1, .k = 1, .g = 1, .f = 130, .s = 1, .t = 16500, .d = 4, .i = 4, .r = 2}));
}

TEST_P(CpuIndexerLoss, DoesNotDependOnThreads) {
  Draw draw(3);
  const IndexerLossCall call =
      random_call(draw, GetParam(), {.b = 2, .k = 2, .g = 3, .f = 4, .s = 70, .t = 90, .d = 16, .i = 16, .r = 0});
  const IndexerLossResult all = cpu::indexer_kl_loss(call);
  const ThreadShare alone(1);
  const IndexerLossResult one = cpu::indexer_kl_loss(call);
  EXPECT_TRUE(same_bits(one.query, all.query));
  EXPECT_TRUE(same_bits(one.key, all.key));
  EXPECT_TRUE(same_bits(one.weights, all.weights));
  EXPECT_TRUE(same_bits(one.loss, all.loss));
}

TEST_P(CpuIndexerLoss, ShowsNaNs) {
  Draw draw(4);
  IndexerLossCall call =
      random_call(draw, GetParam(), {.b = 1, .k = 1, .g = 3, .f = 4, .s = 3, .t = 70, .d = 16, .i = 16, .r = 0});
  call.plan = {{{.count = 3, .length = 70, .limit = 68, .limit_step = 1}}};
  call.indices.reset();
  call = with_statistics(call);
  with_every_isa([&] {
    const IndexerLossResult before = cpu::indexer_kl_loss(call);
    EXPECT_FALSE(std::isnan(number(before.loss, {0})));
    IndexerLossCall with_nan = call;
    with_nan.key_index = call.key_index.clone();
    with_nan.key_index.select(1, 69).copy_from(Tensor::of<double>({1}, {kNan}).broadcast_to({1, 1, 16}));  // row 2 sees it
    const IndexerLossResult after = cpu::indexer_kl_loss(with_nan);
    EXPECT_TRUE(std::isnan(number(after.loss, {0})));
    EXPECT_TRUE(std::isnan(number(after.weights, {0, 2, 0})));
    EXPECT_TRUE(same_bits(after.query.slice(1, 0, 2), before.query.slice(1, 0, 2)));
    EXPECT_TRUE(same_bits(after.weights.slice(1, 0, 2), before.weights.slice(1, 0, 2)));
  });
}

TEST(CpuIndexerLossCalls, NamesTheBlockThatIsNotThere) {
  Draw draw(5);
  IndexerLossCall call =
      random_call(draw, DType::kF32, {.b = 1, .k = 1, .g = 1, .f = 1, .s = 2, .t = 6, .d = 4, .i = 4, .r = 0});
  call.plan = {{{.count = 2, .length = 6, .limit = 6}}};
  call.indices = Tensor::of<std::int32_t>({1, 2, 1, 2}, {0, 1, 2, 9});
  const auto text = [](auto compute) -> std::string {
    try {
      compute();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  const std::string expected = text([&] { reference::indexer_kl_loss(call); });
  EXPECT_FALSE(expected.empty());
  EXPECT_EQ(text([&] { cpu::indexer_kl_loss(call); }), expected);
}

TEST(CpuIndexerLossCalls, TakesF32BF16AndF16) {
  Draw draw(6);
  IndexerLossCall call =
      random_call(draw, DType::kBF16, {.b = 1, .k = 1, .g = 1, .f = 1, .s = 2, .t = 6, .d = 4, .i = 4, .r = 3});
  EXPECT_EQ(cpu::refusal(call), "");
  IndexerLossCall other = call;
  other.weights = call.weights.to(DType::kF64);
  EXPECT_EQ(cpu::refusal(other), "weights is f64, not f32, bf16 or f16");
  other.key_rope = call.key_rope->to(DType::kF32);
  EXPECT_EQ(cpu::refusal(other), "query_index is bf16, key_rope is f32");
  other.query = call.query.slice(2, 0, 0);
  other.key_rope = call.key_rope;
  other.weights = call.weights;
  EXPECT_EQ(cpu::refusal(other), "query has no heads");
  other = call;
  other.query_index = call.query_index.slice(2, 0, 0);
  EXPECT_EQ(cpu::refusal(other), "query_index has no heads");
}

}  // namespace
}  // namespace tessera::kernels
