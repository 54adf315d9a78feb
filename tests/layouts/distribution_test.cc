// layouts/distribution.h: every distribution of up to 12 indices over up to 5 shards, against lists of single indices.
#include "layouts/distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Indices = std::vector<std::int64_t>;

static_assert(std::is_trivially_copyable_v<Distribution>);
static_assert(sizeof(Distribution) <= 24);

constexpr std::int64_t kMaxIndices = 12;
constexpr std::int64_t kMaxShards = 5;

void for_each_distribution(const std::function<void(Distribution, std::int64_t n, std::int64_t shards)>& check) {
  for (std::int64_t n = 0; n <= kMaxIndices; ++n) {
    for (std::int64_t shards = 1; shards <= kMaxShards; ++shards) {
      for (const Distribution distribution : distributions_of(n, shards)) {
        check(distribution, n, shards);
        if (testing::Test::HasFailure()) {
          FAIL() << to_string(distribution) << " of " << n << " over " << shards;
        }
      }
    }
  }
}

std::vector<Indices> all_owned(Distribution distribution, std::int64_t n, std::int64_t shards) {
  std::vector<Indices> owned;
  for (std::int64_t i = 0; i < shards; ++i) owned.push_back(listed_indices(owned_indices(distribution, n, shards, i)));
  return owned;
}

