// Operators that move numbers: their rules, layouts, errors and proofs.
#include <gmock/gmock.h>

#include "layouts/notation.h"
#include "ops/regroup.h"
#include "testing/matchers.h"
#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using Entries = std::vector<Attributes::Entry>;

constexpr const char* kMesh = "dp=2 x mp=4";
constexpr const char* kCube = "dp=2 x cp=2 x mp=2";

const Tensor kX = Tensor::of<double>({2, 3}, {1, 2, 3, 4, 5, 6});

Entries to(std::initializer_list<std::int64_t> shape) { return {{"shape", ints(shape)}}; }

std::string regrouped(const Shape& from, const Shape& into) { return to_string(regroup_rule("reshape", from, into)); }

TEST(Regroup, FindsTheFinestSharedFactors) {
  EXPECT_EQ(regrouped({32, 6, 10}, {4, 8, 60}), "x[(a b) c d] -> out[a b (c d)] | size a=4 b=8 c=6 d=10 | move x");
  EXPECT_EQ(regrouped({4, 8}, {4, 8}), "x[a b] -> out[a b] | size a=4 b=8 | move x");
  EXPECT_EQ(regrouped({4, 12}, {12, 4}), "x[a (b c)] -> out[(a b) c] | size a=4 b=3 c=4 | move x");
  EXPECT_EQ(regrouped({24}, {2, 3, 4}), "x[(a b c)] -> out[a b c] | size a=2 b=3 c=4 | move x");
  EXPECT_EQ(regrouped({4, 6}, {6, 4}), "x[(a b) d] -> out[(a c) e] | whole b c d e | size a=2 b=2 c=3 d=6 e=4 | move x");
  EXPECT_EQ(regrouped({2, 9, 5}, {3, 6, 5}), "x[a c e] -> out[b d e] | whole a b c d | size a=2 b=3 c=9 d=6 e=5 | move x");
  EXPECT_EQ(regrouped({8, 1, 4}, {1, 32}), "x[a 1 b] -> out[1 (a b)] | size a=8 b=4 | move x");
  EXPECT_EQ(regrouped({1, 8}, {1, 8, 1}), "x[a b] -> out[a b 1] | size a=1 b=8 | move x");
  EXPECT_EQ(regrouped({}, {1}), "x[] -> out[1] | move x");
  EXPECT_EQ(regrouped({1, 1}, {}), "x[1 1] -> out[] | move x");
  EXPECT_EQ(regrouped({3, 0, 4}, {3, 2, 0}), "x[a b c] -> out[a d b] | whole b c d | size d=2 | move x");
  EXPECT_EQ(regrouped({0, 0}, {0}), "x[a b] -> out[a] | whole b | move x");
}

// All pairs of shapes of up to three dims: what is accepted is right.
TEST(Regroup, IsProvedForAllShapesOfAFewElements) {
  for (std::int64_t count : {4, 6, 12, 24}) {
    std::vector<Shape> shapes{{count}};
    for (std::int64_t a = 1; a <= count; ++a) {
      if (count % a != 0) continue;
      shapes.push_back({a, count / a});
      for (std::int64_t b = 2; b <= count / a; ++b) {
        if (count / a % b == 0) shapes.push_back({a, b, count / a / b});
      }
    }
    ProofOptions options;
    options.find_missed = false;
    options.space = {.partials = {}};
    for (const Shape& from : shapes) {
      for (const Shape& into : shapes) {
        const Entries shape{{"shape", std::vector<std::int64_t>(into.begin(), into.end())}};
        const Proof proof = prove(dense_catalogue().get("reshape"), {TensorCase{from}}, Attributes(shape),
                                  DeviceMesh({{"dp", 2}, {"mp", 2}}), options);
        EXPECT_EQ(proof.unsound, 0) << to_string(from) << " as " << to_string(into) << ": " << to_string(proof);
        EXPECT_GT(proof.accepted, 0);
      }
    }
  }
}

TEST(Reshape, GivesTheSizeThatIsLeft) {
  EXPECT_EQ(target_shape("reshape", {32, 64}, std::vector<std::int64_t>{4, -1, 64}), (Shape{4, 8, 64}));
  EXPECT_EQ(target_shape("reshape", {0, 4}, std::vector<std::int64_t>{-1, 4}), (Shape{0, 4}));
  EXPECT_EQ(to_string(compute("reshape", {kX}, to({3, -1}))[0]), "f64 [3, 2]");
  EXPECT_THAT(numbers(compute("view", {kX.permute({1, 0})}, to({6}))[0]), ElementsAre(1, 4, 2, 5, 3, 6));
}

