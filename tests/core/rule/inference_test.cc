// Inference: layouts forwards and backwards, and every conflict with its whole text.
#include "core/rule/inference.h"

#include <gmock/gmock.h>

#include "core/rule/faults.h"
#include "layouts/notation.h"
#include "testing/matchers.h"
#include "tests/core/rule/einsum.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }
DeviceMesh mesh_3d() { return DeviceMesh({{"dp", 2}, {"one", 1}, {"tp", 4}}); }

constexpr Rule kMatmul = "x[m k], w[k n] -> out[m n] | linear x w";
constexpr Rule kLinear = "x[... k], w[n k], bias[n]? -> out[... n] | linear x w + bias";
constexpr Rule kAdd = "x[...], y[...] -> out[...] | linear x + y";
constexpr Rule kHeads = "q[b (g r) s d], k[b g t d] -> scores[b (g r) s t] | linear q k";

TEST(Infer, Matmul) {
  const DeviceMesh mesh = mesh_2x2();
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[dp, -]"}, {"[4, 6]", "[-, tp]"}}), ResultLayouts("[dp, tp]"));
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[dp, tp]"}, {"[4, 6]", "[tp, -]"}}),
              ResultLayouts("[dp, -] partial(tp: sum)"));
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[-, tp+dp]"}, {"[4, 6]", "[tp+dp, -]"}}),
              ResultLayouts("[-, -] partial(dp: sum, tp: sum)"));
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[-, tp]"}, {"[4, 6]", "[tp, -] partial(dp: sum)"}}),
              ResultLayouts("[-, -] partial(dp: sum, tp: sum)"));
}

TEST(Infer, AxesOfSizeOneDoNotCount) {
  const DeviceMesh mesh = mesh_3d();
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[dp+one, -]"}, {"[4, 8]", "[one, tp]"}}),
              ResultLayouts("[dp+one, tp]"));
  EXPECT_THAT(infer_layouts_of(kMatmul, mesh, {{"[8, 4]", "[one, tp]"}, {"[4, 8]", "[one+tp, dp]"}}),
              ResultLayouts("[one, dp] partial(tp: sum)"));
  // A pending reduction over one rank is none, even where the axis "splits" another operand.
  EXPECT_THAT(infer_layouts_of(kAdd, mesh, {{"[8, 4]", "[dp, -] partial(one: sum)"}, {"[8, 4]", "[dp, one]"}}),
              ResultLayouts("[dp, one]"));
  EXPECT_THAT(infer_layouts_of(kAdd, mesh, {{"[8]", "[dp] partial(one: sum)"}, {"[8]", "[dp] partial(one: max)"}}),
              ResultLayouts("[dp]"));
  EXPECT_THAT(
      infer_layouts_of("x[m], y[m] -> out[m] | move x y", mesh, {{"[8]", "[dp]"}, {"[8]", "[dp] partial(one: sum)"}}),
      ResultLayouts("[dp]"));
}

TEST(Infer, GroupedHeads) {
  const DeviceMesh mesh = mesh_3d();
  EXPECT_THAT(infer_layouts_of(kHeads, mesh, {{"[2, 16, 5, 3]", "[dp, tp, -, -]"}, {"[2, 4, 7, 3]", "[dp, tp, -, -]"}}),
              ResultLayouts("[dp, tp, -, -]"));
  EXPECT_THAT(infer_layouts_of(kHeads, mesh, {{"[1, 16, 5, 3]", "[-, tp+dp, -, -]"}, {"[1, 4, 7, 3]", "[-, tp, -, -]"}}),
              ResultLayouts("[-, tp+dp, -, -]"));
  EXPECT_THAT(infer_layouts_of(kHeads, mesh, {{"[2, 16, 5, 3]", "[-, -, dp, -]"}, {"[2, 4, 7, 3]", "[-, -, tp, -]"}}),
              ResultLayouts("[-, -, dp, tp]"));
}

