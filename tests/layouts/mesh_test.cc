// layouts/mesh.h: small meshes over every order of their ranks, against plain lists.
#include "layouts/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using Ranks = std::vector<std::int64_t>;
using Names = std::vector<std::string>;

static_assert(std::is_trivially_copyable_v<DeviceMesh>);
static_assert(sizeof(DeviceMesh) == sizeof(void*));
static_assert(sizeof(AxisList) == 8);

// --- AxisList ---------------------------------------------------------------------------------------------------------------

TEST(AxisList, IsAnOrderedListInOneWord) {
  constexpr AxisList kAxes{2, 0, 14};
  static_assert(kAxes.size() == 3 && kAxes[0] == 2 && kAxes[1] == 0 && kAxes[2] == 14);
  static_assert(kAxes.mask() == (1U << 2 | 1U << 0 | 1U << 14));
  static_assert(kAxes.contains(0) && !kAxes.contains(1));
  static_assert(kAxes != AxisList{0, 2, 14} && kAxes == AxisList{2, 0, 14});
  static_assert(kAxes.sublist(1, 2) == AxisList{0, 14} && kAxes.sublist(1, 0).empty());
  static_assert(kAxes.starts_with({2, 0}) && kAxes.starts_with({}) && !kAxes.starts_with({0}) &&
                !AxisList{2}.starts_with(kAxes));
  AxisList all;
  for (int axis = static_cast<int>(kMaxAxes); axis-- > 0;) all.push_back(axis);
  ASSERT_EQ(all.size(), 15);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(all[i], 14 - i);
  AxisList joined{3};
  joined.append({1, 2});
  EXPECT_EQ(joined, (AxisList{3, 1, 2}));
}

// --- Cases ------------------------------------------------------------------------------------------------------------------

TEST(DeviceMesh, CountsRanksRowMajor) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}});
  EXPECT_EQ(mesh.axis_count(), 2);
  EXPECT_EQ(mesh.device_count(), 8);
  EXPECT_EQ(mesh.coordinate_of(6), (Coordinate{1, 2}));
  EXPECT_EQ(mesh.rank_at({1, 2}), 6);
  EXPECT_THAT(mesh.ranks_along(6, {1}), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(mesh.ranks(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(mesh.size(AxisList{0, 1}), 8);
  EXPECT_EQ(mesh.size(AxisList{}), 1);
  EXPECT_EQ(mesh.axis("cp"), 1);
  EXPECT_EQ(mesh.find_axis("tp"), std::nullopt);
  EXPECT_THAT(mesh.axis_names(), ElementsAre("dp", "cp"));
  EXPECT_THAT(mesh.names_of({1, 0}), ElementsAre("cp", "dp"));
  EXPECT_TRUE(mesh.contains(7));
  EXPECT_FALSE(mesh.contains(8));
  EXPECT_FALSE(mesh.contains(-1));
}

TEST(DeviceMesh, ListsTheRanksAlongItsAxes) {
  const DeviceMesh mesh({{"a", 2}, {"b", 3}});
  EXPECT_THAT(mesh.ranks_along(0, {0}), ElementsAre(0, 3));
  EXPECT_THAT(mesh.ranks_along(4, {0}), ElementsAre(1, 4));
  EXPECT_THAT(mesh.ranks_along(4, {1}), ElementsAre(3, 4, 5));
  EXPECT_THAT(mesh.ranks_along(4, {0, 1}), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(mesh.ranks_along(4, {1, 0}), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(mesh.ranks_along(4, {}), ElementsAre(4));
}

TEST(DeviceMesh, WithoutAxesIsOneDevice) {
  const DeviceMesh mesh;
  EXPECT_EQ(mesh, DeviceMesh(std::vector<MeshAxis>{}));
  EXPECT_EQ(mesh.device_count(), 1);
  EXPECT_THAT(mesh.ranks(), ElementsAre(0));
  EXPECT_EQ(mesh.rank_at({}), 0);
  EXPECT_TRUE(mesh.coordinate_of(0).empty());
  EXPECT_EQ(to_string(mesh), "one device");
  EXPECT_EQ(to_string(DeviceMesh({{"a", 4}}).submesh({}, 3)), "one device over ranks [3]");
}

TEST(DeviceMesh, IndexAlongSeveralAxesIsMixedRadix) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}});
  EXPECT_EQ(index_along(mesh, {1, 0}, {1, 2}), 5);
  EXPECT_EQ(index_along(mesh, {0, 1}, {1, 2}), 6);
  EXPECT_EQ(index_along(mesh, {}, {1, 2}), 0);
}