// What the peer's tests expect.
TEST(Reshape, InfersAsOthersDo) {
  const auto reshape = [](const char* mesh, const char* x, std::initializer_list<std::int64_t> shape) {
    return results_of("reshape", mesh, {x}, {{"dst_shape", ints(shape)}});
  };
  EXPECT_EQ(reshape(kMesh, "f32 [1024, 512, 512] [dp, -, -]", {1024, 2, 256, 512}), "[dp, -, -, -]");
  EXPECT_EQ(reshape(kMesh, "f32 [4, 4, 8] [dp, -, -]", {16, 8}), "[dp, -]");
  EXPECT_EQ(reshape(kMesh, "f32 [32, 128] [dp, -]", {4, 8, 128}), "[dp, -, -]");
  EXPECT_EQ(reshape(kCube, "f32 [4, 8, 4, 12] [-, -, -, mp]", {4, 8, 12, 4}), "compound-split");
  EXPECT_EQ(reshape(kCube, "f32 [32, 6, 128, 28, 10] [cp+dp, -, -, mp, -]", {4, 8, 2, 384, 280}), "[cp+dp, -, -, -, mp]");
  EXPECT_EQ(reshape(kMesh, "f32 [32, 64] [dp, mp]", {32, 16, 4}), "[dp, mp, -]");
  EXPECT_EQ(reshape(kMesh, "f32 [32, 64] [dp, mp]", {32, -1}), "[dp, mp]");
  EXPECT_EQ(reshape(kMesh, "f32 [16, 4, 8] [dp, -, mp]", {64, 8}), "[dp, mp]");
  EXPECT_EQ(reshape(kMesh, "f32 [8, 4, 16] [dp, mp, -]", {8, -1}), "[dp, mp]");
  EXPECT_EQ(reshape(kMesh, "f32 [10, 10] [dp, mp]", {20, 20}), "element-count");
  EXPECT_EQ(reshape(kMesh, "f32 [4, 6] [dp, -] partial(mp: max)", {6, 4}), "[dp, -] partial(mp: max)");
  EXPECT_EQ(reshape(kMesh, "f32 [0, 10] [dp, -]", {0, 2, 5}), "[dp, -, -]");
  EXPECT_EQ(results_of("flatten", kMesh, {"f32 [8, 4, 6] [dp, mp, -]"}), "result-split");
  EXPECT_EQ(results_of("flatten", kMesh, {"f32 [2, 4, 6] [dp, mp, -]"}), "[dp+mp]");
  EXPECT_EQ(results_of("flatten", kMesh, {"f32 [8, 4, 6] [dp, mp, -]"}, {{"start_dim", integer(1)}}), "[dp, mp]");
}

