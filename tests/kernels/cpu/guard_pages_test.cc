// No fast kernel reads a byte outside its operands, which lie between pages that nobody may touch, at widths of every kind.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "tests/kernels/cpu/agreement.h"
#include "tests/kernels/guarded.h"

namespace tessera::kernels {
namespace {

/// Runs a kernel with its operands guarded in every way; where they lie changes no bit.
template <class Call, class Kernel>
void expect_reads_operands_only(const Call& call, Kernel kernel) {
  const std::vector<Tensor> expected = tensors_of(kernel(call));
  for (const auto& [name, how] : guardings()) {
    SCOPED_TRACE(name);
    const std::vector<Tensor> actual = tensors_of(kernel(guarded(call, how)));
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(same_bits(actual[i], expected[i])) << "result " << i;
  }
}

std::int64_t odd(Draw& draw, std::int64_t most) { return 2 * draw.between(0, (most - 1) / 2) + 1; }

AttentionCall call_of_widths(Draw& draw, DType dtype, std::int64_t d, std::int64_t e) {
  const std::int64_t b = draw.between(1, 2);
  const std::int64_t k = draw.between(1, 2);
  const std::int64_t g = draw.of<std::int64_t>({1, 2, 3});
  const std::int64_t s = odd(draw, draw.chance(20) ? 71 : 11);
  const std::int64_t t = odd(draw, draw.chance(30) ? 199 : 21);
  AttentionCall call{.query = scattered(draw, {b, s, k * g, d}, dtype),
                     .key = scattered(draw, {b, t, k, d}, dtype),
                     .value = scattered(draw, {b, t, k, e}, dtype),
                     .plan = random_plan(draw, b, s, t),
                     .scale = 1 / std::sqrt(static_cast<double>(d))};
  if (draw.chance(40)) {
    const auto some = [&](std::int64_t size) { return draw.chance(25) ? 1 : size; };
    const Shape shape = {some(b), some(k * g), some(s), some(t)};
    call.mask = draw.chance(30) ? random_integers(shape, DType::kBool, 0, 2, draw.seed(), "mask")
                                : random_normal(shape, DType::kF32, draw.seed(), "mask");
  }
  if (draw.chance(15)) call.dropout = {.probability = 0.3, .seed = draw.seed()};
  return call;
}

/// The same call, its keys and values in blocks; `Call` is either forward call.
template <class Call>
Call in_pages(Draw& draw, Call call) {
  const std::int64_t rows = draw.of<std::int64_t>({1, 3, 7, 16, 64});
  const DType table = draw.of({DType::kI32, DType::kI64});
  call.value = paged(call.value, rows, table).blocks;
  if constexpr (requires { call.key_rope; }) {
    if (call.key_rope) call.key_rope = paged(*call.key_rope, rows, table).blocks;
  } else if (call.mask && call.mask->size(3) > 1) {  // as wide as the table
    const std::int64_t slots = (call.key.size(1) + rows - 1) / rows;
    call.mask = random_normal({1, 1, call.query.size(1), slots * rows}, DType::kF32, draw.seed(), "mask");
  }
  const Paged keys = paged(call.key, rows, table);
  call.key = keys.blocks;
  call.block_table = keys.table;
  return call;
}

/// Lists of any blocks that rows see, the last one among them.
SparseAttentionCall sparse_call_of_widths(Draw& draw, DType dtype, std::int64_t d, std::int64_t e) {
  const AttentionCall dense = call_of_widths(draw, dtype, d, e);
  const std::int64_t b = dense.query.size(0);
  const std::int64_t s = dense.query.size(1);
  const std::int64_t k = dense.key.size(2);
  const std::int64_t slots = odd(draw, 31);
  SparseAttentionCall call{.query = dense.query,
                           .key = dense.key,
                           .value = dense.value,
                           .indices = Tensor::zeros({b, s, k, slots}, DType::kI64),
                           .plan = dense.plan,
                           .scale = dense.scale,
                           .block_size = draw.of<std::int64_t>({1, 1, 3, 16})};
  std::ranges::fill(call.indices.span<std::int64_t>(), -1);
  for (const RowSegment& segment : call.plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      if (keys.begin >= keys.end) continue;
      const std::int64_t last = (keys.end - 1) / call.block_size;
      for (std::int64_t head = 0; head < k; ++head) {
        const std::int64_t listed = draw.between(0, slots);
        for (std::int64_t slot = 0; slot < listed; ++slot)
          call.indices.at<std::int64_t>({segment.batch, segment.row + i, head, slot}) =
              slot == 0 ? last : draw.between(0, last);
      }
    }
  }
  call.indices = call.indices.to(draw.of({DType::kI32, DType::kI64}));
  if (draw.chance(50)) {
    const std::int64_t r = draw.between(1, 70);
    call.query_rope = scattered(draw, {b, s, dense.query.size(2), r}, dtype);
    call.key_rope = scattered(draw, {b, dense.key.size(1), k, r}, dtype);
  }
  return call;
}

/// Every width from 1 to 70, and 128, once as d and once as e.
template <class Try>
void with_every_width(Draw& draw, Try attempt) {
  for (std::int64_t i = 1; i <= 71 && !testing::Test::HasFailure(); ++i) {
    const std::int64_t width = i <= 70 ? i : 128;
    const std::int64_t other = draw.of<std::int64_t>({width, draw.between(1, 70), 128});
    for (const auto& [d, e] : {std::pair(width, other), std::pair(other, width)}) {
      SCOPED_TRACE("d = " + std::to_string(d) + ", e = " + std::to_string(e));
      attempt(d, e);
    }
  }
}

class GuardPages : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Storage, GuardPages, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& storage) { return std::string(to_string(storage.param)); });

