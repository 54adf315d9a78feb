// Planning a call and running a rank's part of it.
#include "core/op/op.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "layouts/notation.h"
#include "testing/matchers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }

TensorSpec spec(const Shape& shape, const char* layout, DType dtype = DType::kF64) {
  return {shape, dtype, parse_layout(mesh_2x2(), layout)};
}

// Adds rows, and remembers what it was told.
DistributedOp add_op(Kernel kernel = {}) {
  DistributedOp op;
  op.name = "add";
  op.rule = "x[m n], y[m n]? -> out[m n] | linear x + y";
  op.kernel = std::move(kernel);
  return op;
}

std::vector<Tensor> sum_of_all(const LocalCall& call) {
  Tensor out = call.input(0).clone();
  if (call.has(1)) {
    for (std::int64_t i = 0; i < out.count(); ++i) out.data<double>()[i] += call.input(1).data<double>()[i];
  }
  return {out};
}

TEST(MakePlan, SaysWhatTheCallNeeds) {
  const DistributedOp op = add_op();
  const TensorSpec x = spec({4, 6}, "[dp, -]", DType::kF32);
  const std::vector<const TensorSpec*> operands{&x, nullptr};
  const auto plan = make_plan(op, operands, {});
  EXPECT_EQ(plan->op, &op);
  EXPECT_EQ(plan->mesh, mesh_2x2());
  ASSERT_EQ(plan->operands.size(), 2u);
  EXPECT_EQ(plan->operands[0], x);
  EXPECT_EQ(plan->operands[1], std::nullopt);
  EXPECT_THAT(plan->results, ElementsAre(x));
}

TEST(MakePlan, RepairsWhereAsked) {
  const DistributedOp op = add_op();
  const TensorSpec x = spec({4, 6}, "[dp, -]"), y = spec({4, 6}, "[-, -]");
  const std::vector<const TensorSpec*> operands{&x, &y};
  EXPECT_THAT([&] { make_plan(op, operands, {}); },
              FailsWith("factor-conflict", "add: factor m is split over 'dp' in x but whole in y"));
  EXPECT_EQ(make_plan(op, operands, {}, Policy::kRepair)->operands[1]->layout, x.layout);
}

TEST(MakePlan, AsksTheOperatorsOwnFunctions) {
  DistributedOp op = add_op();
  op.attributes = {{.name = "transpose", .type = AttributeType::kBool, .default_value = false}};
  op.rule_for = [](const CallSpec& call) -> Rule {
    if (call.attributes.get<bool>("transpose")) return "x[m n], y[m n]? -> out[n m] | linear x + y";
    return "x[m n], y[m n]? -> out[m n] | linear x + y";
  };
  op.check = [](const CallSpec& call) {
    if (call.shape(0)[0] == 3) fail("three", "three rows are too few");
  };
  op.result_dtypes = [](const CallSpec& call) { return std::vector{call.has(1) ? DType::kF64 : DType::kBool}; };
  const TensorSpec x = spec({4, 6}, "[dp, -]"), three = spec({3, 6}, "[dp, -]");
  const auto plan = make_plan(op, std::vector<const TensorSpec*>{&x}, {{"transpose", true}});
  EXPECT_THAT(plan->results, ElementsAre(spec({6, 4}, "[-, dp]", DType::kBool)));
  EXPECT_THAT([&] { make_plan(op, std::vector<const TensorSpec*>{&three}, {}); },
              FailsWith("three", "three rows are too few"));
  EXPECT_THAT([&] { make_plan(op, std::vector<const TensorSpec*>{}, {}); },
              FailsWith("missing-operand", "add: x is missing"));
  EXPECT_THAT(
      [&] {
        make_plan(op, std::vector<const TensorSpec*>{&x}, {{"transpos", true}});
      },
      FailsWith("unknown-attribute", "did you mean 'transpose'?"));
}