TEST(Infer, Reshapes) {
  const DeviceMesh mesh = mesh_2x2();
  EXPECT_THAT(infer_layouts_of("x[a b c] -> out[(a b) c] | move x", mesh, {{"[4, 6, 5]", "[dp, -, tp] "}}),
              ResultLayouts("[dp, tp]"));
  EXPECT_THAT(infer_layouts_of("x[a b] -> out[(a b)] | move x", mesh, {{"[2, 6]", "[dp, tp]"}}), ResultLayouts("[dp+tp]"));
  EXPECT_THAT(infer_layouts_of("x[(a b)] -> out[a b] | move x | size b=6", mesh, {{"[12]", "[tp+dp]"}}),
              ResultLayouts("[tp, dp]"));
  EXPECT_THAT(infer_layouts_of("x[(a b)] -> out[a b] | move x | size b=2", mesh, {{"[6]", "[tp:cyclic(4)]"}}),
              ResultLayouts("[tp:cyclic(2), -]"));
}

TEST(Infer, AMoveKeepsWhateverIsPending) {
  EXPECT_THAT(infer_layouts_of("x[a b] -> out[b a] | move x", mesh_2x2(), {{"[4, 6]", "[-, dp] partial(tp: max)"}}),
              ResultLayouts("[dp, -] partial(tp: max)"));
}

TEST(Infer, Distributions) {
  const DeviceMesh mesh = mesh_2x2();
  EXPECT_THAT(infer_layouts_of(kAdd, mesh, {{"[8]", "[dp:head_tail]"}, {"[8]", "[dp:head_tail]"}}),
              ResultLayouts("[dp:head_tail]"));
  EXPECT_THAT(infer_layouts_of(kAdd, mesh, {{"[8]", "[dp:balanced]"}, {"[8]", "[dp]"}}), ResultLayouts("[dp:balanced]"));
  EXPECT_THAT(infer_layouts_of(kAdd, mesh, {{"[7]", "[dp+tp:balanced]"}, {"[7]", "[dp+tp]"}}),
              FailsWith("factor-conflict"));
}

TEST(Infer, AbsentOptionalOperands) {
  const DeviceMesh mesh = mesh_2x2();
  const std::vector<OperandText> given = {{"[8, 4]", "[dp, tp]"}, {"[6, 4]", "[-, tp]"}};
  std::vector<OperandText> with_null = given;
  with_null.push_back({"", ""});
  for (const auto& operands : {given, with_null}) {
    EXPECT_THAT(infer_layouts_of(kLinear, mesh, operands), ResultLayouts("[dp, -] partial(tp: sum)"));
    EXPECT_THAT(infer_layouts_of(kLinear, mesh, operands), OperandLayouts("[dp, tp]", "[-, tp]", "[]"));
  }
  EXPECT_THAT(infer_layouts_of("x[m], y[m]? -> out[m] | move x y", mesh, {{"[8]", "[dp] partial(tp: max)"}}),
              ResultLayouts("[dp] partial(tp: max)"));
}

TEST(Infer, WhatATermLacksCountsOnce) {
  const DeviceMesh mesh = mesh_3d();
  const TensorSpec x{{8, 4}, DType::kF32, parse_layout(mesh, "[-, tp]")};
  const TensorSpec w{{6, 4}, DType::kF32, parse_layout(mesh, "[-, tp] partial(dp: sum)")};
  const TensorSpec bias{{6}, DType::kF32, parse_layout(mesh, "[-]")};
  const std::vector<const TensorSpec*> operands{&x, &w, &bias};
  const Inference inference = infer(kLinear, operands);
  EXPECT_EQ(inference.once[2], (AxisList{0, 2}));
  EXPECT_TRUE(inference.once[0].empty());
  EXPECT_TRUE(inference.once[1].empty());
  EXPECT_EQ(to_string(inference.results[0]), "[-, -] partial(dp: sum, tp: sum)");
  // A mean of sums takes in a whole term on every rank.
  const TensorSpec y{{8}, DType::kF32, parse_layout(mesh, "[-]")};
  EXPECT_TRUE(
      infer("x[m k], y[m] -> out[m] | avg k | linear x + y", std::vector<const TensorSpec*>{&x, &y}).once[1].empty());
}

// A pending reduction of the mean over an axis, plus something whole, is the mean of both.
TEST(Infer, PendingAveragesPassThroughSums) {
  EXPECT_THAT(infer_layouts_of(kAdd, mesh_2x2(), {{"[8]", "[dp] partial(tp: avg)"}, {"[8]", "[dp]"}}),
              ResultLayouts("[dp] partial(tp: avg)"));
}

