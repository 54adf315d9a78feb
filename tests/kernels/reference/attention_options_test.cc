// The reference of dense attention: dropout, keys in blocks, and what a call asks for.
#include <gmock/gmock.h>

#include "kernels/attention.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

AttentionCall call_of(const PlanCase& plan, std::int64_t n, std::int64_t k, DType dtype = DType::kF64) {
  return {.query = sample({plan.b, plan.s, n, 3}, dtype, 1),
          .key = sample({plan.b, plan.t, k, 3}, dtype, 2),
          .value = sample({plan.b, plan.t, k, 4}, dtype, 3),
          .plan = plan.plan,
          .scale = 0.7};
}

void expect_same_bits(const AttentionResult& a, const AttentionResult& b) {
  EXPECT_TRUE(same_bits(a.out, b.out));
  EXPECT_TRUE(same_bits(a.softmax_max, b.softmax_max));
  EXPECT_TRUE(same_bits(a.softmax_sum, b.softmax_sum));
}

// Plans whose rows know their places: sequence and position of every segment, all different.
std::vector<PlanCase> placed_plans() {
  std::vector<PlanCase> cases = plan_cases();
  for (PlanCase& plan : cases) {
    for (std::size_t i = 0; i < plan.plan.segments.size(); ++i) {
      plan.plan.segments[i].sequence = 5 + static_cast<std::int64_t>(i);
      plan.plan.segments[i].position = 100 * static_cast<std::int64_t>(i) + plan.plan.segments[i].row;
    }
  }
  return cases;
}

// With values that are the unit vectors, out is the row of weights.
TEST(AttentionDropout, MultipliesWeightsByWhatTheGeneratorSays) {
  const Dropout dropout{.probability = 0.3, .seed = 0x123456789abcdef0, .first_head = 7};
  for (const PlanCase& plan : placed_plans()) {
    SCOPED_TRACE(plan.name);
    AttentionCall call = call_of(plan, 4, 2);
    call.value = Tensor::zeros({plan.b, plan.t, 2, plan.t}, DType::kF64);
    for (const Index& i : all_indices({plan.b, plan.t, 2})) call.value.at<double>({i[0], i[1], i[2], i[1]}) = 1;
    const AttentionResult whole = reference::attention(call);
    call.dropout = dropout;
    const AttentionResult dropped = reference::attention(call);
    // Statistics are those of all weights.
    EXPECT_TRUE(same_bits(dropped.softmax_max, whole.softmax_max));
    EXPECT_TRUE(same_bits(dropped.softmax_sum, whole.softmax_sum));
    expect_elements(dropped.out, whole.out.shape(), DType::kF64, [&](const Index& i) {
      for (const RowSegment& part : plan.plan.segments) {
        if (part.batch != i[0] || i[1] < part.row || i[1] >= part.row + part.count) continue;
        const auto key = static_cast<std::uint32_t>(i[3] - part.key_base);
        const auto words = philox({key / 4, static_cast<std::uint32_t>(part.position + i[1] - part.row),
                                   static_cast<std::uint32_t>(7 + i[2]), static_cast<std::uint32_t>(part.sequence)},
                                  dropout.seed);
        return words[key % 4] < 0.3 * 4294967296.0 ? 0 : number(whole.out, i) / 0.7;
      }
      return 0.0;
    });
  }
}

TEST(AttentionDropout, OfNothingChangesNoBit) {
  const AttentionCall call = call_of(plan_cases()[0], 4, 2);
  AttentionCall seeded = call;
  seeded.dropout = {.probability = 0, .seed = 9, .first_head = 3};
  expect_same_bits(reference::attention(seeded), reference::attention(call));
}

TEST(AttentionDropout, CuttingRowsOrHeadsIntoTwoCallsChangesNoBit) {
  for (const PlanCase& plan : placed_plans()) {
    AttentionCall call = call_of(plan, 4, 2);
    call.dropout = {.probability = 0.5, .seed = 3, .first_head = 2};
    const AttentionResult whole = reference::attention(call);
    for (std::int64_t cut = 0; cut <= plan.s; ++cut) {
      for (const auto& [begin, end] : {std::pair(std::int64_t{0}, cut), std::pair(cut, plan.s)}) {
        SCOPED_TRACE(plan.name + ", rows " + std::to_string(begin) + " to " + std::to_string(end));
        AttentionCall part = call;
        part.query = call.query.slice(1, begin, end);
        part.plan = rows_of_plan(plan.plan, begin, end);
        expect_same_bits(reference::attention(part),
                         {whole.out.slice(1, begin, end), whole.softmax_max.slice(2, begin, end),
                          whole.softmax_sum.slice(2, begin, end)});
      }
    }
    AttentionCall second = call;  // the second key head with its two query heads
    second.query = call.query.slice(2, 2, 4);
    second.key = call.key.slice(2, 1, 2);
    second.value = call.value.slice(2, 1, 2);
    second.dropout.first_head = 4;
    EXPECT_TRUE(same_bits(reference::attention(second).out, whole.out.slice(2, 2, 4))) << plan.name;
  }
}

