// The parser of rules: one for literals and run-time texts.
#pragma once

#include <limits>
#include <string_view>

#include "core/rule/rule.h"

namespace tessera::rule_parser {

/// Ends the parsing with Error "rule-syntax" and a caret. Not constexpr: where a literal reaches it, the program does not compile,
/// and the compiler shows the message in its trace.
[[noreturn]] void fail_rule(std::string_view text, std::size_t at, std::string_view message);

class Parser {
 public:
  constexpr explicit Parser(std::string_view text) : text_(text) {}

  constexpr Rule parse() {
    if (text_.size() > kMaxRuleText) fail_rule(text_, 0, "the rule is longer than 768 characters");
    for (std::size_t i = 0; i < text_.size(); ++i) rule_.text[i] = text_[i];
    rule_.text_length = static_cast<std::uint16_t>(text_.size());
    rule_.operands = parse_tensors();
    if (!accept("->")) fail_rule(text_, at_, "expected ',' or '->'");
    rule_.results = parse_tensors();
    for (skip_space(); at_ < text_.size(); skip_space()) {
      if (!accept("|")) fail_rule(text_, at_, "expected ',', '|' or the end of the rule");
      parse_clause();
    }
    check();
    return rule_;
  }

 private:
  static constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
  static constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

  constexpr char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  constexpr void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r') ++at_;
  }
  constexpr bool accept(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  constexpr TextSlice parse_name() {
    const std::size_t begin = at_;
    while (is_letter(peek()) || (at_ > begin && is_digit(peek()))) ++at_;
    return {static_cast<std::uint16_t>(begin), static_cast<std::uint16_t>(at_ - begin)};
  }
  constexpr std::string_view str(TextSlice s) const { return text_.substr(s.begin, s.length); }

  // The factor of that name, a new one where `declare` says so; at the end it must be known.
  constexpr std::uint8_t factor(TextSlice name, bool declare) {
    for (std::size_t i = 0; i < rule_.factors.size(); ++i) {
      if (str(rule_.factors[i].name) == str(name)) return static_cast<std::uint8_t>(i);
    }
    if (!declare) fail_rule(text_, name.begin, "no operand or result has this factor");
    if (rule_.factors.full()) fail_rule(text_, name.begin, "more than 24 factors");
    RuleFactor added;
    added.name = name;
    rule_.factors.push_back(added);
    return static_cast<std::uint8_t>(rule_.factors.size() - 1);
  }

  constexpr StaticVector<RuleTensor, kMaxTensors> parse_tensors() {
    StaticVector<RuleTensor, kMaxTensors> tensors;
    do {
      if (tensors.full()) fail_rule(text_, at_, "a rule has at most 16 operands and 16 results");
      tensors.push_back(parse_tensor());
      skip_space();
    } while (accept(","));
    return tensors;
  }

  constexpr RuleTensor parse_tensor() {
    RuleTensor tensor;
    skip_space();
    const std::size_t begin = at_;
    const TextSlice name = parse_name();
    if (name.length > 0 && peek() == '[') {
      tensor.name = name;
      ++at_;
      parse_dims(tensor);
      if (!accept("]")) fail_rule(text_, at_, "expected a factor, '(', '...' or ']'");
      tensor.optional = accept("?");
    } else {
      at_ = begin;
      parse_dims(tensor);
    }
    return tensor;
  }

  constexpr void parse_dims(RuleTensor& tensor) {
    for (skip_space(); peek() != '\0'; skip_space()) {
      const std::size_t begin = at_;
      if (accept("...")) {
        if (tensor.ellipsis >= 0) fail_rule(text_, begin, "a tensor has one '...' at most");
        tensor.ellipsis = static_cast<std::int8_t>(tensor.rank());
        continue;
      }
      std::uint8_t count = 0;
      if (accept("(")) {
        for (skip_space(); peek() != ')'; skip_space()) {
          parse_factor(tensor, "expected a factor or ')'");
          ++count;
        }
        ++at_;
      } else if (peek() == '1' && (at_ + 1 == text_.size() || !(is_letter(text_[at_ + 1]) || is_digit(text_[at_ + 1])))) {
        ++at_;
      } else if (is_letter(peek())) {
        parse_factor(tensor, "expected a factor");
        count = 1;
      } else {
        return;
      }
      if (tensor.factors_of_dim.full()) fail_rule(text_, begin, "a tensor has at most 12 dims");
      tensor.factors_of_dim.push_back(count);
    }
  }

  constexpr void parse_factor(RuleTensor& tensor, std::string_view expected) {
    const TextSlice name = parse_name();
    if (name.length == 0) fail_rule(text_, at_, expected);
    const std::uint8_t f = factor(name, true);
    if (tensor.has(f)) fail_rule(text_, name.begin, "a tensor has a factor once at most");
    if (tensor.factors.full()) fail_rule(text_, name.begin, "a tensor has at most 20 factors");
    tensor.factors.push_back(f);
  }

  constexpr std::uint16_t parse_operand_set(std::string_view expected) {
    std::uint16_t set = 0;
    for (skip_space(); is_letter(peek()); skip_space()) {
      const TextSlice name = parse_name();
      std::size_t found = 0;
      while (found < rule_.operands.size() && str(rule_.operands[found].name) != str(name)) ++found;
      if (found == rule_.operands.size()) fail_rule(text_, name.begin, "no operand has this name");
      set = static_cast<std::uint16_t>(set | 1U << found);
    }
    if (set == 0) fail_rule(text_, at_, expected);
    return set;
  }

  constexpr void parse_clause() {
    skip_space();
    const TextSlice keyword = parse_name();
    const std::string_view word = str(keyword);
    if (word == "linear") {
      do {
        if (rule_.linear_terms.full()) fail_rule(text_, at_, "more than 4 terms");
        rule_.linear_terms.push_back(parse_operand_set("expected an operand"));
      } while (accept("+"));
    } else if (word == "move") {
      rule_.moved = static_cast<std::uint16_t>(rule_.moved | parse_operand_set("expected an operand"));
    } else if (word == "broadcast") {
      rule_.broadcast = static_cast<std::uint16_t>(rule_.broadcast | parse_operand_set("expected an operand"));
    } else if (word == "size") {
      skip_space();
      if (!is_letter(peek())) fail_rule(text_, at_, "expected a factor");
      for (; is_letter(peek()); skip_space()) {
        RuleFactor& sized = rule_.factors[factor(parse_name(), false)];
        sized.size = RuleFactor::kGivenLater;
        skip_space();
        if (!accept("=")) continue;
        skip_space();
        sized.size = parse_number();
      }
    } else {
      const Partial reduction = reduction_named(word);
      if (word != "whole" && reduction == Partial::kNone) {
        fail_rule(text_, keyword.begin,
                  "expected 'whole', 'linear', 'move', 'broadcast', 'size' or a reduction (sum, avg, max, min, prod, any, "
                  "all, softmax)");
      }
      bool any = false;
      for (skip_space(); is_letter(peek()); skip_space(), any = true) {
        const std::uint8_t f = factor(parse_name(), false);
        if (word == "whole") {
          rule_.factors[f].whole = true;
        } else {
          rule_.factors[f].reduction = reduction;
        }
      }
      if (!any) fail_rule(text_, at_, "expected a factor");
    }
  }

  constexpr std::int64_t parse_number() {
    const std::size_t begin = at_;
    std::int64_t value = 0;
    for (; is_digit(peek()); ++at_) {
      const std::int64_t digit = peek() - '0';
      if (value > (std::numeric_limits<std::int64_t>::max() - digit) / 10)
        fail_rule(text_, begin, "the number is too large");
      value = value * 10 + digit;
    }
    if (at_ == begin) fail_rule(text_, at_, "expected a number");
    if (value == 0) fail_rule(text_, begin, "a size is at least 1");
    return value;
  }

  static constexpr Partial reduction_named(std::string_view word) {
    if (word == "sum") return Partial::kSum;
    if (word == "avg") return Partial::kAvg;
    if (word == "max") return Partial::kMax;
    if (word == "min") return Partial::kMin;
    if (word == "prod") return Partial::kProd;
    if (word == "any") return Partial::kAny;
    if (word == "all") return Partial::kAll;
    if (word == "softmax") return Partial::kSoftmax;
    return Partial::kNone;
  }

  constexpr void check() {
    for (std::size_t i = 0; i < rule_.operands.size(); ++i) {
      const TextSlice name = rule_.operands[i].name;
      for (std::size_t j = 0; j < i && name.length > 0; ++j) {
        if (str(rule_.operands[j].name) == str(name)) fail_rule(text_, name.begin, "two operands have this name");
      }
    }
    for (std::size_t i = 0; i < rule_.results.size(); ++i) {
      const TextSlice name = rule_.results[i].name;
      for (std::size_t j = 0; j < i && name.length > 0; ++j) {
        if (str(rule_.results[j].name) == str(name)) fail_rule(text_, name.begin, "two results have this name");
      }
      if (rule_.results[i].optional) fail_rule(text_, name.begin, "a result cannot be optional");
    }
    check_reductions();
    check_linear();
    for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
      if (rule_.factors[f].size != 0) continue;
      bool known = false;
      for (const RuleTensor& tensor : rule_.operands) known = known || tensor.has(static_cast<std::uint8_t>(f));
      if (!known)
        fail_rule(text_, rule_.factors[f].name.begin, "no operand has this factor and no 'size' clause gives its size");
    }
  }

