// Shardy's rules: what is read, what is refused with which words, and what they are in our notation.
#include "core/rule/shardy_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "core/rule/inference.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using Json = nlohmann::json;

template <class F>
std::string text_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string refusal(std::string_view text) {
  return text_of([&] { rule_from_shardy(text); });
}

TEST(ShardyRule, ReadsTensorsSizesAndSets) {
  const ShardyRule rule = parse_shardy_rule(
      "([ij, k, l, m], [])->([i, jn]) {i=2, j=4, k=8, l=3, m=5, n=6} reduction={k} need_replication={l} permutation={m} "
      "blocked_propagation={i, n}, custom");
  EXPECT_THAT(rule.operands, ElementsAre(ShardyRule::Tensor{{0, 1}, {2}, {3}, {4}}, ShardyRule::Tensor{}));
  EXPECT_THAT(rule.results, ElementsAre(ShardyRule::Tensor{{0}, {1, 5}}));
  EXPECT_THAT(rule.factors, ElementsAre(ShardyFactor{"i", 2, ShardyFactorKind::kPassThrough, true}, ShardyFactor{"j", 4},
                                        ShardyFactor{"k", 8, ShardyFactorKind::kReduction},
                                        ShardyFactor{"l", 3, ShardyFactorKind::kNeedReplication},
                                        ShardyFactor{"m", 5, ShardyFactorKind::kPermutation},
                                        ShardyFactor{"n", 6, ShardyFactorKind::kPassThrough, true}));
  EXPECT_TRUE(rule.custom);
  EXPECT_FALSE(parse_shardy_rule("([i])->([i]) {i=8}").custom);
}

TEST(ShardyRule, CountsFactorsOnBehindZ) {
  const ShardyRule rule = parse_shardy_rule(
      "([i, j, k, l, m, n, o, p, q, r, s, t], [u, v, w, x, y, zz_1z_2])->([z_2]) {i=2, j=2, k=2, l=2, m=2, n=2, o=2, p=2, "
      "q=2, r=2, s=2, t=2, u=2, v=2, "
      "w=2, x=2, y=2, z=2, z_1=3, z_2=5}");
  ASSERT_EQ(rule.factors.size(), 20U);
  EXPECT_EQ(rule.factors[17], (ShardyFactor{"z", 2}));
  EXPECT_EQ(rule.factors[18], (ShardyFactor{"z_1", 3}));
  EXPECT_THAT(rule.operands[1].back(), ElementsAre(17, 18, 19));
  EXPECT_THAT(rule.results, ElementsAre(ShardyRule::Tensor{{19}}));
}

TEST(ShardyRule, IsTheSameInOurNotation) {
  EXPECT_EQ(to_string(rule_from_shardy("([i, k], [k, j])->([i, j]) {i=2, j=4, k=8} reduction={k}")),
            "x0[i k], x1[k j] -> y0[i j] | size i=2 j=4 k=8");
  EXPECT_EQ(to_string(rule_from_shardy("([ij], [])->([i, j]) {i=2, j=4}")), "x0[(i j)], x1[] -> y0[i j] | size i=2 j=4");
  EXPECT_EQ(to_string(rule_from_shardy("([i, j, k])->([i, j, k]) {i=2, j=4, k=8} need_replication={j} permutation={k}")),
            "x0[i j k] -> y0[i j k] | whole j k | size i=2 j=4 k=8");
}

TEST(ShardyRule, WhatAResultDropsWithoutReducingItIsWhole) {
  EXPECT_EQ(to_string(rule_from_shardy("([i, j])->([i, j], [i]) {i=2, j=4}")),
            "x0[i j] -> y0[i j], y1[i] | whole j | size i=2 j=4");
  EXPECT_EQ(to_string(rule_from_shardy("([i, j])->([i]) {i=2, j=4}")), "x0[i j] -> y0[i] | whole j | size i=2 j=4");
}

TEST(ShardyRule, InfersAsOurs) {
  const DeviceMesh mesh({{"a", 2}, {"b", 2}});
  const TensorSpec x{{2, 8}, DType::kF32, parse_layout(mesh, "[a, b]")};
  const TensorSpec w{{8, 4}, DType::kF32, parse_layout(mesh, "[b, -]")};
  const Rule rule = rule_from_shardy("([i, k], [k, j])->([i, j]) {i=2, j=4, k=8} reduction={k}");
  EXPECT_EQ(to_string(infer(rule, std::array<const TensorSpec*, 2>{&x, &w}).results[0]), "[a, -] partial(b: sum)");
}