TEST(DeviceMesh, IsPrinted) {
  EXPECT_EQ(to_string(DeviceMesh({{"dp", 2}, {"cp", 4}})), "dp=2 x cp=4");
  EXPECT_EQ(to_string(DeviceMesh({{"dp", 2}, {"cp", 2}}, Ranks{0, 2, 1, 3})), "dp=2 x cp=2 over ranks [0, 2, 1, 3]");
  EXPECT_EQ(to_string(DeviceMesh({{"dp", 2}, {"cp", 4}}).submesh(Names{"cp"}, 5)), "cp=4 over ranks [4, 5, 6, 7]");
  EXPECT_EQ(to_string(DeviceMesh({{"a", 2}, {"b", 17}}).submesh(Names{"b"}, 20)), "b=17 over 17 ranks");
}

// --- Properties -------------------------------------------------------------------------------------------------------------

std::vector<std::vector<MeshAxis>> small_axes() {
  return {{},
          {{"a", 1}},
          {{"a", 4}},
          {{"a", 2}, {"b", 2}},
          {{"a", 2}, {"b", 3}},
          {{"a", 3}, {"b", 2}},
          {{"a", 2}, {"b", 1}, {"c", 3}},
          {{"a", 1}, {"b", 1}},
          {{"a", 5}, {"b", 1}}};
}

// The naive mesh: a list of ranks, row major.
struct NaiveMesh {
  std::vector<MeshAxis> axes;
  Ranks ranks;

  [[nodiscard]] std::vector<Coordinate> coordinates() const { return coordinates_of(DeviceMesh(axes)); }
  [[nodiscard]] std::int64_t rank_at(const Coordinate& coordinate) const {
    const auto all = coordinates();
    return ranks[static_cast<std::size_t>(std::find(all.begin(), all.end(), coordinate) - all.begin())];
  }
};

// Every small mesh over every order of its ranks, which may begin anywhere and may have gaps.
void for_each_mesh(const std::function<void(const NaiveMesh&, DeviceMesh)>& check) {
  for (const auto& axes : small_axes()) {
    std::int64_t count = 1;
    for (const MeshAxis& axis : axes) count *= axis.size;
    for (const auto& [start, step] : {std::pair{0, 1}, std::pair{3, 2}}) {
      Ranks ranks;
      for (std::int64_t i = 0; i < count; ++i) ranks.push_back(start + i * step);
      do {
        check({axes, ranks}, DeviceMesh(axes, ranks));
        ASSERT_FALSE(testing::Test::HasFailure()) << to_string(DeviceMesh(axes, ranks));
      } while (std::next_permutation(ranks.begin(), ranks.end()));
    }
  }
}

TEST(DeviceMesh, KnowsTheRankAtEveryCoordinateAndBack) {
  for_each_mesh([](const NaiveMesh& naive, DeviceMesh mesh) {
    EXPECT_EQ(mesh.ranks(), naive.ranks);
    const auto coordinates = naive.coordinates();
    for (std::size_t i = 0; i < coordinates.size(); ++i) {
      EXPECT_EQ(mesh.rank_at(coordinates[i]), naive.ranks[i]);
      EXPECT_EQ(mesh.coordinate_of(naive.ranks[i]), coordinates[i]);
    }
    const std::int64_t last = *std::max_element(naive.ranks.begin(), naive.ranks.end());
    for (std::int64_t rank = -2; rank <= last + 2; ++rank) {
      EXPECT_EQ(mesh.contains(rank), std::find(naive.ranks.begin(), naive.ranks.end(), rank) != naive.ranks.end()) << rank;
    }
  });
}

