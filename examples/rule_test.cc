// Unit tests of a sharding rule: what it infers, what it refuses, and the proof that what it accepts is right.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/dense.h"
#include "testing/matchers.h"

namespace {

using namespace tessera;

std::vector<Tensor> gated_product(const LocalCall& call) {
  const Tensor gate = kernels::map(call.input(1), [](double x) { return 1 / (1 + std::exp(-x)); });
  return {kernels::matmul(kernels::zip(call.input(0), gate, [](double x, double g) { return x * g; }), call.input(2))};
}

// Linear in x and w, not in gate: a pending sum must not pass through a sigmoid.
constexpr Rule kRule = "x[m k], gate[m k], w[k n] -> out[m n] | linear x w";
const DistributedOp kOp{"gated_product", kRule, gated_product};
const DeviceMesh kMesh({{"dp", 2}, {"tp", 2}});

TEST(GatedProduct, InfersLayouts) {
  EXPECT_THAT(infer_layouts_of(kOp, kMesh, {{"[8, 4]", "[dp, -]"}, {"[8, 4]", "[dp, -]"}, {"[4, 6]", "[-, tp]"}}),
              ResultLayouts("[dp, tp]"));
  EXPECT_THAT(infer_layouts_of(kOp, kMesh, {{"[8, 4]", "[dp, tp]"}, {"[8, 4]", "[dp, tp]"}, {"[4, 6]", "[tp, -]"}}),
              ResultLayouts("[dp, -] partial(tp: sum)"));
}

TEST(GatedProduct, RefusesWhatWouldBeWrong) {
  EXPECT_THAT(infer_layouts_of(kOp, kMesh, {{"[8, 4]", "[-, tp]"}, {"[8, 4]", "[-, -]"}, {"[4, 6]", "[tp, -]"}}),
              FailsWith("factor-conflict", "factor k is split over 'tp' in x but whole in gate"));
  EXPECT_THAT(
      infer_layouts_of(kOp, kMesh, {{"[8, 4]", "[-, -]"}, {"[8, 4]", "[-, -] partial(tp: sum)"}, {"[4, 6]", "[-, -]"}}),
      FailsWith("partial-operand", "gate has a pending sum over 'tp'"));
}

TEST(GatedProduct, IsProved) {
  // Every layout of every operand, sizes that the mesh does not divide, pending sums; results computed and compared.
  const Proof proof = prove(kOp, {TensorCase{{4, 6}}, TensorCase{{4, 6}}, TensorCase{{6, 3}}}, {}, kMesh);
  EXPECT_THAT(proof, IsSound());
}

TEST(GatedProduct, WouldBeFoundOutIfItsRuleWereWrong) {
  const DistributedOp wrong{"wrong", "x[m k], gate[m k], w[k n] -> out[m n] | linear x gate w", gated_product};
  const Proof proof = prove(wrong, {TensorCase{{4, 6}}, TensorCase{{4, 6}}, TensorCase{{6, 3}}}, {}, kMesh);
  EXPECT_GT(proof.unsound, 0);
  ASSERT_TRUE(proof.counterexample.has_value());
}

}  // namespace
