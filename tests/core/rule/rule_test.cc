// The parser of rules: every form of the grammar, and every fault with its caret.
#include "core/rule/rule.h"

#include <gmock/gmock.h>

#include <random>

#include "core/rule/binding.h"
#include "support/diagnostic.h"
#include "testing/matchers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

// Literals are parsed by the compiler.
constexpr Rule kMatmul = "x[... m k], w[... k n] -> out[... m n] | linear x w";
static_assert(kMatmul.operands.size() == 2 && kMatmul.results.size() == 1 && kMatmul.factors.size() == 3);
static_assert(kMatmul.operands[0].rank() == 2 && kMatmul.operands[0].ellipsis == 0 && kMatmul.has_ellipsis());
static_assert(kMatmul.slice(kMatmul.factors[2].name) == "n" && kMatmul.linear_terms.size() == 1 &&
              kMatmul.linear_terms[0] == 3);
static_assert(Rule("a -> a").factors.size() == 1);
static_assert(Rule("x[] -> x[]").operands[0].rank() == 0);

std::vector<std::string> names_of(const Rule& rule, std::span<const std::uint8_t> factors) {
  std::vector<std::string> names;
  for (std::uint8_t f : factors) names.push_back(factor_name(rule, f));
  return names;
}

TEST(Rule, NamedTensorsCompoundsAndOptionalOperands) {
  const Rule rule = Rule::parse("q[b (g r) s d], mask[b 1 s]? -> out[b (g r) s], lse_1[(b g r s)] | whole d");
  ASSERT_EQ(rule.operands.size(), 2u);
  ASSERT_EQ(rule.results.size(), 2u);
  EXPECT_EQ(operand_name(rule, 0), "q");
  EXPECT_EQ(operand_name(rule, 1), "mask");
  EXPECT_EQ(result_name(rule, 1), "lse_1");
  EXPECT_FALSE(rule.operands[0].optional);
  EXPECT_TRUE(rule.operands[1].optional);
  EXPECT_EQ(required_operands(rule), 1);
  EXPECT_EQ(find_operand(rule, "mask"), 1);
  EXPECT_EQ(find_operand(rule, "out"), -1);
  EXPECT_EQ(rule.operands[0].rank(), 4);
  EXPECT_THAT(names_of(rule, rule.operands[0].dim(1)), ElementsAre("g", "r"));
  EXPECT_THAT(names_of(rule, rule.operands[0].dim(3)), ElementsAre("d"));
  EXPECT_TRUE(rule.operands[1].dim(1).empty());
  EXPECT_THAT(names_of(rule, rule.results[1].dim(0)), ElementsAre("b", "g", "r", "s"));
  EXPECT_TRUE(rule.factors[4].whole);
  EXPECT_FALSE(rule.factors[0].whole);
}

TEST(Rule, UnnamedTensors) {
  const Rule rule = Rule::parse("m k, k n -> m n");
  EXPECT_EQ(operand_name(rule, 1), "operand 1");
  EXPECT_EQ(result_name(rule, 0), "result 0");
  EXPECT_EQ(find_operand(rule, ""), -1);
  EXPECT_THAT(names_of(rule, rule.results[0].factors), ElementsAre("m", "n"));
}

TEST(Rule, AScalarHasNoDims) {
  const Rule rule = Rule::parse("x, y[] -> , z[]");
  EXPECT_EQ(rule.operands[0].rank(), 1);
  EXPECT_EQ(rule.operands[1].rank(), 0);
  EXPECT_EQ(rule.results[0].rank(), 0);
  EXPECT_EQ(rule.results[1].rank(), 0);
}

TEST(Rule, Ellipsis) {
  const Rule rule = Rule::parse("x[a ... b], y[...] -> out[... a b]");
  EXPECT_EQ(rule.operands[0].ellipsis, 1);
  EXPECT_EQ(rule.operands[0].rank(), 2);
  EXPECT_EQ(rule.operands[1].ellipsis, 0);
  EXPECT_EQ(rule.operands[1].rank(), 0);
  EXPECT_TRUE(rule.has_ellipsis());
  EXPECT_FALSE(Rule::parse("a -> a").has_ellipsis());
}

TEST(Rule, Reductions) {
  for (const Partial partial : {Partial::kSum, Partial::kAvg, Partial::kMax, Partial::kMin, Partial::kProd, Partial::kAny,
                                Partial::kAll, Partial::kSoftmax}) {
    const Rule rule = Rule::parse("x[m k l] -> out[m] | " + std::string(to_string(partial)) + " k l");
    EXPECT_EQ(rule.factors[1].reduction, partial);
    EXPECT_EQ(rule.factors[2].reduction, partial);
    EXPECT_EQ(rule.factors[0].reduction, Partial::kSum);
  }
}

