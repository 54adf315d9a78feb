// Who computes a kernel: order, preference, reasons, the log, and providers of a user's own.
//
// What is registered stays for the whole process, so all providers here are of one kernel, and take nothing but in these
// tests.
#include "kernels/provider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "kernels/attention.h"
#include "kernels/lightning_indexer.h"
#include "kernels/sparse_attention.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

using testing::ElementsAre;
using Names = std::vector<std::string>;

constexpr const char* kAsleep = "outside its tests";

// What a provider of these tests does now.
struct Scripted {
  std::string name;
  float max;                     // what it gives as the softmax's max
  std::string reason = kAsleep;  // why it refuses
};

LseResult result_with(float max) { return {.softmax_max = Tensor::of<float>({1}, {max}), .softmax_sum = Tensor()}; }

Scripted& scripted(std::size_t i) {
  static std::vector<Scripted>& all = *new std::vector<Scripted>{{"first", 1}, {"second", 2}};
  [[maybe_unused]] static const bool provided = [] {
    for (const Scripted& script : all) {
      provide<IndexerLseCall>({.name = script.name,
                               .run = [&script](const IndexerLseCall&) { return result_with(script.max); },
                               .refuse = [&script](const IndexerLseCall&) { return script.reason; }});
    }
    return true;
  }();
  return all[i];
}

// f64, which no fast kernel takes: two rows, three keys, one head of each.
const IndexerLseCall& small_call() {
  static const IndexerLseCall& call =
      *new IndexerLseCall{.query = sample({1, 2, 1, 4}, DType::kF64, 1),
                          .key = sample({1, 3, 1, 4}, DType::kF64, 2),
                          .weights = sample({1, 2, 1}, DType::kF64, 3),
                          .plan = {{{.count = 2, .length = 3, .limit = 2, .limit_step = 1}}}};
  return call;
}

template <class Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.diagnostic().code + ": " + error.what();
  }
  return "";
}

// The names of a kernel's providers but for those of other tests.
Names known_names() {
  Names names;
  for (const std::string& name : providers<IndexerLseCall>()) {
    if (name == "first" || name == "second" || name == "cpu" || name == "reference") names.push_back(name);
  }
  return names;
}

class Providers : public testing::Test {
 protected:
  void SetUp() override {
    prefer({});
    log_choices({});
  }
  void TearDown() override {
    SetUp();
    first_.reason = second_.reason = kAsleep;
  }

  Scripted& first_ = scripted(0);
  Scripted& second_ = scripted(1);
};

TEST_F(Providers, OfEachKernelEndInTheReference) {
  EXPECT_EQ(providers<AttentionCall>().back(), "reference");
  EXPECT_EQ(providers<AttentionBackwardCall>().back(), "reference");
  EXPECT_EQ(providers<SparseAttentionCall>().back(), "reference");
  EXPECT_EQ(providers<SparseAttentionBackwardCall>().back(), "reference");
  EXPECT_EQ(providers<IndexerCall>().back(), "reference");
  EXPECT_EQ(providers<IndexerLseCall>().back(), "reference");
  EXPECT_EQ(providers<IndexerLossCall>().back(), "reference");
}

TEST_F(Providers, AddedLastAreAskedFirst) {
  const Names names = known_names();
  ASSERT_GE(names.size(), 3U);
  EXPECT_EQ(names[0], "second");
  EXPECT_EQ(names[1], "first");
  EXPECT_EQ(names.back(), "reference");
}

TEST_F(Providers, FollowThePreference) {
  const Names usual = providers<IndexerLseCall>();
  prefer({"none of that name", "first", "reference", "first"});
  Names expected{"first", "reference"};
  for (const std::string& name : usual) {
    if (name != "first" && name != "reference") expected.push_back(name);
  }
  EXPECT_EQ(providers<IndexerLseCall>(), expected);
  EXPECT_EQ(providers<IndexerLossCall>().front(), "reference") << "for all kernels";
  prefer({});
  EXPECT_EQ(providers<IndexerLseCall>(), usual);
}

TEST_F(Providers, AreChosenByWhatTheyTake) {
  prefer({"second", "first", "reference"});
  EXPECT_EQ(choose(small_call()), (Choice{"reference", {{"second", kAsleep}, {"first", kAsleep}}}));
  first_.reason = "";
  second_.reason = "two rows";
  EXPECT_EQ(choose(small_call()), (Choice{"first", {{"second", "two rows"}}}));
  second_.reason = "";
  EXPECT_EQ(choose(small_call()), (Choice{"second"}));
  prefer({"first"});
  EXPECT_EQ(choose(small_call()), (Choice{"first"}));
  prefer({"reference"});
  EXPECT_EQ(choose(small_call()), (Choice{"reference"}));
}

