// All layouts of a tensor: how many there are, and each once.
#include "testing/layout_space.h"

#include <gmock/gmock.h>

#include <unordered_set>

#include "layouts/notation.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> texts(const std::vector<Layout>& layouts) {
  std::vector<std::string> all;
  for (const Layout& layout : layouts) all.push_back(to_string(layout));
  return all;
}

TEST(AllLayouts, OfAVectorOnTwoAxes) {
  const DeviceMesh mesh({{"dp", 2}, {"tp", 2}});
  EXPECT_THAT(texts(all_layouts(mesh, 1)), ElementsAre("[-]", "[dp]", "[dp+tp]", "[tp]", "[tp+dp]"));
  EXPECT_THAT(texts(all_layouts(DeviceMesh({{"dp", 2}}), 1, {.partials = {Partial::kSum, Partial::kMax}})),
              ElementsAre("[-]", "[-] partial(dp: sum)", "[-] partial(dp: max)", "[dp]"));
}

// k of the axes in any order over the dims: choose(axes, k) * k! * choose(k + dims - 1, k); the others are pending or not.
TEST(AllLayouts, AreAsManyAsTheyShouldBe) {
  const auto choose = [](std::int64_t n, std::int64_t k) {
    std::int64_t result = 1;
    for (std::int64_t i = 0; i < k; ++i) result = result * (n - i) / (i + 1);
    return result;
  };
  for (int axes = 0; axes <= 4; ++axes) {
    std::vector<MeshAxis> mesh_axes;
    for (int i = 0; i < axes; ++i) mesh_axes.push_back({std::string(1, static_cast<char>('a' + i)), 2});
    const DeviceMesh mesh = axes == 0 ? DeviceMesh() : DeviceMesh(mesh_axes);
    for (int rank = 0; rank <= 3; ++rank) {
      for (int kinds = 0; kinds <= 2; ++kinds) {
        std::size_t expected = 0;
        for (int k = 0; k <= axes; ++k) {
          if (rank == 0 && k > 0) break;
          std::int64_t count = choose(axes, k) * choose(k + rank - 1, k);
          for (int i = 2; i <= k; ++i) count *= i;
          for (int i = k; i < axes; ++i) count *= kinds + 1;
          expected += static_cast<std::size_t>(count);
        }
        LayoutSpace space;
        if (kinds > 0) space.partials.push_back(Partial::kSum);
        if (kinds > 1) space.partials.push_back(Partial::kMax);
        const auto layouts = all_layouts(mesh, rank, space);
        EXPECT_EQ(layouts.size(), expected) << axes << " axes, " << rank << " dims, " << kinds << " kinds";
        EXPECT_EQ((std::unordered_set<Layout>(layouts.begin(), layouts.end()).size()), expected);
        EXPECT_TRUE(layouts[0].is_replicated());
      }
    }
  }
}

TEST(AllLayouts, WithDistributionsThatFit) {
  const DeviceMesh mesh({{"a", 2}, {"b", 3}});
  const LayoutSpace space{.distributions = {Distribution::block(), Distribution::intervals({{{1, 3}}, {{0, 1}}})}};
  EXPECT_THAT(texts(all_layouts(mesh, Shape{3}, space)),
              ElementsAre("[-]", "[a]", "[a:intervals(1-3 | 0-1)]", "[a+b]", "[b]", "[b+a]"));
  EXPECT_EQ(all_layouts(mesh, Shape{4}, space).size(), 5u) << "the intervals are for three indices";
}

TEST(AllAxisLists, OfThreeAxes) { EXPECT_EQ(all_axis_lists(DeviceMesh({{"a", 2}, {"b", 2}, {"c", 2}})).size(), 16u); }

}  // namespace
}  // namespace tessera