TEST_P(GuardPages, AttentionReadsOperandsOnly) {
  with_every_isa([&] {
    Draw draw(1);
    with_every_width(draw, [&](std::int64_t d, std::int64_t e) {
      AttentionCall call = call_of_widths(draw, GetParam(), d, e);
      if (draw.chance(30)) call = in_pages(draw, call);
      expect_reads_operands_only(call, cpu::attention);
    });
  });
}

// Keys in pieces, each of which asks for rows of the next: a page holds one row, so that each row takes an entry of the table.
TEST_P(GuardPages, DecodingInPiecesReadsOperandsOnly) {
  Draw draw(5);
  const std::int64_t keys = draw.between(1030, 1090);
  for (const std::int64_t heads : {1, 3}) {
    for (const std::int64_t group : {1, 2, 8}) {
      SCOPED_TRACE(std::to_string(heads) + " heads, in groups of " + std::to_string(group));
      AttentionCall call{.query = scattered(draw, {1, 1, heads * group, 32}, GetParam()),
                         .key = scattered(draw, {1, keys, heads, 32}, GetParam()).contiguous(),
                         .value = scattered(draw, {1, keys, heads, 32}, GetParam()).contiguous(),
                         .plan = {{{.count = 1, .length = keys, .limit = keys}}}};
      call.value = paged(call.value, 1, DType::kI64).blocks;
      const Paged pages = paged(call.key, 1, DType::kI64);
      call.key = pages.blocks;
      call.block_table = pages.table;
      with_every_isa([&] { expect_reads_operands_only(call, cpu::attention); });
    }
  }
}

TEST_P(GuardPages, AttentionBackwardReadsOperandsOnly) {
  with_every_isa([&] {
    Draw draw(2);
    with_every_width(draw, [&](std::int64_t d, std::int64_t e) {
      AttentionCall call = call_of_widths(draw, GetParam(), d, e);
      call.out_dtype = draw.of({GetParam(), DType::kF32});
      const AttentionResult forward = cpu::attention(call);
      const AttentionBackwardCall backward{.forward = call,
                                           .out = forward.out,
                                           .softmax_max = forward.softmax_max,
                                           .softmax_sum = forward.softmax_sum,
                                           .grad_out = scattered(draw, forward.out.shape(), GetParam())};
      expect_reads_operands_only(backward, cpu::attention_backward);
    });
  });
}

TEST_P(GuardPages, SparseAttentionReadsOperandsOnly) {
  with_every_isa([&] {
    Draw draw(3);
    with_every_width(draw, [&](std::int64_t d, std::int64_t e) {
      SparseAttentionCall call = sparse_call_of_widths(draw, GetParam(), d, e);
      if (draw.chance(30)) call = in_pages(draw, call);
      expect_reads_operands_only(call, cpu::sparse_attention);
    });
  });
}

TEST_P(GuardPages, SparseAttentionBackwardReadsOperandsOnly) {
  with_every_isa([&] {
    Draw draw(4);
    with_every_width(draw, [&](std::int64_t d, std::int64_t e) {
      const SparseAttentionCall call = sparse_call_of_widths(draw, GetParam(), d, e);
      const AttentionResult forward = cpu::sparse_attention(call);
      const SparseAttentionBackwardCall backward{.forward = call,
                                                 .out = forward.out,
                                                 .softmax_max = forward.softmax_max,
                                                 .softmax_sum = forward.softmax_sum,
                                                 .grad_out = scattered(draw, forward.out.shape(), GetParam())};
      expect_reads_operands_only(backward, cpu::sparse_attention_backward);
    });
  });
}

// The guards themselves: a copy is what it is a copy of, and there is nothing beside it.
TEST(Guarded, CopiesHaveNothingBesideThem) {
  const Tensor tensor = sample({2, 3, 5}, DType::kF16, 1);
  for (const auto& [name, how] : guardings()) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(same_bits(guarded(tensor, how), tensor));
    EXPECT_TRUE(same_bits(guarded(tensor.permute({1, 0, 2}), how), tensor.permute({1, 0, 2})));
    EXPECT_EQ(guarded(tensor.permute({1, 0, 2}), how).strides()[0], 5 + how.gap);
    EXPECT_TRUE(same_bits(guarded(Tensor::zeros({}, DType::kI64), how), Tensor::zeros({}, DType::kI64)));
    EXPECT_EQ(guarded(Tensor(), how).count(), 0);
    Tensor numbers = guarded(tensor, how);
    const auto* data = numbers.data<BFloat16>();
    const bool at_end = how.guard == Guard::kBehindLast;
    const volatile auto* outside =
        reinterpret_cast<const volatile std::uint16_t*>(data + (at_end ? numbers.offset_of(Index{1, 2, 4}) + 1 : -1));
    EXPECT_DEATH((void)*outside, "");
    EXPECT_DEATH(*numbers.data<BFloat16>() = BFloat16(0), "");
  }
}

}  // namespace
}  // namespace tessera::kernels
