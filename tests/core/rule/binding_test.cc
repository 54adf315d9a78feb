// Binding a rule to shapes: sizes of factors, shapes of results, and what does not fit.
#include "core/rule/binding.h"

#include <gmock/gmock.h>

#include "support/diagnostic.h"
#include "testing/matchers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

Binding bound(const Rule& rule, const std::vector<std::optional<Shape>>& shapes, const OpNames& names = {}) {
  std::vector<TensorSpec> specs;
  for (const auto& shape : shapes) specs.push_back({shape.value_or(Shape{}), DType::kF32, Layout{}});
  std::vector<const TensorSpec*> pointers;
  for (std::size_t i = 0; i < shapes.size(); ++i) pointers.push_back(shapes[i] ? &specs[i] : nullptr);
  return tessera::bind(rule, pointers, names);
}

std::string fault_of(const Rule& rule, const std::vector<std::optional<Shape>>& shapes, const OpNames& names = {}) {
  try {
    bound(rule, shapes, names);
  } catch (const Error& error) {
    return error.diagnostic().code + "|" + error.what();
  }
  return "none";
}

TEST(Bind, SizesAndResults) {
  const Binding binding = bound("m k, k n -> m n", {{{3, 4}}, {{4, 5}}});
  EXPECT_THAT(binding.sizes, ElementsAre(3, 4, 5));
  EXPECT_THAT(binding.results, ElementsAre(Shape{3, 5}));
  EXPECT_EQ(binding.repeated[0], 0);
}

TEST(Bind, SolvesCompoundsFromOtherOperands) {
  const Binding binding = bound("q[(g r) d], k[g d] -> out[r (d g)]", {{{64, 3}}, {{8, 3}}});
  EXPECT_THAT(binding.sizes, ElementsAre(8, 8, 3));
  EXPECT_THAT(binding.results, ElementsAre(Shape{8, 24}));
}

TEST(Bind, SolvesChainsOfCompounds) {
  EXPECT_THAT(bound("x[(a b)], y[(b c)], z[c] -> out[a b c]", {{{12}}, {{6}}, {{2}}}).sizes, ElementsAre(4, 3, 2));
}

TEST(Bind, SizeClauses) {
  EXPECT_THAT(bound("x[(a b)] -> out[a b] | size b=4", {{{12}}}).results, ElementsAre(Shape{3, 4}));
  EXPECT_THAT(bound("x[a] -> out[a n] | size n=7", {{{2}}}).results, ElementsAre(Shape{2, 7}));
}

TEST(Bind, EllipsisAlignsAtTheRight) {
  const Binding binding = bound("x[... m k], w[... k n] -> out[... m n]", {{{5, 2, 3, 4}}, {{2, 4, 6}}});
  EXPECT_THAT(binding.results, ElementsAre(Shape{5, 2, 3, 6}));
  EXPECT_EQ(factor_name(binding.rule, 3), "...[-2]");
  EXPECT_EQ(factor_name(binding.rule, 4), "...[-1]");
  EXPECT_THAT(bound("x[...], y[...] -> out[...]", {{{}}, {{}}}).results, ElementsAre(Shape{}));
}

TEST(Bind, DimsOfAnEllipsisOfSizeOneRepeat) {
  const Binding binding = bound("x[...], y[...] -> out[...]", {{{2, 1, 3}}, {{4, 1}}});
  EXPECT_THAT(binding.results, ElementsAre(Shape{2, 4, 3}));
  EXPECT_EQ(binding.repeated[0], 0b010);
  EXPECT_EQ(binding.repeated[1], 0b010);
  EXPECT_EQ(bound("x[...], y[...] -> out[...]", {{{1, 3}}, {{1, 3}}}).repeated[0], 0) << "1 everywhere is just 1";
}

TEST(Bind, BroadcastOperandsRepeat) {
  const Binding binding = bound("x[(g r) d], y[(g r) d] -> out[g r d] | broadcast y | size r=2", {{{6, 4}}, {{1, 1}}});
  EXPECT_EQ(binding.repeated[1], 0b11);
  EXPECT_THAT(binding.results, ElementsAre(Shape{3, 2, 4}));
}

TEST(Bind, AbsentOptionalOperands) {
  const Rule rule = "x[m], b[m n]? -> out[m]";
  EXPECT_THAT(bound(rule, {{{3}}}).sizes, ElementsAre(3, 1));
  EXPECT_THAT(bound(rule, {{{3}}, std::nullopt}).sizes, ElementsAre(3, 1));
}