TEST(Distribution, DealsAsItsTableSays) {
  const auto counts = [](Distribution distribution, std::int64_t n, std::int64_t shards) {
    Indices all;
    for (std::int64_t i = 0; i < shards; ++i) all.push_back(owned_count(distribution, n, shards, i));
    return all;
  };
  EXPECT_THAT(counts(Distribution::block(), 10, 4), ElementsAre(3, 3, 3, 1));
  EXPECT_THAT(counts(Distribution::block(), 4, 3), ElementsAre(2, 2, 0));
  EXPECT_THAT(counts(Distribution::block(), 2, 4), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(counts(Distribution::balanced(), 10, 4), ElementsAre(3, 3, 2, 2));
  EXPECT_THAT(owned_indices(Distribution::cyclic(2), 10, 2, 0),
              ElementsAre(Interval{0, 2}, Interval{4, 6}, Interval{8, 10}));
  EXPECT_THAT(owned_indices(Distribution::cyclic(2), 10, 2, 1), ElementsAre(Interval{2, 4}, Interval{6, 8}));
  EXPECT_THAT(owned_indices(Distribution::head_tail(), 16, 2, 0), ElementsAre(Interval{0, 4}, Interval{12, 16}));
  EXPECT_THAT(owned_indices(Distribution::head_tail(), 16, 2, 1), ElementsAre(Interval{4, 12}));
  EXPECT_THAT(owned_indices(Distribution::head_tail(), 3, 2, 1), ElementsAre(Interval{1, 3}));
  const Distribution ragged = Distribution::intervals({{{0, 5}, {9, 12}}, {{5, 9}}});
  EXPECT_THAT(owned_indices(ragged, 12, 2, 0), ElementsAre(Interval{0, 5}, Interval{9, 12}));
  EXPECT_THAT(owned_indices(ragged, 12, 2, 1), ElementsAre(Interval{5, 9}));
}

TEST(Distribution, CausalAttentionCostsEachShardTheSameUnderHeadTail) {
  for (std::int64_t shards = 1; shards <= 8; ++shards) {
    const std::int64_t n = shards * 6;
    for (std::int64_t i = 0; i < shards; ++i) {
      const Indices rows = listed_indices(owned_indices(Distribution::head_tail(), n, shards, i));
      EXPECT_EQ(std::accumulate(rows.begin(), rows.end(), std::int64_t{0}), n * (n - 1) / 2 / shards);
    }
  }
}

TEST(Distribution, GivesEveryIndexToOneShard) {
  for_each_distribution([](Distribution distribution, std::int64_t n, std::int64_t shards) {
    std::vector<int> owners(static_cast<std::size_t>(n), 0);
    std::int64_t largest = 0;
    bool even = true;
    for (std::int64_t i = 0; i < shards; ++i) {
      const IndexSet set = owned_indices(distribution, n, shards, i);
      for (std::size_t k = 0; k < set.size(); ++k) {
        EXPECT_LT(set[k].begin, set[k].end);
        EXPECT_TRUE(k == 0 || set[k - 1].end != set[k].begin) << "neighbours are one interval";
      }
      const Indices owned = listed_indices(set);
      for (const std::int64_t index : owned) ++owners.at(static_cast<std::size_t>(index));
      const auto count = static_cast<std::int64_t>(owned.size());
      EXPECT_EQ(owned_count(distribution, n, shards, i), count);
      largest = std::max(largest, count);
      even = even && count == owned_count(distribution, n, shards, 0);
      for (std::size_t local = 0; local < owned.size(); ++local) {
        EXPECT_EQ(owner_of(distribution, n, shards, owned[local]), (Owner{i, static_cast<std::int64_t>(local)}));
      }
    }
    EXPECT_THAT(owners, testing::Each(1));
    EXPECT_EQ(largest_count(distribution, n, shards), largest);
    EXPECT_EQ(is_even(distribution, n, shards), even);
    EXPECT_EQ(misfit(distribution, n, shards), std::nullopt);
  });
}

TEST(Distribution, ThatDealsAlikeGivesEveryShardTheSameIndices) {
  std::int64_t alike = 0;
  for (std::int64_t n = 0; n <= kMaxIndices; ++n) {
    for (std::int64_t shards = 1; shards <= kMaxShards; ++shards) {
      const std::vector<Distribution> all = distributions_of(n, shards);
      for (const Distribution a : all) {
        EXPECT_TRUE(deal_alike(a, a, n, shards));
        for (const Distribution b : all) {
          if (!deal_alike(a, b, n, shards)) continue;
          ++alike;
          for (std::int64_t i = 0; i < shards; ++i) {
            Indices of_a = listed_indices(owned_indices(a, n, shards, i));
            Indices of_b = listed_indices(owned_indices(b, n, shards, i));
            std::sort(of_a.begin(), of_a.end());
            std::sort(of_b.begin(), of_b.end());
            ASSERT_EQ(of_a, of_b) << to_string(a) << " and " << to_string(b) << " of " << n << " over " << shards;
          }
        }
      }
    }
  }
  EXPECT_GT(alike, 1000);
  EXPECT_TRUE(deal_alike(Distribution::block(), Distribution::balanced(), 8, 4));
  EXPECT_FALSE(deal_alike(Distribution::block(), Distribution::balanced(), 10, 4));
}

// --- Groups -----------------------------------------------------------------------------------------------------------------

// The groups of `inner` indices that each shard holds, or nothing where one is cut.
std::optional<std::vector<Indices>> grouped(const std::vector<Indices>& owned, std::int64_t inner) {
  const auto size = static_cast<std::size_t>(inner);
  std::vector<Indices> groups;
  for (const Indices& indices : owned) {
    Indices& of_shard = groups.emplace_back();
    for (std::size_t k = 0; k < indices.size(); ++k) {
      if (indices[k] % inner != static_cast<std::int64_t>(k % size)) return std::nullopt;
      if (k % size == 0) of_shard.push_back(indices[k] / inner);
      if (indices[k] / inner != of_shard.back()) return std::nullopt;
    }
    if (indices.size() % size != 0) return std::nullopt;
  }
  return groups;
}

std::vector<Indices> ungrouped(const std::vector<Indices>& groups, std::int64_t inner) {
  std::vector<Indices> owned;
  for (const Indices& of_shard : groups) {
    Indices& indices = owned.emplace_back();
    for (const std::int64_t group : of_shard) {
      for (std::int64_t i = 0; i < inner; ++i) indices.push_back(group * inner + i);
    }
  }
  return owned;
}

// Whether a distribution of that kind deals n indices so.
bool can_be_said(Distribution::Kind kind, std::int64_t n, std::int64_t shards, const std::vector<Indices>& owned) {
  switch (kind) {
    case Distribution::Kind::kBlock: return all_owned(Distribution::block(), n, shards) == owned;
    case Distribution::Kind::kBalanced: return all_owned(Distribution::balanced(), n, shards) == owned;
    case Distribution::Kind::kHeadTail: return all_owned(Distribution::head_tail(), n, shards) == owned;
    case Distribution::Kind::kCyclic:
      for (std::int64_t block = 1; block <= std::max<std::int64_t>(n, 1); ++block) {
        if (all_owned(Distribution::cyclic(block), n, shards) == owned) return true;
      }
      return false;
    case Distribution::Kind::kIntervals: break;
  }
  return true;
}

TEST(GroupIndices, DealsTheGroupsOrSaysThatABorderCutsOne) {
  int found = 0;
  for_each_distribution([&](Distribution distribution, std::int64_t n, std::int64_t shards) {
    for (std::int64_t inner = 1; inner <= std::max<std::int64_t>(n, 3); ++inner) {
      if (n % inner != 0) continue;
      const auto expected = grouped(all_owned(distribution, n, shards), inner);
      const auto result = group_indices(distribution, n, shards, inner);
      const bool possible = expected.has_value() && can_be_said(distribution.kind(), n / inner, shards, *expected);
      ASSERT_EQ(result.has_value(), possible)
          << to_string(distribution) << " of " << n << " over " << shards << ", groups of " << inner;
      if (!result) continue;
      ++found;
      EXPECT_EQ(result->kind(), distribution.kind());
      EXPECT_EQ(misfit(*result, n / inner, shards), std::nullopt);
      ASSERT_EQ(all_owned(*result, n / inner, shards), *expected)
          << to_string(distribution) << " of " << n << " over " << shards << ", groups of " << inner;
    }
  });
  EXPECT_GT(found, 1000);
}

TEST(UngroupIndices, DealsWholeGroupsOrSaysThatItCannot) {
  int found = 0;
  for_each_distribution([&](Distribution distribution, std::int64_t n, std::int64_t shards) {
    for (std::int64_t inner = 1; inner <= 4; ++inner) {
      const std::vector<Indices> expected = ungrouped(all_owned(distribution, n, shards), inner);
      const auto result = ungroup_indices(distribution, n, shards, inner);
      ASSERT_EQ(result.has_value(), can_be_said(distribution.kind(), n * inner, shards, expected))
          << to_string(distribution) << " of " << n << " over " << shards << ", groups of " << inner;
      if (!result) continue;
      ++found;
      EXPECT_EQ(result->kind(), distribution.kind());
      EXPECT_EQ(misfit(*result, n * inner, shards), std::nullopt);
      ASSERT_EQ(all_owned(*result, n * inner, shards), expected)
          << to_string(distribution) << " of " << n << " over " << shards << ", groups of " << inner;
    }
  });
  EXPECT_GT(found, 1000);
}

TEST(GroupIndices, AreTheWorkedExamples) {
  EXPECT_EQ(group_indices(Distribution::cyclic(4), 12, 2, 4), Distribution::cyclic(1));
  EXPECT_EQ(ungroup_indices(Distribution::cyclic(1), 3, 2, 4), Distribution::cyclic(4));
  EXPECT_EQ(ungroup_indices(Distribution::block(), 3, 2, 4), std::nullopt);
  EXPECT_EQ(group_indices(Distribution::intervals({{{0, 4}}, {{4, 12}}}), 12, 2, 4),
            Distribution::intervals({{{0, 1}}, {{1, 3}}}));
  EXPECT_EQ(group_indices(Distribution::intervals({{{0, 5}}, {{5, 12}}}), 12, 2, 4), std::nullopt);
}

TEST(UngroupIndices, TakesAnyCyclicBlock) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto result = ungroup_indices(Distribution::cyclic(kMost), 3, 2, 4);
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(owned_indices(*result, 12, 2, 0), ElementsAre(Interval{0, 12}));
  EXPECT_THAT(owned_indices(*result, 12, 2, 1), IsEmpty());
}

