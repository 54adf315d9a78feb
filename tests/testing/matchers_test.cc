// The matchers: what they match, and what they say where they do not.
#include "testing/matchers.h"

#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>

#include <atomic>

#include "testing/ranks_fixture.h"

namespace tessera {
namespace {

using ::testing::Not;

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }

template <class Matcher, class Value>
std::string explanation(const Matcher& matcher, const Value& value) {
  ::testing::StringMatchResultListener listener;
  matcher.MatchAndExplain(value, listener.stream());
  return listener.str();
}

TEST(Matchers, TheWorkedExample) {
  const DeviceMesh mesh = mesh_2x2();
  EXPECT_THAT(infer_layouts_of("m k, k n -> m n", mesh, {{"[8, 4]", "[dp, -]"}, {"[4, 6]", "[-, tp]"}}),
              ResultLayouts("[dp, tp]"));
  EXPECT_THAT(infer_layouts_of("m k, k n -> m n", mesh, {{"[8, 4]", "[-, tp]"}, {"[4, 6]", "[-, -]"}}),
              FailsWith("factor-conflict", "factor k is split over 'tp'"));
}

TEST(Matchers, ResultLayoutsAreComparedAsLayouts) {
  const Inferred inferred = infer_layouts_of("a b -> b a", mesh_2x2(), {{"[8, 4]", "[dp, tp]"}});
  EXPECT_THAT(inferred, ResultLayouts(" [tp,dp] "));
  EXPECT_THAT(inferred, OperandLayouts("[dp, tp]"));
  EXPECT_THAT(inferred, Not(ResultLayouts("[dp, tp]")));
  EXPECT_THAT(inferred, Not(ResultLayouts("[tp, dp]", "[-]")));
  EXPECT_THAT(inferred, Not(ResultLayouts()));
  EXPECT_EQ(::testing::PrintToString(inferred), "[dp, tp] -> [tp, dp]");
}

TEST(Matchers, WhatIsRefusedHasNoLayouts) {
  const Inferred refused = infer_layouts_of("a b -> b a | whole a", mesh_2x2(), {{"[8, 4]", "[dp, tp]"}});
  EXPECT_THAT(refused, Not(ResultLayouts("[tp, dp]")));
  EXPECT_EQ(explanation(ResultLayouts("[tp, dp]"), refused), "which is refused");
  EXPECT_EQ(::testing::PrintToString(refused),
            "factor-not-whole: factor a must be whole, but operand 0 splits it over 'dp'\n"
            "  rule       a b -> b a | whole a\n  operand 0  [dp, tp]\n  hint       reshard operand 0 to [-, tp]");
  EXPECT_THAT(refused, FailsWith("factor-not-whole"));
  EXPECT_THAT(refused, Not(FailsWith("axis-conflict")));
  EXPECT_THAT(refused, Not(FailsWith("factor-not-whole", "factor b")));
}

TEST(Matchers, FailsWithAlsoWatchesCalls) {
  const std::function<void()> good = [] {};
  const std::function<void()> bad = [] { fail("code", "message", "hint"); };
  EXPECT_THAT(bad, FailsWith("code", "message\n  hint       hint"));
  EXPECT_THAT(good, Not(FailsWith("code")));
  EXPECT_EQ(explanation(FailsWith("code"), good), "which does not fail");
  EXPECT_EQ(explanation(FailsWith("other"), bad), "which fails with code: message\n  hint       hint");
}

TEST(Matchers, ShapesAndLayoutsThatAreNone) {
  EXPECT_THAT([] { infer_layouts_of("a -> a", mesh_2x2(), {{"[8", "[dp]"}}); }, FailsWith("shape-syntax"));
  EXPECT_THAT([] { infer_layouts_of("a -> a", mesh_2x2(), {{"[8]", "[d]"}}); }, FailsWith("unknown-axis"));
}

TEST(Matchers, IsSoundExplains) {
  EXPECT_EQ(explanation(IsSound(), Proof{.tried = 3}), "which proves nothing: nothing is accepted");
  EXPECT_EQ(explanation(IsSound(), Proof{.tried = 3, .accepted = 1, .unchecked = 1}),
            "which proves nothing: no result could be checked");
  EXPECT_EQ(explanation(IsSound(), Proof{.tried = 3, .accepted = 2}), "");
  EXPECT_THAT((Proof{.tried = 3, .accepted = 2, .unsound = 1}), Not(IsSound()));
}

TEST(OnRanks, RunsEveryRank) {
  std::atomic<int> ran{0};
  on_ranks(4, [&](Communicator& comm) { ran += 1 << comm.rank(); });
  EXPECT_EQ(ran, 15);
}

TEST(OnRanks, AnErrorOfARankFailsTheTest) {
  EXPECT_NONFATAL_FAILURE(on_ranks(2,
                                   [](Communicator& comm) {
                                     if (comm.rank() == 1) fail("mine", "this rank is broken");
                                     comm.barrier({0, 1});
                                   }),
                          "a rank failed: this rank is broken");
}

class OnSomeRanks : public RanksTest {};
TEST_P(OnSomeRanks, KnowsHowMany) {
  on_all_ranks([](Communicator& comm) { EXPECT_EQ(comm.size(), ranks()); });
}
INSTANTIATE_TEST_SUITE_P(Ranks, OnSomeRanks, ::testing::Values(1, 3));

}  // namespace
}  // namespace tessera
