// Between dims and factors: what a split of a compound gives each shard, against counting elements.
#include "core/rule/projection.h"

#include <gmock/gmock.h>

#include <set>

#include "testing/layout_space.h"
#include "testing/parts.h"

namespace tessera {
namespace {

std::set<std::int64_t> elements(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t i) {
  std::set<std::int64_t> all;
  for (const Interval& interval : owned_indices(distribution, n, shards, i)) {
    for (std::int64_t k = interval.begin; k < interval.end; ++k) all.insert(k);
  }
  return all;
}

std::set<std::int64_t> owned(const DimSplit& split, std::int64_t n, DeviceMesh mesh, const Coordinate& coordinate) {
  return elements(split.distribution, n, mesh.size(split.axes), index_along(mesh, split.axes, coordinate));
}

// The elements of a compound of which a rank owns each factor's index.
std::set<std::int64_t> owned_by_factors(std::span<const DimSplit> splits, std::span<const std::int64_t> sizes,
                                        DeviceMesh mesh, const Coordinate& coordinate) {
  std::set<std::int64_t> all{0};
  for (std::size_t f = 0; f < sizes.size(); ++f) {
    std::set<std::int64_t> longer;
    for (std::int64_t outer : all) {
      for (std::int64_t i : owned(splits[f], sizes[f], mesh, coordinate)) longer.insert(outer * sizes[f] + i);
    }
    all = longer;
  }
  return all;
}

std::vector<Distribution> distributions_of(std::int64_t n, std::int64_t shards) {
  std::vector<Distribution> all{Distribution::block(), Distribution::balanced(), Distribution::head_tail()};
  for (std::int64_t block = 1; block <= n; ++block) all.push_back(Distribution::cyclic(block));
  for (const std::int64_t group : {1, 2, 3, 4}) {  // groups of indices dealt in reverse, then in order
    std::vector<IndexSet> sets(static_cast<std::size_t>(shards));
    for (std::int64_t begin = 0, turn = 0; begin < n; begin += group, ++turn) {
      const std::int64_t shard = turn < shards ? shards - 1 - turn : turn % shards;
      sets[static_cast<std::size_t>(shard)].push_back({begin, std::min(n, begin + group)});
    }
    all.push_back(Distribution::intervals(sets));
  }
  return all;
}

struct Compound {
  std::vector<std::int64_t> sizes;
  int split;  // how many splits of the dim are splits of its factors
};

void PrintTo(const Compound& compound, std::ostream* out) { *out << ::testing::PrintToString(compound.sizes); }

class Projection : public ::testing::TestWithParam<Compound> {};

// Every order of the axes of a 2 x 2 x 3 mesh, every distribution.
TEST_P(Projection, ASplitThatIsReadOwnsTheSameElementsAndIsWrittenBack) {
  const DeviceMesh mesh({{"a", 2}, {"b", 2}, {"c", 3}});
  const std::vector<std::int64_t>& sizes = GetParam().sizes;
  std::int64_t n = 1;
  for (std::int64_t size : sizes) n *= size;
  std::vector<std::uint8_t> factors;
  for (std::size_t i = 0; i < sizes.size(); ++i) factors.push_back(static_cast<std::uint8_t>(i));
  int read = 0;
  for (const AxisList axes : all_axis_lists(mesh)) {
    for (const Distribution distribution : distributions_of(n, mesh.size(axes))) {
      const DimSplit split{axes, distribution};
      const FactorSplits projected = split_factors(split, factors, sizes, mesh);
      if (projected.fault >= 0) {
        EXPECT_LT(projected.fault, static_cast<int>(sizes.size()));
        continue;
      }
      ++read;
      ASSERT_EQ(projected.splits.size(), sizes.size());
      const auto joined = join_factors(projected.splits, factors, sizes, mesh);
      ASSERT_TRUE(joined.has_value()) << to_string(distribution);
      for (const Coordinate& coordinate : all_coordinates(mesh)) {
        const auto expected = owned(split, n, mesh, coordinate);
        ASSERT_EQ(owned_by_factors(projected.splits, sizes, mesh, coordinate), expected) << to_string(distribution);
        ASSERT_EQ(owned(*joined, n, mesh, coordinate), expected)
            << to_string(distribution) << " came back as " << to_string(joined->distribution);
      }
      EXPECT_EQ(joined->axes, axes);
    }
  }
  EXPECT_EQ(read, GetParam().split);
}

class PairProjection : public ::testing::TestWithParam<std::vector<std::int64_t>> {};

// Every pair of splits of two factors.
TEST_P(PairProjection, SplitsThatAreWrittenOwnTheSameElementsAndAreReadBack) {
  const std::vector<std::int64_t>& sizes = GetParam();
  const DeviceMesh mesh({{"a", 2}, {"b", 2}, {"c", 3}});
  const std::vector<std::uint8_t> factors{0, 1};
  int written = 0;
  for (const AxisList first : all_axis_lists(mesh)) {
    for (const AxisList second : all_axis_lists(mesh)) {
      if ((first.mask() & second.mask()) != 0) continue;
      for (const Distribution outer : distributions_of(sizes[0], mesh.size(first))) {
        for (const Distribution inner : distributions_of(sizes[1], mesh.size(second))) {
          const std::vector<DimSplit> splits{{first, outer}, {second, inner}};
          const auto joined = join_factors(splits, factors, sizes, mesh);
          if (!joined) continue;
          ++written;
          for (const Coordinate& coordinate : all_coordinates(mesh)) {
            ASSERT_EQ(owned(*joined, sizes[0] * sizes[1], mesh, coordinate),
                      owned_by_factors(splits, sizes, mesh, coordinate));
          }
          const FactorSplits back = split_factors(*joined, factors, sizes, mesh);
          ASSERT_LT(back.fault, 0) << to_string(outer) << " over " << mesh.size(first) << " and " << to_string(inner)
                                   << " over " << mesh.size(second) << " joined as " << to_string(joined->distribution);
          for (const Coordinate& coordinate : all_coordinates(mesh)) {
            ASSERT_EQ(owned_by_factors(back.splits, sizes, mesh, coordinate),
                      owned_by_factors(splits, sizes, mesh, coordinate));
          }
        }
      }
    }
  }
  EXPECT_GT(written, 100);
}

INSTANTIATE_TEST_SUITE_P(Compounds, Projection,
                         ::testing::Values(Compound{{2, 3}, 66}, Compound{{4, 3}, 108}, Compound{{3, 4}, 89},
                                           Compound{{6, 2}, 164}, Compound{{5, 3}, 117}, Compound{{1, 6}, 208},
                                           Compound{{6, 1}, 208}, Compound{{2, 2, 3}, 61}, Compound{{2, 3, 2}, 61},
                                           Compound{{4, 1, 3}, 108}, Compound{{3, 2, 2}, 89}, Compound{{12, 2}, 278}));

INSTANTIATE_TEST_SUITE_P(Compounds, PairProjection,
                         ::testing::Values(std::vector<std::int64_t>{2, 3}, std::vector<std::int64_t>{4, 3},
                                           std::vector<std::int64_t>{3, 4}, std::vector<std::int64_t>{6, 2},
                                           std::vector<std::int64_t>{5, 3}, std::vector<std::int64_t>{1, 6},
                                           std::vector<std::int64_t>{6, 1}, std::vector<std::int64_t>{12, 2}));

TEST(SplitFactors, TheWorkedExample) {
  const DeviceMesh mesh({{"tp", 8}, {"cp", 2}});
  const std::vector<std::uint8_t> factors{0, 1};
  const std::vector<std::int64_t> sizes{8, 8};
  const FactorSplits splits = split_factors({{0, 1}, {}}, factors, sizes, mesh);
  EXPECT_EQ(splits.fault, -1);
  EXPECT_EQ(splits.splits[0].axes, AxisList{0});
  EXPECT_EQ(splits.splits[1].axes, AxisList{1});
  const DeviceMesh large({{"tp", 16}});
  const FactorSplits cut = split_factors({{0}, {}}, factors, sizes, large);
  EXPECT_EQ(cut.fault, 0);
  EXPECT_EQ(cut.fault_axis, 0);
}

TEST(JoinFactors, NothingSaysThatAnInnerFactorAloneIsSplit) {
  const DeviceMesh mesh({{"tp", 2}});
  const std::vector<std::uint8_t> factors{0, 1};
  const std::vector<DimSplit> splits{{}, {{0}, {}}};
  EXPECT_EQ(join_factors(splits, factors, std::vector<std::int64_t>{2, 4}, mesh), std::nullopt);
  EXPECT_EQ(join_factors(splits, factors, std::vector<std::int64_t>{1, 4}, mesh), (DimSplit{{0}, {}}));
}

TEST(Significant, LeavesOutAxesOfSizeOne) {
  const DeviceMesh mesh({{"a", 2}, {"one", 1}, {"b", 3}});
  EXPECT_EQ(significant({2, 1, 0}, mesh), (AxisList{2, 0}));
  EXPECT_TRUE(significant({1}, mesh).empty());
}

}  // namespace
}  // namespace tessera