// --- Values -----------------------------------------------------------------------------------------------------------------

TEST(Distribution, IsAValue) {
  EXPECT_EQ(Distribution(), Distribution::block());
  EXPECT_TRUE(Distribution().is_block());
  EXPECT_EQ(Distribution::cyclic(3), Distribution::cyclic(3));
  EXPECT_NE(Distribution::cyclic(3), Distribution::cyclic(4));
  EXPECT_NE(Distribution::balanced(), Distribution::block());
  EXPECT_EQ(Distribution::cyclic(3).cyclic_block(), 3);
  EXPECT_EQ(Distribution::block().cyclic_block(), 0);
  EXPECT_THAT(Distribution::block().listed(), IsEmpty());

  const Distribution listed = Distribution::intervals({{{0, 2}, {2, 3}, {7, 7}}, {{3, 5}}, {}});
  EXPECT_EQ(listed, Distribution::intervals({{{0, 3}}, {{3, 5}}, {}})) << "neighbours are joined, empty intervals left out";
  EXPECT_EQ(listed.hash(), Distribution::intervals({{{0, 3}}, {{3, 5}}, {}}).hash());
  EXPECT_NE(listed, Distribution::intervals({{{3, 5}}, {{0, 3}}, {}}));
  EXPECT_THAT(listed.listed(), ElementsAre(IndexSet{{0, 3}}, IndexSet{{3, 5}}, IndexSet{}));
}