TEST(Bind, EmptyDims) {
  EXPECT_THAT(bound("m k, k n -> m n", {{{0, 4}}, {{4, 0}}}).results, ElementsAre(Shape{0, 0}));
  EXPECT_THAT(bound("x[(a b)], y[a] -> out[a b]", {{{0}}, {{3}}}).results, ElementsAre(Shape{3, 0}));
}

TEST(BindFaults, AreExplained) {
  const std::vector<FactorMeaning> meanings = {{"k", "inner dim"}};
  EXPECT_EQ(fault_of("x[m k], w[k n] -> out[m n]", {{{3, 4}}, {{5, 6}}}, {"matmul", meanings}),
            "size-mismatch|matmul: factor k (inner dim) is 4 in x (dim 1) but 5 in w (dim 0)\n"
            "  rule       x[m k], w[k n] -> out[m n]");
  EXPECT_EQ(fault_of("x[m k], w[k n] -> out[m n]", {{{3, 4, 5}}, {{5, 6}}}),
            "rank-mismatch|x has 3 dims [3, 4, 5], the rule gives it 2\n  rule       x[m k], w[k n] -> out[m n]");
  EXPECT_EQ(fault_of("x[... m k] -> out[... m]", {{{3}}}),
            "rank-mismatch|x has 1 dims [3], the rule gives it 2 at least\n  rule       x[... m k] -> out[... m]");
  EXPECT_EQ(fault_of("x[m], w[m] -> out[m]", {{{3}}}), "missing-operand|w is missing\n  rule       x[m], w[m] -> out[m]");
  EXPECT_EQ(fault_of("m, m -> m", {{{3}}}), "missing-operand|operand 1 is missing\n  rule       m, m -> m");
  EXPECT_EQ(fault_of("x[m] -> out[m]", {{{3}}, {{3}}}),
            "too-many-operands|takes 1 operands, 2 are given\n  rule       x[m] -> out[m]");
  EXPECT_EQ(fault_of("x[m 1] -> out[m]", {{{3, 2}}}),
            "size-mismatch|x dim 1 has size 2, the rule wants 1\n  rule       x[m 1] -> out[m]");
  EXPECT_EQ(fault_of("x[(g r)], k[g] -> out[r]", {{{10}}, {{4}}}),
            "size-mismatch|x dim 0 has size 10, which is no multiple of g=4\n  rule       x[(g r)], k[g] -> out[r]");
  EXPECT_EQ(
      fault_of("x[(g r)], k[g r] -> out[r]", {{{10}}, {{4, 2}}}),
      "size-mismatch|x dim 0 has size 10, which is not the product of g=4 r=2\n  rule       x[(g r)], k[g r] -> out[r]");
  EXPECT_EQ(fault_of("x[(g r)] -> out[g]", {{{10}}}),
            "unknown-size|the shapes do not tell the size of factor g\n  rule       x[(g r)] -> out[g]\n"
            "  hint       give it with a clause '| size g=...'");
  EXPECT_EQ(
      fault_of("x[m n] -> out[m] | size n=4", {{{3, 5}}}),
      "size-mismatch|factor n is 4 by its 'size' clause but 5 in x (dim 1)\n  rule       x[m n] -> out[m] | size n=4");
  EXPECT_EQ(fault_of("x[...], y[...] -> out[...]", {{{2, 3}}, {{4, 3}}}),
            "size-mismatch|factor ...[-2] is 2 in x (dim 0) but 4 in y (dim 0)\n  rule       x[...], y[...] -> out[...]");
  EXPECT_EQ(fault_of("x[m], y[n] -> out[(m n)]", {{{std::int64_t{1} << 40}}, {{std::int64_t{1} << 40}}}),
            "shape-too-large|a result would have a dim of more than 2^63-1 indices");
}

TEST(BindFaults, AnEllipsisHasRoomForTwelveDims) {
  const Shape twelve(std::size_t{12}, 1);
  EXPECT_THAT(bound("x[...] -> out[...]", {{twelve}}).results, ElementsAre(twelve));
  EXPECT_EQ(
      fault_of("x[...] -> out[... n] | size n=2", {{twelve}}),
      "rank-mismatch|'...' would stand for 12 dims, which are too many\n  rule       x[...] -> out[... n] | size n=2");
}

}  // namespace
}  // namespace tessera
