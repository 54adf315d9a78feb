// Matrix products: numbers, layouts, errors, proofs.
#include <gmock/gmock.h>

#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

constexpr const char* kMesh = "dp=2 x mp=4";
constexpr const char* kCube = "dp=2 x cp=2 x mp=2";

const std::vector<Attributes::Entry> kTransposeX{{"transpose_a", true}};
const std::vector<Attributes::Entry> kTransposeW{{"transpose_b", true}};
const std::vector<Attributes::Entry> kTransposeBoth{{"transpose_a", true}, {"transpose_b", true}};

Tensor matrix(const Shape& shape, std::initializer_list<double> values) { return Tensor::of<double>(shape, values); }

TEST(Matmul, Multiplies) {
  const Tensor x = matrix({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor w = matrix({3, 2}, {1, 0, 0, 1, 1, 1});
  EXPECT_THAT(numbers(compute("matmul", {x, w})[0]), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(numbers(compute("matmul", {x.permute({1, 0}), w}, kTransposeX)[0]), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(numbers(compute("matmul", {x, w.permute({1, 0})}, kTransposeW)[0]), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(numbers(compute("matmul", {x.permute({1, 0}), w.permute({1, 0})}, kTransposeBoth)[0]),
              ElementsAre(4, 5, 10, 11));
  EXPECT_EQ(compute("matmul", {x.to(DType::kBF16), w.to(DType::kF16)})[0].dtype(), DType::kF32);
}

TEST(Linear, AddsItsBias) {
  const Tensor x = matrix({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor weight = matrix({1, 3}, {1, 0, 2});
  EXPECT_THAT(numbers(compute("linear", {x, weight})[0]), ElementsAre(7, 16));
  EXPECT_THAT(numbers(compute("linear", {x, weight, matrix({1}, {0.5})})[0]), ElementsAre(7.5, 16.5));
  const Tensor row = compute("linear", {x.select(0, 1), weight, matrix({1}, {0.5})})[0];
  EXPECT_EQ(to_string(row), "f64 [1]");
  EXPECT_THAT(numbers(row), ElementsAre(16.5));
  EXPECT_THAT(numbers(compute("linear", {x.to(DType::kI64), weight.to(DType::kI32), matrix({1}, {3}).to(DType::kI32)})[0]),
              ElementsAre(10, 19));
}

TEST(Outer, MultipliesEveryPair) {
  EXPECT_THAT(numbers(compute("outer", {matrix({2}, {2, 3}), matrix({3}, {1, 5, 7})})[0]),
              ElementsAre(2, 10, 14, 3, 15, 21));
  EXPECT_EQ(results_of("outer", kMesh, {"f32 [4] [mp]", "f32 [8] [dp]"}), "[mp, dp]");
  EXPECT_EQ(results_of("outer", kMesh, {"f32 [4] [mp]", "f32 [8] [mp]"}), "axis-conflict");
}

// What the peer's tests expect.
TEST(Matmul, InfersAsOthersDo) {
  const auto matmul = [](const char* mesh, const std::string& x, const std::string& w,
                         const std::vector<Attributes::Entry>& attributes = {}) {
    return results_of("matmul", mesh, {x, w}, attributes);
  };
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, -] partial(mp: sum)", "f32 [16, 4] [-, -] partial(dp: sum)"),
            "[-, -] partial(dp: sum, mp: sum)");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, -] partial(mp: sum)", "f32 [16, 4] [-, -] partial(mp: avg)"),
            "partial-conflict");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, -] partial(mp: sum)", "f32 [16, 4] [-, -] partial(mp: sum)"),
            "partial-conflict");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, mp] partial(dp: sum)", "f32 [16, 4] [mp, -]"),
            "[-, -] partial(dp: sum, mp: sum)");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, -] partial(mp: sum)", "f32 [16, 4] [-, mp]"), "partial-conflict");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [-, -]", "f32 [4, 16] [-, -] partial(mp: sum)", kTransposeW),
            "[-, -] partial(mp: sum)");
  EXPECT_EQ(matmul(kMesh, "f32 [8, 16] [dp, -]", "f32 [4, 16] [-, -]", kTransposeW), "[dp, -]");
  EXPECT_EQ(matmul(kMesh, "f32 [16, 8] [mp, dp]", "f32 [4, 16] [-, mp]", kTransposeBoth), "[dp, -] partial(mp: sum)");
  EXPECT_EQ(matmul(kCube, "f32 [16, 8] [dp+cp, mp]", "f32 [16, 4] [dp+cp, -]", kTransposeX),
            "[mp, -] partial(dp: sum, cp: sum)");
  EXPECT_EQ(matmul(kCube, "f32 [4, 8, 16] [dp, -, mp]", "f32 [1, 16, 4] [-, mp, -]"), "[dp, -, -] partial(mp: sum)");
  EXPECT_EQ(matmul(kCube, "f32 [4, 16, 8] [dp, mp, -]", "f32 [1, 16, 4] [-, mp, -]", kTransposeX),
            "[dp, -, -] partial(mp: sum)");
  EXPECT_EQ(matmul(kCube, "f32 [4, 8, 16] [dp, -, -]", "f32 [4, 16, 4] [dp, -, -]"), "[dp, -, -]");
  EXPECT_EQ(matmul(kCube, "f32 [4, 8, 16] [dp, cp, -]", "f32 [4, 16, 4] [dp, -, mp]"), "[dp, cp, mp]");
  EXPECT_EQ(matmul(kCube, "f32 [4, 8, 16] [-, dp+cp, -]", "f32 [4, 16, 4] [-, -, mp]"), "[-, dp+cp, mp]");
  EXPECT_EQ(results_of("linear", kMesh, {"f32 [8, 16] [dp, mp]", "f32 [4, 16] [-, mp]", "-"}), "[dp, -] partial(mp: sum)");
  EXPECT_EQ(results_of("linear", kMesh, {"f32 [8, 16] [dp, -]", "f32 [4, 16] [-, -]"}), "[dp, -]");
}

