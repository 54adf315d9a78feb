// The fast attention kernels against the reference: random shapes, strides, plans, masks, dropout and pages, on every
// instruction set.
#include "kernels/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "support/parallel.h"
#include "tests/kernels/cpu/agreement.h"

namespace tessera::kernels {
namespace {

struct Counts {
  std::int64_t key_heads, group, rows, keys;
};
struct Widths {
  std::int64_t key, value;
};

AttentionCall random_call(Draw& draw, DType dtype, const Counts& counts, const Widths& widths) {
  const auto [k, g, s, t] = counts;
  const auto [d, e] = widths;
  const std::int64_t b = draw.between(1, 2);
  AttentionCall call{.query = scattered(draw, {b, s, k * g, d}, dtype),
                     .key = scattered(draw, {b, t, k, d}, dtype),
                     .value = scattered(draw, {b, t, k, e}, dtype),
                     .plan = random_plan(draw, b, s, t),
                     .scale = draw.of({1.0, -0.7, 0.3}) / std::sqrt(static_cast<double>(d))};
  if (draw.chance(40)) {
    const auto some = [&](std::int64_t size) { return draw.chance(30) ? 1 : size; };
    Shape shape = {some(b), some(k * g), some(s), some(t)};
    if (draw.chance(20)) shape = {shape[2], shape[3]};
    Tensor mask = random_normal(shape, DType::kF64, draw.seed(), "mask");
    for (double& x : mask.span<double>()) {
      if (x > 0.8) x = -std::numeric_limits<double>::infinity();
    }
    if (draw.chance(50)) {
      Tensor visible = Tensor::zeros(shape, DType::kBool);
      for (std::size_t i = 0; i < visible.span<bool>().size(); ++i) visible.span<bool>()[i] = mask.span<double>()[i] > -0.5;
      call.mask = visible;
    } else {
      call.mask = mask.to(draw.of({DType::kF32, DType::kF64, DType::kBF16}));
    }
  }
  if (draw.chance(20))
    call.dropout = {.probability = draw.of({0.1, 0.5}), .seed = draw.seed(), .first_head = draw.between(0, 5)};
  return call;
}

AttentionCall random_call(Draw& draw, DType dtype, const Counts& counts) {
  const std::int64_t d = draw.of<std::int64_t>({16, 64, 128, 192, draw.between(1, 140)});
  const std::int64_t e = draw.of<std::int64_t>({d, 64, 128, 80, draw.between(1, 140)});
  return random_call(draw, dtype, counts, {d, e});
}

AttentionCall random_call(Draw& draw, DType dtype) {
  const std::int64_t k = draw.between(1, 3);
  const std::int64_t g = draw.of<std::int64_t>({1, 1, 2, 3, 8, 40});
  const std::int64_t rows = draw.chance(30) ? draw.between(1, 4) : draw.between(1, 150);
  return random_call(draw, dtype, {k, g, rows, draw.chance(10) ? draw.between(0, 3) : draw.between(1, 300)});
}

// So few rows that heads which lie side by side take turns: 16 of 32, 10 of 20, and 17 one by one; or more, in halves.
AttentionCall decode_call(Draw& draw, DType dtype) {
  const std::int64_t k = draw.of<std::int64_t>({2, 8, 17, 20, 32});
  const std::int64_t g = draw.of<std::int64_t>({1, 2, 4, 8, 9, 12});
  return random_call(draw, dtype, {k, g, draw.chance(70) ? 1 : 2, draw.of<std::int64_t>({1, 33, 520, 1100})});
}

// Few rows over many keys, which are cut into pieces for as many tasks.
AttentionCall long_call(Draw& draw, DType dtype) {
  const std::int64_t k = draw.between(1, 3);
  const std::int64_t g = draw.of<std::int64_t>({1, 2, 8, 40});
  return random_call(draw, dtype, {k, g, draw.between(1, 12), draw.between(1000, 2600)});
}

class CpuAttention : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Storage, CpuAttention, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& each) { return std::string(to_string(each.param)); });

void expect_agrees(const AttentionCall& call) {
  expect_forward_agrees(
      call, [](const auto& each) { return reference::attention(each); },
      [](const auto& each) { return cpu::attention(each); });
}

TEST_P(CpuAttention, AgreesWithTheReference) {
  Draw draw(1);
  with_calls(150, [&](int) { expect_agrees(random_call(draw, GetParam())); });
}

TEST_P(CpuAttention, AgreesWithTheReferenceInDecoding) {
  Draw draw(8);
  with_calls(12, [&](int) { expect_agrees(decode_call(draw, GetParam())); });
}

// The same numbers with a gap behind each head's.
Tensor gapped(const Tensor& rows) {
  Shape wider = rows.shape();
  wider[3] += 8;
  Tensor result = Tensor::zeros(wider, rows.dtype()).slice(3, 0, rows.size(3));
  result.copy_from(rows);
  return result;
}

