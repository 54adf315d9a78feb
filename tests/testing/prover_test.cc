// The prover: it accepts what is right, finds what is wrong and says where.
#include "testing/prover.h"

#include <gmock/gmock.h>

#include "testing/matchers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::Not;

DeviceMesh mesh_of_2() { return DeviceMesh({{"tp", 2}}); }

// Element-wise f of one operand of f64.
DistributedOp unary(const Rule& rule, double (*f)(double)) {
  DistributedOp op;
  op.name = "unary";
  op.rule = rule;
  op.kernel = [f](const LocalCall& call) {
    Tensor out = call.input(0).clone();
    for (double& x : out.span<double>()) x = f(x);
    return std::vector{out};
  };
  return op;
}
double twice(double x) { return 2 * x; }
double square(double x) { return x * x; }

// Sums the last dim of [m, k].
std::vector<Tensor> sum_rows(const LocalCall& call) {
  const Tensor x = call.input(0).contiguous();
  Tensor out = Tensor::zeros({x.size(0)}, DType::kF64);
  for (std::int64_t i = 0; i < x.count(); ++i) out.data<double>()[i / x.size(1)] += x.data<double>()[i];
  return {out};
}

TEST(Prove, CountsWhatItTries) {
  const Proof proof = prove(unary("x[m] -> out[m] | linear x", twice), {TensorCase{{5}}}, {}, mesh_of_2());
  EXPECT_EQ(proof.tried, 3);  // [-], [tp], pending
  EXPECT_EQ(proof.accepted, 3);
  EXPECT_EQ(proof.unsound, 0);
  EXPECT_EQ(proof.missed, 0);
  EXPECT_EQ(proof.counterexample, std::nullopt);
  EXPECT_THAT(proof, IsSound());
  EXPECT_EQ(to_string(proof), "3 tried, 3 accepted, 0 unsound, 0 missed");
}

TEST(Prove, ShowsTheFirstDifference) {
  const DistributedOp op = unary("x[m] -> out[m] | linear x", square);
  const Tensor x = Tensor::of<double>({3}, {0.0, 2.0, 1.0});
  const Proof proof = prove(op, {TensorCase{{3}, DType::kF64, x}}, {}, mesh_of_2());
  EXPECT_THAT(proof, Not(IsSound()));
  EXPECT_EQ(proof.unsound, 1);
  ASSERT_TRUE(proof.counterexample.has_value());
  EXPECT_THAT(proof.counterexample->operands, ElementsAre("x f64 [3] [-] partial(tp: sum)"));
  EXPECT_THAT(proof.counterexample->results, ElementsAre("out f64 [3] [-] partial(tp: sum)"));
  EXPECT_THAT(proof.counterexample->difference,
              ::testing::MatchesRegex("out\\[0\\] is .* on rank 0 \\(reductions made\\), but 0 unsharded"));
}

TEST(Prove, TheTextOfACounterexample) {
  DistributedOp op = unary("x[m] -> out[m]", twice);
  op.kernel = [](const LocalCall& call) {  // adds its coordinate
    Tensor out = call.input(0).clone();
    for (double& x : out.span<double>()) x += static_cast<double>(call.coordinate.empty() ? 0 : call.coordinate[0]);
    return std::vector{out};
  };
  const Proof proof = prove(op, {TensorCase{{3}, DType::kF64, Tensor::of<double>({3}, {1, 2, 3})}}, {}, mesh_of_2(),
                            {.find_missed = false});
  EXPECT_EQ(to_string(proof),
            "3 tried, 2 accepted, 2 unsound, 0 missed\n"
            "  x f64 [3] [-]\n"
            "  -> out f64 [3] [-]\n"
            "  out[0] is 2 on rank 1, but 1 unsharded");
}

TEST(Prove, FindsWhatIsRejectedInVain) {
  const Proof proof = prove(unary("x[m n] -> out[m n] | whole n | linear x", twice), {TensorCase{{4, 3}}}, {}, mesh_of_2());
  EXPECT_THAT(proof, IsSound());
  EXPECT_EQ(proof.missed, 1);
  EXPECT_THAT(proof.missed_examples,
              ElementsAre("x [-, tp] -> out [-, tp]: factor n must be whole, but x splits it over 'tp'"));
  EXPECT_EQ(
      prove(unary("x[m n] -> out[m n] | whole n", twice), {TensorCase{{4, 3}}}, {}, mesh_of_2(), {.find_missed = false})
          .missed,
      0);
}