TEST_F(Providers, ComputeWhatTheyAreChosenFor) {
  second_.reason = "";
  EXPECT_EQ(compute(small_call()).softmax_max.at<float>({0}), 2);
  EXPECT_EQ(indexer_softmax_lse(small_call()).softmax_max.at<float>({0}), 2) << "the kernel's own name does the same";
  first_.reason = "";
  prefer({"first"});
  EXPECT_EQ(compute(small_call()).softmax_max.at<float>({0}), 1);
}

TEST_F(Providers, FallBackToTheReference) {
  const LseResult expected = reference::indexer_softmax_lse(small_call());
  const LseResult result = compute(small_call());
  ASSERT_EQ(result.softmax_max.shape(), expected.softmax_max.shape());
  EXPECT_THAT(result.softmax_max.span<double>(), testing::ElementsAreArray(expected.softmax_max.span<double>()));
  EXPECT_THAT(result.softmax_sum.span<double>(), testing::ElementsAreArray(expected.softmax_sum.span<double>()));
}

TEST_F(Providers, ComputeByName) {
  first_.reason = second_.reason = "";
  EXPECT_EQ(compute(small_call(), "first").softmax_max.at<float>({0}), 1);
  EXPECT_EQ(compute(small_call(), "second").softmax_max.at<float>({0}), 2);
  EXPECT_EQ(compute(small_call(), "reference").softmax_max.dtype(), DType::kF64);
}

TEST_F(Providers, SayWhyTheyDoNotComputeByName) {
  first_.reason = "two rows";
  EXPECT_EQ(error_of([] { compute(small_call(), "first"); }),
            "provider-refused: first does not take this call of indexer_softmax_lse: two rows\n"
            "  hint       name no provider, or `reference`, which takes every call");
  EXPECT_EQ(error_of([] { compute(small_call(), "secnd"); }),
            "unknown-provider: indexer_softmax_lse has no provider 'secnd'\n"
            "  hint       did you mean 'second'?");
}

TEST_F(Providers, AreCheckedWhenTheyAreAdded) {
  const auto run = [](const IndexerLseCall&) { return result_with(0); };
  const Names before = providers<IndexerLseCall>();
  EXPECT_EQ(error_of([&] { provide<IndexerLseCall>({.name = "first", .run = run}); }),
            "duplicate-provider: indexer_softmax_lse has a provider 'first' already\n  hint       give it another name");
  EXPECT_EQ(
      error_of([&] { provide<IndexerLseCall>({.name = "reference", .run = run}); }),
      "duplicate-provider: indexer_softmax_lse has a provider 'reference' already\n  hint       give it another name");
  EXPECT_EQ(error_of([&] { provide<IndexerLseCall>({.name = "", .run = run}); }),
            "provider-name: a provider of indexer_softmax_lse has an empty name\n  hint       give it a name");
  for (const std::string name : {"a,b", "a b"}) {
    EXPECT_EQ(error_of([&] { provide<IndexerLseCall>({.name = name, .run = run}); }),
              "provider-name: the name '" + name +
                  "' of a provider of indexer_softmax_lse has a comma or a space\n"
                  "  hint       give it a name that TESSERA_KERNELS can hold");
  }
  EXPECT_EQ(error_of([&] { provide<IndexerLseCall>({.name = "idle", .run = {}}); }),
            "provider-run: provider 'idle' of indexer_softmax_lse has no function `run`\n  hint       set Provider::run");
  EXPECT_EQ(providers<IndexerLseCall>(), before);
}

TEST_F(Providers, PassOnWhatTheyThrow) {
  [[maybe_unused]] static const bool provided = [] {
    provide<IndexerLseCall>({.name = "thrower",
                             .run = [](const IndexerLseCall&) -> LseResult { throw std::runtime_error("while it ran"); },
                             .refuse = [](const IndexerLseCall& call) { return call.query.rank() == 1 ? "" : kAsleep; }});
    return true;
  }();
  IndexerLseCall call = small_call();
  call.query = Tensor::zeros({1}, DType::kF32);
  EXPECT_THROW(compute(call), std::runtime_error);
  EXPECT_THROW(compute(call, "thrower"), std::runtime_error);
}

