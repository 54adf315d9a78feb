// Softmax and normalisation: numbers, layouts, errors, proofs.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using Entries = std::vector<Attributes::Entry>;

constexpr const char* kMesh = "dp=2 x mp=4";

TEST(Softmax, SumsToOneAlongItsDim) {
  const Tensor x = Tensor::of<double>({2, 2}, {0, std::log(3.0), 0, 0});
  EXPECT_THAT(numbers(compute("softmax", {x})[0]), ElementsAre(DoubleNear(0.25, 1e-15), DoubleNear(0.75, 1e-15), 0.5, 0.5));
  EXPECT_THAT(numbers(compute("softmax", {x}, {{"axis", integer(0)}})[0]),
              ElementsAre(0.5, DoubleNear(0.75, 1e-15), 0.5, DoubleNear(0.25, 1e-15)));
  EXPECT_THAT(numbers(compute("log_softmax", {x})[0]),
              ElementsAre(DoubleNear(std::log(0.25), 1e-15), DoubleNear(std::log(0.75), 1e-15),
                          DoubleNear(std::log(0.5), 1e-15), DoubleNear(std::log(0.5), 1e-15)));
  EXPECT_EQ(compute("softmax", {x.to(DType::kI32)})[0].dtype(), DType::kF32);
}

TEST(RmsNorm, GivesTheReciprocalRootToo) {
  const Tensor x = Tensor::of<double>({2, 2}, {3, 4, 0, 2});
  const std::vector<Tensor> out = compute("rms_norm", {x, Tensor::of<double>({2}, {1, 10})}, {{"eps", 0.0}});
  const double r = 1 / std::sqrt(12.5);
  EXPECT_THAT(numbers(out[0]),
              ElementsAre(DoubleNear(3 * r, 1e-15), DoubleNear(40 * r, 1e-14), 0, DoubleNear(20 / std::sqrt(2.0), 1e-14)));
  EXPECT_EQ(to_string(out[1]), "f64 [2, 1]");
  EXPECT_THAT(numbers(out[1]), ElementsAre(DoubleNear(r, 1e-15), DoubleNear(1 / std::sqrt(2.0), 1e-15)));
  const std::vector<Tensor> half =
      compute("rms_norm", {x.to(DType::kBF16), Tensor::of<double>({2}, {1, 10}).to(DType::kBF16)});
  EXPECT_EQ(half[0].dtype(), DType::kBF16);
  EXPECT_EQ(half[1].dtype(), DType::kF32);
}

TEST(LayerNorm, CentresAndScales) {
  const Tensor x = Tensor::of<double>({2, 2}, {3, 5, -1, 1});
  const Entries attributes{{"normalized_shape", ints({2})}, {"eps", 0.0}};
  EXPECT_THAT(numbers(compute("layer_norm", {x}, attributes)[0]), ElementsAre(-1, 1, -1, 1));
  EXPECT_THAT(
      numbers(compute("layer_norm", {x, Tensor::of<double>({2}, {2, 3}), Tensor::of<double>({2}, {0, 7})}, attributes)[0]),
      ElementsAre(-2, 10, -2, 10));
  EXPECT_THAT(numbers(compute("layer_norm", {x, std::nullopt, Tensor::of<double>({2}, {0, 7})}, attributes)[0]),
              ElementsAre(-1, 8, -1, 8));
}

// What the peer's tests expect.
TEST(Normalize, InfersAsOthersDo) {
  EXPECT_EQ(results_of("softmax", kMesh, {"f32 [8, 16] [dp, -]"}, {{"axis", integer(1)}}), "[dp, -]");
  EXPECT_EQ(results_of("softmax", kMesh, {"f32 [8, 16] [-, mp]"}, {{"axis", integer(-1)}}), "factor-not-whole");
  EXPECT_EQ(results_of("softmax", kMesh, {"f32 [8, 16] [-, mp]"}, {{"axis", integer(0)}}), "[-, mp]");
  EXPECT_EQ(results_of("softmax", kMesh, {"f32 [8, 4, 16] [dp, -, mp]"}, {{"axis", integer(1)}}), "[dp, -, mp]");
  EXPECT_EQ(results_of("softmax", "dp=2 x sp=2 x ip=2", {"f32 [8, 4, 16] [dp+ip, -, sp]"}, {{"axis", integer(1)}}),
            "[dp+ip, -, sp]");
  EXPECT_EQ(results_of("softmax", "dp=2 x one=1", {"f32 [8, 4] [dp, one]"}),
            "[dp, one]");  // an axis of one rank splits nothing
  EXPECT_EQ(results_of("RmsNorm", kMesh, {"f32 [8, 4, 16] [dp, mp, -]", "f32 [16] [-]"}), "[dp, mp, -], [dp, mp, -]");
  EXPECT_EQ(results_of("layer_norm", kMesh, {"f32 [8, 64] [dp, -]"}, {{"normalized_shape", ints({64})}}), "[dp, -]");
  EXPECT_EQ(results_of("layer_norm", kMesh, {"f32 [8, 4, 128] [dp, mp, -]"}, {{"normalized_shape", ints({128})}}),
            "[dp, mp, -]");
  EXPECT_EQ(results_of("layer_norm", kMesh, {"f32 [8, 4] [dp, mp]"}, {{"normalized_shape", ints({128, 64, 56})}}),
            "normalized-shape");
  EXPECT_EQ(results_of("softmax", kMesh, {"f32 [8, 16] [-, -] partial(dp: sum)"}), "partial-operand");
  EXPECT_EQ(results_of("rms_norm", kMesh, {"f32 [8, 16] [-, -] partial(dp: sum)", "f32 [16] [-]"}), "partial-operand");
}