TEST(Distribution, HasAHashForEachKind) {
  EXPECT_NE(Distribution::block().hash(), Distribution::balanced().hash());
  EXPECT_NE(Distribution::block().hash(), Distribution::head_tail().hash());
  EXPECT_NE(Distribution::cyclic(1).hash(), Distribution::cyclic(2).hash());
}

TEST(Distribution, IsPrinted) {
  EXPECT_EQ(to_string(Distribution::block()), "block");
  EXPECT_EQ(to_string(Distribution::balanced()), "balanced");
  EXPECT_EQ(to_string(Distribution::cyclic(128)), "cyclic(128)");
  EXPECT_EQ(to_string(Distribution::head_tail()), "head_tail");
  EXPECT_EQ(to_string(Distribution::intervals({{{0, 5}, {9, 12}}, {{5, 9}}})), "intervals(0-5 9-12 | 5-9)");
  EXPECT_EQ(to_string(Distribution::intervals({{{0, 5}}, {}})), "intervals(0-5 | )");
}

TEST(Distribution, OfHugeDimsCostsNothing) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kShards = std::int64_t{1} << 61;
  for (const Distribution distribution : {Distribution::block(), Distribution::balanced(), Distribution::cyclic(kMost)}) {
    EXPECT_EQ(owner_of(distribution, kMost, 1, kMost - 1), (Owner{0, kMost - 1})) << to_string(distribution);
    EXPECT_EQ(owned_count(distribution, kMost, 1, 0), kMost) << to_string(distribution);
    EXPECT_EQ(owned_count(distribution, 5, kShards, kShards - 1), 0) << to_string(distribution);
  }
  EXPECT_EQ(owned_count(Distribution::head_tail(), 5, kShards, 4), 1);
  EXPECT_EQ(owned_count(Distribution::head_tail(), 5, kShards, kShards - 1), 0);
  EXPECT_EQ(owned_count(Distribution::cyclic(1), kMost, 2, 0), kMost / 2 + 1);
  EXPECT_EQ(largest_count(Distribution::head_tail(), 5, kShards), 1);
}

// --- Faults -----------------------------------------------------------------------------------------------------------------

TEST(DistributionFault, IsACyclicBlockBelowOne) {
  EXPECT_EQ(fault_text([] { Distribution::cyclic(0); }), "distribution-block: cyclic(0) needs a block of at least 1");
  EXPECT_EQ(fault_text([] { Distribution::cyclic(-7); }), "distribution-block: cyclic(-7) needs a block of at least 1");
}

TEST(DistributionFault, IsIntervalsThatDoNotShareOutAllIndices) {
  EXPECT_EQ(fault_text([] {
              Distribution::intervals({{{0, 2}}, {{5, 3}}});
            }),
            "distribution-intervals: interval [5, 3) of shard 1 is none\n  hint       write 0 <= begin <= end");
  EXPECT_EQ(fault_text([] {
              Distribution::intervals({{{-1, 2}}});
            }),
            "distribution-intervals: interval [-1, 2) of shard 0 is none\n  hint       write 0 <= begin <= end");
  EXPECT_EQ(fault_text([] {
              Distribution::intervals({{{0, 2}}, {{3, 4}}});
            }),
            "distribution-intervals: no shard owns indices [2, 3)\n  hint       each index belongs to one shard");
  EXPECT_EQ(fault_text([] {
              Distribution::intervals({{{0, 4}}, {{2, 8}}});
            }),
            "distribution-intervals: two shards own indices [2, 4)\n  hint       each index belongs to one shard");
}

TEST(DistributionMisfit, IsIntervalsForAnotherCount) {
  const Distribution listed = Distribution::intervals({{{0, 5}, {9, 12}}, {{5, 9}}});
  EXPECT_EQ(misfit(listed, 12, 2), std::nullopt);
  EXPECT_EQ(misfit(listed, 12, 3), "the intervals are for 2 shards, the axes make 3");
  EXPECT_EQ(misfit(listed, 13, 2), "the intervals cover 12 indices, the dim has 13");
  EXPECT_EQ(misfit(Distribution::head_tail(), 13, 2), std::nullopt);
}

}  // namespace
}  // namespace tessera
