// Tests of the pool of threads. It has four here, whatever the machine has.
#include "support/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr int kPool = 4;

// The pool's size is read once, before the first test.
[[maybe_unused]] const int kSet = setenv("TESSERA_THREADS", "4", 1);

// Waits for what other threads do; fails where they never do it.
void wait_for(const std::atomic<int>& value, int at_least) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (value.load() < at_least) {
    ASSERT_LT(std::chrono::steady_clock::now(), end);
    std::this_thread::yield();
  }
}

std::string error_of(const std::string& text) {
  try {
    parse_thread_count(text);
  } catch (const Error& error) {
    return error.diagnostic().code + ": " + error.what();
  }
  return "";
}

TEST(ThreadCount, ReadsTheEnvironment) {
  EXPECT_EQ(thread_count(), kPool);
  EXPECT_EQ(parse_thread_count("1"), 1);
  EXPECT_EQ(parse_thread_count("16"), 16);
  EXPECT_EQ(parse_thread_count("1024"), 1024);
  EXPECT_EQ(error_of("1024"), "");
  for (const std::string text : {"0", "-1", "1025", "4 ", " 4", "4x", "many", "4.5", "99999999999", "+4", ""}) {
    EXPECT_EQ(error_of(text),
              "environment: TESSERA_THREADS is '" + text + "'\n  hint       set it to a number from 1 to 1024");
  }
}

TEST(ThreadShare, NarrowsWhatAThreadMayUse) {
  {
    const ThreadShare three(3);
    EXPECT_EQ(thread_count(), 3);
    {
      const ThreadShare more(100);
      EXPECT_EQ(thread_count(), 3);
      const ThreadShare two(2);
      EXPECT_EQ(thread_count(), 2);
    }
    EXPECT_EQ(thread_count(), 3);
    std::thread([] { EXPECT_EQ(thread_count(), kPool) << "a share is one thread's"; }).join();
    const ThreadShare none(0);
    EXPECT_EQ(thread_count(), 1);
  }
  const ThreadShare more(100);
  EXPECT_EQ(thread_count(), kPool);
}

TEST(ParallelFor, RunsEachTaskOnce) {
  for (int threads = 1; threads <= kPool; ++threads) {
    const ThreadShare share(threads);
    for (std::int64_t count : {0, 1, 2, 3, 4, 5, 64, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
      parallel_for(count, [&](std::int64_t i) {
        ++runs[static_cast<std::size_t>(i)];
        EXPECT_EQ(thread_count(), 1);
      });
      for (const auto& run : runs) EXPECT_EQ(run, 1) << threads << " threads, " << count << " tasks";
      EXPECT_EQ(thread_count(), threads);
    }
  }
}

TEST(ParallelFor, RunsNothingForACountBelow0) {
  parallel_for(-3, [](std::int64_t) { FAIL() << "must not run"; });
}

TEST(ParallelFor, StaysOnItsThreadWhereThereIsOneTaskOrOneThread) {
  const std::thread::id here = std::this_thread::get_id();
  const auto stays = [&](std::int64_t) { EXPECT_EQ(std::this_thread::get_id(), here); };
  parallel_for(1, stays);
  const ThreadShare alone(1);
  parallel_for(100, stays);
}

TEST(ParallelFor, RunsOnAllItsThreadsAtOnce) {
  for (int threads = 2; threads <= kPool; ++threads) {
    const ThreadShare share(threads);
    std::atomic<int> arrived{0};
    parallel_for(threads, [&](std::int64_t) {
      ++arrived;
      wait_for(arrived, threads);  // each needs a thread of its own
    });
    EXPECT_EQ(arrived, threads);
  }
}

TEST(ParallelFor, NeverUsesMoreThreadsThanItsShare) {
  const ThreadShare share(2);
  std::mutex mutex;
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::set<std::thread::id> threads;
    parallel_for(16, [&](std::int64_t) {
      const std::scoped_lock lock(mutex);
      threads.insert(std::this_thread::get_id());
    });
    EXPECT_LE(threads.size(), 2U);
  }
}