  static constexpr bool is_linear(Partial reduction) { return reduction == Partial::kSum || reduction == Partial::kAvg; }

  // A max of sums is no sum of maxima: parts may stay pending in one way only, the one that is made last.
  constexpr void check_reductions() {
    for (const RuleTensor& result : rule_.results) {
      int first = -1;
      for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
        const RuleFactor& factor = rule_.factors[f];
        if (result.has(static_cast<std::uint8_t>(f)) || factor.whole) continue;
        if (first < 0) first = static_cast<int>(f);
        const Partial other = rule_.factors[static_cast<std::size_t>(first)].reduction;
        if (other == factor.reduction || (is_linear(other) && is_linear(factor.reduction))) continue;
        fail_rule(text_, factor.name.begin,
                  "a result lacks this factor and one that is reduced otherwise: all but the last reduced must be whole");
      }
    }
  }

  constexpr void check_linear() {
    for (std::size_t t = 0; t < rule_.linear_terms.size(); ++t) {
      for (std::size_t o = 0; o < rule_.operands.size(); ++o) {
        if ((rule_.linear_terms[t] >> o & 1) == 0) continue;
        const RuleTensor& operand = rule_.operands[o];
        for (std::size_t other = 0; other < t; ++other) {
          if ((rule_.linear_terms[other] >> o & 1) != 0)
            fail_rule(text_, operand.name.begin, "an operand is in one 'linear' term at most");
        }
        for (const std::uint8_t f : operand.factors) {
          bool kept = true;
          for (const RuleTensor& result : rule_.results) kept = kept && result.has(f);
          if (!kept && !is_linear(rule_.factors[f].reduction)) {
            fail_rule(text_, rule_.factors[f].name.begin,
                      "a pending sum cannot pass: this factor of a 'linear' operand is reduced, not by sum or avg");
          }
        }
      }
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Rule rule_;
};

}  // namespace tessera::rule_parser

namespace tessera {

template <std::size_t N>
consteval Rule::Rule(const char (&literal)[N]) : Rule(rule_parser::Parser(std::string_view(literal, N - 1)).parse()) {}

}  // namespace tessera