TEST(ShardyRule, ASizeOfZeroIsToldByAnOperand) {
  EXPECT_EQ(to_string(rule_from_shardy("([i, j])->([i, j]) {i=8, j=0}")), "x0[i j] -> y0[i j] | size i=8");
  EXPECT_EQ(refusal("([i])->([i, j]) {i=8, j=0}"), "factor 'j' has size 0, and no operand tells it");
}

TEST(ShardyRule, RefusesWhatIsNoFactor) {
  EXPECT_EQ(refusal("([a, j])->([j]) {a=2, j=4}"),
            "expected a factor from 'i' to 'z', found 'a'\n"
            "  text       ([a, j])->([j]) {a=2, j=4}\n"
            "               ^\n"
            "  hint       write them i to z, then z_1, z_2, ...");
  EXPECT_EQ(refusal("([i_1, j])->([i]) {i_1=2, j=4}"),
            "expected a factor from 'i' to 'z', found '_'\n"
            "  text       ([i_1, j])->([i]) {i_1=2, j=4}\n"
            "                ^\n"
            "  hint       write them i to z, then z_1, z_2, ...");
  EXPECT_EQ(refusal("([z_z_1, j])->([i]) {z_1=2, j=4}"),
            "expected a positive number after 'z_'\n"
            "  text       ([z_z_1, j])->([i]) {z_1=2, j=4}\n"
            "               ^^");
  EXPECT_EQ(refusal("([j, z_0])->([jz_0]) {i=4, z_0=2}"),
            "expected a positive number after 'z_'\n"
            "  text       ([j, z_0])->([jz_0]) {i=4, z_0=2}\n"
            "                  ^^^");
  EXPECT_EQ(refusal("([z_9223372036854775808])->([i]) {i=4}"),
            "the number of the factor does not fit in 64 bits\n"
            "  text       ([z_9223372036854775808])->([i]) {i=4}\n"
            "               ^^^^^^^^^^^^^^^^^^^^^");
  EXPECT_EQ(refusal("([i,])->([i]) {i=4}"),
            "expected a factor, found ']'\n"
            "  text       ([i,])->([i]) {i=4}\n"
            "                 ^");
}

TEST(ShardyRule, RefusesSizesThatAreNotThoseOfItsFactors) {
  EXPECT_EQ(refusal("([j, k])->([jk]) {j=2, k=4}"),
            "expected the size of factor 'i', found that of 'j'\n"
            "  text       ([j, k])->([jk]) {j=2, k=4}\n"
            "                               ^\n"
            "  hint       give the sizes of all factors in the order i, j, k, ...");
  EXPECT_EQ(refusal("([i, z])->([i]) {i=2, j=4}"),
            "factor 'z' has no size\n"
            "  text       ([i, z])->([i]) {i=2, j=4}\n"
            "                  ^\n"
            "  hint       the factors are i to j");
  EXPECT_EQ(refusal("([i])->([i]) {}"),
            "factor 'i' has no size\n"
            "  text       ([i])->([i]) {}\n"
            "               ^\n"
            "  hint       give it in the braces");
  EXPECT_EQ(refusal("([i])->([i]) {i=2, j=4}"),
            "no operand or result has factor 'j'\n"
            "  text       ([i])->([i]) {i=2, j=4}\n"
            "                                ^\n"
            "  hint       leave its size out");
  EXPECT_EQ(refusal("([i])->([i]) {i=-2}"),
            "a size is at least 0\n"
            "  text       ([i])->([i]) {i=-2}\n"
            "                             ^^");
  EXPECT_EQ(refusal("([i])->([i]) {i=99999999999999999999}"),
            "the number does not fit in 64 bits\n"
            "  text       ([i])->([i]) {i=99999999999999999999}\n"
            "                             ^^^^^^^^^^^^^^^^^^^^");
  EXPECT_EQ(refusal("([ij])->([i]) {ij=2}"),
            "expected one factor\n"
            "  text       ([ij])->([i]) {ij=2}\n"
            "                             ^");
}

TEST(ShardyRule, RefusesDimsThatNoTensorHas) {
  EXPECT_EQ(refusal("([ij, k])->([iik]) {i=2, j=2, k=2}"),
            "the tensor has factor 'i' twice\n"
            "  text       ([ij, k])->([iik]) {i=2, j=2, k=2}\n"
            "                           ^\n"
            "  hint       a tensor has a factor once at most");
  EXPECT_EQ(refusal("([i, jk])->([i, j]) {i=2, j=8, k=1}"),
            "factor 'k' has size 1, but is not alone in its dim\n"
            "  text       ([i, jk])->([i, j]) {i=2, j=8, k=1}\n"
            "                   ^\n"
            "  hint       leave it out of the dim");
}

