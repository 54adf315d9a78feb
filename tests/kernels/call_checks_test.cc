// What the attention kernels refuse, in which words, and the forms that all providers share.
#include "kernels/call_checks.h"

#include <limits>

#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor zeros(const Shape& shape, DType dtype = DType::kF32) { return Tensor::zeros(shape, dtype); }

AttentionCall attention_call() {
  return {.query = zeros({1, 2, 4, 8}), .key = zeros({1, 3, 2, 8}), .value = zeros({1, 3, 2, 6}), .plan = {}};
}

// Two blocks of three rows each.
AttentionCall paged_call() {
  AttentionCall call = attention_call();
  call.key = zeros({5, 3, 2, 8});
  call.value = zeros({5, 3, 2, 6});
  call.block_table = Tensor::of<std::int32_t>({1, 2}, {4, 0});
  call.plan = {{segment(0, 0, 2, 0, 6, 5, 1)}};
  return call;
}

AttentionBackwardCall attention_backward_call() {
  return {.forward = attention_call(),
          .out = zeros({1, 2, 4, 6}),
          .softmax_max = zeros({1, 2, 2, 2}),
          .softmax_sum = zeros({1, 2, 2, 2}),
          .grad_out = zeros({1, 2, 4, 6})};
}

SparseAttentionCall sparse_call() {
  return {.query = zeros({1, 2, 4, 8}),
          .key = zeros({1, 3, 2, 8}),
          .value = zeros({1, 3, 2, 6}),
          .indices = zeros({1, 2, 2, 5}, DType::kI32),
          .plan = {}};
}

SparseAttentionBackwardCall sparse_backward_call() {
  return {.forward = sparse_call(),
          .out = zeros({1, 2, 4, 6}),
          .softmax_max = zeros({1, 2, 2, 2}),
          .softmax_sum = zeros({1, 2, 2, 2}),
          .grad_out = zeros({1, 2, 4, 6})};
}

IndexerCall indexer_call() {
  return {.query = zeros({1, 2, 4, 8}), .key = zeros({1, 3, 2, 8}), .weights = zeros({1, 2, 4}), .plan = {}, .count = 2};
}

IndexerLossCall loss_call() {
  return {.query_index = zeros({1, 2, 6, 5}),
          .key_index = zeros({1, 3, 2, 5}),
          .weights = zeros({1, 2, 6}),
          .query = zeros({1, 2, 4, 8}),
          .key = zeros({1, 3, 2, 8}),
          .softmax_max = zeros({1, 2, 2, 2}),
          .softmax_sum = zeros({1, 2, 2, 2}),
          .plan = {}};
}

// Expects the call to be refused once `change` has been made to it.
template <class Call, class Change>
void expect_refusal(Call call, Change change, const std::string& code, const std::string& text) {
  change(call);
  expect_error([&] { check(call); }, code, text);
}

std::string sizes_text(const Sizes& size, std::string_view letters) {
  std::string text;
  for (char letter : letters) text += letter + std::to_string(size[letter]) + " ";
  return text;
}

TEST(CallChecks, GiveTheSizesOfTheirLetters) {
  EXPECT_EQ(sizes_text(check(attention_call()), "bsndktegr"), "b1 s2 n4 d8 k2 t3 e6 g2 r0 ");
  EXPECT_EQ(sizes_text(check(attention_backward_call()), "bsndkteg"), "b1 s2 n4 d8 k2 t3 e6 g2 ");
  EXPECT_EQ(sizes_text(check(paged_call()), "bsndktegplm"), "b1 s2 n4 d8 k2 t6 e6 g2 p5 l3 m2 ");
  EXPECT_EQ(sizes_text(check(sparse_call()), "bsndktegcr"), "b1 s2 n4 d8 k2 t3 e6 g2 c5 r0 ");
  SparseAttentionBackwardCall rope = sparse_backward_call();
  rope.forward.query_rope = zeros({1, 2, 4, 7});
  rope.forward.key_rope = zeros({1, 3, 2, 7});
  EXPECT_EQ(sizes_text(check(rope), "bsndktegcr"), "b1 s2 n4 d8 k2 t3 e6 g2 c5 r7 ");
  EXPECT_EQ(sizes_text(check(indexer_call()), "bshdktg"), "b1 s2 h4 d8 k2 t3 g2 ");
  const IndexerCall of = indexer_call();
  EXPECT_EQ(sizes_text(check(IndexerLseCall{of.query, of.key, of.weights, of.plan}), "bshdktg"), "b1 s2 h4 d8 k2 t3 g2 ");
  IndexerLossCall loss = loss_call();
  EXPECT_EQ(sizes_text(check(loss), "bshindktgfc"), "b1 s2 h6 i5 n4 d8 k2 t3 g2 f3 c0 ");
  loss.indices = zeros({1, 2, 2, 9}, DType::kI64);
  EXPECT_EQ(sizes_text(check(loss), "cr"), "c9 r0 ");
}