TEST(Rule, LinearMoveBroadcastAndSize) {
  const Rule rule = Rule::parse("x[m k], w[k], b[m] -> out[m (h j)] | linear x w + b | size h=8 j = 2");
  EXPECT_THAT(rule.linear_terms, ElementsAre(3, 4));
  EXPECT_EQ(rule.factors[2].size, 8);
  EXPECT_EQ(rule.factors[3].size, 2);
  const Rule moves = Rule::parse("x[m], y[m] -> out[m] | move x | broadcast y");
  EXPECT_EQ(moves.moved, 1);
  EXPECT_EQ(moves.broadcast, 2);
  EXPECT_TRUE(moves.linear_terms.empty());
}

TEST(Rule, PrintsTheTextItWasParsedFrom) {
  for (const char* text : {"m k, k n -> m n", "x[(a b)]->y[a b]|move x|size b=2", "  a  ->\n\ta  "}) {
    EXPECT_EQ(to_string(Rule::parse(text)), text);
  }
}

TEST(Rule, BlanksDoNotMatter) {
  const Rule tight = Rule::parse("x[m k],w[k n]->out[m n]|linear x w|whole k");
  const Rule loose = Rule::parse(" x[ m k ] , w[ k  n ] -> out[m\nn]\t| linear x\tw | whole k ");
  ASSERT_EQ(tight.factors.size(), loose.factors.size());
  EXPECT_EQ(tight.linear_terms, loose.linear_terms);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(tight.operands[i].factors, loose.operands[i].factors);
  EXPECT_TRUE(loose.factors[1].whole);
}

struct BadRule {
  std::string text;
  std::size_t column;  // of the caret
  std::string message;
};
void PrintTo(const BadRule& bad, std::ostream* out) { *out << bad.text; }

class BadRules : public ::testing::TestWithParam<BadRule> {};

TEST_P(BadRules, AreRefusedWithACaret) {
  const BadRule& bad = GetParam();
  try {
    Rule::parse(bad.text);
    FAIL() << "is accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.diagnostic().code, "rule-syntax");
    EXPECT_EQ(std::string(error.what()), "bad rule: " + bad.message + "\n  rule       " + bad.text + "\n             " +
                                             std::string(bad.column, ' ') + "^");
  }
}

constexpr const char* kExpectedClause =
    "expected 'whole', 'linear', 'move', 'broadcast', 'size' or a reduction (sum, avg, max, min, prod, any, all, softmax)";

INSTANTIATE_TEST_SUITE_P(
    Rules, BadRules,
    ::testing::Values(
        BadRule{"", 0, "expected ',' or '->'"}, BadRule{"m k", 3, "expected ',' or '->'"},
        BadRule{"m k, -> m + n", 10, "expected ',', '|' or the end of the rule"},
        BadRule{"m -> m -> m", 7, "expected ',', '|' or the end of the rule"},
        BadRule{"x[m k -> m", 6, "expected a factor, '(', '...' or ']'"},
        BadRule{"x[m 2] -> m", 4, "expected a factor, '(', '...' or ']'"},
        BadRule{"x[m 12] -> m", 4, "expected a factor, '(', '...' or ']'"},
        BadRule{"(a 3) -> a", 3, "expected a factor or ')'"}, BadRule{"(a b -> a", 5, "expected a factor or ')'"},
        BadRule{"x[... a ...] -> a", 8, "a tensor has one '...' at most"},
        BadRule{"a b a -> a", 4, "a tensor has a factor once at most"},
        BadRule{"(a a) -> a", 3, "a tensor has a factor once at most"},
        BadRule{"x[a], x[a] -> y[a]", 6, "two operands have this name"},
        BadRule{"x[a] -> y[a], y[a]", 14, "two results have this name"},
        BadRule{"x[a] -> y[a]?", 8, "a result cannot be optional"},
        BadRule{"a -> a b", 7, "no operand has this factor and no 'size' clause gives its size"},
        BadRule{"a -> a |", 8, kExpectedClause}, BadRule{"a -> a | hole a", 9, kExpectedClause},
        BadRule{"a -> a | whole", 14, "expected a factor"},
        BadRule{"a -> a | whole b", 15, "no operand or result has this factor"},
        BadRule{"a -> a | max 3", 13, "expected a factor"}, BadRule{"x[a] -> y[a] | linear", 21, "expected an operand"},
        BadRule{"x[a] -> y[a] | linear z", 22, "no operand has this name"},
        BadRule{"x[a] -> y[a] | linear x +", 25, "expected an operand"},
        BadRule{"x[a] -> y[a] | move", 19, "expected an operand"},
        BadRule{"x[a] -> y[a] | broadcast", 24, "expected an operand"},
        BadRule{"a, b, c, d, e -> a | linear", 27, "expected an operand"},
        BadRule{"p[a], q[a], r[a], s[a], t[a] -> a | linear p + q + r + s + t", 58, "more than 4 terms"},
        BadRule{"a -> a b | size", 15, "expected a factor"}, BadRule{"a -> a b | size =4", 16, "expected a factor"},
        BadRule{"a -> a b | size b=", 18, "expected a number"}, BadRule{"a -> a b | size b=x", 18, "expected a number"},
        BadRule{"a -> a b | size b=0", 18, "a size is at least 1"},
        BadRule{"a -> a b | size b=9223372036854775808", 18, "the number is too large"},
        BadRule{"x[m j k] -> y[m] | max j", 6,
                "a result lacks this factor and one that is reduced otherwise: all but the last reduced must be whole"},
        BadRule{"x[m k] -> y[m] | max k | linear x", 4,
                "a pending sum cannot pass: this factor of a 'linear' operand is reduced, not by sum or avg"},
        BadRule{"x[m], w[m] -> y[m] | linear x w + x", 0, "an operand is in one 'linear' term at most"},
        BadRule{"a b c d e f g h i j k l m -> a", 24, "a tensor has at most 12 dims"}));