// Two documents packed one after the other are a batch of two.
TEST(AttentionDropout, PackingChangesNoBit) {
  const PlanCase padded{"", 2, 4, 4, {{segment(0, 0, 4, 0, 4, 1, 1), segment(1, 0, 4, 0, 4, 1, 1)}}};
  AttentionCall call = call_of(padded, 2, 1);
  call.dropout = {.probability = 0.4, .seed = 8};
  call.plan.segments[1].sequence = 1;
  AttentionCall packed = call;
  for (Tensor* tensor : {&packed.query, &packed.key, &packed.value})
    *tensor = tensor->reshape({1, 8, tensor->size(2), tensor->size(3)});
  packed.plan = {{segment(0, 0, 4, 0, 4, 1, 1), segment(0, 4, 4, 4, 4, 1, 1)}};
  packed.plan.segments[1].sequence = 1;
  EXPECT_TRUE(same_bits(reference::attention(packed).out.reshape({2, 4, 2, 4}), reference::attention(call).out));
}

TEST(AttentionPaged, KeysInBlocksGiveTheSameBits) {
  for (const PlanCase& plan : plan_cases()) {
    for (std::int64_t rows : {1, 2, 3, 16}) {
      SCOPED_TRACE(plan.name + ", blocks of " + std::to_string(rows));
      const AttentionCall call = call_of(plan, 4, 2, DType::kF32);
      const Paged key = paged(call.key, rows, DType::kI32);
      const Paged value = paged(call.value, rows, DType::kI64);
      AttentionCall in_blocks = call;
      in_blocks.key = restrided(key.blocks);
      in_blocks.value = value.blocks;
      for (const Tensor& table : {key.table, restrided(value.table)}) {
        in_blocks.block_table = table;
        expect_same_bits(reference::attention(in_blocks), reference::attention(call));
      }
    }
  }
}

TEST(AttentionPaged, EntriesBeyondThePlansReachAreNotRead) {
  const PlanCase plan{"", 1, 1, 6, {{segment(0, 0, 1, 0, 3, 3, 0)}}};
  const AttentionCall call = call_of(plan, 2, 1);
  AttentionCall in_blocks = call;
  in_blocks.key = paged(call.key, 2, DType::kI32).blocks;
  in_blocks.value = paged(call.value, 2, DType::kI32).blocks;
  in_blocks.block_table = Tensor::of<std::int32_t>({1, 3}, {2, 1, 99});
  expect_same_bits(reference::attention(in_blocks), reference::attention(call));
}

TEST(AttentionPaged, MasksGoByRowsOfTheTable) {
  const PlanCase plan = plan_cases()[3];  // whole, two entries of four keys
  AttentionCall call = call_of(plan, 2, 1);
  call.mask = Tensor::of<bool>({4}, {true, false, true, true});
  AttentionCall in_blocks = call;
  const Paged key = paged(call.key, 3, DType::kI32);  // two blocks an entry: six rows
  in_blocks.key = key.blocks;
  in_blocks.value = paged(call.value, 3, DType::kI32).blocks;
  in_blocks.block_table = key.table;
  in_blocks.mask = Tensor::of<bool>({6}, {true, false, true, true, true, true});
  expect_same_bits(reference::attention(in_blocks), reference::attention(call));
}

TEST(AttentionAsked, WhatIsNotAskedForHasShapeZero) {
  AttentionCall call = call_of(plan_cases()[0], 4, 2, DType::kBF16);
  const AttentionResult all = reference::attention(call);
  call.return_out = false;
  const AttentionResult statistics = reference::attention(call);
  EXPECT_EQ(statistics.out.shape(), Shape{0});
  EXPECT_TRUE(same_bits(statistics.softmax_max, all.softmax_max));
  EXPECT_TRUE(same_bits(statistics.softmax_sum, all.softmax_sum));
  call.return_out = true;
  call.return_statistics = false;
  const AttentionResult out = reference::attention(call);
  EXPECT_TRUE(same_bits(out.out, all.out));
  EXPECT_EQ(out.softmax_max.shape(), Shape{0});
  EXPECT_EQ(out.softmax_sum.shape(), Shape{0});
}

TEST(AttentionAsked, OutIsRoundedOnceToTheDtypeAskedFor) {
  AttentionCall call = call_of(plan_cases()[0], 4, 2, DType::kBF16);
  AttentionCall exact = call;
  for (Tensor* tensor : {&exact.query, &exact.key, &exact.value}) *tensor = tensor->to(DType::kF64);
  const AttentionResult expected = reference::attention(exact);
  for (DType dtype : {DType::kF64, DType::kF32, DType::kF16}) {
    call.out_dtype = dtype;
    const AttentionResult result = reference::attention(call);
    EXPECT_TRUE(same_bits(result.out, expected.out.to(dtype))) << to_string(dtype);
    EXPECT_EQ(result.softmax_max.dtype(), DType::kF32);
    EXPECT_EQ(result.softmax_sum.dtype(), DType::kF32);
  }
}

}  // namespace
}  // namespace tessera::kernels