TEST(Prove, WhatIsRejectedWithReasonIsNotMissed) {
  DistributedOp sum = unary("x[m k] -> out[m] | whole k | linear x", twice);
  sum.kernel = sum_rows;
  const LayoutSpace whole_only{};  // no pending sums: the parts of k cannot be said
  EXPECT_EQ(prove(sum, {TensorCase{{4, 3}}}, {}, mesh_of_2(), {.space = whole_only}).missed, 0);
  EXPECT_EQ(prove(sum, {TensorCase{{4, 3}}}, {}, mesh_of_2()).missed, 1);
}

TEST(Prove, OperandsWhoseShardsDoNotFitTogetherAreNotComputed) {
  DistributedOp add = unary("x[m], y[m] -> out[m]", twice);
  int disagreements = 0;
  add.kernel = [&](const LocalCall& call) {
    disagreements += call.input(0).shape() == call.input(1).shape() ? 0 : 1;
    return std::vector{call.input(0).clone()};
  };
  EXPECT_THAT(prove(add, {TensorCase{{4}}, TensorCase{{4}}}, {}, mesh_of_2()), IsSound());
  EXPECT_EQ(disagreements, 0);
}

TEST(Prove, AKernelThatFailsIsACounterexample) {
  DistributedOp op = unary("x[m] -> out[m]", twice);
  op.kernel = [](const LocalCall& call) {
    if (call.input(0).count() == 1) fail("small", "one element is too few");
    return std::vector{call.input(0).clone()};
  };
  const Proof proof = prove(op, {TensorCase{{3}}}, {}, mesh_of_2(), {.space = {}});
  EXPECT_EQ(proof.unsound, 1);
  EXPECT_EQ(proof.counterexample->difference, "the kernel fails on rank 1: one element is too few");
}

TEST(Prove, PendingSoftmaxIsLeftUnchecked) {
  DistributedOp op = unary("x[m k] -> out[m] | softmax k", twice);
  op.kernel = sum_rows;
  const Proof proof = prove(op, {TensorCase{{2, 4}}}, {}, mesh_of_2(), {.space = {}});
  EXPECT_EQ(proof.accepted, 3);
  EXPECT_EQ(proof.unchecked, 1);
  EXPECT_EQ(to_string(proof), "3 tried, 3 accepted, 0 unsound, 0 missed, 1 unchecked");
}

TEST(Prove, IntegersAbsentOperandsAndSamples) {
  DistributedOp op = unary("x[m], y[m]? -> out[m]", twice);
  op.kernel = [](const LocalCall& call) { return std::vector{call.input(0).clone()}; };
  std::size_t asked = 0;
  op.sample = [&](const CallSpec&, std::size_t operand, std::uint64_t) -> std::optional<Tensor> {
    asked += operand + 1;
    return std::nullopt;
  };
  EXPECT_THAT(prove(op, {TensorCase{{5}, DType::kI64}, std::nullopt}, {}, mesh_of_2()), IsSound());
  EXPECT_EQ(asked, 1u);
  EXPECT_THAT(
      [&] {
        prove(op, {TensorCase{{5}, DType::kI64, Tensor::zeros({4}, DType::kI64)}}, {}, mesh_of_2());
      },
      FailsWith("case-values", "operand 0 is i64 [5], its values are i64 [4]"));
  EXPECT_THAT([&] { prove(op, {std::nullopt}, {}, mesh_of_2()); }, FailsWith("missing-operand"));
}

TEST(Prove, TheToleranceIsRelativeToTheLargestMagnitude) {
  DistributedOp op = unary("x[m] -> out[m]", twice);
  op.kernel = [](const LocalCall& call) {
    Tensor out = call.input(0).clone();
    if (!call.coordinate.empty()) out.span<double>()[0] += 1e-9;
    return std::vector{out};
  };
  const TensorCase large{{2}, DType::kF64, Tensor::of<double>({2}, {0, 1e4})};
  EXPECT_THAT(prove(op, {large}, {}, mesh_of_2(), {.space = {}}), IsSound());
  EXPECT_THAT(prove(op, {large}, {}, mesh_of_2(), {.space = {}, .tolerance = 1e-14}), Not(IsSound()));
}

TEST(IsSound, ProvesNothingWhereNothingIsAccepted) { EXPECT_THAT(Proof{.tried = 3}, Not(IsSound())); }

}  // namespace
}  // namespace tessera
