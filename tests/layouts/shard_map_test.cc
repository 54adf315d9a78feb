// layouts/layout.h: who owns which element, for every layout of rank <= 2 on small meshes, against counting one by one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "layouts/layout.h"
#include "layouts/notation.h"
#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using Index = std::vector<std::int64_t>;

const std::vector<DeviceMesh>& meshes() {
  static const std::vector<DeviceMesh> all{DeviceMesh({{"a", 2}, {"b", 2}}), DeviceMesh({{"a", 2}, {"b", 3}, {"c", 1}})};
  return all;
}

std::vector<Index> indices_of(const Shape& shape) {
  std::vector<Index> all{{}};
  for (const std::int64_t size : shape) {
    std::vector<Index> longer;
    for (const Index& index : all) {
      for (std::int64_t i = 0; i < size; ++i) {
        longer.push_back(index);
        longer.back().push_back(i);
      }
    }
    all = longer;
  }
  return all;
}

// Every layout of rank <= 2: all orders of axes, every kind of distribution, and some sizes that divide and some that do not.
void for_each_case(const std::function<void(const Layout&, const Shape&)>& check) {
  for (const DeviceMesh mesh : meshes()) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{6}, Shape{7}, Shape{12}, Shape{4, 6}, Shape{5, 3}}) {
      for_each_dealt_layout(mesh, shape, [&](const Layout& layout) {
        if (testing::Test::HasFailure()) return;
        check(layout, shape);
        if (testing::Test::HasFailure())
          ADD_FAILURE() << to_string(layout) << " of " << to_string(shape) << " on " << to_string(mesh);
      });
    }
  }
}

// Mixed radix by hand: the shards of a dim are numbered by counting through its axes, the last the fastest.
std::int64_t naive_split_id(const Layout& layout, int dim, const Coordinate& coordinate) {
  std::map<Index, std::int64_t> numbers;  // a map counts in the order of its keys
  const AxisList axes = layout.axes(dim);
  const auto key_of = [&](const Coordinate& c) {
    Index key;
    for (int i = 0; i < axes.size(); ++i) key.push_back(c[static_cast<std::size_t>(axes[i])]);
    return key;
  };
  for (const Coordinate& other : coordinates_of(layout.mesh())) numbers[key_of(other)] = 0;
  return std::distance(numbers.begin(), numbers.find(key_of(coordinate)));
}

TEST(ShardMap, SplitsEachDimByItsAxesInTheirOrder) {
  for_each_case([](const Layout& layout, const Shape&) {
    for (int dim = 0; dim < layout.rank(); ++dim) {
      std::int64_t largest = 0;
      for (const Coordinate& coordinate : coordinates_of(layout.mesh())) {
        const std::int64_t id = split_id(layout, dim, coordinate);
        EXPECT_EQ(id, naive_split_id(layout, dim, coordinate));
        largest = std::max(largest, id);
      }
      EXPECT_EQ(split_count(layout, dim), largest + 1);
    }
  });
}

TEST(ShardMap, GivesEveryElementToAsManyRanksAsRepeatIt) {
  for_each_case([](const Layout& layout, const Shape& shape) {
    std::map<Index, std::int64_t> owners;
    for (const Coordinate& coordinate : coordinates_of(layout.mesh())) {
      const std::vector<IndexSet> shard = shard_of(layout, shape, coordinate);
      ASSERT_EQ(shard.size(), shape.size());
      std::vector<Index> owned{{}};
      for (const IndexSet& set : shard) {
        std::vector<Index> longer;
        for (const Index& index : owned) {
          for (const std::int64_t i : listed_indices(set)) {
            longer.push_back(index);
            longer.back().push_back(i);
          }
        }
        owned = longer;
      }
      for (const Index& index : owned) ++owners[index];
    }
    const std::vector<Index> all = indices_of(shape);
    EXPECT_EQ(owners.size(), all.size());
    for (const Index& index : all) EXPECT_EQ(owners[index], repeat_count(layout));
  });
}