TEST(CallChecks, WantFloatsWhereNumbersAreWeighed) {
  const auto expect_floats = [](auto call, auto operand, const std::string& op, const std::string& name) {
    operand(call) = operand(call).to(DType::kI32);
    expect_error([&] { check(call); }, "dtype",
                 op + ": " + name + " is i32, but must hold floats\n  hint       convert " + name + " to f32");
  };
  const std::string forward = "attention", backward = "attention_backward";
  expect_floats(
      attention_call(), [](auto& c) -> Tensor& { return c.query; }, forward, "query");
  expect_floats(
      attention_call(), [](auto& c) -> Tensor& { return c.key; }, forward, "key");
  expect_floats(
      attention_call(), [](auto& c) -> Tensor& { return c.value; }, forward, "value");
  expect_floats(
      attention_backward_call(), [](auto& c) -> Tensor& { return c.forward.key; }, backward, "key");
  expect_floats(
      attention_backward_call(), [](auto& c) -> Tensor& { return c.out; }, backward, "out");
  expect_floats(
      attention_backward_call(), [](auto& c) -> Tensor& { return c.grad_out; }, backward, "grad_out");
  expect_floats(
      attention_backward_call(), [](auto& c) -> Tensor& { return c.softmax_max; }, backward, "softmax_max");
  expect_floats(
      attention_backward_call(), [](auto& c) -> Tensor& { return c.softmax_sum; }, backward, "softmax_sum");
  expect_floats(
      sparse_call(), [](auto& c) -> Tensor& { return c.value; }, "sparse_attention", "value");
  expect_floats(
      indexer_call(), [](auto& c) -> Tensor& { return c.weights; }, "lightning_indexer", "weights");
  expect_floats(
      loss_call(), [](auto& c) -> Tensor& { return c.key_index; }, "indexer_kl_loss", "key_index");
  expect_floats(
      loss_call(), [](auto& c) -> Tensor& { return c.key; }, "indexer_kl_loss", "key");
}

TEST(CallChecks, RefuseAttentionThatDoesNotFit) {
  for (double probability : {-0.1, 1.0, kNan}) {
    expect_refusal(
        attention_call(), [&](AttentionCall& call) { call.dropout.probability = probability; }, "attribute-range",
        "attention: dropout's probability is " +
            std::string(std::isnan(probability) ? "nan"
                        : probability < 0       ? "-0.1"
                                                : "1") +
            ", but must be at least 0 and below 1\n"
            "  hint       set it to the share of the weights to drop");
  }
  expect_refusal(
      attention_call(), [](AttentionCall& call) { call.out_dtype = DType::kI64; }, "dtype",
      "attention: out_dtype is i64, but must be a float\n"
      "  hint       leave out_dtype out, or ask for f32");
  expect_refusal(
      attention_call(),
      [](AttentionCall& call) {
        call.mask = zeros({1, 1, 1, 2, 3});
      },
      "shape-mismatch",
      "attention: mask [1, 1, 1, 2, 3] does not broadcast to the scores' [b, n, s, t], here [1, 4, 2, 3]\n"
      "  hint       give mask the scores' sizes, or 1 where it repeats");
}

TEST(CallChecks, RefuseBlockTablesThatDoNotFit) {
  expect_refusal(
      paged_call(),
      [](AttentionCall& call) {
        call.block_table = Tensor::of<std::int64_t>({1, 2}, {4, 5});
      },
      "block-table",
      "attention: entry 1 of batch entry 0 names block 5, but key has 5 blocks (dim 0)\n"
      "  hint       the plan reaches 6 rows, 2 entries of 3 rows each: let all of them name blocks");
  expect_refusal(
      paged_call(),
      [](AttentionCall& call) {
        call.block_table = Tensor::of<std::int64_t>({1, 2}, {-1, 4});
      },
      "block-table",
      "attention: entry 0 of batch entry 0 names block -1, but key has 5 blocks (dim 0)\n"
      "  hint       the plan reaches 6 rows, 2 entries of 3 rows each: let all of them name blocks");
  expect_refusal(
      paged_call(),
      [](AttentionCall& call) {
        call.block_table = zeros({2, 2}, DType::kI32);
      },
      "shape-mismatch",
      "attention: block_table has size 2 in dim 0 (b), but query has size 1 in its dim 0\n"
      "  hint       query is [b, s, n, d] and block_table is [b, m]: give both the same b");
  expect_refusal(
      paged_call(),
      [](AttentionCall& call) {
        call.block_table = zeros({1, 2});
      },
      "dtype",
      "attention: block_table is f32, but must be i32 or i64\n"
      "  hint       convert block_table to i64");
  expect_refusal(
      paged_call(),
      [](AttentionCall& call) {
        call.value = zeros({5, 2, 2, 6});
      },
      "shape-mismatch",
      "attention: value has size 2 in dim 1 (l), but key has size 3 in its dim 1\n"
      "  hint       key is [p, l, k, d] and value is [p, l, k, e]: give both the same l");
  expect_refusal(
      paged_call(), [](AttentionCall& call) { call.plan = {{segment(0, 0, 2, 0, 7, 6, 1)}}; }, "plan-out-of-range",
      "attention: segment 0 of the plan lets row 1 see keys [0, 7), which lie from row 0 on, but key has 6 rows (dim 1)\n"
      "  hint       build the plan for the local query and key that the call gets");
  IndexerCall indexer = indexer_call();
  indexer.key = zeros({1, 3, 2, 8});
  indexer.plan = {{segment(0, 0, 2, 0, 3, 2, 1)}};
  expect_refusal(
      indexer,
      [](IndexerCall& call) {
        call.block_table = Tensor::of<std::int32_t>({1, 1}, {1});
      },
      "block-table",
      "lightning_indexer: entry 0 of batch entry 0 names block 1, but key has 1 blocks (dim 0)\n"
      "  hint       the plan reaches 3 rows, 1 entries of 3 rows each: let all of them name blocks");
}