TEST(DeviceMesh, HasOneValueHoweverItIsMade) {
  for (const auto& axes : small_axes()) {
    const DeviceMesh regular(axes);
    Ranks ranks(static_cast<std::size_t>(regular.device_count()));
    std::iota(ranks.begin(), ranks.end(), 0);
    const DeviceMesh listed(axes, ranks);
    EXPECT_EQ(listed, regular);
    EXPECT_EQ(listed.hash(), regular.hash());
    EXPECT_TRUE(listed.is_regular());
  }
  for_each_mesh([](const NaiveMesh& naive, DeviceMesh mesh) {
    EXPECT_EQ(mesh, DeviceMesh(naive.axes, naive.ranks));
    const DeviceMesh regular(naive.axes);
    EXPECT_EQ(mesh == regular, naive.ranks == regular.ranks());
  });
  EXPECT_NE(DeviceMesh({{"a", 2}}), DeviceMesh({{"b", 2}}));
  EXPECT_NE(DeviceMesh({{"a", 2}}), DeviceMesh({{"a", 3}}));
  EXPECT_NE(DeviceMesh({{"a", 2}, {"b", 3}}), DeviceMesh({{"b", 3}, {"a", 2}}));
}

// The ranks of the sub-mesh: those that differ from `rank` along the axes only, in the order of the axes.
Ranks naive_ranks_along(const NaiveMesh& naive, const Coordinate& at, AxisList axes) {
  std::vector<std::pair<std::vector<std::int64_t>, std::int64_t>> found;
  for (const Coordinate& coordinate : naive.coordinates()) {
    bool same = true;
    std::vector<std::int64_t> key;
    for (int axis = 0; axis < static_cast<int>(naive.axes.size()); ++axis) {
      const auto i = static_cast<std::size_t>(axis);
      same = same && (axes.contains(axis) || coordinate[i] == at[i]);
    }
    for (int i = 0; i < axes.size(); ++i) key.push_back(coordinate[static_cast<std::size_t>(axes[i])]);
    if (same) found.emplace_back(key, naive.rank_at(coordinate));
  }
  std::sort(found.begin(), found.end());
  Ranks ranks;
  for (const auto& [key, rank] : found) ranks.push_back(rank);
  return ranks;
}

TEST(DeviceMesh, RanksAlongAndSubmeshesAreThoseOfThePlainList) {
  // All coordinates, all lists of axes; of the many orders of ranks, every seventh.
  int number = 0;
  for_each_mesh([&](const NaiveMesh& naive, DeviceMesh mesh) {
    if (number++ % 7 != 0) return;
    for (const Coordinate& coordinate : naive.coordinates()) {
      for (const AxisList axes : axis_lists(mesh)) {
        const std::int64_t rank = naive.rank_at(coordinate);
        const Ranks expected = naive_ranks_along(naive, coordinate, axes);
        EXPECT_EQ(mesh.ranks_along(rank, axes), expected);
        const DeviceMesh part = mesh.submesh(mesh.names_of(axes), rank);
        std::vector<MeshAxis> part_axes;
        for (int i = 0; i < axes.size(); ++i) part_axes.push_back(naive.axes[static_cast<std::size_t>(axes[i])]);
        EXPECT_EQ(part, DeviceMesh(part_axes, expected));
        EXPECT_EQ(part.hash(), DeviceMesh(part_axes, expected).hash());
        EXPECT_EQ(part.ranks(), expected);
      }
    }
  });
}

TEST(DeviceMesh, FlattenedIsThePlainListWithAxesJoined) {
  int number = 0;
  for_each_mesh([&](const NaiveMesh& naive, DeviceMesh mesh) {
    if (number++ % 7 != 0) return;
    for (const AxisList joined : axis_lists(mesh)) {
      if (joined.empty()) continue;
      AxisList order;
      std::vector<MeshAxis> axes;
      for (int axis = 0; axis < mesh.axis_count(); ++axis) {
        if (axis == joined[0]) {
          order.append(joined);
          axes.push_back({"joined", mesh.size(joined)});
        } else if (!joined.contains(axis)) {
          order.push_back(axis);
          axes.push_back(naive.axes[static_cast<std::size_t>(axis)]);
        }
      }
      const DeviceMesh flat = mesh.flatten(mesh.names_of(joined), "joined");
      const Ranks expected = naive_ranks_along(naive, Coordinate(naive.axes.size(), 0), order);
      EXPECT_EQ(flat.ranks(), expected);
      EXPECT_EQ(flat, DeviceMesh(axes, expected));
    }
  });
}

