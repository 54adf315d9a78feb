// The dispatcher: its cache of plans, and calls on ranks.
#include "core/op/dispatcher.h"

#include <gmock/gmock.h>

#include <thread>

#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "testing/matchers.h"
#include "testing/ranks_fixture.h"
#include "tests/core/rule/einsum.h"

namespace tessera {
namespace {

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }

Registry& registry() {
  static Registry all;
  static const bool filled = [] {
    all.add(einsum_op("x[m k], w[k n], bias[n]? -> out[m n] | linear x w + bias", "linear"));
    DistributedOp scaled = einsum_op("x[m] -> out[m] | linear x", "scaled");
    scaled.attributes = {{.name = "by", .type = AttributeType::kFloat, .default_value = 1.0}};
    all.add(std::move(scaled));
    return true;
  }();
  EXPECT_TRUE(filled);
  return all;
}

TensorSpec spec(const Shape& shape, const char* layout) { return {shape, DType::kF64, parse_layout(mesh_2x2(), layout)}; }

TEST(Cache, AnEqualCallIsPlannedOnce) {
  Dispatcher dispatcher(registry());
  const DistributedOp& op = registry().get("scaled");
  const auto plan = [&](TensorSpec x, const Attributes& attributes) {
    return dispatcher.plan(op, std::vector<const TensorSpec*>{&x}, attributes);
  };
  const auto first = plan(spec({8}, "[dp]"), {});
  EXPECT_EQ(plan(spec({8}, "[dp]"), {}), first);
  EXPECT_EQ(dispatcher.counters().hits, 1u);
  EXPECT_EQ(dispatcher.counters().misses, 1u);
  EXPECT_EQ(dispatcher.counters().entries, 1u);
  // Whatever differs makes another call.
  EXPECT_NE(plan(spec({9}, "[dp]"), {}), first);
  EXPECT_NE(plan(spec({8}, "[tp]"), {}), first);
  EXPECT_NE(plan(spec({8}, "[dp:cyclic(1)]"), {}), first);
  EXPECT_NE(plan(spec({8}, "[dp] partial(tp: sum)"), {}), first);
  EXPECT_NE(plan({{8}, DType::kF32, spec({8}, "[dp]").layout}, {}), first);
  EXPECT_NE(plan(spec({8}, "[dp]"), {{"by", 2.0}}), first);
  EXPECT_NE(plan({{8}, DType::kF64, parse_layout(DeviceMesh({{"dp", 2}, {"cp", 2}}), "[dp]")}, {}), first);
  EXPECT_EQ(dispatcher.counters().misses, 8u);
  EXPECT_EQ(dispatcher.counters().entries, 8u);
}

TEST(Cache, AbsentOperandsAreTheirOwnCall) {
  Dispatcher dispatcher(registry());
  const DistributedOp& op = registry().get("linear");
  const TensorSpec x = spec({8, 4}, "[-, -]"), w = spec({4, 6}, "[-, -]"), bias = spec({6}, "[-]");
  const auto without = dispatcher.plan(op, std::vector<const TensorSpec*>{&x, &w, nullptr}, {});
  EXPECT_NE(dispatcher.plan(op, std::vector<const TensorSpec*>{&x, &w, &bias}, {}), without);
  EXPECT_EQ(dispatcher.plan(op, std::vector<const TensorSpec*>{&x, &w, nullptr}, {}), without);
}

TEST(Cache, IsBounded) {
  Dispatcher dispatcher(registry(), Policy::kStrict, 3);
  const DistributedOp& op = registry().get("scaled");
  const auto plan = [&](std::int64_t n) {
    const TensorSpec x = spec({n}, "[dp]");
    return dispatcher.plan(op, std::vector<const TensorSpec*>{&x}, {});
  };
  const auto oldest = plan(1);
  for (std::int64_t n = 2; n <= 4; ++n) plan(n);
  EXPECT_EQ(dispatcher.counters().entries, 3u);
  EXPECT_NE(plan(1), oldest) << "the oldest goes first; who still uses its plan keeps it";
  EXPECT_EQ(oldest->results[0].shape, Shape{1});
  plan(4);
  EXPECT_EQ(dispatcher.counters().hits, 1u);
  Dispatcher none(registry(), Policy::kStrict, 0);
  const TensorSpec x = spec({8}, "[dp]");
  for (int i = 0; i < 2; ++i) none.plan(op, std::vector<const TensorSpec*>{&x}, {});
  EXPECT_EQ(none.counters().entries, 0u);
  EXPECT_EQ(none.counters().misses, 2u);
}

TEST(Cache, ACallThatIsRefusedIsNotRemembered) {
  Dispatcher dispatcher(registry());
  const TensorSpec x = spec({8}, "[dp]");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(
        [&] {
          dispatcher.plan(registry().get("scaled"), std::vector<const TensorSpec*>{&x}, {{"bye", 1.0}});
        },
        FailsWith("unknown-attribute"));
  }
  EXPECT_EQ(dispatcher.counters().entries, 0u);
}