TEST(CallChecks, LookOnlyAtEntriesThatThePlanReaches) {
  AttentionCall call = paged_call();
  call.block_table = Tensor::of<std::int32_t>({1, 2}, {-7, 1});
  call.plan = {{segment(0, 0, 2, 3, 3, 2, 1)}};  // a sequence in the second entry's rows
  EXPECT_EQ(check(call)['t'], 6);
  call.plan = {};
  call.block_table = Tensor::of<std::int32_t>({1, 2}, {-7, 99});
  EXPECT_EQ(check(call)['t'], 6);
}

TEST(CallChecks, RefuseGradientsThatDoNotFit) {
  expect_refusal(
      attention_backward_call(),
      [](AttentionBackwardCall& call) {
        call.forward.block_table = zeros({1, 1}, DType::kI32);
      },
      "block-table",
      "attention_backward: the gradient takes no block table\n"
      "  hint       gather the blocks into a key and a value [b, t, k, d]");
  expect_refusal(
      attention_backward_call(),
      [](AttentionBackwardCall& call) {
        call.grad_out = zeros({1, 2, 4, 5});
      },
      "shape-mismatch",
      "attention_backward: grad_out has size 5 in dim 3 (e), but value has size 6 in its dim 3\n"
      "  hint       value is [b, t, k, e] and grad_out is [b, s, n, e]: give both the same e");
  expect_refusal(
      attention_backward_call(),
      [](AttentionBackwardCall& call) {
        call.softmax_sum = zeros({1, 2, 2, 1});
      },
      "shape-mismatch",
      "attention_backward: softmax_sum has size 1 in dim 3 (g), but softmax_max has size 2 in its dim 3\n"
      "  hint       softmax_max is [b, k, s, g] and softmax_sum is [b, k, s, g]: give both the same g");
  expect_refusal(
      attention_backward_call(),
      [](AttentionBackwardCall& call) {
        call.softmax_max = call.softmax_sum = zeros({1, 2, 2, 4});
      },
      "shape-mismatch",
      "attention_backward: softmax_max has size 4 in dim 3 (g), but 2 query heads share a key head\n"
      "  hint       give the statistics that attention returned for this query and key");
  expect_refusal(
      attention_backward_call(), [](AttentionBackwardCall& call) { call.gradient_dtype = DType::kBool; }, "dtype",
      "attention_backward: gradient_dtype is bool, but must be a float\n"
      "  hint       leave gradient_dtype out, or ask for f32");
  expect_refusal(
      attention_backward_call(), [](AttentionBackwardCall& call) { call.forward.dropout.probability = 2; },
      "attribute-range",
      "attention_backward: dropout's probability is 2, but must be at least 0 and below 1\n"
      "  hint       set it to the share of the weights to drop");
  expect_refusal(
      sparse_backward_call(),
      [](SparseAttentionBackwardCall& call) {
        call.out = zeros({1, 2, 3, 6});
      },
      "shape-mismatch",
      "sparse_attention_backward: out has size 3 in dim 2 (n), but query has size 4 in its dim 2\n"
      "  hint       query is [b, s, n, d] and out is [b, s, n, e]: give both the same n");
  expect_refusal(
      sparse_backward_call(), [](SparseAttentionBackwardCall& call) { call.forward.block_size = 0; }, "attribute-range",
      "sparse_attention_backward: block_size is 0, but a slot names at least 1 key\n"
      "  hint       set block_size to 1 where slots name single keys");
}