TEST(Normalize, SaysWhatIsWrong) {
  EXPECT_EQ(error_of("softmax", kMesh, {"f32 [8, 16] [dp, mp]"}),
            "softmax: factor d1 (dim 1) must be whole, but x splits it over 'mp'\n"
            "  rule       x[d0 d1] -> out[d0 d1] | whole d1\n"
            "  x          [dp, mp]\n"
            "  hint       reshard x to [dp, -]");
  EXPECT_EQ(error_of("log_softmax", kMesh, {"f32 [8, 16] [dp, mp]"}, {{"dim", integer(2)}}),
            "log_softmax: attribute 'dim' names dim 2, but x has 2 dims\n"
            "  hint       dims go from -2 to 1");
  EXPECT_EQ(error_of("softmax", kMesh, {"f32 [] []"}), "softmax: attribute 'dim' names dim -1, but x has no dims");
  EXPECT_EQ(error_of("rms_norm", kMesh, {"f32 [4, 6, 8] [dp, -, mp]", "f32 [8] [mp]"}),
            "rms_norm: factor d2 (dim 2) must be whole, but x splits it over 'mp'\n"
            "  rule       x[... d2], gamma[d2] -> out[... d2], rstd[... 1] | whole d2\n"
            "  x          [dp, -, mp]\n"
            "  hint       reshard x to [dp, -, -]");
  EXPECT_EQ(error_of("rms_norm", kMesh, {"f32 [8] [-]", "f32 [6, 8] [-, -]"}),
            "rms_norm: gamma has 2 dims [6, 8], the rule gives it 1\n"
            "  rule       x[... d], gamma[d] -> out[... d], rstd[... 1] | whole d");
  EXPECT_EQ(error_of("rms_norm", kMesh, {"i64 [8] [-]", "f32 [8] [-]"}),
            "rms_norm: x is i64, it takes floats\n  hint       cast x to f32");
  EXPECT_EQ(error_of("layer_norm", kMesh, {"f32 [4, 8] [dp, -]"}, {{"normalized_shape", ints({128, 64, 56})}}),
            "layer_norm: attribute 'normalized_shape' is [128, 64, 56], but x [4, 8] has 2 dims\n"
            "  hint       give the sizes of the last dims of x");
  EXPECT_EQ(error_of("layer_norm", kMesh, {"f32 [4, 8] [dp, -]"}, {{"normalized_shape", ints({16})}}),
            "layer_norm: attribute 'normalized_shape' is [16], but x [4, 8] ends in [8]\n"
            "  hint       give the sizes of the last dims of x");
  EXPECT_EQ(error_of("layer_norm", kMesh, {"f32 [4, 8] [dp, -]"}, {{"normalized_shape", ints({})}}),
            "layer_norm: attribute 'normalized_shape' is [], so nothing is normalised\n"
            "  hint       give the sizes of the last dims of x");
  EXPECT_EQ(error_of("layer_norm", kMesh, {"f32 [4, 8] [dp, -]"}),
            "layer_norm: attribute 'normalized_shape' is missing\n"
            "  hint       the sizes of the last dims of x, over which it is normalised");
  EXPECT_EQ(error_of("layer_norm", kMesh, {"bool [4, 8] [dp, -]"}, {{"normalized_shape", ints({8})}}),
            "layer_norm: x is bool, it takes floats\n  hint       cast x to f32");
}

TEST(Normalize, IsProvedWithUnevenShards) {
  for (const char* op : {"softmax", "log_softmax"}) {
    expect_sound(op, {TensorCase{{3, 5}}});
    expect_sound(op, {TensorCase{{3, 2, 5}}}, {{"dim", integer(1)}});
  }
  expect_sound("rms_norm", {TensorCase{{3, 5}}, TensorCase{{5}}});
  expect_sound("rms_norm", {TensorCase{{3, 2, 5}}, TensorCase{{2, 5}}});
  expect_sound("layer_norm", {TensorCase{{3, 5}}, TensorCase{{5}}, std::nullopt}, {{"normalized_shape", ints({5})}});
  expect_sound("layer_norm", {TensorCase{{3, 2, 2}}, std::nullopt, TensorCase{{2, 2}}},
               {{"normalized_shape", ints({2, 2})}});
}

}  // namespace
}  // namespace tessera