TEST(Matmul, SaysWhatDisagrees) {
  EXPECT_EQ(error_of("matmul", kMesh, {"f32 [8, 16] [-, mp]", "f32 [16, 4] [-, -]"}),
            "matmul: factor k (contracted) is split over 'mp' in x but whole in w\n"
            "  rule       x[... m k], w[... k n] -> out[... m n] | linear x w\n"
            "  x          [-, mp]\n"
            "  w          [-, -]\n"
            "  hint       reshard w to [mp, -]");
  EXPECT_EQ(error_of("matmul", kMesh, {"f32 [8, 16] [-, -] partial(mp: max)", "f32 [16, 4] [-, -]"}),
            "matmul: x has a pending max over 'mp', which cannot pass through\n"
            "  rule       x[... m k], w[... k n] -> out[... m n] | linear x w\n"
            "  x          [-, -] partial(mp: max)\n"
            "  hint       reduce it first: reshard x to [-, -]");
  EXPECT_EQ(error_of("matmul", kMesh, {"f32 [8, 15] [-, -]", "f32 [16, 4] [-, -]"}),
            "matmul: factor k (contracted) is 15 in x (dim 1) but 16 in w (dim 0)\n"
            "  rule       x[... m k], w[... k n] -> out[... m n] | linear x w");
  EXPECT_EQ(error_of("linear", kMesh, {"f32 [8, 16] [dp, -]", "f32 [4, 16] [mp, -]", "f32 [4] [-]"}),
            "linear: factor n (output features) is split over 'mp' in weight but whole in bias\n"
            "  rule       x[... k], weight[n k], bias[n]? -> out[... n] | linear x weight + bias\n"
            "  weight     [mp, -]\n"
            "  bias       [-]\n"
            "  hint       reshard bias to [mp]");
}

// A bias counts once where k is split or x is pending; shards are uneven, some are empty.
TEST(Matmul, IsProvedWithUnevenShards) {
  expect_sound("matmul", {TensorCase{{3, 5}}, TensorCase{{5, 2}}});
  expect_sound("matmul", {TensorCase{{5, 3}}, TensorCase{{2, 5}}}, kTransposeBoth);
  expect_sound("matmul", {TensorCase{{2, 3, 5}}, TensorCase{{1, 5, 3}}});
  expect_sound("linear", {TensorCase{{3, 5}}, TensorCase{{2, 5}}, TensorCase{{2}}});
  expect_sound("linear", {TensorCase{{5}}, TensorCase{{3, 5}}, std::nullopt});
  expect_sound("outer", {TensorCase{{3}}, TensorCase{{5}}});
}

}  // namespace
}  // namespace tessera
