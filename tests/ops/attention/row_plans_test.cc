#include "ops/attention/row_plans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "support/diagnostic.h"

namespace tessera {
namespace {

using Seen = std::map<std::int64_t, std::set<std::int64_t>>;  // global row -> global keys

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What the rows of a packed batch see, by definition.
Seen packed_by_definition(const PackedBatch& batch, const IndexSet& rows, const Masking& masking) {
  Seen seen;
  for (std::size_t d = 0; d < batch.query_ends.size(); ++d) {
    const std::int64_t q0 = d == 0 ? 0 : batch.query_ends[d - 1];
    const std::int64_t k0 = d == 0 ? 0 : batch.key_ends[d - 1];
    const std::int64_t lq = batch.query_ends[d] - q0;
    const std::int64_t lk = batch.key_ends[d] - k0;
    for (const Interval& interval : rows) {
      for (std::int64_t row = std::max(interval.begin, q0); row < std::min(interval.end, q0 + lq); ++row) {
        for (std::int64_t j = 0; j < lk; ++j) {
          const std::int64_t distance = j - (row - q0) - (masking.right_down ? lk - lq : 0);
          if (distance >= -masking.pre && distance <= masking.next) seen[row].insert(k0 + j);
        }
      }
    }
  }
  return seen;
}

// What a plan's segments let the rows see, in global numbers.
Seen of_plan(const RowPlan& plan, const IndexSet& rows, std::int64_t first_key) {
  std::vector<std::int64_t> global;
  for (const Interval& interval : rows) {
    for (std::int64_t row = interval.begin; row < interval.end; ++row) global.push_back(row);
  }
  Seen seen;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange range = keys_of(segment, i);
      for (std::int64_t j = range.begin; j < range.end; ++j) {
        seen[global[static_cast<std::size_t>(segment.row + i)]].insert(first_key + segment.key_base + j);
      }
    }
  }
  return seen;
}

constexpr std::int64_t kFar = 1000;
const std::vector<Masking> kMaskings = {{kFar, kFar, false}, {kFar, 0, false}, {kFar, 0, true},
                                        {2, 1, false},       {2, 1, true},     {kFar, -1, true}};