TEST_F(Providers, LogEachChoiceOnce) {
  Names lines;
  log_choices([&](std::string_view line) { lines.emplace_back(line); });
  prefer({"second", "first", "reference"});
  compute(small_call());
  compute(small_call());
  first_.reason = "";
  compute(small_call());
  first_.reason = kAsleep;
  compute(small_call());
  second_.reason = "";
  compute(small_call());
  (void)choose(small_call());
  compute(small_call(), "reference");  // is chosen by the caller
  EXPECT_THAT(
      lines,
      ElementsAre("indexer_softmax_lse runs on reference; second: outside its tests; first: outside its tests",
                  "indexer_softmax_lse runs on first; second: outside its tests", "indexer_softmax_lse runs on second"));
  log_choices({});
  compute(small_call());
  EXPECT_EQ(lines.size(), 3U);
  log_choices([&](std::string_view line) { lines.emplace_back(line); });
  compute(small_call());
  EXPECT_EQ(lines.size(), 4U) << "another log knows nothing yet";
}

TEST(Choice, IsPrinted) {
  EXPECT_EQ(to_string("attention", {"cpu"}), "attention runs on cpu");
  EXPECT_EQ(to_string("attention", {"reference", {{"cpu", "f64 queries"}}}),
            "attention runs on reference; cpu: f64 queries");
}

TEST(Preference, IsParsed) {
  EXPECT_THAT(parse_preference(""), ElementsAre());
  EXPECT_THAT(parse_preference("cpu"), ElementsAre("cpu"));
  EXPECT_THAT(parse_preference("mine, reference"), ElementsAre("mine", "reference"));
  EXPECT_THAT(parse_preference(" ,mine,,cpu , "), ElementsAre("mine", "cpu"));
}

TEST(LoadProviders, WhatHasNone) {
  EXPECT_THAT(error_of([] { load_providers("no/such/library.so"); }),
              testing::StartsWith("library-open: cannot load no/such/library.so: "));
  EXPECT_EQ(error_of([] { load_providers("libm.so.6"); }),
            "library-symbol: libm.so.6 has no function tessera_provide\n"
            "  hint       define extern \"C\" void tessera_provide()");
}

// Ranks are threads: they choose and compute while others add providers, prefer and log.
TEST_F(Providers, AreSafeOnThreads) {
  static std::atomic<int> added{0};
  std::atomic<int> lines{0};
  std::atomic<int> computed{0};
  std::atomic<bool> ended{false};
  prefer({"reference"});
  {
    std::vector<std::jthread> ranks;
    for (int rank = 0; rank < 3; ++rank) {
      ranks.emplace_back([&] {
        while (!ended) {
          EXPECT_EQ(compute(small_call()).softmax_max.dtype(), DType::kF64);
          EXPECT_EQ(choose(small_call()).provider, "reference");
          EXPECT_FALSE(providers<IndexerLseCall>().empty());
          ++computed;
        }
      });
    }
    for (int i = 0; i < 20; ++i) {
      provide<IndexerLseCall>({.name = "added" + std::to_string(added++),
                               .run = [](const IndexerLseCall&) { return result_with(0); },
                               .refuse = [](const IndexerLseCall&) { return std::string(kAsleep); }});
      prefer(i % 2 == 0 ? Names{"second", "first"} : Names{"reference"});
      log_choices([&](std::string_view) { ++lines; });
      for (const int before = computed; computed < before + 10;) std::this_thread::yield();
    }
    ended = true;
  }
  log_choices({});
  EXPECT_GE(lines, 10);
  EXPECT_EQ(providers<IndexerLseCall>().front(), "reference");
}

// The environment is read once, at the first choice: a process of its own.
class ProvidersDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(ProvidersDeathTest, ReadTheEnvironment) {
  const auto run = [] {
    setenv("TESSERA_KERNELS", "mine, reference", 1);
    setenv("TESSERA_LOG_KERNELS", "1", 1);
    provide<IndexerLseCall>({.name = "other", .run = [](const IndexerLseCall&) { return result_with(0); }});
    compute(small_call());
    std::exit(0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "^indexer_softmax_lse runs on reference\n$");
}

TEST_F(ProvidersDeathTest, RefuseOtherValuesOfTheLog) {
  const auto run = [] {
    setenv("TESSERA_LOG_KERNELS", "yes", 1);
    std::fputs(error_of([] { compute(small_call()); }).c_str(), stderr);
    std::exit(0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0),
              "environment: TESSERA_LOG_KERNELS is 'yes'\n  hint       set it to 0 or 1");
}

}  // namespace
}  // namespace tessera::kernels