TEST(DeviceMesh, OfAnyNumberOfDevicesCostsNothing) {
  constexpr std::int64_t kSide = std::int64_t{1} << 20;
  const DeviceMesh mesh({{"a", kSide}, {"b", kSide}});
  EXPECT_EQ(mesh.device_count(), kSide * kSide);
  EXPECT_TRUE(mesh.is_regular());
  EXPECT_EQ(mesh.coordinate_of(kSide * kSide - 1), (Coordinate{kSide - 1, kSide - 1}));
  EXPECT_EQ(mesh.rank_at({5, 7}), 5 * kSide + 7);
  EXPECT_TRUE(mesh.contains(kSide * kSide - 1));
  EXPECT_FALSE(mesh.contains(kSide * kSide));
  const DeviceMesh column = mesh.submesh(Names{"a"}, 7);
  EXPECT_EQ(column.device_count(), kSide);
  EXPECT_EQ(column.rank_at({3}), 3 * kSide + 7);
  EXPECT_FALSE(column.contains(8));
  EXPECT_EQ(to_string(column), "a=1048576 over 1048576 ranks");
  const DeviceMesh flat = mesh.flatten(Names{"a", "b"}, "ab");
  EXPECT_EQ(flat, DeviceMesh({{"ab", kSide * kSide}}));
  const DeviceMesh most({{"a", std::numeric_limits<std::int64_t>::max()}});
  EXPECT_EQ(most.coordinate_of(most.device_count() - 1), (Coordinate{most.device_count() - 1}));
}

TEST(DeviceMesh, TakesRanksOfAnySize) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const Ranks far{0, kMost / 2 + 1, 1, kMost};
  const DeviceMesh mesh({{"a", 4}}, far);
  EXPECT_EQ(mesh.ranks(), far);
  EXPECT_EQ(mesh.coordinate_of(kMost), (Coordinate{3}));
  const Ranks late{kMost - 1, kMost};
  const DeviceMesh pair({{"a", 2}}, late);
  EXPECT_TRUE(pair.is_regular());
  EXPECT_EQ(pair.ranks(), late);
  EXPECT_FALSE(pair.contains(std::numeric_limits<std::int64_t>::min()));
  const Ranks beyond{kMost / 2 + 1, kMost / 4 * 3 + 2, 5};  // a pattern would go on beyond the last number
  EXPECT_EQ(DeviceMesh({{"a", 3}}, beyond).ranks(), beyond);
}

// --- Faults -----------------------------------------------------------------------------------------------------------------

TEST(DeviceMeshFault, IsAnAxisThatIsNone) {
  EXPECT_EQ(fault_text([] {
              DeviceMesh({{"a", 2}, {"", 2}});
            }),
            "mesh-axis-name: mesh axis 1 is called '', which is no name\n"
            "  hint       a name is letters, digits and '_', and does not begin with a digit");
  EXPECT_EQ(fault_text([] {
              DeviceMesh({{"2d", 2}});
            }),
            "mesh-axis-name: mesh axis 0 is called '2d', which is no name\n"
            "  hint       a name is letters, digits and '_', and does not begin with a digit");
  EXPECT_EQ(fault_text([] {
              DeviceMesh({{"a+b", 2}});
            }),
            "mesh-axis-name: mesh axis 0 is called 'a+b', which is no name\n"
            "  hint       a name is letters, digits and '_', and does not begin with a digit");
  EXPECT_EQ(fault_text([] {
              DeviceMesh({{"a", 2}, {"a", 3}});
            }),
            "mesh-axis-name: two mesh axes are called 'a'\n  hint       give each axis its own name");
  EXPECT_EQ(fault_text([] { DeviceMesh({{"a", 0}}); }), "mesh-axis-size: mesh axis 'a' has size 0, it needs at least 1");
  EXPECT_EQ(fault_text([] { DeviceMesh({{"a", -3}}); }), "mesh-axis-size: mesh axis 'a' has size -3, it needs at least 1");
  EXPECT_THAT(fault_of([] { DeviceMesh({{"a", 2}, {"b", 0}}); }).axes, ElementsAre("b"));
}

