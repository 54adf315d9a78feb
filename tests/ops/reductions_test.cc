// Reductions: numbers, dtypes, layouts, errors, proofs.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using Entries = std::vector<Attributes::Entry>;

constexpr const char* kMesh = "dp=2 x mp=4";
constexpr const char* kCube = "dp=2 x cp=2 x mp=2";

Entries over(AttributeValue dim, bool keep = false) { return {{"dim", std::move(dim)}, {"keepdim", keep}}; }

const Tensor kX = Tensor::of<double>({2, 3}, {1, -2, 3, 4, 0, -6});

TEST(Reductions, ReduceDims) {
  const auto out = [](const char* op, const Entries& attributes = {}) { return numbers(compute(op, {kX}, attributes)[0]); };
  EXPECT_THAT(out("sum"), ElementsAre(0));
  EXPECT_THAT(out("sum", over(ints({0}))), ElementsAre(5, -2, -3));
  EXPECT_THAT(out("sum", over(integer(-1))), ElementsAre(2, -2));
  EXPECT_THAT(out("sum", over(ints({}))), ElementsAre(1, -2, 3, 4, 0, -6));
  EXPECT_THAT(out("mean", over(integer(1))), ElementsAre(::testing::DoubleEq(2.0 / 3), ::testing::DoubleEq(-2.0 / 3)));
  EXPECT_THAT(out("amax", over(integer(1))), ElementsAre(3, 4));
  EXPECT_THAT(out("amin", over(integer(0))), ElementsAre(1, -2, -6));
  EXPECT_THAT(out("prod", over(integer(1))), ElementsAre(-6, 0));
  EXPECT_THAT(out("any", over(integer(1))), ElementsAre(1, 1));
  EXPECT_THAT(out("all", over(integer(1))), ElementsAre(1, 0));
  EXPECT_EQ(to_string(compute("sum", {kX}, over(ints({0, 1}), true))[0]), "f64 [1, 1]");
}

TEST(Reductions, HaveTheDtypeThatFits) {
  const auto dtype = [](const char* op, DType from) { return compute(op, {kX.to(from)})[0].dtype(); };
  EXPECT_EQ(dtype("sum", DType::kI32), DType::kI64);
  EXPECT_EQ(dtype("sum", DType::kBF16), DType::kBF16);
  EXPECT_EQ(dtype("mean", DType::kI64), DType::kF32);
  EXPECT_EQ(dtype("prod", DType::kBool), DType::kI64);
  EXPECT_EQ(dtype("amax", DType::kI32), DType::kI32);
  EXPECT_EQ(dtype("any", DType::kF32), DType::kBool);
  EXPECT_EQ(dtype("all", DType::kI64), DType::kBool);
}

TEST(Extremum, GivesIndicesOverADim) {
  const std::vector<Tensor> largest = compute("max", {kX}, over(integer(1)));
  EXPECT_THAT(numbers(largest[0]), ElementsAre(3, 4));
  EXPECT_THAT(numbers(largest[1]), ElementsAre(2, 0));
  EXPECT_EQ(largest[1].dtype(), DType::kI64);
  const std::vector<Tensor> smallest = compute("min", {kX}, over(integer(0), true));
  EXPECT_THAT(numbers(smallest[0]), ElementsAre(1, -2, -6));
  EXPECT_THAT(numbers(smallest[1]), ElementsAre(0, 0, 1));
  EXPECT_EQ(to_string(smallest[1]), "i64 [1, 3]");
  EXPECT_THAT(numbers(compute("max", {kX})[0]), ElementsAre(4));
  EXPECT_THAT(numbers(compute("min", {kX, Tensor::of<double>({1}, {0.0})})[0]), ElementsAre(0, -2, 0, 0, 0, -6));
  const Tensor ties = Tensor::of<double>({4}, {5, 7, 7, std::nan("")});
  EXPECT_THAT(numbers(compute("max", {ties.slice(0, 0, 3)}, over(integer(0)))[1]), ElementsAre(1));
  EXPECT_THAT(numbers(compute("max", {ties}, over(integer(0)))[1]), ElementsAre(3));
  EXPECT_THAT(numbers(compute("min", {Tensor::of<bool>({3}, {true, false, false})}, over(integer(0)))[1]), ElementsAre(1));
}