TEST(ShardyRule, RefusesSetsThatDoNotFit) {
  EXPECT_EQ(refusal("([i, k])->([i, k]) {i=2, j=8} need_replication={i}"),
            "factor 'k' has no size\n"
            "  text       ([i, k])->([i, k]) {i=2, j=8} need_replication={i}\n"
            "                  ^\n"
            "  hint       the factors are i to j");
  EXPECT_EQ(refusal("([i, j])->([i, j]) {i=2, j=8} need_replication={j, i}"),
            "factor 'i' stands behind 'j' in need_replication\n"
            "  text       ([i, j])->([i, j]) {i=2, j=8} need_replication={j, i}\n"
            "                                                                ^\n"
            "  hint       name the factors in the order of their sizes");
  EXPECT_EQ(refusal("([i, j])->([i, j]) {i=2, j=8} permutation={i, i}"),
            "factor 'i' stands twice in permutation\n"
            "  text       ([i, j])->([i, j]) {i=2, j=8} permutation={i, i}\n"
            "                                                           ^\n"
            "  hint       name it once");
  EXPECT_EQ(refusal("([i, j])->([i]) {i=2, j=8} reduction={j} need_replication={j}"),
            "factor 'j' is in two sets\n"
            "  text       ([i, j])->([i]) {i=2, j=8} reduction={j} need_replication={j}\n"
            "                                                                        ^\n"
            "  hint       a factor is in one of reduction, need_replication and permutation");
  EXPECT_EQ(refusal("([i, j])->([i, j]) {i=2, j=8} reduction={j}"),
            "factor 'j' is reduced, but a result has it\n"
            "  text       ([i, j])->([i, j]) {i=2, j=8} reduction={j}\n"
            "                                                      ^\n"
            "  hint       what is reduced is in operands only");
  EXPECT_EQ(refusal("([i])->([i]) {i=2} permutation={z}"),
            "factor 'z' has no size\n"
            "  text       ([i])->([i]) {i=2} permutation={z}\n"
            "                                             ^\n"
            "  hint       the factors are i to i");
  EXPECT_EQ(refusal("([i, j])->([i]) {i=2, j=3} need_replication={i} reduction={j}"),
            "expected the end, or sets in the order reduction, need_replication, permutation, blocked_propagation, found "
            "'reduction'\n"
            "  text       ([i, j])->([i]) {i=2, j=3} need_replication={i} reduction={j}\n"
            "                                                             ^^^^^^^^^");
}

TEST(ShardyRule, RefusesWhatIsNotTheNotation) {
  EXPECT_EQ(refusal(""), "expected '(' and the tensors, found the end\n  text       \n             ^");
  EXPECT_EQ(refusal("()->([i]) {i=2}"),
            "expected '[' and the dims of a tensor, found ')'\n"
            "  text       ()->([i]) {i=2}\n"
            "              ^");
  EXPECT_EQ(refusal("([i] [i])->([i]) {i=2}"),
            "expected ',' or ')', found '['\n"
            "  text       ([i] [i])->([i]) {i=2}\n"
            "                  ^");
  EXPECT_EQ(refusal("([i j])->([i]) {i=2}"),
            "expected ',' or ']', found 'j'\n"
            "  text       ([i j])->([i]) {i=2}\n"
            "                 ^");
  EXPECT_EQ(refusal("([i]) ([i]) {i=2}"),
            "expected '->', found '('\n"
            "  text       ([i]) ([i]) {i=2}\n"
            "                   ^");
  EXPECT_EQ(refusal("([i])->([i])"),
            "expected '{' and the sizes of the factors, found the end\n"
            "  text       ([i])->([i])\n"
            "                         ^");
  EXPECT_EQ(refusal("([i])->([i]) {i 2}"),
            "expected '=', found '2'\n"
            "  text       ([i])->([i]) {i 2}\n"
            "                             ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=j}"),
            "expected the size of the factor, found 'j'\n"
            "  text       ([i])->([i]) {i=j}\n"
            "                             ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=2 j=3}"),
            "expected ',' or '}', found 'j'\n"
            "  text       ([i])->([i]) {i=2 j=3}\n"
            "                               ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=2} permutation {i}"),
            "expected '=', found '{'\n"
            "  text       ([i])->([i]) {i=2} permutation {i}\n"
            "                                            ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=2} permutation=i"),
            "expected '{' and factors, found 'i'\n"
            "  text       ([i])->([i]) {i=2} permutation=i\n"
            "                                            ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=2} permutation={i"),
            "expected ',' or '}', found the end\n"
            "  text       ([i])->([i]) {i=2} permutation={i\n"
            "                                              ^");
  EXPECT_EQ(refusal("([i])->([i]) {i=2}, mine"),
            "expected 'custom', found 'mine'\n"
            "  text       ([i])->([i]) {i=2}, mine\n"
            "                                 ^^^^");
}