struct Conflict {
  std::string name;
  Rule rule;
  std::vector<OperandText> operands;
  std::string text;
};
void PrintTo(const Conflict& conflict, std::ostream* out) { *out << to_string(conflict.rule); }

class Conflicts : public ::testing::TestWithParam<Conflict> {};

TEST_P(Conflicts, AreExplained) {
  const Inferred inferred = infer_layouts_of(GetParam().rule, mesh_3d(), GetParam().operands);
  ASSERT_TRUE(inferred.fault.has_value());
  EXPECT_EQ(inferred.fault->code + "|" + to_string(*inferred.fault), GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, Conflicts,
    ::testing::Values(
        Conflict{"whole_beside_split",
                 kMatmul,
                 {{"[8, 4]", "[dp, tp]"}, {"[4, 6]", "[-, -]"}},
                 "factor-conflict|factor k is split over 'tp' in x but whole in w\n"
                 "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
                 "  x          [dp, tp]\n"
                 "  w          [-, -]\n"
                 "  hint       reshard w to [tp, -]"},
        Conflict{"split_beside_whole",
                 kMatmul,
                 {{"[8, 4]", "[dp, -]"}, {"[4, 6]", "[tp, -]"}},
                 "factor-conflict|factor k is whole in x but split over 'tp' in w\n"
                 "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
                 "  x          [dp, -]\n"
                 "  w          [tp, -]\n"
                 "  hint       reshard x to [dp, tp]"},
        Conflict{"two_splits",
                 kMatmul,
                 {{"[8, 4]", "[-, dp+tp]"}, {"[4, 6]", "[tp+dp, -]"}},
                 "factor-conflict|factor k is split over 'dp+tp' in x but split over 'tp+dp' in w\n"
                 "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
                 "  x          [-, dp+tp]\n"
                 "  w          [tp+dp, -]\n"
                 "  hint       reshard w to [dp+tp, -]"},
        Conflict{"distributions",
                 kAdd,
                 {{"[8]", "[tp:cyclic(1)]"}, {"[8]", "[tp]"}},
                 "factor-conflict|factor ...[-1] is dealt cyclic(1) over 'tp' in x but split over 'tp' in y\n"
                 "  rule       x[...], y[...] -> out[...] | linear x + y\n"
                 "  x          [tp:cyclic(1)]\n"
                 "  y          [tp]\n"
                 "  hint       reshard y to [tp:cyclic(1)]"},
        Conflict{"axis_on_two_factors",
                 kMatmul,
                 {{"[8, 4]", "[dp, -]"}, {"[4, 6]", "[-, dp]"}},
                 "axis-conflict|axis 'dp' splits both factor m (in x) and factor n (in w)\n"
                 "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
                 "  x          [dp, -]\n"
                 "  w          [-, dp]\n"
                 "  hint       reshard w to [-, -]"},
        Conflict{"whole_factor",
                 "x[m k] -> out[m k] | whole k",
                 {{"[8, 4]", "[dp, tp]"}},
                 "factor-not-whole|factor k must be whole, but x splits it over 'tp'\n"
                 "  rule       x[m k] -> out[m k] | whole k\n"
                 "  x          [dp, tp]\n"
                 "  hint       reshard x to [dp, -]"},
        Conflict{"cut_compound",
                 "q[(g r)], k[g] -> out[g r] | linear q k",
                 {{"[12]", "[tp]"}, {"[6]", "[-]"}},
                 "compound-split|axis 'tp' (size 4) of q dim 0 would cut factor g of size 6 within its elements\n"
                 "  rule       q[(g r)], k[g] -> out[g r] | linear q k\n"
                 "  q          [tp]\n"
                 "  hint       reshard q to [-]"},
        Conflict{"cut_by_a_distribution",
                 "q[(g r)], k[g] -> out[g r] | linear q k",
                 {{"[16]", "[tp:cyclic(1)]"}, {"[8]", "[-]"}},
                 "compound-split|q dim 0, dealt cyclic(1) over 'tp', cuts factor g of size 8 within its elements\n"
                 "  rule       q[(g r)], k[g] -> out[g r] | linear q k\n"
                 "  q          [tp:cyclic(1)]\n"
                 "  hint       reshard q to [-]"},
        Conflict{"unsayable",
                 "x[a b] -> out[(a b)] | move x",
                 {{"[4, 6]", "[-, dp]"}},
                 "result-split|no layout says how out dim 0 (a b) would be split\n"
                 "  rule       x[a b] -> out[(a b)] | move x\n"
                 "  x          [-, dp]\n"
                 "  hint       a factor behind another can be split only where the one in front is cut to single, equal "
                 "parts; else keep it "
                 "whole"},
        Conflict{"repeated",
                 kAdd,
                 {{"[8, 4]", "[-, -]"}, {"[1, 4]", "[dp, -]"}},
                 "repeated-split|y dim 0 has size 1 and repeats, but is split over 'dp'\n"
                 "  rule       x[...], y[...] -> out[...] | linear x + y\n"
                 "  y          [dp, -]\n"
                 "  hint       reshard y to [-, -]"},
        Conflict{"partial_operand",
                 "x[m] -> out[m]",
                 {{"[8]", "[tp] partial(dp: sum)"}},
                 "partial-operand|x has a pending sum over 'dp', which cannot pass through\n"
                 "  rule       x[m] -> out[m]\n"
                 "  x          [tp] partial(dp: sum)\n"
                 "  hint       reduce it first: reshard x to [tp]"},
        Conflict{"partial_of_another_kind",
                 kAdd,
                 {{"[8]", "[-] partial(dp: max)"}, {"[8]", "[-]"}},
                 "partial-operand|x has a pending max over 'dp', which cannot pass through\n"
                 "  rule       x[...], y[...] -> out[...] | linear x + y\n"
                 "  x          [-] partial(dp: max)\n"
                 "  hint       reduce it first: reshard x to [-]"},
        Conflict{"partial_and_split",
                 kMatmul,
                 {{"[8, 4]", "[-, -] partial(tp: sum)"}, {"[4, 6]", "[-, tp]"}},
                 "partial-conflict|x has a pending sum over 'tp', which splits factor n\n"
                 "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
                 "  x          [-, -] partial(tp: sum)\n"
                 "  w          [-, tp]\n"
                 "  hint       reduce it first: reshard x to [-, -]"},
        Conflict{
            "product_of_sums",
            kMatmul,
            {{"[8, 4]", "[-, -] partial(dp: sum)"}, {"[4, 6]", "[-, -] partial(dp: sum)"}},
            "partial-conflict|x and w are multiplied and both pending over 'dp': a product of sums is no sum of products\n"
            "  rule       x[m k], w[k n] -> out[m n] | linear x w\n"
            "  x          [-, -] partial(dp: sum)\n"
            "  w          [-, -] partial(dp: sum)\n"
            "  hint       reduce one first: reshard w to [-, -]"},
        Conflict{"kinds",
                 kAdd,
                 {{"[8]", "[-] partial(dp: sum)"}, {"[8]", "[-] partial(dp: avg)"}},
                 "partial-conflict|x is a pending sum over 'dp' but y is a pending avg\n"
                 "  rule       x[...], y[...] -> out[...] | linear x + y\n"
                 "  x          [-] partial(dp: sum)\n"
                 "  y          [-] partial(dp: avg)\n"
                 "  hint       reduce what is pending first"},
        Conflict{"moved_together",
                 "x[m], y[m] -> out[m] | move x y",
                 {{"[8]", "[-] partial(dp: sum, tp: max)"}, {"[8]", "[-] partial(dp: sum)"}},
                 "partial-conflict|x is a pending max over 'tp' but y is not pending\n"
                 "  rule       x[m], y[m] -> out[m] | move x y\n"
                 "  x          [-] partial(dp: sum, tp: max)\n"
                 "  y          [-] partial(dp: sum)\n"
                 "  hint       reduce what is pending first"},
        Conflict{"moved_over_an_axis_of_one",
                 "x[m], y[m] -> out[m] | move x y",
                 {{"[8]", "[-] partial(dp: sum)"}, {"[8]", "[-] partial(one: sum)"}},
                 "partial-conflict|x is a pending sum over 'dp' but y is not pending\n"
                 "  rule       x[m], y[m] -> out[m] | move x y\n"
                 "  x          [-] partial(dp: sum)\n"
                 "  y          [-] partial(one: sum)\n"
                 "  hint       reduce what is pending first"},
        Conflict{"uneven_average",
                 "x[m k] -> out[m] | avg k",
                 {{"[8, 6]", "[-, tp]"}},
                 "uneven-average|factor k of size 6 is averaged, but its 4 shards are not equal: the mean of their means "
                 "is not the mean\n"
                 "  rule       x[m k] -> out[m] | avg k\n"
                 "  hint       keep it whole, or take the sum and divide by the size"}),
    [](const auto& tested) { return tested.param.name; });

TEST(InferFaults, NameTheOperatorAndWhatItsLettersMean) {
  DistributedOp op = einsum_op(kMatmul, "matmul");
  op.factors = {{"k", "inner dim"}};
  EXPECT_THAT(infer_layouts_of(op, mesh_2x2(), {{"[8, 4]", "[dp, tp]"}, {"[4, 6]", "[-, -]"}}),
              FailsWith("factor-conflict", "matmul: factor k (inner dim) is split over 'tp' in x but whole in w\n"));
}

TEST(InferFaults, OneMeshAndLayoutsThatFit) {
  const TensorSpec x{{8}, DType::kF32, parse_layout(mesh_2x2(), "[dp]")};
  const TensorSpec y{{8}, DType::kF32, parse_layout(mesh_3d(), "[dp]")};
  const TensorSpec flat{{8}, DType::kF32, parse_layout(mesh_2x2(), "[dp, tp]")};
  const std::vector<const TensorSpec*> two_meshes{&x, &y};
  const std::vector<const TensorSpec*> misfit{&x, &flat};
  EXPECT_THAT([&] { infer(kAdd, two_meshes); },
              FailsWith("mesh-mismatch",
                        "y lies on another mesh than the operands before it\n  mesh       dp=2 x tp=2\n"
                        "  y          dp=2 x one=1 x tp=4\n  hint       put all operands of a call on one mesh"));
  EXPECT_THAT([&] { infer(kAdd, misfit); }, FailsWith("layout-misfit", "y cannot have layout [dp, tp]: "));
}

std::vector<std::string> inferred_from(const Rule& rule, const std::vector<Shape>& shapes,
                                       const std::vector<std::optional<std::string>>& operands,
                                       const std::vector<std::optional<std::string>>& results) {
  const auto read = [](const std::vector<std::optional<std::string>>& texts) {
    std::vector<std::optional<Layout>> layouts;
    for (const auto& text : texts) layouts.push_back(text ? std::optional(parse_layout(mesh_2x2(), *text)) : std::nullopt);
    return layouts;
  };
  const auto given = read(operands);
  const auto wanted = read(results);
  std::vector<const Shape*> shape_pointers;
  for (const Shape& shape : shapes) shape_pointers.push_back(&shape);
  std::vector<const Layout*> operand_pointers, result_pointers;
  for (const auto& layout : given) operand_pointers.push_back(layout ? &*layout : nullptr);
  for (const auto& layout : wanted) result_pointers.push_back(layout ? &*layout : nullptr);
  const Inference inference = infer_from(rule, shape_pointers, operand_pointers, result_pointers);
  std::vector<std::string> all;
  for (const Layout& layout : inference.operands) all.push_back(to_string(layout));
  for (const Layout& layout : inference.results) all.push_back(to_string(layout));
  return all;
}

TEST(InferFrom, ResultsTellOperands) {
  EXPECT_THAT(inferred_from(kMatmul, {{8, 4}, {4, 6}}, {std::nullopt, std::nullopt}, {"[dp, tp]"}),
              ElementsAre("[dp, -]", "[-, tp]", "[dp, tp]"));
  EXPECT_THAT(inferred_from(kMatmul, {{8, 4}, {4, 6}}, {"[-, tp]", std::nullopt}, {"[-, dp]"}),
              ElementsAre("[-, tp]", "[tp, dp]", "[-, dp] partial(tp: sum)"));
  EXPECT_THAT(inferred_from("x[a b] -> out[(a b)] | move x", {{2, 6}}, {std::nullopt}, {"[dp+tp]"}),
              ElementsAre("[dp, tp]", "[dp+tp]"));
  EXPECT_THAT(inferred_from(kAdd, {{3, 8}, {8}}, {std::nullopt, std::nullopt}, {"[-, dp] partial(tp: sum)"}),
              ElementsAre("[-, dp]", "[dp]", "[-, dp]"));
}

TEST(InferFrom, ResultsMustFit) {
  EXPECT_THAT(
      [&] {
        inferred_from(kMatmul, {{8, 4}, {4, 6}}, {std::nullopt, std::nullopt}, {"[dp]"});
      },
      FailsWith("layout-misfit", "out cannot have layout [dp]: "));
  EXPECT_THAT(
      [&] {
        inferred_from(kMatmul, {{8, 4}, {4, 6}}, {"[tp, -]", std::nullopt}, {"[dp, -]"});
      },
      FailsWith("factor-conflict", "factor m is split over 'tp' in x but split over 'dp' in out\n"));
}

// The peer's defects that are about pending sums, each with the layouts of the report: refused, or right (soundness_test proves it).
TEST(PendingSums, AProductOfTwoIsRefused) {  // D6
  EXPECT_THAT(infer_layouts_of("x[...], y[...] -> out[...] | linear x y", mesh_2x2(),
                               {{"[8]", "[-] partial(dp: sum)"}, {"[8]", "[-] partial(dp: sum)"}}),
              FailsWith("partial-conflict", "a product of sums is no sum of products"));
}

TEST(PendingSums, ASumOfTwoOverDifferentAxesIsRight) {  // D7
  const DistributedOp add = einsum_op(kAdd);
  const Inferred inferred =
      infer_layouts_of(add, mesh_2x2(), {{"[8]", "[-] partial(dp: sum)"}, {"[8]", "[-] partial(tp: sum)"}});
  EXPECT_THAT(inferred, ResultLayouts("[-] partial(dp: sum, tp: sum)"));
  EXPECT_THAT(prove(add, {TensorCase{{5}}, TensorCase{{5}}}, {}, mesh_2x2()), IsSound());
}

TEST(PendingSums, AReductionKeepsThem) {  // D8
  EXPECT_THAT(infer_layouts_of("x[m k] -> out[m] | linear x", mesh_2x2(), {{"[8, 4]", "[-, tp] partial(dp: sum)"}}),
              ResultLayouts("[-] partial(dp: sum, tp: sum)"));
  EXPECT_THAT(infer_layouts_of("x[m k] -> out[m] | max k", mesh_2x2(), {{"[8, 4]", "[-, tp] partial(dp: sum)"}}),
              FailsWith("partial-operand", "x has a pending sum over 'dp'"));
}

TEST(PendingSums, AMatmulRefusesTwoAndScalesItsBias) {  // D12
  EXPECT_THAT(
      infer_layouts_of(kMatmul, mesh_2x2(), {{"[8, 4]", "[-, -] partial(dp: sum)"}, {"[4, 6]", "[-, -] partial(dp: sum)"}}),
      FailsWith("partial-conflict"));
  for (const char* kind : {"max", "min", "prod"}) {
    const std::string layout = "[-, -] partial(dp: " + std::string(kind) + ")";
    EXPECT_THAT(infer_layouts_of(kMatmul, mesh_2x2(), {{"[8, 4]", layout}, {"[4, 6]", "[-, -]"}}),
                FailsWith("partial-operand"));
  }
  EXPECT_THAT(prove(einsum_op(kLinear), {TensorCase{{3, 4}}, TensorCase{{2, 4}}, TensorCase{{2}}}, {}, mesh_2x2()),
              IsSound());
}

TEST(GradientLayouts, FollowWhatAnOperandLacks) {
  const DeviceMesh mesh = mesh_2x2();
  const TensorSpec x{{8, 4}, DType::kF32, parse_layout(mesh, "[dp, -]")};
  const TensorSpec w{{4, 6}, DType::kF32, parse_layout(mesh, "[-, tp]")};
  const auto gradients = gradient_layouts(infer(kMatmul, std::vector<const TensorSpec*>{&x, &w}));
  EXPECT_EQ(to_string(gradients[0]), "[dp, -] partial(tp: sum)");
  EXPECT_EQ(to_string(gradients[1]), "[-, tp] partial(dp: sum)");
}

}  // namespace
}  // namespace tessera