TEST(BadRule, TooMuchOfAnything) {
  const auto message_of = [](const std::string& text) -> std::string {
    try {
      Rule::parse(text);
    } catch (const Error& error) {
      return error.diagnostic().message;
    }
    return "";
  };
  EXPECT_EQ(message_of(std::string(769, ' ')), "bad rule: the rule is longer than 768 characters");
  std::string operands = "a";
  for (int i = 1; i < 16; ++i) operands += ", a";
  EXPECT_EQ(message_of(operands + " -> a"), "");
  EXPECT_EQ(message_of(operands + ", a -> a"), "bad rule: a rule has at most 16 operands and 16 results");
  EXPECT_EQ(message_of("a -> " + operands + ", a"), "bad rule: a rule has at most 16 operands and 16 results");
  std::string compound = "(";
  for (int i = 0; i < 20; ++i) compound += "f" + std::to_string(i) + " ";
  EXPECT_EQ(message_of(compound + ") -> "), "");
  EXPECT_EQ(message_of(compound + "g) -> "), "bad rule: a tensor has at most 20 factors");
  EXPECT_EQ(message_of(compound + "), g0 g1 g2 g3 -> "), "");
  EXPECT_EQ(message_of(compound + "), g0 g1 g2 g3 g4 -> "), "bad rule: more than 24 factors");
}

TEST(BadRule, ALongTextIsShownAroundTheFault) {
  const std::string text = "a" + std::string(400, ' ') + "a -> a";
  EXPECT_THAT([&] { Rule::parse(text); },
              FailsWith("rule-syntax",
                        "\n  rule       " + std::string(80, ' ') + "a -> a\n             " + std::string(80, ' ') + "^"));
}

TEST(Rule, LeavesASizeToTheOperator) {
  const Rule& rule = parse_once("x[a] -> out[a g] | size g");
  EXPECT_EQ(&rule, &parse_once("x[a] -> out[a g] | size g"));
  EXPECT_NE(&rule, &parse_once("x[a] -> out[a g] | size g=2"));
  const TensorSpec x{{3}, DType::kF32, Layout::replicated(DeviceMesh(), 1)};
  const std::vector<const TensorSpec*> operands{&x};
  EXPECT_EQ(tessera::bind(rule.with_size("g", 4), operands).results[0], (Shape{3, 4}));
  EXPECT_EQ(rule.factors[1].size, RuleFactor::kGivenLater) << "the rule itself is as it was";
  try {
    tessera::bind(rule, operands);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "the shapes do not tell the size of factor g\n"
                 "  rule       x[a] -> out[a g] | size g\n"
                 "  hint       give it with a clause '| size g=...'");
  }
}

// Whatever the text: a rule, or the one error.
TEST(Rule, RandomTextsNeverDoAnythingElse) {
  const std::vector<std::string> tokens = {
      "x", "y", "a",      "b",       "c",     "[",    "]",     "(",          ")", "?", ",",  "->", "|",    "...", "1",
      "2", " ", "whole ", "linear ", "size ", "max ", "move ", "broadcast ", "=", "+", "\n", "-",  "\xff", "_9"};
  std::mt19937 random(20);
  int accepted = 0;
  for (int i = 0; i < 150000; ++i) {
    std::string text = i % 2 == 0 ? "" : "x[a b], y[b c] -> z[a c] |";
    const auto length = random() % 12;
    for (std::size_t k = 0; k < length; ++k) {
      const std::string& token = tokens[random() % tokens.size()];
      if (random() % 2 == 0) text += token;
      else text.insert(random() % (text.size() + 1), token);
    }
    try {
      const Rule rule = Rule::parse(text);
      EXPECT_EQ(to_string(rule), text);
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.diagnostic().code, "rule-syntax") << text;
    }
  }
  EXPECT_GT(accepted, 500);
}

}  // namespace
}  // namespace tessera
