// A rank's view of a distributed tensor: what it holds, and back to the whole.
#include "core/dtensor/dtensor.h"

#include <gmock/gmock.h>

#include <limits>

#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "testing/layout_space.h"
#include "testing/matchers.h"
#include "testing/ranks_fixture.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }

Tensor numbers(const Shape& shape) {
  Tensor tensor = Tensor::zeros(shape, DType::kF64);
  for (std::int64_t i = 0; i < tensor.count(); ++i) tensor.data<double>()[i] = static_cast<double>(i);
  return tensor;
}

std::vector<double> values(const Tensor& tensor) {
  const Tensor dense = tensor.to(DType::kF64);
  return {dense.span<double>().begin(), dense.span<double>().end()};
}

TEST(Distribute, GivesEachRankItsShard) {
  const Tensor global = numbers({3, 4});
  const Layout layout = parse_layout(mesh_2x2(), "[dp, tp:cyclic(1)]");
  const DTensor last = DTensor::distribute(global, layout, 3);
  EXPECT_EQ(last.to_local().shape(), (Shape{1, 2}));
  EXPECT_THAT(values(last.to_local()), ElementsAre(9, 11));
  EXPECT_EQ(last.shape(), (Shape{3, 4}));
  EXPECT_EQ(last.layout(), layout);
  EXPECT_EQ(last.dtype(), DType::kF64);
}

TEST(Distribute, KeepsTheOrderOfExplicitIntervals) {
  const Layout layout = parse_layout(DeviceMesh({{"cp", 2}}), "[cp:intervals(4-6 0-1 | 1-4)]");
  EXPECT_THAT(values(DTensor::distribute(numbers({6}), layout, 0).to_local()), ElementsAre(4, 5, 0));
  EXPECT_THAT(values(DTensor::distribute(numbers({6}), layout, 1).to_local()), ElementsAre(1, 2, 3));
}

TEST(Distribute, PendingReductionsReduceToTheTensor) {
  const Tensor global = Tensor::of<double>({2}, {2.0, -3.0});
  const auto held = [&](const char* partial, std::int64_t rank) {
    return values(DTensor::distribute(
                      global, parse_layout(DeviceMesh({{"tp", 2}}), std::string("[-] partial(tp: ") + partial + ")"), rank)
                      .to_local());
  };
  for (const char* partial : {"sum", "prod", "max", "min", "avg"}) EXPECT_THAT(held(partial, 0), ElementsAre(2, -3));
  EXPECT_THAT(held("sum", 1), ElementsAre(0, 0));
  EXPECT_THAT(held("prod", 1), ElementsAre(1, 1));
  for (const char* partial : {"max", "min", "avg"}) EXPECT_THAT(held(partial, 1), ElementsAre(2, -3));
}

TEST(Distribute, Faults) {
  EXPECT_THAT([] { DTensor::distribute(numbers({4}), parse_layout(mesh_2x2(), "[-] partial(dp: softmax)"), 0); },
              FailsWith("partial-softmax", "a pending softmax is a bundle of max, sum and weighted value"));
  EXPECT_THAT([] { DTensor::distribute(numbers({4}), parse_layout(mesh_2x2(), "[dp, -]"), 0); },
              FailsWith("layout-misfit", "a tensor of shape [4] cannot have layout [dp, -]: "));
  EXPECT_THAT([] { DTensor::distribute(numbers({4}), parse_layout(mesh_2x2(), "[dp]"), 7); }, FailsWith("unknown-rank"));
}

TEST(FromLocal, TakesTheRanksPart) {
  const Layout layout = parse_layout(mesh_2x2(), "[dp, tp]");
  const DTensor tensor = DTensor::from_local(numbers({1, 2}), layout, {3, 4}, 2);
  EXPECT_EQ(tensor.shape(), (Shape{3, 4}));
  EXPECT_THAT(
      [&] {
        DTensor::from_local(numbers({2, 2}), layout, {3, 4}, 2);
      },
      FailsWith("local-shape",
                "rank 2 holds [1, 2] of a tensor of shape [3, 4] in layout [dp, tp], not [2, 2]\n"
                "  hint       pass the rank's own part, or use distribute with the whole tensor"));
}

TEST(FullTensor, IsTheInverseOfDistribute) {
  const DeviceMesh mesh({{"dp", 2}, {"tp", 3}});
  const Shape shape{5, 4};
  const Tensor global = random_normal(shape, DType::kF32, 1, "global");
  const auto layouts = all_layouts(mesh, shape,
                                   {.partials = {Partial::kSum, Partial::kMax, Partial::kAvg},
                                    .distributions = {Distribution::block(), Distribution::head_tail()}});
  on_ranks(6, [&](Communicator& comm) {
    for (const Layout& layout : layouts) {
      const Tensor full = DTensor::distribute(global, layout, comm.rank()).full_tensor(comm);
      ASSERT_EQ(full.shape(), shape);
      for (std::int64_t i = 0; i < full.count(); ++i) {
        ASSERT_NEAR(full.data<float>()[i], global.data<float>()[i], 1e-6F) << to_string(layout);
      }
    }
  });
}

TEST(GatherAndScatterIndices, AreInverse) {
  const Tensor source = numbers({4, 5});
  const std::vector<IndexSet> indices{{{2, 4}, {0, 1}}, {{4, 5}, {1, 3}}};
  const Tensor part = gather_indices(source, indices);
  EXPECT_EQ(part.shape(), (Shape{3, 3}));
  EXPECT_THAT(values(part), ElementsAre(14, 11, 12, 19, 16, 17, 4, 1, 2));
  EXPECT_THAT(values(gather_indices(source.permute({1, 0}), std::vector<IndexSet>{{{1, 2}}, {{0, 4}}})),
              ElementsAre(1, 6, 11, 16));
  Tensor target = Tensor::zeros({4, 5}, DType::kF64);
  scatter_indices(part, target, indices);
  EXPECT_THAT(values(gather_indices(target, indices)), ElementsAre(14, 11, 12, 19, 16, 17, 4, 1, 2));
  double total = 0;
  for (double value : values(target)) total += value;
  EXPECT_EQ(total, 14 + 11 + 12 + 19 + 16 + 17 + 4 + 1 + 2) << "nothing else is written";
  EXPECT_THAT(values(gather_indices(Tensor::of<double>({}, {3.0}), {})), ElementsAre(3));
  EXPECT_EQ(gather_indices(source, std::vector<IndexSet>{{}, {{0, 5}}}).shape(), (Shape{0, 5}));
}

TEST(IdentityTensor, LeavesTheOtherTermAsItIs) {
  const auto identity = [](Partial partial, DType dtype) { return values(identity_tensor(partial, {1}, dtype))[0]; };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    EXPECT_EQ(identity(Partial::kSum, dtype), 0);
    EXPECT_EQ(identity(Partial::kProd, dtype), 1);
    EXPECT_EQ(identity(Partial::kMax, dtype), -infinity);
    EXPECT_EQ(identity(Partial::kMin, dtype), infinity);
  }
  EXPECT_EQ(identity(Partial::kMax, DType::kI32), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(identity(Partial::kMin, DType::kI32), std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(identity(Partial::kAny, DType::kBool), 0);
  EXPECT_EQ(identity(Partial::kMax, DType::kBool), 0);
  EXPECT_EQ(identity(Partial::kAll, DType::kBool), 1);
  EXPECT_EQ(identity(Partial::kMin, DType::kBool), 1);
}

}  // namespace
}  // namespace tessera
