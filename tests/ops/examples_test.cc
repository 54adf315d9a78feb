// Every example of every dense operator: it is planned as it stands, and proved in every layout of its operands.
#include <gmock/gmock.h>

#include <set>

#include "layouts/notation.h"
#include "testing/matchers.h"
#include "testing/prover.h"
#include "tests/ops/calls.h"

namespace tessera {
namespace {

std::vector<const DistributedOp*> with_kernel() {
  std::vector<const DistributedOp*> ops = dense_catalogue().all();
  std::erase_if(ops, [](const DistributedOp* op) { return !op->kernel; });
  return ops;
}

const auto kName = [](const auto& test) { return test.param->name; };

class Examples : public ::testing::TestWithParam<const DistributedOp*> {};
class ExampleProofs : public ::testing::TestWithParam<const DistributedOp*> {};

TEST_P(Examples, AreAccepted) {
  ASSERT_FALSE(GetParam()->examples.empty());
  EXPECT_FALSE(GetParam()->summary.empty());
  for (const Example& example : GetParam()->examples) {
    const ExampleCall call = read_example(example);
    EXPECT_NO_THROW(make_plan(*GetParam(), call.pointers(), call.attributes)) << example.operands[0];
  }
}

// Floats in f64, so that what rounding may change is told from what is wrong.
TEST_P(ExampleProofs, HoldInEveryLayout) {
  const DistributedOp& op = *GetParam();
  for (const Example& example : op.examples) {
    const ExampleCall call = read_example(example);
    std::vector<std::optional<TensorCase>> operands;
    for (const auto& operand : call.operands) {
      if (!operand) {
        operands.emplace_back();
      } else {
        operands.emplace_back(TensorCase{operand->shape, is_floating(operand->dtype) ? DType::kF64 : operand->dtype});
      }
    }
    for (const DeviceMesh mesh : {DeviceMesh({{"dp", 2}}), DeviceMesh({{"dp", 2}, {"tp", 2}})}) {
      ProofOptions options;
      options.find_missed = false;
      EXPECT_THAT(prove(op, operands, call.attributes, mesh, options), IsSound()) << example.operands[0];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dense, Examples, ::testing::ValuesIn(dense_catalogue().all()), kName);
INSTANTIATE_TEST_SUITE_P(Dense, ExampleProofs, ::testing::ValuesIn(with_kernel()), kName);

TEST(Catalogue, RunsAllButTheGenericOperators) {
  std::vector<std::string> planned_only;
  for (const DistributedOp* op : dense_catalogue().all()) {
    if (!op->kernel) planned_only.push_back(op->name);
  }
  EXPECT_THAT(planned_only, ::testing::ElementsAre("element_wise", "element_wise_with_partial"));
}

TEST(Catalogue, HasTheNamesThatOtherSystemsUse) {
  const std::pair<const char*, const char*> names[] = {{"Add", "add"},
                                                       {"AddExt", "add"},
                                                       {"add_", "add"},
                                                       {"Sub", "sub"},
                                                       {"SubExt", "sub"},
                                                       {"Mul", "mul"},
                                                       {"mul_", "mul"},
                                                       {"RealDiv", "div"},
                                                       {"div_", "div"},
                                                       {"FloorDiv", "floor_div"},
                                                       {"Mod", "remainder"},
                                                       {"Neg", "neg"},
                                                       {"Contiguous", "clone"},
                                                       {"Cast", "cast"},
                                                       {"ToDtype", "cast"},
                                                       {"LessEqual", "le"},
                                                       {"GreaterEqual", "ge"},
                                                       {"__eq__", "eq"},
                                                       {"NotEqual", "ne"},
                                                       {"LogicalOr", "logical_or"},
                                                       {"__and__", "bitwise_and"},
                                                       {"__or__", "bitwise_or"},
                                                       {"__invert__", "bitwise_not"},
                                                       {"__rsub__", "rsub"},
                                                       {"masked_fill_", "masked_fill"},
                                                       {"MatMul", "matmul"},
                                                       {"MatMulExt", "matmul"},
                                                       {"BatchMatMul", "matmul"},
                                                       {"BatchMatMulExt", "matmul"},
                                                       {"Dense", "linear"},
                                                       {"SumExt", "sum"},
                                                       {"MeanExt", "mean"},
                                                       {"ReduceMax", "amax"},
                                                       {"MaxDim", "max"},
                                                       {"MinDim", "min"},
                                                       {"Softmax", "softmax"},
                                                       {"RmsNorm", "rms_norm"},
                                                       {"npu_rms_norm", "rms_norm"},
                                                       {"Embedding", "embedding"},
                                                       {"Swiglu", "swiglu"},
                                                       {"Transpose", "permute"},
                                                       {"TransposeExtView", "transpose"},
                                                       {"Reshape", "reshape"},
                                                       {"ExpandDims", "expand_dims"},
                                                       {"unsqueeze", "expand_dims"},
                                                       {"Squeeze", "squeeze"},
                                                       {"AddScalar", "add_scalar"},
                                                       {"SubScalar", "sub_scalar"},
                                                       {"OnesLikeExt", "ones_like"},
                                                       {"Silu", "silu"}};
  for (const auto& [alias, name] : names) {
    ASSERT_NE(dense_catalogue().find(alias), nullptr) << alias;
    EXPECT_EQ(dense_catalogue().find(alias)->name, name);
  }
}

}  // namespace
}  // namespace tessera