TEST(DeviceMeshFault, IsAMeshTooLarge) {
  std::vector<MeshAxis> axes;
  for (int i = 0; i < 16; ++i) axes.push_back({"a" + std::to_string(i), 1});
  EXPECT_EQ(fault_text([&] { DeviceMesh mesh(axes); }), "mesh-too-many-axes: a mesh has at most 15 axes, this one has 16");
  axes.pop_back();
  EXPECT_EQ(DeviceMesh(axes).axis_count(), 15);
  constexpr std::int64_t kLarge = std::int64_t{1} << 32;
  EXPECT_EQ(fault_text([] {
              DeviceMesh({{"a", kLarge}, {"b", kLarge}});
            }),
            "mesh-too-large: the mesh has more than 2^63-1 devices");
}

TEST(DeviceMeshFault, IsAListOfDevicesThatDoesNotFit) {
  const std::vector<MeshAxis> axes{{"a", 2}, {"b", 2}};
  EXPECT_EQ(fault_text([&] {
              DeviceMesh(axes, Ranks{0, 1, 2});
            }),
            "mesh-devices: the mesh has 4 places but 3 devices\n  hint       list one rank for each place, row major");
  EXPECT_EQ(fault_text([&] {
              DeviceMesh(axes, Ranks{0, 1, 2, 1});
            }),
            "mesh-devices: the mesh lists device 1 twice\n  hint       each rank has one place");
  EXPECT_EQ(fault_text([&] {
              DeviceMesh(axes, Ranks{0, 1, 2, -1});
            }),
            "mesh-devices: the mesh lists device -1, ranks begin at 0");
}

TEST(DeviceMeshFault, IsANameOrARankThatItDoesNotHave) {
  const DeviceMesh mesh({{"dp", 2}, {"model", 4}});
  const Diagnostic fault = fault_of([&] { (void)mesh.axis("modle"); });
  EXPECT_EQ(to_string(fault), "the mesh (dp=2 x model=4) has no axis 'modle'\n  hint       did you mean 'model'?");
  EXPECT_EQ(fault.code, "unknown-axis");
  EXPECT_THAT(fault.axes, ElementsAre("modle"));
  EXPECT_EQ(fault_text([&] { (void)mesh.axis("x_axis"); }),
            "unknown-axis: the mesh (dp=2 x model=4) has no axis 'x_axis'\n  hint       known: dp, model");
  EXPECT_EQ(fault_text([&] { (void)mesh.coordinate_of(8); }),
            "unknown-rank: rank 8 is not on the mesh (dp=2 x model=4, 8 devices)");
  EXPECT_EQ(fault_text([&] { (void)mesh.ranks_along(-1, {}); }),
            "unknown-rank: rank -1 is not on the mesh (dp=2 x model=4, 8 devices)");
  EXPECT_EQ(fault_text([&] { (void)mesh.submesh(Names{"dp"}, 9); }),
            "unknown-rank: rank 9 is not on the mesh (dp=2 x model=4, 8 devices)");
  EXPECT_EQ(fault_text([&] {
              (void)mesh.submesh(Names{"dp", "dp"}, 0);
            }),
            "duplicate-axis: axis 'dp' is named twice\n  hint       name each axis once");
  EXPECT_EQ(fault_text([&] { (void)mesh.submesh(Names{"mdel"}, 0); }),
            "unknown-axis: the mesh (dp=2 x model=4) has no axis 'mdel'\n  hint       did you mean 'model'?");
}

TEST(DeviceMeshFault, IsAFlatteningThatIsNone) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}, {"tp", 2}});
  EXPECT_EQ(fault_text([&] { (void)mesh.flatten({}, "x"); }), "unknown-axis: flatten needs at least one axis");
  EXPECT_EQ(fault_text([&] {
              (void)mesh.flatten(Names{"dp", "dp"}, "x");
            }),
            "duplicate-axis: axis 'dp' is named twice\n  hint       name each axis once");
  EXPECT_EQ(fault_text([&] {
              (void)mesh.flatten(Names{"dp", "cp"}, "tp");
            }),
            "mesh-axis-name: two mesh axes are called 'tp'\n  hint       give each axis its own name");
}

}  // namespace
}  // namespace tessera