TEST(Reshape, SaysWhatIsWrong) {
  const auto reshape = [](const char* x, std::initializer_list<std::int64_t> shape) {
    return error_of("reshape", kMesh, {x}, to(shape));
  };
  EXPECT_EQ(reshape("f32 [10, 10] [dp, -]", {20, 20}),
            "reshape: x [10, 10] has 100 elements, shape [20, 20] has 400\n  hint       give sizes with as many elements, "
            "one of them perhaps -1");
  EXPECT_EQ(reshape("f32 [10, 10] [dp, -]", {7, -1}),
            "reshape: x [10, 10] has 100 elements, no multiple of the 7 of shape [7, -1]\n  hint       give sizes whose "
            "product divides the number of elements");
  EXPECT_EQ(reshape("f32 [10, 10] [dp, -]", {-1, -1}),
            "reshape: shape [-1, -1] has -1 twice\n  hint       only one size can be what is left");
  EXPECT_EQ(
      reshape("f32 [10, 10] [dp, -]", {-2, 5}),
      "reshape: shape [-2, 5] has size -2 in dim 0\n  hint       a size is 0 or more, or -1 for the one that is left");
  EXPECT_EQ(
      reshape("f32 [0, 10] [dp, -]", {0, -1}),
      "reshape: shape [0, -1] has -1 beside a size of 0, which leaves any size\n  hint       write the size instead of -1");
  EXPECT_EQ(reshape("f32 [0, 10] [dp, -]", {0, 10, 0}),
            "reshape: x [0, 10] is empty, and dim 2 of [0, 10, 0] has no size 0 of x to come from\n  hint       give the "
            "result as many dims of size 0 as x has");
  EXPECT_EQ(reshape("f32 [8] [-]", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8}),
            "reshape: shape [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8] has 13 dims, a tensor has at most 12\n  hint       ask "
            "for fewer dims");
  EXPECT_EQ(error_of("view", kMesh, {"f32 [4, 12] [-, mp]"}, to({12, 4})),
            "view: axis 'mp' (size 4) of x dim 1 would cut factor b of size 3 within its elements\n"
            "  rule       x[a (b c)] -> out[(a b) c] | size a=4 b=3 c=4 | move x\n"
            "  x          [-, mp]\n"
            "  hint       reshard x to [-, -]");
  EXPECT_EQ(error_of("flatten", kMesh, {"f32 [4, 8, 6] [dp, -, -]"}, {{"start_dim", integer(2)}, {"end_dim", integer(0)}}),
            "flatten: attribute 'start_dim' is dim 2, which is behind 'end_dim', dim 0\n  hint       swap them");
  EXPECT_EQ(error_of("flatten", kMesh, {"f32 [4, 8] [dp, -]"}, {{"end_dim", integer(2)}}),
            "flatten: attribute 'end_dim' names dim 2, but x has 2 dims\n  hint       dims go from -2 to 1");
  EXPECT_EQ(error_of("flatten", kMesh, {"f32 [4, 6] [-, dp]"}),
            "flatten: no layout says how out dim 0 (a b) would be split\n"
            "  rule       x[a b] -> out[(a b)] | size a=4 b=6 | move x\n"
            "  x          [-, dp]\n"
            "  hint       a factor behind another can be split only where the one in front is cut to single, equal parts; "
            "else keep it whole");
}

