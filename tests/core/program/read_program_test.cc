// Reading configs: the value they give, what nothing may break.
#include "core/program/read_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core/program/check.h"
#include "layouts/notation.h"
#include "tests/core/program/small_ops.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kFull = R"json({
  // comments of both kinds
  "mesh": {"shape": [2, 4], "names": ["dp", "cp"], "devices": [7, 6, 5, 4, 3, 2, 1, 0],
           "links": {"cp": {"latency_us": 1.5, "bandwidth_gbps": 200}}},
  "tensors": {
    "x": {"shape": [8, 16], "dtype": "bf16", "layout": ["dp", "cp"]}, /* in between */
    "w": {"shape": [16, 4]},
    "y": {"dtype": "bf16", "layout": {"placements": ["Shard(0)", "Partial(sum)"]}}
  },
  "rules": {"twice": "a[i] -> b[i]"},
  "ops": [
    {"op": "mm", "inputs": {"w": "w", "x": "x"}, "outputs": ["y"]},
    {"op": "linear", "inputs": ["x", "w", null], "outputs": [null]},
    {"op": "softmax", "inputs": ["x"], "attrs": {"dim": 1, "mode": null}, "outputs": ["s"]},
    {"op": "twice", "inputs": ["x"], "outputs": ["t"]}
  ],
  "expect": {"s": {"shape": [8, 16]}}
})json";

TEST(ReadProgram, reads_all_that_a_config_says) {
  const Program program = read_program(kFull, small_ops::registry());
  ASSERT_THAT(program.faults, IsEmpty());
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}}, std::vector<std::int64_t>{7, 6, 5, 4, 3, 2, 1, 0});
  EXPECT_EQ(program.mesh, mesh);
  EXPECT_THAT(program.links, ElementsAre(std::nullopt, AxisLink{1.5, 200}));
  ASSERT_EQ(program.inputs.size(), 2U);
  const ProgramInput& x = *program.find_input("x");
  EXPECT_EQ(x.spec, (TensorSpec{{8, 16}, DType::kBF16, parse_layout(mesh, "[dp, cp]")}));
  EXPECT_EQ(x.pointer, "/tensors/x");
  EXPECT_EQ(x.layout_place.of(1), "/tensors/x/layout/1");
  EXPECT_EQ(x.layout_place.of(-1), "/tensors/x/layout");
  const ProgramInput& w = *program.find_input("w");
  EXPECT_EQ(w.spec, (TensorSpec{{16, 4}, DType::kF32, Layout::replicated(mesh, 2)}));
  EXPECT_EQ(w.layout_place.of(1), "");
  EXPECT_EQ(program.find_input("y"), nullptr);
}

TEST(ReadProgram, puts_operands_in_the_rules_order) {
  const Program program = read_program(kFull, small_ops::registry());
  ASSERT_EQ(program.ops.size(), 4U);
  EXPECT_EQ(program.ops[0].op->name, "matmul");
  EXPECT_EQ(program.ops[0].name, "mm");
  EXPECT_THAT(program.ops[0].inputs, ElementsAre("x", "w"));
  EXPECT_THAT(program.ops[0].input_places, ElementsAre("/ops/0/inputs/x", "/ops/0/inputs/w"));
  EXPECT_THAT(program.ops[1].inputs, ElementsAre("x", "w", ""));
  EXPECT_THAT(program.ops[1].outputs, ElementsAre(""));
  EXPECT_EQ(program.ops[2].attributes, (Attributes{{"dim", std::int64_t{1}}, {"mode", std::monostate{}}}));
  EXPECT_EQ(program.ops[3].op, program.rules->find("twice"));
}

TEST(ReadProgram, tells_annotations_from_inputs) {
  const Program program = read_program(kFull, small_ops::registry());
  ASSERT_EQ(program.annotations.size(), 1U);
  EXPECT_EQ(program.annotations[0].tensor, "y");
  EXPECT_EQ(program.annotations[0].dtype, DType::kBF16);
  EXPECT_FALSE(program.annotations[0].layout.has_value()) << "how many dims y has is known only after planning";
  EXPECT_THAT(program.annotations[0].placements, ElementsAre("Shard(0)", "Partial(sum)"));
  ASSERT_EQ(program.expectations.size(), 1U);
  EXPECT_EQ(program.expectations[0].shape, (Shape{8, 16}));
}

