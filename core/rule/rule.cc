#include "core/rule/rule.h"

#include <fmt/format.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {

namespace rule_parser {

void fail_rule(std::string_view text, std::size_t at, std::string_view message) {
  Diagnostic diagnostic{.code = "rule-syntax", .message = fmt::format("bad rule: {}", message)};
  // A text of several lines or of a novel's length is shown around the fault.
  constexpr std::size_t kShown = 160;
  std::string shown(text);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  const std::size_t begin = at > kShown / 2 && shown.size() > kShown ? at - kShown / 2 : 0;
  diagnostic.details = {{"rule", with_caret(shown.substr(begin, kShown), at - begin), ""}};
  fail(std::move(diagnostic));
}

}  // namespace rule_parser

Rule Rule::parse(std::string_view text) { return rule_parser::Parser(text).parse(); }

Rule Rule::with_size(std::string_view factor, std::int64_t size) const {
  Rule sized = *this;
  for (RuleFactor& f : sized.factors) {
    if (slice(f.name) == factor) f.size = size;
  }
  return sized;
}

const Rule& parse_once(const std::string& text) {
  static std::shared_mutex mutex;
  static std::unordered_map<std::string, Rule> known;  // its values stay where they are
  {
    const std::shared_lock lock(mutex);
    if (const auto found = known.find(text); found != known.end()) return found->second;
  }
  const Rule parsed = Rule::parse(text);
  const std::unique_lock lock(mutex);
  return known.emplace(text, parsed).first->second;
}

std::string to_string(const Rule& rule) { return std::string(rule.text.data(), rule.text_length); }

std::string factor_name(const Rule& rule, int factor) {
  const RuleFactor& f = rule.factors[static_cast<std::size_t>(factor)];
  return f.batch > 0 ? fmt::format("...[{}]", -f.batch) : std::string(rule.slice(f.name));
}

std::string operand_name(const Rule& rule, int operand) {
  const TextSlice name = rule.operands[static_cast<std::size_t>(operand)].name;
  return name.length > 0 ? std::string(rule.slice(name)) : fmt::format("operand {}", operand);
}

std::string result_name(const Rule& rule, int result) {
  const TextSlice name = rule.results[static_cast<std::size_t>(result)].name;
  return name.length > 0 ? std::string(rule.slice(name)) : fmt::format("result {}", result);
}

int find_operand(const Rule& rule, std::string_view name) {
  for (std::size_t i = 0; i < rule.operands.size(); ++i) {
    if (rule.operands[i].name.length > 0 && rule.slice(rule.operands[i].name) == name) return static_cast<int>(i);
  }
  return -1;
}

int required_operands(const Rule& rule) {
  int count = 0;
  for (const RuleTensor& operand : rule.operands) count += operand.optional ? 0 : 1;
  return count;
}

}  // namespace tessera
