// Checking programs: what is inferred, repaired and held.
#include "core/program/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/program/read_program.h"
#include "layouts/notation.h"
#include "tests/core/program/small_ops.h"

namespace tessera {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

Program program_of(const std::string& tensors, const std::string& ops, const std::string& rest = "") {
  return read_program(R"({"mesh": {"shape": [2, 4], "names": ["dp", "tp"]}, "tensors": {)" + tensors + R"(}, "ops": [)" +
                          ops + "]" + rest + "}",
                      small_ops::registry());
}

constexpr const char* kX = R"("x": {"shape": [8, 16], "layout": ["dp", "tp"]})";
constexpr const char* kW = R"("w": {"shape": [16, 4], "layout": ["tp", null]})";
constexpr const char* kMatmul = R"({"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]})";

TEST(Check, infers_layouts_local_shapes_and_bytes) {
  const CheckReport report = check(program_of(std::string(kX) + "," + kW, kMatmul), Policy::kStrict);
  ASSERT_THAT(report.diagnostics, IsEmpty());
  ASSERT_THAT(report.ops, SizeIs(1));
  const CheckedOp& op = report.ops[0];
  EXPECT_EQ(op.op, "matmul");
  ASSERT_THAT(op.inputs, SizeIs(2));
  EXPECT_EQ(op.inputs[0].tensor, "x");
  EXPECT_EQ(op.inputs[0].operand, "x");
  EXPECT_EQ(op.inputs[0].local_shape, (Shape{4, 4}));
  EXPECT_EQ(op.inputs[0].bytes_per_rank, 64);
  ASSERT_THAT(op.outputs, SizeIs(1));
  EXPECT_EQ(op.outputs[0].tensor, "y");
  EXPECT_EQ(to_string(op.outputs[0].spec.layout), "[dp, -] partial(tp: sum)");
  EXPECT_EQ(op.outputs[0].local_shape, (Shape{4, 4}));
  EXPECT_THAT(op.redistributions, IsEmpty());
  EXPECT_EQ(report.tensors.at("y"), op.outputs[0].spec);
}

TEST(Check, goes_on_behind_a_failure_without_follow_ups) {
  const CheckReport report = check(program_of(
                                       std::string(kX) + "," + kW, R"({"op": "softmax", "inputs": ["x"], "outputs": ["s"]},
    {"op": "softmax", "inputs": ["s"], "outputs": ["t"]}, )" + std::string(kMatmul)),
                                   Policy::kStrict);
  EXPECT_THAT(report.diagnostics, SizeIs(1));
  ASSERT_THAT(report.ops, SizeIs(3));
  EXPECT_EQ(report.ops[0].plan, nullptr);
  EXPECT_EQ(report.ops[1].plan, nullptr);
  EXPECT_NE(report.ops[2].plan, nullptr);
  EXPECT_FALSE(report.tensors.contains("s"));
}

TEST(Check, repairs_operands) {
  const CheckReport report =
      check(program_of(kX, R"({"op": "softmax", "inputs": ["x"], "outputs": ["s"]})"), Policy::kRepair);
  ASSERT_THAT(report.diagnostics, IsEmpty());
  ASSERT_THAT(report.ops[0].redistributions, SizeIs(1));
  const Redistribution& moved = report.ops[0].redistributions[0];
  EXPECT_EQ(moved.op, "softmax");
  EXPECT_EQ(moved.operand, "x");
  EXPECT_EQ(moved.tensor, "x");
  EXPECT_EQ(to_string(moved.from), "[dp, tp]");
  EXPECT_EQ(to_string(moved.to), "[dp, -]");
  EXPECT_EQ(moved.bytes_per_rank, 4 * 12 * 4) << "three quarters of 4 x 16 floats";
  EXPECT_EQ(to_string(report.ops[0].inputs[0].spec.layout), "[dp, -]");
}

