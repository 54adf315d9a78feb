// Embedding: lookups in a table that is split over its rows, its features, or both.
#include <gmock/gmock.h>

#include "layouts/notation.h"
#include "testing/matchers.h"
#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

constexpr const char* kMesh = "dp=2 x mp=4";

TEST(Embedding, LooksRowsUp) {
  const Tensor ids = Tensor::of<std::int64_t>({2, 2}, {2, 0, 1, 2});
  const Tensor weight = Tensor::of<double>({3, 2}, {1, 2, 3, 4, 5, 6});
  const Tensor out = compute("embedding", {ids, weight})[0];
  EXPECT_EQ(to_string(out), "f64 [2, 2, 2]");
  EXPECT_THAT(numbers(out), ElementsAre(5, 6, 1, 2, 3, 4, 5, 6));
  EXPECT_EQ(compute("embedding", {ids.to(DType::kI32), weight.to(DType::kBF16)})[0].dtype(), DType::kBF16);
}

// What the peer's tests expect.
TEST(Embedding, InfersAsOthersDo) {
  const auto embedding = [](const char* mesh, const char* ids, const char* weight) {
    return results_of("embedding", mesh, {std::string("i64 [8, 4] ") + ids, std::string("f32 [16, 8] ") + weight});
  };
  EXPECT_EQ(embedding(kMesh, "[dp, -]", "[-, mp]"), "[dp, -, mp]");
  EXPECT_EQ(embedding(kMesh, "[dp, -]", "[mp, -]"), "[dp, -, -] partial(mp: sum)");
  EXPECT_EQ(embedding("dp=2 x vp=2 x mp=2", "[dp, -]", "[vp, mp]"), "[dp, -, mp] partial(vp: sum)");
  EXPECT_EQ(embedding(kMesh, "[-, -]", "[dp, mp]"), "[-, -, mp] partial(dp: sum)");
  EXPECT_EQ(embedding(kMesh, "[dp, mp]", "[-, -]"), "[dp, mp, -]");
  EXPECT_EQ(embedding(kMesh, "[-, -]", "[-, -] partial(dp: sum)"), "[-, -, -] partial(dp: sum)");
  EXPECT_EQ(embedding(kMesh, "[-, -] partial(dp: sum)", "[-, -]"), "partial-operand");
  EXPECT_EQ(embedding(kMesh, "[mp, -]", "[mp, -]"), "axis-conflict");
}

TEST(Embedding, SaysWhatIsWrong) {
  EXPECT_EQ(error_of("embedding", kMesh, {"i64 [8] [-]", "-"}),
            "embedding: weight is missing\n  rule       ids[...], weight[v d] -> out[... d] | linear weight");
  EXPECT_EQ(error_of("embedding", kMesh, {"f32 [8] [-]", "f32 [10, 16] [mp, -]"}),
            "embedding: ids is f32, it takes i32 or i64\n  hint       cast ids to i64");
  EXPECT_EQ(error_of("embedding", kMesh, {"i64 [8] [-]", "f32 [10, 16] [mp, -]"}, {{"max_norm", 1.5}}),
            "embedding: attribute 'max_norm' is 1.5, which would change rows of weight in place\n"
            "  hint       leave max_norm out, and scale the rows of weight before");
  EXPECT_EQ(error_of("embedding", kMesh, {"i64 [8] [-]", "f32 [10, 16] [mp, -]"}, {{"scale_grad_by_freq", true}}),
            "embedding: attribute 'scale_grad_by_freq' counts ids, but a rank that holds a part of weight's rows does not "
            "see all of them\n"
            "  hint       keep dim 0 of weight whole, or leave scale_grad_by_freq out");
  EXPECT_EQ(results_of("embedding", kMesh, {"i64 [8] [-]", "f32 [10, 16] [-, mp]"}, {{"scale_grad_by_freq", true}}),
            "[-, mp]");
  EXPECT_EQ(error_of("embedding", kMesh, {"i64 [8, 4] [mp, -]", "f32 [10, 16] [mp, -]"}),
            "embedding: axis 'mp' splits both factor v (vocabulary) (in weight) and factor ...[-2] (in ids)\n"
            "  rule       ids[...], weight[v d] -> out[... d] | linear weight\n"
            "  weight     [mp, -]\n"
            "  ids        [mp, -]\n"
            "  hint       reshard ids to [-, -]");
}

TEST(Embedding, SamplesIdsOfTheTable) {
  const ExampleCall call = read_example({{"i64 [50] [-]", "f32 [3, 2] [-, -]"}});
  const std::vector<const TensorSpec*> operands = call.pointers();
  const DistributedOp& op = dense_catalogue().get("embedding");
  const auto ids = op.sample({operands, call.attributes}, 0, 1);
  ASSERT_TRUE(ids.has_value());
  EXPECT_THAT(numbers(*ids), ::testing::Each(::testing::AnyOf(0, 1, 2)));
  EXPECT_EQ(op.sample({operands, call.attributes}, 1, 1), std::nullopt);
}

// Rows dealt in any way: uneven, empty, cyclic, explicit with several intervals a shard.
TEST(Embedding, IsProvedForEveryDealingOfRows) {
  expect_sound("embedding", {TensorCase{{3, 2}, DType::kI64}, TensorCase{{5, 3}}});
  expect_sound("embedding", {TensorCase{{7}, DType::kI32}, TensorCase{{3, 2}}});
  ProofOptions options;
  options.find_missed = false;
  options.space = {.partials = {Partial::kSum},
                   .distributions = {Distribution::block(), Distribution::cyclic(2), Distribution::head_tail(),
                                     Distribution::intervals({{{1, 2}, {4, 6}}, {{0, 1}, {2, 4}}}),
                                     Distribution::intervals({{}, {{0, 6}}})}};
  EXPECT_THAT(prove(dense_catalogue().get("embedding"), {TensorCase{{9}, DType::kI64}, TensorCase{{6, 2}}}, {},
                    DeviceMesh({{"dp", 2}, {"mp", 2}}), options),
              IsSound());
}

}  // namespace
}  // namespace tessera