// What the peer's tests expect.
TEST(Reductions, InferAsOthersDo) {
  const std::string x = "f32 [8, 4, 16] ";
  EXPECT_EQ(results_of("MeanExt", kCube, {x + "[dp, -, -]"}, over(integer(0))), "[-, -] partial(dp: avg)");
  EXPECT_EQ(results_of("SumExt", kCube, {x + "[-, -, mp]"}, over(integer(2), true)), "[-, -, -] partial(mp: sum)");
  EXPECT_EQ(results_of("MeanExt", kCube, {x + "[dp, cp, mp]"}, over(ints({0, 2}), true)),
            "[-, cp, -] partial(dp: avg, mp: avg)");
  EXPECT_EQ(results_of("MeanExt", kCube, {x + "[dp, cp, mp]"}), "[] partial(dp: avg, cp: avg, mp: avg)");
  EXPECT_EQ(results_of("SumExt", kCube, {x + "[-, dp+cp, mp]"}, {{"keepdim", true}}),
            "[-, -, -] partial(dp: sum, cp: sum, mp: sum)");
  EXPECT_EQ(results_of("MeanExt", kCube, {x + "[-, dp+cp, mp]"}, over(ints({0, 2}))), "[dp+cp] partial(mp: avg)");
  EXPECT_EQ(results_of("SumExt", kCube, {x + "[-, dp+cp, -]"}, over(ints({-3, -2}))), "[-] partial(dp: sum, cp: sum)");
  EXPECT_EQ(results_of("ReduceMax", kCube, {x + "[dp, cp, mp]"}, over(ints({0, 2}), true)),
            "[-, cp, -] partial(dp: max, mp: max)");
  EXPECT_EQ(results_of("ReduceMax", kCube, {x + "[-, dp+cp, mp]"}, over(ints({0, 2}))), "[dp+cp] partial(mp: max)");
  EXPECT_EQ(results_of("ReduceMax", kCube, {x + "[-, dp+cp, -]"}, over(ints({-4, -2}))), "dim-out-of-range");
  EXPECT_EQ(results_of("prod", kCube, {x + "[dp, -, -]"}, over(integer(0))), "[-, -] partial(dp: prod)");
  EXPECT_EQ(results_of("any", kCube, {x + "[dp, -, -]"}, over(integer(0))), "[-, -] partial(dp: any)");
  EXPECT_EQ(results_of("all", kCube, {x + "[dp, -, -]"}, over(integer(0))), "[-, -] partial(dp: all)");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [8, 16] [dp, -]"}, over(integer(-1))), "[dp], [dp]");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [8, 16] [dp, -]"}, {{"keepdim", true}}), "[-, -] partial(dp: max)");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [8, 16] [dp, -]", "f32 [8, 16] [dp, -]"}), "[dp, -]");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [8, 16] [dp, mp]"}), "[] partial(dp: max, mp: max)");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [8, 4, 4, 4] [dp, -, -, -]"}, over(integer(2))), "[dp, -, -], [dp, -, -]");
  EXPECT_EQ(results_of("max", kMesh, {"f32 [] []"}), "[]");
}

