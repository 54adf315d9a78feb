// Redistribution between every pair of layouts: shards as the new layout says, and still the same tensor.
#include <gmock/gmock.h>

#include <cmath>

#include "core/dtensor/dtensor.h"
#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "testing/layout_space.h"
#include "testing/matchers.h"
#include "testing/parts.h"
#include "testing/ranks_fixture.h"

namespace tessera {
namespace {

struct Space {
  std::string name;
  std::vector<MeshAxis> axes;
  Shape shape;
  LayoutSpace layouts;
};
void PrintTo(const Space& space, std::ostream* out) { *out << space.name; }

// The distributions that a dim of `n` indices over 2, 3 and 4 shards can have.
std::vector<Distribution> every_distribution() {
  return {Distribution::block(),
          Distribution::balanced(),
          Distribution::cyclic(1),
          Distribution::cyclic(2),
          Distribution::head_tail(),
          Distribution::intervals({{{3, 5}, {0, 1}}, {{1, 3}}}),
          Distribution::intervals({{}, {{4, 5}, {0, 2}}, {{2, 4}}}),
          Distribution::intervals({{{4, 5}}, {{2, 4}}, {{0, 1}}, {{1, 2}}})};
}

class Redistribute : public ::testing::TestWithParam<Space> {};

TEST_P(Redistribute, BetweenEveryPairOfLayouts) {
  const Space& space = GetParam();
  const DeviceMesh mesh(space.axes);
  const Tensor global = random_normal(space.shape, DType::kF64, 7, "global");
  const auto layouts = all_layouts(mesh, space.shape, space.layouts);
  std::vector<std::vector<Tensor>> held, whole_shards;
  for (const Layout& layout : layouts) {
    held.push_back(distribute_parts(global, layout));
    whole_shards.push_back(distribute_parts(global, layout.with_partials({})));
  }
  on_ranks(static_cast<int>(mesh.device_count()), [&](Communicator& comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    for (std::size_t from = 0; from < layouts.size(); ++from) {
      const DTensor tensor = DTensor::from_local(held[from][rank], layouts[from], space.shape, comm.rank());
      for (std::size_t to = 0; to < layouts.size(); ++to) {
        const DTensor moved = redistribute(tensor, layouts[to], comm);
        ASSERT_EQ(moved.layout(), layouts[to]);
        // Pending reductions are made to look at the numbers: each rank must hold its shard of the whole.
        Tensor local = moved.to_local();
        const AxisList pending = layouts[to].partials().axes();
        for (int k = 0; k < pending.size(); ++k) {
          Group group;
          for (std::int64_t member : mesh.ranks_along(comm.rank(), {pending[k]})) group.push_back(static_cast<int>(member));
          local = comm.all_reduce(local, reduction_of(layouts[to].partials()[pending[k]]), group);
        }
        const Tensor& expected = whole_shards[to][rank];
        ASSERT_EQ(local.shape(), expected.shape());
        for (std::int64_t i = 0; i < local.count(); ++i) {
          ASSERT_LT(std::abs(local.data<double>()[i] - expected.data<double>()[i]), 1e-12)
              << to_string(layouts[from]) << " to " << to_string(layouts[to]) << ", element " << i;
        }
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Spaces, Redistribute,
    ::testing::Values(Space{"vector_2x2", {{"a", 2}, {"b", 2}}, {5}, {{Partial::kSum}, every_distribution()}},
                      Space{"vector_3", {{"a", 3}}, {5}, {{Partial::kSum, Partial::kMax}, every_distribution()}},
                      Space{
                          "vector_3x2", {{"a", 3}, {"b", 2}}, {7}, {{}, {Distribution::block(), Distribution::cyclic(1)}}},
                      Space{"vector_of_two",
                            {{"a", 2}, {"b", 2}},
                            {2},
                            {{Partial::kSum}, {Distribution::block(), Distribution::head_tail()}}},
                      Space{"empty_vector", {{"a", 2}, {"b", 2}}, {0}, {{Partial::kSum}}},
                      Space{"scalar", {{"a", 2}, {"b", 2}}, {}, {{Partial::kSum, Partial::kMax}}},
                      Space{"matrix_2x2", {{"a", 2}, {"b", 2}}, {3, 5}, {{Partial::kSum, Partial::kMax}}},
                      Space{"matrix_3", {{"a", 3}}, {5, 4}, {{Partial::kSum, Partial::kAvg}, every_distribution()}},
                      Space{"matrix_2x1x2", {{"a", 2}, {"one", 1}, {"b", 2}}, {3, 4}, {}}),
    [](const auto& tested) { return tested.param.name; });

TEST(RedistributeFaults, AreExplained) {
  on_ranks(2, [](Communicator& comm) {
    const DeviceMesh mesh({{"a", 2}}), other({{"b", 2}});
    const DTensor tensor = DTensor::distribute(Tensor::zeros({4}, DType::kF32), parse_layout(mesh, "[a]"), comm.rank());
    EXPECT_THAT([&] { redistribute(tensor, parse_layout(other, "[b]"), comm); },
                FailsWith("mesh-mismatch", "cannot redistribute from the mesh (a=2) to another (b=2)"));
    EXPECT_THAT([&] { redistribute(tensor, parse_layout(mesh, "[a, -]"), comm); },
                FailsWith("layout-misfit", "a tensor of shape [4] cannot have layout [a, -]: "));
    EXPECT_THAT([&] { redistribute(tensor, parse_layout(mesh, "[-] partial(a: softmax)"), comm); },
                FailsWith("partial-softmax"));
  });
}

TEST(Redistribute, WorksOnAMeshOfSomeRanksInAnyOrder) {
  const std::vector<std::int64_t> ranks{3, 1};
  const DeviceMesh mesh({{"a", 2}}, ranks);
  const Tensor global = Tensor::of<double>({3}, {1, 2, 3});
  on_ranks(4, [&](Communicator& comm) {
    if (!mesh.contains(comm.rank())) return;
    const DTensor tensor = DTensor::distribute(global, parse_layout(mesh, "[a]"), comm.rank());
    EXPECT_EQ(tensor.to_local().size(0), comm.rank() == 3 ? 2 : 1);
    EXPECT_EQ(tensor.full_tensor(comm).at<double>({2}), 3.0);
    EXPECT_EQ(redistribute(tensor, parse_layout(mesh, "[a:cyclic(1)]"), comm).to_local().at<double>({0}),
              comm.rank() == 3 ? 1.0 : 2.0);
  });
}

}  // namespace
}  // namespace tessera