TEST(Check, repairs_results_to_their_annotations) {
  const Program program = program_of(std::string(kX) + "," + kW + R"(, "y": {"layout": ["dp", "tp"]})", kMatmul);
  const CheckReport strict = check(program, Policy::kStrict);
  ASSERT_THAT(strict.diagnostics, SizeIs(1));
  EXPECT_EQ(to_string(strict.diagnostics[0]),
            "the layout of 'y' is not as annotated\n"
            "  annotated  [dp, tp]   at /tensors/y/layout\n"
            "  inferred   [dp, -] partial(tp: sum)\n"
            "  hint       change the layouts of the inputs, or use --repair");
  const CheckReport repaired = check(program, Policy::kRepair);
  ASSERT_THAT(repaired.diagnostics, IsEmpty());
  ASSERT_THAT(repaired.ops[0].redistributions, SizeIs(1));
  EXPECT_EQ(repaired.ops[0].redistributions[0].operand, "out");
  EXPECT_EQ(to_string(repaired.tensors.at("y").layout), "[dp, tp]");
}

TEST(Check, takes_layouts_that_give_every_rank_the_same_as_equal) {
  const Program program = read_program(
      R"({"mesh": {"shape": [1, 4], "names": ["dp", "tp"]}, "tensors": {"x": {"shape": [8, 16], "layout": ["dp", null]}},
    "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]}],
    "expect": {"s": {"layout": [null, null]}, "x": {"layout": [{"axes": ["dp"], "distribution": "balanced"}, null]}}})",
      small_ops::registry());
  EXPECT_THAT(check(program, Policy::kStrict).diagnostics, IsEmpty());
}

TEST(Check, counts_the_results_of_a_rule_that_attributes_decide) {
  Registry registry;
  registry.add({.name = "parts", .rule = "x[a] -> u[a], v[a]", .kernel = nullptr, .rule_for = [](const CallSpec&) {
                  return Rule("x[a] -> u[a]");
                }});
  const Program program = read_program(R"({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [4]}},
    "ops": [{"op": "parts", "inputs": ["x"], "outputs": ["u", "v"]}]})",
                                       registry);
  ASSERT_THAT(program.faults, IsEmpty());
  const CheckReport report = check(program, Policy::kStrict);
  ASSERT_THAT(report.diagnostics, SizeIs(1));
  EXPECT_EQ(to_string(report.diagnostics[0]),
            "parts: has 1 result in this call, 2 are named\n"
            "  rule       x[a] -> u[a]\n"
            "  at         /ops/0/outputs\n"
            "  hint       name the results in their order; null for one that is not wanted");
}

TEST(Check, refuses_a_result_with_too_many_bytes) {
  const Program program = read_program(R"({"mesh": {"shape": [2], "names": ["dp"]},
    "tensors": {"x": {"shape": [2000000000, 1]}, "w": {"shape": [1, 2000000000]}},
    "ops": [{"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}]})",
                                       small_ops::registry());
  const CheckReport report = check(program, Policy::kStrict);
  ASSERT_THAT(report.diagnostics, SizeIs(1));
  EXPECT_EQ(to_string(report.diagnostics[0]),
            "matmul: out of shape [2000000000, 2000000000] would take more than 2^63-1 bytes\n  at         /ops/0");
}

// Neither the mesh nor the shapes are ever listed: with them this test would not end.
TEST(Check, costs_the_same_on_a_million_devices) {
  const Program program = read_program(R"({"mesh": {"shape": [1000, 1000], "names": ["dp", "tp"]},
    "tensors": {"x": {"shape": [1000000000, 1000000], "dtype": "bf16", "layout": [{"axes": ["dp", "tp"], "distribution": {"cyclic": 1}}, null]}},
    "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]}]})",
                                       small_ops::registry());
  const CheckReport report = check(program, Policy::kStrict);
  ASSERT_THAT(report.diagnostics, IsEmpty());
  EXPECT_EQ(report.ops[0].outputs[0].bytes_per_rank, 2'000'000'000);
}

}  // namespace
}  // namespace tessera