TEST(ShardMap, FindsEachElementWhereItLies) {
  for_each_case([](const Layout& layout, const Shape& shape) {
    std::int64_t found = 0;
    for (const Coordinate& coordinate : coordinates_of(layout.mesh())) {
      for (const Index& local : indices_of(local_shape(layout, shape, coordinate))) {
        const auto index = global_index(layout, shape, coordinate, local);
        const Location location = locate(layout, shape, index);
        EXPECT_THAT(Index(location.local.begin(), location.local.end()), testing::ElementsAreArray(local));
        for (int dim = 0; dim < layout.rank(); ++dim) {
          EXPECT_EQ(location.shard[static_cast<std::size_t>(dim)], split_id(layout, dim, coordinate));
        }
        ++found;
      }
    }
    EXPECT_EQ(found, element_count(shape) * repeat_count(layout));
  });
}

TEST(ShardMap, HasLocalShapesOfItsShards) {
  for_each_case([](const Layout& layout, const Shape& shape) {
    Shape largest(shape.size(), 0);
    bool even = true;
    for (const Coordinate& coordinate : coordinates_of(layout.mesh())) {
      const Shape local = local_shape(layout, shape, coordinate);
      const std::vector<IndexSet> shard = shard_of(layout, shape, coordinate);
      for (std::size_t i = 0; i < shape.size(); ++i) {
        EXPECT_EQ(local[i], static_cast<std::int64_t>(listed_indices(shard[i]).size()));
        largest[i] = std::max(largest[i], local[i]);
        even = even && local[i] * split_count(layout, static_cast<int>(i)) == shape[i];
      }
      EXPECT_TRUE(!even || global_shape(layout, local) == shape);
    }
    EXPECT_EQ(largest_local_shape(layout, shape), largest);
  });
}

TEST(ShardMap, CountsTheRanksThatRepeatButNotThoseThatArePartial) {
  const DeviceMesh mesh({{"a", 2}, {"b", 3}, {"c", 5}});
  EXPECT_EQ(repeat_count(parse_layout(mesh, "[-]")), 30);
  EXPECT_EQ(repeat_count(parse_layout(mesh, "[a]")), 15);
  EXPECT_EQ(repeat_count(parse_layout(mesh, "[a] partial(b: sum)")), 5);
  EXPECT_EQ(repeat_count(parse_layout(mesh, "[c+a] partial(b: max)")), 1);
}

TEST(ShardMap, IsTheWorkedExample) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}});
  const Layout layout = parse_layout(mesh, "[dp, cp, -]");
  EXPECT_EQ(local_shape(layout, {4, 10, 8}, {1, 3}), (Shape{2, 1, 8}));
  EXPECT_EQ(largest_local_shape(layout, {4, 10, 8}), (Shape{2, 3, 8}));
  EXPECT_EQ(global_shape(layout, {2, 3, 8}), (Shape{4, 12, 8}));
  EXPECT_THAT(shard_of(layout, {4, 10, 8}, {1, 3}), ElementsAre(IndexSet{{2, 4}}, IndexSet{{9, 10}}, IndexSet{{0, 8}}));
  const Layout both = parse_layout(mesh, "[cp+dp]");  // cp is the outermost
  EXPECT_EQ(split_id(both, 0, {1, 2}), 5);
  EXPECT_THAT(shard_of(both, {16}, {1, 2}), ElementsAre(IndexSet{{10, 12}}));
}

TEST(ShardMap, OfAMillionDevicesCostsWhatThatOfEightDoes) {
  constexpr std::int64_t kSide = std::int64_t{1} << 20;
  const DeviceMesh mesh({{"a", kSide}, {"b", kSide}});
  const Layout layout = parse_layout(mesh, "[b+a, -]");
  EXPECT_EQ(split_count(layout, 0), kSide * kSide);
  EXPECT_EQ(local_shape(layout, {kSide * kSide * 2, 3}, {5, 7}), (Shape{2, 3}));
  EXPECT_THAT(shard_of(layout, {kSide * kSide * 2, 3}, {5, 7}).front(),
              ElementsAre(Interval{2 * (7 * kSide + 5), 2 * (7 * kSide + 5) + 2}));
  EXPECT_EQ(repeat_count(parse_layout(mesh, "[a, -]")), kSide);
}

}  // namespace
}  // namespace tessera