// A pending sum stays pending; other pending reductions and other reductions of one do not mix.
TEST(Reductions, KeepWhatIsPending) {
  EXPECT_EQ(results_of("sum", kMesh, {"f32 [4, 8] [-, mp] partial(dp: sum)"}, over(integer(1))),
            "[-] partial(dp: sum, mp: sum)");
  EXPECT_EQ(results_of("mean", kMesh, {"f32 [4, 8] [-, mp] partial(dp: sum)"}, over(integer(1))),
            "[-] partial(dp: sum, mp: avg)");
  EXPECT_EQ(results_of("sum", kMesh, {"f32 [4, 8] [-, mp] partial(dp: avg)"}, over(integer(1))),
            "[-] partial(dp: avg, mp: sum)");
  EXPECT_EQ(results_of("sum", kMesh, {"f32 [4, 8] [-, mp] partial(dp: max)"}, over(integer(1))), "partial-operand");
  for (const char* op : {"amax", "amin", "prod", "any", "all", "max", "min"}) {
    EXPECT_EQ(results_of(op, kMesh, {"f32 [4, 8] [-, mp] partial(dp: sum)"}), "partial-operand") << op;
  }
}

TEST(Reductions, SayWhatIsWrong) {
  EXPECT_EQ(error_of("sum", kMesh, {"f32 [4, 8] [dp, mp]"}, over(ints({0, -2}))),
            "sum: attribute 'dim' is [0, -2], which names dim 0 twice\n"
            "  hint       name each dim once");
  EXPECT_EQ(error_of("amax", kMesh, {"f32 [4, 8] [dp, mp]"}, over(integer(2))),
            "amax: attribute 'dim' names dim 2, but x has 2 dims\n"
            "  hint       dims go from -2 to 1");
  EXPECT_EQ(error_of("max", kMesh, {"f32 [8] [dp]"}, over(integer(-2))),
            "max: attribute 'dim' names dim -2, but x has 1 dim\n"
            "  hint       dims go from -1 to 0");
  EXPECT_EQ(error_of("mean", kMesh, {"f32 [4, 7] [dp, mp]"}, over(integer(1))),
            "mean: factor d1 (dim 1) of size 7 is averaged, but its 4 shards are not equal: the mean of their means is not "
            "the mean\n"
            "  rule       x[d0 d1] -> out[d0] | avg d1 | linear x\n"
            "  hint       keep it whole, or take the sum and divide by the size");
  EXPECT_EQ(error_of("max", kMesh, {"f32 [4, 8] [dp, mp]"}, over(integer(1))),
            "max: factor d1 (dim 1) must be whole, but x splits it over 'mp'\n"
            "  rule       x[d0 d1], y[...]? -> values[d0], indices[d0] | whole d1\n"
            "  x          [dp, mp]\n"
            "  hint       reshard x to [dp, -]");
  EXPECT_EQ(error_of("prod", kMesh, {"f32 [4, 8] [-, mp] partial(dp: sum)"}, over(integer(1))),
            "prod: x has a pending sum over 'dp', which cannot pass through\n"
            "  rule       x[d0 d1] -> out[d0] | prod d1\n"
            "  x          [-, mp] partial(dp: sum)\n"
            "  hint       reduce it first: reshard x to [-, mp]");
}

// Uneven and empty shards; an average only where they are equal.
TEST(Reductions, AreProvedWithUnevenShards) {
  for (const char* op : {"sum", "amax", "amin", "prod", "any", "all", "mean"}) {
    expect_sound(op, {TensorCase{{3, 5}}}, over(integer(0)));
    expect_sound(op, {TensorCase{{3, 4}}}, over(ints({0, 1}), true));
    expect_sound(op, {TensorCase{{2, 1, 3}, DType::kF64}}, over(ints({1, 2})));
  }
  for (const char* op : {"sum", "amax", "amin", "prod", "any", "all"}) {
    expect_sound(op, {TensorCase{{3, 5}, DType::kI64}}, over(integer(1)));
  }
  expect_sound("any", {TensorCase{{3, 5}, DType::kBool}}, over(integer(1)));
  for (const char* op : {"max", "min"}) {
    expect_sound(op, {TensorCase{{3, 5}}}, over(integer(1)));
    expect_sound(op, {TensorCase{{3, 5}}});
    expect_sound(op, {TensorCase{{3, 5}}, TensorCase{{5}}});
  }
}

}  // namespace
}  // namespace tessera