TEST(PlanPacked, IsTheDefinitionForEveryPackingShardAndMask) {
  // All packings of up to 3 documents into 5 query and 4 key rows, tails of padding included.
  for (std::int64_t q1 = 0; q1 <= 5; ++q1) {
    for (std::int64_t q2 = q1; q2 <= 5; ++q2) {
      for (std::int64_t q3 = q2; q3 <= 5; ++q3) {
        for (std::int64_t k1 = 0; k1 <= 4; ++k1) {
          for (std::int64_t k2 = k1; k2 <= 4; ++k2) {
            const std::vector<std::int64_t> query_ends{q1, q2, q3};
            const std::vector<std::int64_t> key_ends{k1, k2, 4};
            const PackedBatch batch{5, 4, query_ends, key_ends};
            for (const Masking& masking : kMaskings) {
              for (std::int64_t shards : {1, 2, 3}) {
                for (std::int64_t i = 0; i < shards; ++i) {
                  const IndexSet rows = owned_indices(Distribution::block(), 5, shards, i);
                  EXPECT_EQ(of_plan(plan_packed(batch, rows, {{0, 4}}, masking), rows, 0),
                            packed_by_definition(batch, rows, masking));
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(PlanPacked, IsTheDefinitionForRandomPackingsAndEveryDistribution) {
  std::mt19937 random(7);
  const std::vector<Distribution> distributions = {Distribution::block(), Distribution::balanced(),
                                                   Distribution::head_tail(), Distribution::cyclic(2),
                                                   Distribution::cyclic(3)};
  for (int trial = 0; trial < 300; ++trial) {
    const auto draw = [&](std::int64_t most) { return std::uniform_int_distribution<std::int64_t>(0, most)(random); };
    const std::int64_t rows_total = 1 + draw(20);
    const std::int64_t keys_total = 1 + draw(20);
    std::vector<std::int64_t> query_ends(static_cast<std::size_t>(1 + draw(4)));
    std::vector<std::int64_t> key_ends(query_ends.size());
    for (auto& end : query_ends) end = draw(rows_total);
    for (auto& end : key_ends) end = draw(keys_total);
    std::sort(query_ends.begin(), query_ends.end());
    std::sort(key_ends.begin(), key_ends.end());
    const PackedBatch batch{rows_total, keys_total, query_ends, key_ends};
    for (const Masking& masking : kMaskings) {
      for (Distribution distribution : distributions) {
        for (std::int64_t shards : {1, 2, 3, 4}) {
          for (std::int64_t i = 0; i < shards; ++i) {
            const IndexSet rows = owned_indices(distribution, rows_total, shards, i);
            EXPECT_EQ(of_plan(plan_packed(batch, rows, {{0, keys_total}}, masking), rows, 0),
                      packed_by_definition(batch, rows, masking));
          }
        }
      }
    }
  }
}

// The packings of which the published recipe (last key length forced to T2) gets wrong all but the last three.
TEST(PlanPacked, GetsTheDocumentsRightThatCrossShardBorders) {
  const Masking causal{Masking::kAll, 0, true};
  const std::vector<std::pair<std::vector<std::int64_t>, std::int64_t>> packings = {{{8}, 8},
                                                                                    {{3, 11, 16}, 16},
                                                                                    {{6, 14}, 16},
                                                                                    {{14}, 16},
                                                                                    {{5, 11, 16, 16}, 16},
                                                                                    {{3, 8, 10, 16}, 16},
                                                                                    {{4, 8, 12, 16}, 16},
                                                                                    {{3, 11, 16, 16}, 16},
                                                                                    {{6, 14, 16}, 16}};
  for (const auto& [ends, total] : packings) {
    for (std::int64_t cp : {1, 2, 3, 4}) {
      for (std::int64_t i = 0; i < cp; ++i) {
        const IndexSet rows = owned_indices(Distribution::block(), total, cp, i);
        const PackedBatch batch{total, total, ends, ends};
        EXPECT_EQ(of_plan(plan_packed(batch, rows, {{0, total}}, causal), rows, 0),
                  packed_by_definition(batch, rows, {kFar, 0, true}));
      }
    }
  }
  // One document of 8 over two ranks: the first row of the first rank sees one key, not five.
  const std::vector<std::int64_t> one{8};
  const RowPlan plan = plan_packed({8, 8, one, one}, {{0, 4}}, {{0, 8}}, causal);
  EXPECT_EQ(keys_of(plan.segments.at(0), 0), (KeyRange{0, 1}));
}

TEST(PlanPacked, TakesKeysThatAreSplitWhereDocumentsEnd) {
  const std::vector<std::int64_t> ends{3, 8, 10, 16};
  const PackedBatch batch{16, 16, ends, ends};
  const Masking causal{Masking::kAll, 0, true};
  const RowPlan plan = plan_packed(batch, {{8, 12}}, {{8, 16}}, causal);
  EXPECT_EQ(of_plan(plan, {{8, 12}}, 8), packed_by_definition(batch, {{8, 12}}, {kFar, 0, true}));
}

TEST(PlanPacked, RefusesKeysThatLieElsewhere) {
  const std::vector<std::int64_t> ends{3, 10, 16};
  EXPECT_EQ(message_of([&] {
              plan_packed({16, 16, ends, ends}, {{8, 16}}, {{8, 16}}, {Masking::kAll, 0, true});
            }),
            "sequence 1 (query rows 8 to 9) sees keys 3 to 9, this rank holds keys 8 to 15\n"
            "  hint       split the keys only where sequences end, or keep them whole");
}

TEST(PlanPacked, RefusesSumsThatAreNone) {
  const std::vector<std::int64_t> falling{5, 3};
  const std::vector<std::int64_t> far{5, 17};
  const std::vector<std::int64_t> fine{5, 16};
  const std::vector<std::int64_t> other{16};
  const Masking all;
  EXPECT_EQ(message_of([&] {
              plan_packed({16, 16, falling, fine}, {{0, 16}}, {{0, 16}}, all);
            }),
            "actual_seq_lengths_query[1] is 3, below the entry before it (5)\n"
            "  hint       prefix sums never decrease: entry i is where sequence i ends");
  EXPECT_EQ(message_of([&] {
              plan_packed({16, 16, fine, far}, {{0, 16}}, {{0, 16}}, all);
            }),
            "actual_seq_lengths_kv ends at 17, the tensor has 16 rows");
  EXPECT_EQ(message_of([&] {
              plan_packed({16, 16, fine, other}, {{0, 16}}, {{0, 16}}, all);
            }),
            "actual_seq_lengths_query names 2 sequences, actual_seq_lengths_kv 1");
}

TEST(PlanPadded, IsTheDefinitionForEveryLengthShardAndMask) {
  for (std::int64_t rows_total = 0; rows_total <= 6; ++rows_total) {
    for (std::int64_t keys_total = 0; keys_total <= 5; ++keys_total) {
      for (std::int64_t lq = 0; lq <= rows_total; ++lq) {
        for (std::int64_t lk = 0; lk <= keys_total; ++lk) {
          const std::vector<std::int64_t> query_lengths{lq};
          const std::vector<std::int64_t> key_lengths{lk};
          for (const Masking& masking : kMaskings) {
            for (std::int64_t shards : {1, 2, 3}) {
              for (Distribution distribution :
                   {Distribution::block(), Distribution::head_tail(), Distribution::cyclic(1)}) {
                for (std::int64_t i = 0; i < shards; ++i) {
                  const IndexSet rows = owned_indices(distribution, rows_total, shards, i);
                  const RowPlan plan = plan_padded({1, rows_total, keys_total, query_lengths, key_lengths}, rows, masking);
                  EXPECT_EQ(of_plan(plan, rows, 0),
                            packed_by_definition({rows_total, keys_total, query_lengths, key_lengths}, rows, masking));
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(PlanPadded, GivesEveryBatchEntryItsOwnLengths) {
  const std::vector<std::int64_t> query_lengths{4, 2};
  const std::vector<std::int64_t> key_lengths{3, 5};
  const RowPlan plan = plan_padded({2, 4, 5, query_lengths, key_lengths}, {{2, 4}}, {Masking::kAll, 0, true});
  ASSERT_EQ(plan.segments.size(), 1U);  // the second entry has no rows here
  EXPECT_EQ(
      plan.segments[0],
      (RowSegment{.batch = 0, .row = 0, .count = 2, .position = 2, .length = 3, .first = 0, .limit = 2, .limit_step = 1}));
}

std::vector<std::int64_t> sequences_of(const RowPlan& plan) {
  std::vector<std::int64_t> numbers;
  for (const RowSegment& segment : plan.segments) numbers.push_back(segment.sequence);
  return numbers;
}

TEST(PlanPadded, NumbersEntriesGlobally) {
  EXPECT_THAT(sequences_of(plan_padded({.batch = 3, .rows_total = 4, .keys_total = 4}, {{0, 1}, {3, 4}}, {})),
              testing::ElementsAre(0, 0, 1, 1, 2, 2));
  const IndexSet entries{{1, 2}, {6, 8}};  // as a cyclic or a head-tail batch deals them
  EXPECT_THAT(sequences_of(plan_padded({.batch = 3, .rows_total = 4, .keys_total = 4, .entries = entries}, {{2, 4}}, {})),
              testing::ElementsAre(1, 6, 7));
  EXPECT_EQ(message_of([&] {
              plan_padded({.batch = 2, .rows_total = 4, .keys_total = 4, .entries = entries}, {{2, 4}}, {});
            }),
            "3 numbers are given for 2 batch entries\n"
            "  hint       give each local entry its global number, or none where all entries are local");
}

TEST(PlanPacked, NumbersDocumentsByTheirPlaceInThePrefixSums) {
  const std::vector<std::int64_t> ends{3, 3, 11, 16};  // the second is empty
  const PackedBatch batch{16, 16, ends, ends};
  EXPECT_THAT(sequences_of(plan_packed(batch, {{0, 16}}, {{0, 16}}, {})), testing::ElementsAre(0, 2, 3));
  EXPECT_THAT(sequences_of(plan_packed(batch, {{8, 12}}, {{0, 16}}, {})), testing::ElementsAre(2, 3));
}

TEST(PlanPadded, RefusesLengthsThatAreNone) {
  const std::vector<std::int64_t> far{9};
  const std::vector<std::int64_t> three{1, 1, 1};
  EXPECT_EQ(message_of([&] {
              plan_padded({1, 8, 8, far, {}}, {{0, 8}}, {});
            }),
            "actual_seq_lengths_query[0] is 9, sequences have 0 to 8 rows");
  EXPECT_EQ(message_of([&] {
              plan_padded({2, 8, 8, {}, three}, {{0, 8}}, {});
            }),
            "actual_seq_lengths_kv has 3 entries for 2 sequences\n"
            "  hint       give one for each sequence, or one for all");
}

TEST(VisiblePairs, CountsWhatRowsSee) {
  EXPECT_EQ(visible_pairs(plan_padded({2, 4, 4, {}, {}}, {{0, 4}}, {Masking::kAll, 0, false})), 20);
  EXPECT_EQ(visible_pairs(plan_padded({1, 4, 4, {}, {}}, {{0, 4}}, {})), 16);
}

}  // namespace
}  // namespace tessera