TEST(ParallelFor, DoesNotNest) {
  std::atomic<int> runs{0};
  parallel_for(8, [&](std::int64_t) {
    const std::thread::id here = std::this_thread::get_id();
    const ThreadShare more(4);
    parallel_for(8, [&](std::int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), here);
      ++runs;
    });
  });
  EXPECT_EQ(runs, 64);
}

TEST(ParallelFor, StartsTasksInOrder) {
  const ThreadShare alone(1);
  std::vector<std::int64_t> order;
  parallel_for(5, [&](std::int64_t i) { order.push_back(i); });
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
}

TEST(ParallelFor, StartsTasksInOrderOverItsThreads) {
  std::atomic<std::int64_t> started{0};
  parallel_for(1000, [&](std::int64_t i) {
    // Of the tasks before i, at most those that the other threads have just taken have not begun.
    EXPECT_GE(started.fetch_add(1), i - (kPool - 1));
  });
  EXPECT_EQ(started, 1000);
}

TEST(ParallelFor, RethrowsAndLeavesTheRestOut) {
  for (int threads = 1; threads <= kPool; ++threads) {
    const ThreadShare share(threads);
    std::atomic<int> runs{0};
    std::atomic<int> running{0};
    try {
      parallel_for(1'000'000, [&](std::int64_t i) {
        ++running;
        ++runs;
        if (i == 3) {
          --running;
          throw std::runtime_error("task 3");
        }
        --running;
      });
      ADD_FAILURE() << "must throw";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "task 3");
    }
    EXPECT_EQ(running, 0);
    EXPECT_GE(runs, 4);
    EXPECT_LT(runs, 1'000'000);
    EXPECT_EQ(thread_count(), threads);
  }
}

TEST(ParallelFor, RethrowsOneOfMany) {
  for (int repeat = 0; repeat < 200; ++repeat) {
    EXPECT_THROW(parallel_for(kPool, [](std::int64_t) { throw std::runtime_error("each"); }), std::runtime_error);
  }
}

TEST(ParallelFor, ThreadsShareThePool) {
  constexpr int kCallers = 6;
  std::vector<std::int64_t> sums(kCallers);
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < kCallers; ++caller) {
      callers.emplace_back([&sums, caller] {
        const ThreadShare share(1 + caller % kPool);
        for (int repeat = 0; repeat < 300; ++repeat) {
          std::atomic<std::int64_t> sum{0};
          parallel_for(caller + repeat % 7, [&](std::int64_t i) { sum += i + 1; });
          sums[static_cast<std::size_t>(caller)] += sum;
        }
      });
    }
  }
  for (int caller = 0; caller < kCallers; ++caller) {
    std::int64_t expected = 0;
    for (int repeat = 0; repeat < 300; ++repeat) expected += (caller + repeat % 7) * (caller + repeat % 7 + 1) / 2;
    EXPECT_EQ(sums[static_cast<std::size_t>(caller)], expected);
  }
}

TEST(ParallelFor, WaitsForNoWorkerThatIsBusyElsewhere) {
  std::atomic<int> occupied{0};
  std::atomic<int> release{0};
  std::jthread other([&] {
    parallel_for(kPool, [&](std::int64_t) {
      ++occupied;
      wait_for(release, 1);
    });
  });
  wait_for(occupied, kPool);  // all workers, and the other thread
  int runs = 0;               // on this thread alone
  parallel_for(10, [&](std::int64_t) { ++runs; });
  EXPECT_EQ(runs, 10);
  release = 1;
}

TEST(ParallelFor, WakesWorkersThatSleep) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::atomic<int> arrived{0};
  parallel_for(kPool, [&](std::int64_t) {
    ++arrived;
    wait_for(arrived, kPool);
  });
  EXPECT_EQ(arrived, kPool);
}