TEST(Transpose, ReordersDims) {
  EXPECT_THAT(numbers(compute("transpose", {kX})[0]), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_EQ(to_string(compute("permute", {Tensor::zeros({2, 3, 4}, DType::kF32)}, {{"perm", ints({2, 0, 1})}})[0]),
            "f32 [4, 2, 3]");
  const auto swap = [](const char* layout, std::int64_t a, std::int64_t b) {
    return results_of("TransposeExtView", kCube, {std::string("f32 [4, 8, 2] ") + layout},
                      {{"dim0", integer(a)}, {"dim1", integer(b)}});
  };
  EXPECT_EQ(swap("[dp, cp, mp]", 0, 2), "[mp, cp, dp]");
  EXPECT_EQ(swap("[dp, cp, mp]", -1, -3), "[mp, cp, dp]");
  EXPECT_EQ(swap("[-, dp+cp, mp]", 1, 2), "[-, mp, dp+cp]");
  EXPECT_EQ(swap("[dp, -, -] partial(cp: min)", 1, 1), "[dp, -, -] partial(cp: min)");
  EXPECT_EQ(results_of("Transpose", kCube, {"f32 [4, 8, 2] [cp, mp, dp]"}, {{"perm", ints({0, 1, 2})}}), "[cp, mp, dp]");
  EXPECT_EQ(results_of("permute", kCube, {"f32 [4, 8, 2] [cp, mp, dp]"}, {{"dims", ints({2, 0, 1})}}), "[dp, cp, mp]");
}

TEST(Transpose, SaysWhatIsWrong) {
  EXPECT_EQ(error_of("transpose", kMesh, {"f32 [4, 8] [dp, mp]"}, {{"dim0", integer(2)}}),
            "transpose: attribute 'dim0' names dim 2, but x has 2 dims\n  hint       dims go from -2 to 1");
  const auto permute = [](std::initializer_list<std::int64_t> dims) {
    return error_of("permute", kMesh, {"f32 [4, 8] [dp, mp]"}, {{"perm", ints(dims)}});
  };
  const std::string hint =
      ", no permutation of the 2 dims of x\n  hint       name each dim from 0 on once: result dim i is dim dims[i] of x";
  EXPECT_EQ(permute({0, -1}), "permute: attribute 'dims' is [0, -1]" + hint);
  EXPECT_EQ(permute({1, 0, 2}), "permute: attribute 'dims' is [1, 0, 2]" + hint);
  EXPECT_EQ(permute({1}), "permute: attribute 'dims' is [1]" + hint);
  EXPECT_EQ(permute({1, 1}), "permute: attribute 'dims' is [1, 1]" + hint);
}

TEST(ExpandDims, InsertsAWholeDim) {
  const auto expand = [](const char* x, std::int64_t axis) {
    return results_of("ExpandDims", kCube, {x}, {{"axis", integer(axis)}});
  };
  EXPECT_EQ(expand("f32 [4, 8, 6] [dp, -, -]", 0), "[-, dp, -, -]");
  EXPECT_EQ(expand("f32 [4, 8, 6] [-, -, mp]", 2), "[-, -, -, mp]");
  EXPECT_EQ(expand("f32 [4, 8, 6] [-, dp+cp, -]", -1), "[-, dp+cp, -, -]");
  EXPECT_EQ(expand("f32 [4, 8, 6] [-, dp+cp, -]", -4), "[-, -, dp+cp, -]");
  EXPECT_EQ(error_of("unsqueeze", kCube, {"f32 [4, 8, 6] [dp, cp, mp]"}, {{"axis", integer(5)}}),
            "expand_dims: attribute 'dim' is 5, but the result has 4 dims\n  hint       dims go from -4 to 3");
  EXPECT_EQ(error_of("unsqueeze", kCube, {"f32 [] []"}, {{"axis", integer(-2)}}),
            "expand_dims: attribute 'dim' is -2, but the result has 1 dim\n  hint       dims go from -1 to 0");
}

TEST(Squeeze, DropsWholeDimsOfSizeOne) {
  const auto squeeze = [](const char* x, const Entries& attributes = {}) {
    return results_of("Squeeze", kCube, {x}, attributes);
  };
  EXPECT_EQ(squeeze("f32 [8, 1, 4] [dp, -, -]", {{"axis", integer(1)}}), "[dp, -]");
  EXPECT_EQ(squeeze("f32 [8, 1, 2] [dp, -, mp]", {{"axis", integer(-2)}}), "[dp, mp]");
  EXPECT_EQ(squeeze("f32 [1, 8, 1, 4, 1, 2, 1] [-, dp, -, cp, -, mp, -]"), "[dp, cp, mp]");
  EXPECT_EQ(squeeze("f32 [1, 8, 1, 4, 1, 2] [-, dp, -, cp, -, mp]", {{"axis", ints({0, -4, 4})}}), "[dp, cp, mp]");
  EXPECT_EQ(squeeze("f32 [8, 4] [dp, cp]"), "[dp, cp]");
  EXPECT_EQ(error_of("squeeze", kCube, {"f32 [8, 1, 2] [dp, -, mp]"}, {{"axis", integer(5)}}),
            "squeeze: attribute 'dim' names dim 5, but x has 3 dims\n  hint       dims go from -3 to 2");
  EXPECT_EQ(error_of("squeeze", kCube, {"f32 [8, 4, 2] [dp, cp, mp]"}, {{"axis", integer(0)}}),
            "squeeze: attribute 'dim' names dim 0, which has size 8, not 1\n  hint       name dims of size 1");
  EXPECT_EQ(error_of("squeeze", kCube, {"f32 [8, 1] [dp, mp]"}),
            "squeeze: factor d1 (dim 1) must be whole, but x splits it over 'mp'\n"
            "  rule       x[d0 d1] -> out[d0] | whole d1 | move x\n"
            "  x          [dp, mp]\n"
            "  hint       reshard x to [dp, -]");
}

TEST(Expand, RepeatsDimsOfSizeOne) {
  EXPECT_THAT(numbers(compute("expand", {kX.slice(1, 0, 1)}, to({2, -1, 2}))[0]), ElementsAre(1, 1, 4, 4, 1, 1, 4, 4));
  EXPECT_EQ(results_of("expand", kCube, {"f32 [4, 1, 6] [dp, -, mp]"}, to({-1, 10, -1})), "[dp, -, mp]");
  EXPECT_EQ(results_of("expand", kCube, {"f32 [] []"}, to({3, 4})), "[-, -]");
  const auto expand = [](const char* x, std::initializer_list<std::int64_t> shape) {
    return error_of("expand", kCube, {x}, to(shape));
  };
  EXPECT_EQ(expand("f32 [4, 1] [dp, -]", {5, -1}),
            "expand: x [4, 1] cannot be expanded to [5, -1]: dim 0 has size 4, and only dims of size 1 repeat\n  hint      "
            " give -1 where the size stays");
  EXPECT_EQ(expand("f32 [4, 1] [dp, -]", {-1, 4, 3}),
            "expand: x [4, 1] cannot be expanded to [-1, 4, 3]: dim 0 is new, so its size cannot stay\n  hint       give "
            "the sizes of new dims");
  EXPECT_EQ(expand("f32 [4, 1] [dp, -]", {4}),
            "expand: x [4, 1] cannot be expanded to [4]: it has more dims\n  hint       give a size for each dim, -1 where "
            "it stays");
  EXPECT_EQ(expand("f32 [4, 1] [dp, -]", {4, 0}),
            "expand: x [4, 1] cannot be expanded to [4, 0]: size 0 in dim 1\n  hint       a dim repeats once or more");
  EXPECT_EQ(expand("f32 [4, 1] [dp, mp]", {4, 3}),
            "expand: x dim 1 has size 1 and repeats, but is split over 'mp'\n"
            "  rule       x[d0 1] -> out[d0 n1] | size n1=3 | move x\n"
            "  x          [dp, mp]\n"
            "  hint       reshard x to [dp, -]");
  EXPECT_EQ(expand("f32 [4, 1] [dp, -]", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1}),
            "expand: x [4, 1] cannot be expanded to [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1]: a tensor has at most 12 "
            "dims\n  hint       expand to fewer dims");
}