TEST(ShardyRule, ChecksShapes) {
  const ShardyRule rule = parse_shardy_rule("([i, j], [i])->([i, j]) {i=2, j=4}");
  const auto fault = [&](const std::vector<Shape>& operands, const std::vector<Shape>& results) {
    return text_of([&] { check_shapes(rule, operands, results); });
  };
  EXPECT_EQ(fault({{2, 4}, {2}}, {{2, 4}}), "no error");
  EXPECT_EQ(fault({{20, 3}, {2}}, {{2, 4}}), "no error");  // a dim may be longer or shorter than its factor
  EXPECT_EQ(fault({{2, 4}}, {{2, 4}}), "the rule has 2 operands, the operator 1");
  EXPECT_EQ(fault({{2, 4}, {2}}, {{2, 4}, {2}}), "the rule has 1 result, the operator 2");
  EXPECT_EQ(fault({{2, 4}, {2, 4}}, {{2, 4}}), "operand 1 has 2 dims [2, 4], the rule gives it 1");
  EXPECT_EQ(fault({{2, 4}, {2}}, {{2}}), "result 0 has 1 dims [2], the rule gives it 2");
}

TEST(ShardyRule, RefusesWhatOursHasNoRoomFor) {
  std::string operands;
  for (int i = 0; i < 17; ++i) operands += i == 0 ? "[i]" : ", [i]";
  const std::string text = refusal("(" + operands + ")->([i]) {i=2}");
  EXPECT_EQ(text.substr(0, text.find('\n')), "bad rule: a rule has at most 16 operands and 16 results");
  EXPECT_EQ(parse_shardy_rule("(" + operands + ")->([i]) {i=2}").operands.size(), 17U);
}

// Every rule of the corpus of Shardy's and Paddle's tests: read, fitting the shapes where they are given, and sayable in our notation.
TEST(ShardyRule, AcceptsEveryRuleOfTheCorpus) {
  std::ifstream file("tests/conformance/shardy_paddle_oneflow.json");
  const Json corpus = Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  const auto shapes = [](const Json& json) {
    std::vector<Shape> list;
    for (const Json& shape : json) {
      const auto sizes = shape.get<std::vector<std::int64_t>>();
      list.emplace_back(sizes.begin(), sizes.end());
    }
    return list;
  };
  // One case lacks the shape of its first operand, the predicate of a select.
  const std::map<std::string, std::string> faults{{"shardy/rule/select", "the rule has 3 operands, the operator 2"}};
  int read = 0;
  const auto accept = [&](const std::string& id, const Json& rule, const Json& operands, const Json& results) {
    if (!rule.is_string()) return;
    ++read;
    EXPECT_EQ(text_of([&] {
                const ShardyRule parsed = parse_shardy_rule(rule.get<std::string>());
                if (!operands.is_null()) check_shapes(parsed, shapes(operands), shapes(results));
                const Rule ours = to_rule(parsed);
                if (ours.operands.size() != parsed.operands.size()) fail("operands", "operands are lost");
                if (ours.factors.size() != parsed.factors.size()) fail("factors", "factors are lost");
              }),
              faults.contains(id) ? faults.at(id) : "no error")
        << id << ": " << rule;
  };
  for (const Json& test : corpus["cases"]) {
    const std::string id = test["id"];
    const std::string kind = test["kind"];
    if (kind == "op_to_rule" || kind == "insert_reshards")
      accept(id, test["rule"], test["operand_shapes"], test["result_shapes"]);
    if (kind == "infer") accept(id, test["rule"], nullptr, nullptr);
    if (kind != "propagate") continue;
    for (const Json& op : test["ops"]) {
      Json operands = Json::array();
      Json results = Json::array();
      for (const Json& name : op["operands"]) operands.push_back(test["tensors"][name.get<std::string>()]);
      for (const Json& name : op["results"]) results.push_back(test["tensors"][name.get<std::string>()]);
      accept(id, op["rule"], operands, results);
    }
  }
  EXPECT_EQ(read, 397);
}

}  // namespace
}  // namespace tessera