TEST(Cache, ServesManyRanksAtOnce) {
  Dispatcher dispatcher(registry(), Policy::kStrict, 8);
  on_ranks(4, [&](Communicator& comm) {
    for (int i = 0; i < 500; ++i) {
      const std::int64_t n = 1 + (i * (comm.rank() + 1)) % 12;
      const TensorSpec x = spec({n}, "[dp]");
      const auto plan = dispatcher.plan(registry().get("scaled"), std::vector<const TensorSpec*>{&x}, {});
      ASSERT_EQ(plan->results[0].shape, Shape{n});
    }
  });
  const CacheCounters counters = dispatcher.counters();
  EXPECT_EQ(counters.hits + counters.misses, 2000u);
  EXPECT_LE(counters.entries, 8u);
}

TEST(Dispatch, ComputesWhatOneDeviceComputes) {
  const Tensor x = random_normal({5, 7}, DType::kF64, 1, "x");
  const Tensor w = random_normal({7, 3}, DType::kF64, 1, "w");
  const Tensor bias = random_normal({3}, DType::kF64, 1, "bias");
  const auto run = [&](DeviceMesh mesh, Policy policy, const std::array<const char*, 3>& layouts) {
    Dispatcher dispatcher(registry(), policy);
    Tensor whole;
    on_ranks(static_cast<int>(mesh.device_count()), [&](Communicator& comm) {
      const auto place = [&](const Tensor& tensor, const char* layout) {
        return DTensor::distribute(tensor, parse_layout(mesh, layout), comm.rank());
      };
      const std::vector<DTensor> out =
          dispatcher.dispatch(comm, "linear", {place(x, layouts[0]), place(w, layouts[1]), place(bias, layouts[2])});
      const Tensor full = out[0].full_tensor(comm);
      if (comm.rank() == 0) whole = full;
    });
    return whole;
  };
  const Tensor expected = run(DeviceMesh(), Policy::kStrict, {"[-, -]", "[-, -]", "[-]"});
  for (const Tensor& got :
       {run(mesh_2x2(), Policy::kStrict, {"[dp, tp]", "[tp, -]", "[-]"}),
        run(mesh_2x2(), Policy::kRepair, {"[tp, dp]", "[-, tp]", "[dp]"}),
        run(mesh_2x2(), Policy::kRepair, {"[tp+dp, -]", "[tp, dp] ", "[-] partial(dp: sum, tp: sum)"})}) {
    ASSERT_EQ(got.shape(), expected.shape());
    for (std::int64_t i = 0; i < got.count(); ++i) EXPECT_NEAR(got.data<double>()[i], expected.data<double>()[i], 1e-12);
  }
}

TEST(Dispatch, RefusesWhatDoesNotFit) {
  on_ranks(1, [](Communicator& comm) {
    Dispatcher dispatcher(registry());
    const DTensor x = DTensor::distribute(Tensor::zeros({4}, DType::kF64), Layout::replicated(DeviceMesh(), 1), 0);
    EXPECT_THAT([&] { dispatcher.dispatch(comm, "scale", {x}); }, FailsWith("unknown-op", "did you mean 'scaled'?"));
    EXPECT_THAT(
        [&] {
          dispatcher.dispatch(comm, "scaled", {x, x});
        },
        FailsWith("too-many-operands", "scaled: takes 1 operands, 2 are given"));
    const std::vector<std::optional<DTensor>> many(17, x);
    EXPECT_THAT([&] { dispatcher.dispatch(comm, registry().get("scaled"), many); },
                FailsWith("too-many-operands", "scaled: takes 16 operands at most, 17 are given"));
  });
}

// A collective is held to its plan as a kernel is.
TEST(Dispatcher, ChecksTheResultsOfCollectives) {
  Registry registry;
  DistributedOp op{"twice", "x[a] -> out[a]", nullptr};
  op.collective = [](const LocalCall& call, Communicator&) { return std::vector<Tensor>{call.input(0), call.input(0)}; };
  registry.add(std::move(op));
  Dispatcher dispatcher(registry);
  run_ranks(1, [&](Communicator& comm) {
    const DTensor x = DTensor::distribute(Tensor::zeros({2}, DType::kF32), Layout::replicated(DeviceMesh(), 1), 0);
    try {
      dispatcher.dispatch(comm, "twice", {x});
      FAIL();
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(),
                   "twice: the kernel returned 2 results, the rule has 1\n"
                   "  hint       a kernel returns one tensor for each result of the rule, of its local shape and dtype");
    }
  });
}

}  // namespace
}  // namespace tessera