// First task -> last task, behind it, of each run.
std::map<std::int64_t, std::int64_t> runs_of(std::int64_t count) {
  std::map<std::int64_t, std::int64_t> runs;
  std::mutex mutex;
  parallel_for_runs(count, [&](std::int64_t first, std::int64_t last) {
    EXPECT_EQ(thread_count(), 1);
    const std::scoped_lock lock(mutex);
    EXPECT_TRUE(runs.emplace(first, last).second);
  });
  return runs;
}

TEST(ParallelForRuns, TakesAllTasksInRunsThatGetShorter) {
  for (int threads = 1; threads <= kPool; ++threads) {
    const ThreadShare share(threads);
    for (std::int64_t count : {0, 1, 2, 3, 4, 5, 64, 1000}) {
      const std::int64_t used = std::min<std::int64_t>(threads, count);
      std::int64_t next = 0;
      for (const auto& [first, last] : runs_of(count)) {
        EXPECT_EQ(first, next);
        const std::int64_t share_of_half = std::max<std::int64_t>((count - first) / (2 * used), 1);
        EXPECT_EQ(last, used == 1 ? count : first + share_of_half) << threads << " threads, " << count << " tasks";
        next = last;
      }
      EXPECT_EQ(next, count);
      EXPECT_EQ(thread_count(), threads);
    }
  }
}

TEST(ParallelForRuns, TakesLongRunsFirst) {
  const ThreadShare two(2);
  std::vector<std::int64_t> lengths;
  for (const auto& [first, last] : runs_of(32)) lengths.push_back(last - first);
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{8, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(ParallelForRuns, RunsNothingForACountBelow0) { EXPECT_TRUE(runs_of(-3).empty()); }

TEST(ParallelForRuns, RethrowsAndLeavesTheRestOut) {
  for (int threads = 1; threads <= kPool; ++threads) {
    const ThreadShare share(threads);
    std::atomic<std::int64_t> taken{0};
    const auto work = [&](std::int64_t first, std::int64_t last) {
      taken += last - first;
      throw std::runtime_error("a run");
    };
    EXPECT_THROW(parallel_for_runs(1000, work), std::runtime_error);
    // Each thread's first run at most; one thread takes all tasks as one.
    EXPECT_LE(taken, threads == 1 ? 1000 : 500);
    EXPECT_EQ(thread_count(), threads);
  }
}

// In a process of its own: the environment is read once, and the pool is seen from its start to the process's end.
class ParallelDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(ParallelDeathTest, RefusesAnotherEnvironment) {
  const auto run = [] {
    setenv("TESSERA_THREADS", "many", 1);
    try {
      parallel_for(2, [](std::int64_t) {});
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::exit(0);
    }
    std::exit(1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0),
              "TESSERA_THREADS is 'many'\n  hint       set it to a number from 1 to 1024");
}

TEST_F(ParallelDeathTest, TakesTheMachinesCoresWhereTheEnvironmentSaysNothing) {
  const auto run = [](const char* text) {
    if (text == nullptr) {
      unsetenv("TESSERA_THREADS");
    } else {
      setenv("TESSERA_THREADS", text, 1);
    }
    std::fprintf(stderr, "threads %d of %u", thread_count(), std::thread::hardware_concurrency());
    std::exit(thread_count() >= 1 && thread_count() <= 1024 ? 0 : 1);
  };
  EXPECT_EXIT(run(nullptr), testing::ExitedWithCode(0), "threads [1-9]");
  EXPECT_EXIT(run(""), testing::ExitedWithCode(0), "threads [1-9]");
}

TEST_F(ParallelDeathTest, EndsWithTheProcess) {
  const auto run = [](bool inside) {
    parallel_for(8, [&](std::int64_t i) {
      if (inside && i == 3) std::exit(0);
    });
    std::exit(0);
  };
  EXPECT_EXIT(run(false), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run(true), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tessera
