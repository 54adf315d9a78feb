// Runs a test's body on ranks that are threads of this process.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/comm/ranks.h"

namespace tessera {

/// Runs `body` on `ranks` ranks and returns when all have ended. What a rank expects in vain fails the test and names the rank; an
/// error that a rank throws, and ranks that wait for each other for ever, fail it too.
///
/// ```cpp
/// TEST(MyOp, SumsOverRanks) {
///   on_ranks(4, [](Communicator& comm) {
///     const Tensor one = Tensor::of<double>({1}, {1.0});
///     EXPECT_EQ(comm.all_reduce(one, Reduction::kSum, {0, 1, 2, 3}).at<double>({0}), 4.0);
///   });
/// }
/// ```
inline void on_ranks(int ranks, const std::function<void(Communicator&)>& body, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  try {
    run_ranks(ranks, [&](Communicator& comm) {
      const ::testing::ScopedTrace trace(file, line, fmt::format("rank {} of {}", comm.rank(), ranks));
      body(comm);
    });
  } catch (const std::exception& error) {
    ADD_FAILURE_AT(file, line) << "a rank failed: " << error.what();
  }
}

/// A fixture of tests that run once for each of several numbers of ranks.
///
/// ```cpp
/// class MyTest : public RanksTest {};
/// TEST_P(MyTest, Works) { on_all_ranks([](Communicator& comm) { ... }); }
/// INSTANTIATE_TEST_SUITE_P(Ranks, MyTest, ::testing::Values(1, 2, 4));
/// ```
class RanksTest : public ::testing::TestWithParam<int> {
 protected:
  [[nodiscard]] static int ranks() { return GetParam(); }
  static void on_all_ranks(const std::function<void(Communicator&)>& body, const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
    on_ranks(ranks(), body, file, line);
  }
};

}  // namespace tessera