TEST(ReadProgram, prefers_a_configs_own_rules) {
  const Program program =
      read_program(R"({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [4, 4], "layout": [null, "dp"]}},
    "rules": {"softmax": "a b -> a b"}, "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["y"]}]})",
                   small_ops::registry());
  EXPECT_TRUE(check(program, Policy::kStrict).ok());
}

TEST(ReadProgram, needs_nothing_but_a_mesh) {
  EXPECT_THAT(read_program(R"({"mesh": {"shape": [], "names": []}})", small_ops::registry()).faults, IsEmpty());
}

TEST(ReadProgram, refuses_what_is_too_deep_whatever_its_length) {
  for (const std::string& text : {std::string(100000, '['), std::string(200, '[') + std::string(200, ']')}) {
    const Program program = read_program(text, small_ops::registry());
    ASSERT_EQ(program.faults.size(), 1U);
    EXPECT_EQ(to_string(program.faults[0]), "the config has more than 100 lists and objects inside one another");
  }
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += R"({"a":)";
  EXPECT_EQ(read_program(objects, small_ops::registry()).faults[0].code, "json-depth");
}

TEST(ReadProgram, shows_a_window_of_a_long_line) {
  const std::string text = R"({"mesh": ")" + std::string(500, 'm') + R"(", ä})";
  EXPECT_EQ(to_string(read_program(text, small_ops::registry()).faults.at(0)),
            "the config is no JSON: line 1, column 514: invalid literal; expected string literal\n"
            "  line 1     " +
                std::string(57, 'm') + "\", ä}\n" + std::string(13 + 60, ' ') + "^");
}

TEST(ReadProgram, reads_bytes_that_are_no_text) {
  for (const std::string& text : {std::string("\xff\xfe"), std::string("{\"\x01\": 1}"),
                                  std::string("{\"a\": \"\xc3\x28\"}"), std::string(3, '\0')}) {
    EXPECT_EQ(read_program(text, small_ops::registry()).faults.at(0).code, "json-syntax");
  }
}

// Every config with some bytes changed, cut out or doubled ends in a program and perhaps diagnostics, whatever it says then.
TEST(ReadProgram, survives_any_change_of_a_config) {
  std::mt19937 random(7);
  const std::string config = R"json({
  // y is a pending sum over cp, which softmax cannot take: strict says so, repairing reduces it
  "mesh": {"shape": [2, 4], "names": ["dp", "cp"], "links": {"cp": {"latency_us": 1.5, "bandwidth_gbps": 200}}},
  "tensors": {"x": {"shape": [8, 16], "dtype": "bf16", "layout": ["dp", {"axes": ["cp"], "distribution": {"cyclic": 2}}]},
              "w": {"shape": [16, 4], "layout": "[cp:cyclic(2), -]"}, "y": {"dtype": "bf16", "shape": [8, 4]}},
  "rules": {"twice": "a[i j] -> b[i j] | whole j"},
  "ops": [{"op": "mm", "inputs": {"w": "w", "x": "x"}, "outputs": ["y"]},
          {"op": "softmax", "inputs": ["y"], "attrs": {"dim": 1, "mode": null}, "outputs": ["s"]},
          {"op": "twice", "inputs": ["s"], "outputs": ["t"]}],
  "expect": {"t": {"shape": [8, 4], "layout": {"placements": ["Shard(0)", "Replicate"]}}}
})json";
  ASSERT_THAT(check(read_program(config, small_ops::registry()), Policy::kRepair).diagnostics, IsEmpty());
  const std::string bytes = "{}[]\",:0129.-eE nul/*dpxyw";
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  std::size_t sound = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string changed = config;
    for (std::size_t k = below(3) + 1; k-- > 0;) {
      const std::size_t at = below(changed.size());
      switch (below(4)) {
        case 0: changed[at] = bytes[below(bytes.size())]; break;
        case 1: changed.erase(at, below(12) + 1); break;
        case 2: changed.insert(at, changed.substr(below(changed.size()), below(20))); break;
        default: changed.insert(at, 1, bytes[below(bytes.size())]); break;
      }
    }
    for (Policy policy : {Policy::kStrict, Policy::kRepair}) {
      const CheckReport report = check(read_program(changed, small_ops::registry()), policy);
      for (const Diagnostic& diagnostic : report.diagnostics) EXPECT_FALSE(to_string(diagnostic).empty());
      sound += report.ok() ? 1U : 0U;
    }
  }
  EXPECT_GT(sound, 100U) << "changes of comments and blanks leave a config sound";
}

}  // namespace
}  // namespace tessera