// Every width that is taken whole and a wider one, heads in groups of every size and one by one, keys that fill turns or do
// not; in any layout, and as a cache has them: each token's heads side by side, with and without gaps, in one piece or in
// blocks.
TEST_P(CpuAttention, AgreesWithTheReferenceAtOneOrTwoRowsOfAHead) {
  Draw draw(10);
  constexpr std::pair<std::int64_t, std::int64_t> kHeadsAndGroups[] = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {3, 1}, {4, 1},
                                                                       {4, 2}, {6, 1}, {8, 1}, {8, 2}, {16, 1}};
  for (const auto& [heads, group] : kHeadsAndGroups) {
    for (const std::int64_t width : {32, 64, 96, 128, 160, 192, 224, 256, 416}) {
      SCOPED_TRACE(std::to_string(heads) + " heads in groups of " + std::to_string(group) + ", " + std::to_string(width) +
                   " wide");
      const std::int64_t keys = draw.of<std::int64_t>({128, 400, draw.between(1, 700), 4096 / heads + draw.between(0, 9)});
      AttentionCall call = random_call(draw, GetParam(), {heads, group, 1, keys}, {width, width});
      expect_agrees(call);
      call.key = call.key.contiguous();
      call.value = gapped(call.value);
      expect_agrees(call);
      call.value = call.value.contiguous();
      expect_agrees(call);
      call.mask.reset();  // it would have to be as long as the blocks
      const std::int64_t rows = draw.of<std::int64_t>({1, 16, draw.between(2, 100)});
      const Paged key = paged(call.key, rows, DType::kI64);
      call.key = key.blocks;
      call.value = paged(call.value, rows, DType::kI64).blocks;
      call.block_table = key.table;
      expect_agrees(call);
    }
  }
}

TEST_P(CpuAttention, AgreesWithTheReferenceOverManyKeys) {
  Draw draw(5);
  with_calls(8, [&](int) { expect_agrees(long_call(draw, GetParam())); });
}

// One key has the weight 1: out is its value, here every 16-bit pattern there is.
TEST(CpuAttentionStorage, WidensEveryNumberExactly) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Tensor value = Tensor::uninitialized({1, 1, 128, 512}, dtype);
    std::uint16_t bits = 0;
    for (std::int64_t i = 0; i < value.count(); ++i, ++bits) std::memcpy(value.bytes_begin() + 2 * i, &bits, sizeof(bits));
    const AttentionCall call{.query = Tensor::zeros({1, 1, 128, 16}, dtype),
                             .key = Tensor::zeros({1, 1, 128, 16}, dtype),
                             .value = value,
                             .plan = {{{.count = 1, .length = 1, .limit = 1}}},
                             .scale = 1,
                             .out_dtype = DType::kF32};
    const Tensor expected = value.to(DType::kF32);
    with_every_isa([&] {
      const Tensor out = cpu::attention(call).out;
      for (std::int64_t i = 0; i < out.count(); ++i) {
        const float wanted = expected.data<float>()[i];
        const float got = out.data<float>()[i];
        ASSERT_TRUE(std::isnan(wanted) ? std::isnan(got) : got == wanted)
            << to_string(dtype) << " bits " << i << ": " << got;
      }
    });
  }
}

void expect_gradients_agree(const AttentionCall& call, Draw& draw) {
  const DType dtype = call.query.dtype();
  const AttentionResult forward = reference::attention(call);
  AttentionBackwardCall backward{.forward = call,
                                 .out = forward.out,
                                 .softmax_max = forward.softmax_max,
                                 .softmax_sum = forward.softmax_sum,
                                 .grad_out = scattered(draw, forward.out.shape(), dtype)};
  AttentionBackwardCall exact = backward;
  exact.gradient_dtype = DType::kF64;
  const AttentionGradients expected = reference::attention_backward(exact);
  with_every_isa([&] {
    const AttentionGradients actual = cpu::attention_backward(backward);
    EXPECT_EQ(actual.query.dtype(), dtype);
    const std::int64_t rows_of_key =
        call.query.size(1) * call.query.size(2) / call.key.size(2);  // their roundings add up, at random
    expect_close("dq", actual.query, expected.query, allowed_error(dtype),
                 cancellation(backward.grad_out, forward.out, call.scale * largest(call.key)));
    expect_close("dk", actual.key, expected.key, allowed_error(dtype),
                 cancellation(backward.grad_out, forward.out,
                              call.scale * largest(call.query) * std::sqrt(static_cast<double>(rows_of_key))));
    expect_close("dv", actual.value, expected.value, allowed_error(dtype));
  });
}

TEST_P(CpuAttention, GradientsAgreeWithTheReference) {
  Draw draw(2);
  with_calls(100, [&](int) { expect_gradients_agree(random_call(draw, GetParam()), draw); });
}

TEST_P(CpuAttention, GradientsAgreeWithTheReferenceOverManyKeys) {
  Draw draw(6);
  with_calls(5, [&](int) { expect_gradients_agree(long_call(draw, GetParam()), draw); });
}

// Keys in pieces (long), heads together (decode), queries in parts (many rows a key).
TEST_P(CpuAttention, ThreadsChangeNoBit) {
  Draw draw(9);
  for (const AttentionCall& call :
       {long_call(draw, GetParam()), decode_call(draw, GetParam()), random_call(draw, GetParam(), {1, 40, 150, 100})}) {
    const auto results = [&] {
      const AttentionResult forward = cpu::attention(call);
      const AttentionGradients gradients = cpu::attention_backward({.forward = call,
                                                                    .out = forward.out,
                                                                    .softmax_max = forward.softmax_max,
                                                                    .softmax_sum = forward.softmax_sum,
                                                                    .grad_out = forward.out});
      return std::vector<Tensor>{forward.out,     forward.softmax_max, forward.softmax_sum,
                                 gradients.query, gradients.key,       gradients.value};
    };
    const std::vector<Tensor> all = results();
    const ThreadShare alone(1);
    const std::vector<Tensor> one = results();
    for (std::size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(same_bits(one[i], all[i])) << "result " << i;
  }
}

}  // namespace
}  // namespace tessera::kernels