TEST(CallChecks, RefuseLossesThatDoNotFit) {
  expect_refusal(
      loss_call(),
      [](IndexerLossCall& call) {
        call.query_index = zeros({1, 2, 5, 5});
        call.weights = zeros({1, 2, 5});
      },
      "shape-mismatch",
      "indexer_kl_loss: query_index's 5 heads (dim 2) are no multiple of key_index's 2 (dim 2)\n"
      "  hint       give key_index a number of heads that divides 5");
  expect_refusal(
      loss_call(),
      [](IndexerLossCall& call) {
        call.indices = zeros({1, 2, 2, 3});
      },
      "dtype",
      "indexer_kl_loss: indices is f32, but must be i32 or i64\n"
      "  hint       convert indices to i64");
  expect_refusal(
      loss_call(),
      [](IndexerLossCall& call) {
        call.indices = zeros({1, 2, 1, 3}, DType::kI32);
      },
      "shape-mismatch",
      "indexer_kl_loss: indices has size 1 in dim 2 (k), but key has size 2 in its dim 2\n"
      "  hint       key is [b, t, k, d] and indices is [b, s, k, c]: give both the same k");
  expect_refusal(
      loss_call(),
      [](IndexerLossCall& call) {
        call.key_rope = zeros({1, 3, 2, 4});
      },
      "rope-parts",
      "indexer_kl_loss: key_rope is given without query_rope\n"
      "  hint       give both rope parts, or neither");
  expect_refusal(
      loss_call(),
      [](IndexerLossCall& call) {
        call.softmax_max = zeros({1, 2, 3, 2});
      },
      "shape-mismatch",
      "indexer_kl_loss: softmax_max has size 3 in dim 2 (s), but query has size 2 in its dim 1\n"
      "  hint       query is [b, s, n, d] and softmax_max is [b, k, s, g]: give both the same s");
  expect_refusal(
      loss_call(), [](IndexerLossCall& call) { call.plan = {{segment(0, 1, 2, 0, 3, 3, 0)}}; }, "plan-out-of-range",
      "indexer_kl_loss: segment 0 of the plan covers 2 rows from row 1 of batch 0, but query has 2 rows (dim 1) in 1 batch "
      "entries (dim 0)\n"
      "  hint       build the plan for the local query and key that the call gets");
}

TEST(ReachedRows, AreAllThatAnyRowSees) {
  for (const PlanCase& plan : plan_cases()) {
    for (const RowSegment& part : plan.plan.segments) {
      KeyRange reached;
      for (std::int64_t i = 0; i < part.count; ++i) {
        const KeyRange keys = keys_of(part, i);
        if (keys.begin >= keys.end) continue;
        const bool none = reached.begin == reached.end;
        reached.begin = none ? part.key_base + keys.begin : std::min(reached.begin, part.key_base + keys.begin);
        reached.end = std::max(reached.end, part.key_base + keys.end);
      }
      EXPECT_EQ(reached_rows(part), reached) << plan.name;
    }
  }
  EXPECT_EQ(reached_rows(segment(0, 0, 3, 5, 8, -4, 1)), KeyRange{});
}

TEST(AdditiveMask, GivesEveryScoreItsNumberInLittleMemory) {
  Sizes size;
  size['b'] = 2, size['n'] = 3, size['s'] = 4, size['t'] = 5;
  const Shape scores = {2, 3, 4, 5};
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{4, 1}, Shape{3, 1, 5}, Shape{2, 1, 4, 5}, scores}) {
    SCOPED_TRACE(to_string(shape));
    const Tensor numbers = sample(shape, DType::kF32, 3);
    const Tensor full = numbers.broadcast_to(scores);
    const Tensor visible = numbers.to(DType::kI32).to(DType::kBool);
    for (DType dtype : {DType::kF32, DType::kF64}) {
      for (const Tensor& mask : {numbers, numbers.to(DType::kF64), full, restrided(numbers)}) {
        const Tensor added = additive_mask(mask, size, dtype);
        expect_elements(added, scores, dtype, [&](const Index& i) { return number(full, i); });
        for (std::size_t dim = 0; dim < 4; ++dim) EXPECT_EQ(added.strides()[dim] == 0, full.strides()[dim] == 0);
      }
      for (const Tensor& mask : {visible, visible.broadcast_to(scores)}) {
        const Tensor added = additive_mask(mask, size, dtype);
        expect_elements(added, scores, dtype,
                        [&](const Index& i) { return std::abs(number(full, i)) >= 1 ? 0 : -kInfinity; });
        for (std::size_t dim = 0; dim < 4; ++dim) EXPECT_EQ(added.strides()[dim] == 0, full.strides()[dim] == 0);
      }
    }
  }
}

}  // namespace
}  // namespace tessera::kernels