TEST(Swiglu, GatesOneHalfWithTheOther) {
  const Tensor x = Tensor::of<double>({1, 4}, {0, 1, 5, 7});
  EXPECT_THAT(numbers(compute("swiglu", {x})[0]), ElementsAre(0, ::testing::DoubleEq(7 / (1 + std::exp(-1.0)))));
  EXPECT_EQ(results_of("swiglu", kMesh, {"f32 [8, 4, 16] [dp, mp, -]"}), "[dp, mp, -]");
  EXPECT_EQ(results_of("swiglu", kMesh, {"f32 [8, 16] [-, mp]"}, {{"axis", integer(0)}}), "[-, mp]");
  EXPECT_EQ(results_of("swiglu", kMesh, {"f32 [8, 16] [-, -] partial(dp: sum)"}), "partial-operand");
  EXPECT_EQ(error_of("swiglu", kMesh, {"f32 [4, 8] [-, dp]"}),
            "swiglu: factor two (gate and up) must be whole, but x splits it over 'dp'\n"
            "  rule       x[d0 (two h)] -> out[d0 h] | whole two h | size two=2\n"
            "  x          [-, dp]\n"
            "  hint       reshard x to [-, -]");
  EXPECT_EQ(error_of("swiglu", kMesh, {"f32 [4, 7] [dp, -]"}),
            "swiglu: x dim 1 has size 7, which is no multiple of two=2\n"
            "  rule       x[d0 (two h)] -> out[d0 h] | whole two h | size two=2");
  EXPECT_EQ(error_of("swiglu", kMesh, {"f32 [4, 8] [dp, -]"}, {{"dim", integer(2)}}),
            "swiglu: attribute 'dim' names dim 2, but x has 2 dims\n  hint       dims go from -2 to 1");
}

TEST(Shapes, AreProvedWithUnevenShards) {
  expect_sound("transpose", {TensorCase{{3, 5}}});
  expect_sound("permute", {TensorCase{{3, 2, 5}}}, {{"dims", ints({2, 0, 1})}});
  expect_sound("reshape", {TensorCase{{6, 5}}}, to({3, 2, 5}));
  expect_sound("reshape", {TensorCase{{2, 3, 5}}}, to({6, 5}));
  expect_sound("flatten", {TensorCase{{2, 2, 3}}});
  expect_sound("expand_dims", {TensorCase{{3, 5}}}, {{"dim", integer(1)}});
  expect_sound("squeeze", {TensorCase{{3, 1, 5}}});
  expect_sound("expand", {TensorCase{{3, 1}}}, to({2, 3, 5}));
  expect_sound("swiglu", {TensorCase{{3, 6}}});
  expect_sound("swiglu", {TensorCase{{6, 3}}}, {{"dim", integer(0)}});
}

}  // namespace
}  // namespace tessera