TEST(RunLocal, TellsTheKernelWhereItsShardLies) {
  std::vector<std::string> seen;
  const DistributedOp op = add_op([&](const LocalCall& call) {
    for (int dim = 0; dim < 2; ++dim) {
      for (const Interval& interval : call.indices(0, dim))
        seen.push_back(fmt::format("{}-{} of {}", interval.begin, interval.end, call.global_size(0, dim)));
    }
    return sum_of_all(call);
  });
  const TensorSpec x = spec({3, 6}, "[dp, tp:cyclic(2)]");
  const auto plan = make_plan(op, std::vector<const TensorSpec*>{&x}, {});
  const std::vector<std::optional<Tensor>> inputs{Tensor::zeros({1, 2}, DType::kF64)};
  EXPECT_EQ(run_local(*plan, op.kernel, {1, 1}, inputs)[0].shape(), (Shape{1, 2}));
  EXPECT_THAT(seen, ElementsAre("2-3 of 3", "2-4 of 6"));
}

TEST(RunLocal, ZeroesWhatCountsOnce) {
  const DistributedOp op = add_op(sum_of_all);
  const TensorSpec x = spec({1, 1}, "[-, -] partial(tp: sum)"), y = spec({1, 1}, "[-, -]");
  const auto plan = make_plan(op, std::vector<const TensorSpec*>{&x, &y}, {});
  const std::vector<std::optional<Tensor>> inputs{Tensor::of<double>({1, 1}, {3.0}), Tensor::of<double>({1, 1}, {5.0})};
  EXPECT_EQ(run_local(*plan, op.kernel, {0, 0}, inputs)[0].at<double>({0, 0}), 8.0);
  EXPECT_EQ(run_local(*plan, op.kernel, {1, 0}, inputs)[0].at<double>({0, 0}), 8.0);
  EXPECT_EQ(run_local(*plan, op.kernel, {0, 1}, inputs)[0].at<double>({0, 0}), 3.0);
  EXPECT_EQ(inputs[1]->at<double>({0, 0}), 5.0) << "the caller's operand stays as it is";
}

TEST(Expand, GivesAUsersKernelTheSameAdjustments) {
  const DistributedOp op = add_op();
  const TensorSpec x = spec({1, 1}, "[-, -] partial(tp: sum)"), y = spec({1, 1}, "[-, -]");
  const LocalKernel kernel =
      DistributedOp::expand(sum_of_all, make_plan(op, std::vector<const TensorSpec*>{&x, &y}, {}), {0, 1});
  const std::vector<std::optional<Tensor>> inputs{Tensor::of<double>({1, 1}, {3.0}), Tensor::of<double>({1, 1}, {5.0})};
  EXPECT_EQ(kernel(inputs)[0].at<double>({0, 0}), 3.0);
}

TEST(RunLocal, ChecksWhatTheKernelReturns) {
  const TensorSpec x = spec({4, 6}, "[dp, tp]");
  const auto fault = [&](Kernel kernel) -> std::string {
    const DistributedOp op = add_op(std::move(kernel));
    const std::vector<std::optional<Tensor>> inputs{Tensor::zeros({2, 3}, DType::kF64)};
    try {
      run_local(*make_plan(op, std::vector<const TensorSpec*>{&x}, {}), op.kernel, {0, 0}, inputs);
    } catch (const Error& error) {
      return error.diagnostic().code + "|" + error.what();
    }
    return "none";
  };
  const std::string hint =
      "\n  hint       a kernel returns one tensor for each result of the rule, of its local shape and dtype";
  EXPECT_EQ(fault([](const LocalCall&) { return std::vector<Tensor>{}; }),
            "kernel-result|add: the kernel returned 0 results, the rule has 1" + hint);
  EXPECT_EQ(fault([](const LocalCall&) {
              return std::vector{Tensor::zeros({4, 6}, DType::kF64)};
            }),
            "kernel-result|add: the kernel returned out as f64 [4, 6], the plan wants f64 [2, 3]" + hint);
  EXPECT_EQ(fault([](const LocalCall&) {
              return std::vector{Tensor::zeros({2, 3}, DType::kF32)};
            }),
            "kernel-result|add: the kernel returned out as f32 [2, 3], the plan wants f64 [2, 3]" + hint);
  EXPECT_EQ(fault({}),
            "no-kernel|add: has no kernel: it can be planned, but not run\n  hint       register it with a kernel");
}

}  // namespace
}  // namespace tessera
