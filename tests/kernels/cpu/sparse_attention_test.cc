// The fast sparse attention kernels against the reference: random lists, blocks, rope parts, pages, on every instruction
// set.
#include "kernels/sparse_attention.h"

#include "kernels/cpu/cpu.h"
#include "tests/kernels/cpu/agreement.h"
#include "tests/kernels/lists.h"

namespace tessera::kernels {
namespace {

Tensor random_lists(Draw& draw, const RowPlan& plan, const Shape& shape, std::int64_t block_size, DType dtype) {
  Tensor lists = Tensor::uninitialized(shape, DType::kI64);
  for (std::int64_t& slot : lists.span<std::int64_t>()) slot = -1;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const std::int64_t blocks = (std::max<std::int64_t>(keys_of(segment, i).end, 0) + block_size - 1) / block_size;
      for (std::int64_t head = 0; blocks > 0 && head < shape[2]; ++head) {
        const std::int64_t listed = draw.between(0, shape[3]);
        for (std::int64_t c = 0; c < listed; ++c)
          lists.at<std::int64_t>({segment.batch, segment.row + i, head, c}) =
              draw.between(0, blocks - 1);  // repeats are legal
      }
    }
  }
  return lists.to(dtype);
}

// `s` rows with lists of `c` slots over `t` keys, which sometimes are their own values.
SparseAttentionCall random_call(Draw& draw, DType dtype, std::int64_t s, std::int64_t t, std::int64_t c) {
  const std::int64_t b = draw.between(1, 2);
  const std::int64_t k = draw.of<std::int64_t>({1, 1, 2});
  const std::int64_t g = draw.of<std::int64_t>({1, 3, 8, 16, 64, 130});
  const std::int64_t d = draw.of<std::int64_t>({16, 64, 128, draw.between(1, 140)});
  const std::int64_t e = draw.of<std::int64_t>({d, 64, draw.between(1, 140)});
  SparseAttentionCall call{.query = scattered(draw, {b, s, k * g, d}, dtype),
                           .key = scattered(draw, {b, t, k, d}, dtype),
                           .value = scattered(draw, {b, t, k, e}, dtype),
                           .indices = {},
                           .plan = random_plan(draw, b, s, t),
                           .scale = draw.of({1.0, -0.7, 0.3}) / std::sqrt(static_cast<double>(d)),
                           .block_size = draw.of<std::int64_t>({1, 1, 4, 16})};
  call.indices = random_lists(draw, call.plan, {b, s, k, c}, call.block_size, draw.of({DType::kI32, DType::kI64}));
  if (draw.chance(25)) call.value = call.key;
  if (draw.chance(50)) {
    const std::int64_t r = draw.of<std::int64_t>({16, 64, draw.between(1, 40)});
    call.query_rope = scattered(draw, {b, s, k * g, r}, dtype);
    call.key_rope = scattered(draw, {b, t, k, r}, dtype);
  }
  return call;
}

SparseAttentionCall random_call(Draw& draw, DType dtype) {
  const std::int64_t rows = draw.between(1, 20);
  const std::int64_t keys = draw.between(1, 200);
  return random_call(draw, dtype, rows, keys, draw.of<std::int64_t>({0, 1, draw.between(1, 150)}));
}

// Few rows with long lists: keys are cut into pieces for as many tasks.
SparseAttentionCall long_call(Draw& draw, DType dtype) {
  const std::int64_t rows = draw.between(1, 3);
  return random_call(draw, dtype, rows, draw.between(1100, 2000), draw.between(1024, 1600));
}

class CpuSparseAttention : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Storage, CpuSparseAttention, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& each) { return std::string(to_string(each.param)); });

void expect_agrees(const SparseAttentionCall& call) {
  expect_forward_agrees(
      call, [](const auto& each) { return reference::sparse_attention(each); },
      [](const auto& each) { return cpu::sparse_attention(each); });
}

void expect_gradients_agree(const SparseAttentionCall& call, Draw& draw) {
  const DType dtype = call.query.dtype();
  const AttentionResult forward = reference::sparse_attention(call);
  const SparseAttentionBackwardCall backward{.forward = call,
                                             .out = forward.out,
                                             .softmax_max = forward.softmax_max,
                                             .softmax_sum = forward.softmax_sum,
                                             .grad_out = scattered(draw, forward.out.shape(), dtype)};
  SparseAttentionBackwardCall exact = backward;
  exact.gradient_dtype = DType::kF64;
  const SparseAttentionGradients expected = reference::sparse_attention_backward(exact);
  const double allowed = allowed_error(dtype);
  const auto floor = [&](double factor) { return cancellation(backward.grad_out, forward.out, call.scale * factor); };
  // What a key gets from all rows that list it: their roundings add up, at random.
  const double listings =
      static_cast<double>(call.query.size(1) * call.query.size(2) * std::max<std::int64_t>(call.indices.size(3), 1));
  with_every_isa([&] {
    const SparseAttentionGradients actual = cpu::sparse_attention_backward(backward);
    EXPECT_EQ(actual.query.dtype(), dtype);
    expect_close("dq", actual.query, expected.query, allowed, floor(largest(call.key)));
    expect_close("dk", actual.key, expected.key, allowed, floor(largest(call.query)) * std::sqrt(listings));
    expect_close("dv", actual.value, expected.value, allowed);
    if (!call.query_rope) return;
    expect_close("dq_rope", actual.query_rope, expected.query_rope, allowed, floor(largest(*call.key_rope)));
    expect_close("dk_rope", actual.key_rope, expected.key_rope, allowed,
                 floor(largest(*call.query_rope)) * std::sqrt(listings));
  });
}

TEST_P(CpuSparseAttention, AgreesWithTheReference) {
  Draw draw(3);
  with_calls(100, [&](int) { expect_agrees(random_call(draw, GetParam())); });
}

TEST_P(CpuSparseAttention, GradientsAgreeWithTheReference) {
  Draw draw(4);
  with_calls(60, [&](int) { expect_gradients_agree(random_call(draw, GetParam()), draw); });
}

TEST_P(CpuSparseAttention, AgreesWithTheReferenceOverLongLists) {
  Draw draw(7);
  with_calls(6, [&](int) {
    const SparseAttentionCall call = long_call(draw, GetParam());
    expect_agrees(call);
    expect_gradients_agree(call, draw);
  });
}

}  // namespace
}  // namespace tessera::kernels
