// Reads Shardy's rules.
#include "core/rule/shardy_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "layouts/text_reader.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::int64_t kLetters = 'z' - 'i' + 1;  // i to z; the next factor is z_1

std::string symbol(std::int64_t index) {
  if (index < kLetters) return std::string(1, static_cast<char>('i' + index));
  return fmt::format("z_{}", index - kLetters + 1);
}

class ShardyRuleParser {
 public:
  explicit ShardyRuleParser(std::string_view text) : text_(text), reader_(text, "shardy-rule") {}

  ShardyRule parse() {
    rule_.operands = read_tensors();
    reader_.expect("->", "'->'");
    rule_.results = read_tensors();
    read_sizes();
    resolve();
    read_set("reduction", ShardyFactorKind::kReduction);
    read_set("need_replication", ShardyFactorKind::kNeedReplication);
    read_set("permutation", ShardyFactorKind::kPermutation);
    read_blocked();
    if (reader_.accept(",")) {
      reader_.expect("custom", "'custom'");
      rule_.custom = true;
    }
    if (!reader_.at_end()) {
      reader_.fail_expected("the end, or sets in the order reduction, need_replication, permutation, blocked_propagation");
    }
    return std::move(rule_);
  }

 private:
  // A factor where it stands in the text.
  struct Use {
    std::int64_t index = 0;
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  [[noreturn]] void fail_use(const Use& use, std::string message, std::string hint = {}) const {
    reader_.fail_at(use.begin, use.end, reader_.fault(std::move(message), std::move(hint)));
  }

  [[nodiscard]] std::string_view name_of(const Use& use) const { return text_.substr(use.begin, use.end - use.begin); }

  // One factor of the letters at `at`, which ends before `end`.
  Use read_factor(std::size_t at, std::size_t end) const {
    const char letter = text_[at];
    if (letter < 'i' || letter > 'z') {
      fail_use({0, at, at + 1}, fmt::format("expected a factor from 'i' to 'z', found '{}'", letter),
               "write them i to z, then z_1, z_2, ...");
    }
    if (letter != 'z' || at + 1 == end || text_[at + 1] != '_') return {letter - 'i', at, at + 1};
    const char* const first = text_.data() + at + 2;
    const char* const last = text_.data() + end;
    std::int64_t number = 0;
    const auto [next, status] = std::from_chars(first, last, number);
    const std::size_t stop = at + 2 + static_cast<std::size_t>(next - first);
    if (status == std::errc::result_out_of_range)
      fail_use({0, at, stop}, "the number of the factor does not fit in 64 bits");
    if (number == 0) fail_use({0, at, stop}, "expected a positive number after 'z_'");
    if (__builtin_add_overflow(number, kLetters - 1, &number))
      number = std::numeric_limits<std::int64_t>::max();  // no rule has so many
    return {number, at, stop};
  }

  // The factors that stand together: "ij", "jz_1".
  std::vector<Use> read_factors() {
    const std::size_t begin = reader_.position();
    if (reader_.accept_word().empty()) reader_.fail_expected("a factor");
    std::vector<Use> uses;
    for (std::size_t at = begin; at < reader_.end_of_last(); at = uses.back().end) {
      uses.push_back(read_factor(at, reader_.end_of_last()));
    }
    return uses;
  }

  Use read_one() {
    const std::vector<Use> uses = read_factors();
    if (uses.size() > 1) fail_use(uses[1], "expected one factor");
    return uses[0];
  }

  std::vector<ShardyRule::Tensor> read_tensors() {
    std::vector<ShardyRule::Tensor> tensors;
    reader_.expect("(", "'(' and the tensors");
    do {
      reader_.expect("[", "'[' and the dims of a tensor");
      ShardyRule::Tensor& tensor = tensors.emplace_back();
      std::vector<Use> uses;
      if (reader_.accept("]")) continue;
      do {
        const std::vector<Use> dim = read_factors();
        for (const Use& use : dim) {
          if (std::any_of(uses.begin(), uses.end(), [&](const Use& other) { return other.index == use.index; })) {
            fail_use(use, fmt::format("the tensor has factor '{}' twice", name_of(use)),
                     "a tensor has a factor once at most");
          }
          uses.push_back(use);
        }
        dims_.push_back(dim);
        tensor.emplace_back(dim.size());
      } while (reader_.accept(","));
      reader_.expect("]", "',' or ']'");
    } while (reader_.accept(","));
    reader_.expect(")", "',' or ')'");
    return tensors;
  }

  void read_sizes() {
    reader_.expect("{", "'{' and the sizes of the factors");
    if (reader_.accept("}")) return;
    do {
      const Use use = read_one();
      const auto next = static_cast<std::int64_t>(rule_.factors.size());
      if (use.index != next) {
        fail_use(use, fmt::format("expected the size of factor '{}', found that of '{}'", symbol(next), name_of(use)),
                 "give the sizes of all factors in the order i, j, k, ...");
      }
      reader_.expect("=", "'='");
      const std::size_t begin = reader_.position();
      const std::int64_t size = reader_.integer("the size of the factor");
      if (size < 0) reader_.fail_from(begin, reader_.fault("a size is at least 0"));
      rule_.factors.push_back({.name = symbol(next), .size = size});
      declared_.push_back(use);
    } while (reader_.accept(","));
    reader_.expect("}", "',' or '}'");
  }

  // From the letters of the dims to the factors that have a size.
  void resolve() {
    std::vector<bool> used(rule_.factors.size(), false);
    std::size_t next = 0;
    for (std::vector<ShardyRule::Tensor>* tensors : {&rule_.operands, &rule_.results}) {
      for (ShardyRule::Tensor& tensor : *tensors) {
        for (std::vector<int>& dim : tensor) {
          const std::vector<Use>& uses = dims_[next++];
          for (std::size_t i = 0; i < uses.size(); ++i) {
            dim[i] = known(uses[i]);
            used[static_cast<std::size_t>(dim[i])] = true;
            if (uses.size() > 1 && rule_.factors[static_cast<std::size_t>(dim[i])].size == 1) {
              fail_use(uses[i], fmt::format("factor '{}' has size 1, but is not alone in its dim", name_of(uses[i])),
                       "leave it out of the dim");
            }
          }
        }
      }
    }
    for (std::size_t f = 0; f < used.size(); ++f) {
      if (!used[f])
        fail_use(declared_[f], fmt::format("no operand or result has factor '{}'", rule_.factors[f].name),
                 "leave its size out");
    }
  }

  int known(const Use& use) const {
    if (use.index < static_cast<std::int64_t>(rule_.factors.size())) return static_cast<int>(use.index);
    fail_use(use, fmt::format("factor '{}' has no size", name_of(use)),
             rule_.factors.empty() ? "give it in the braces"
                                   : fmt::format("the factors are i to {}", rule_.factors.back().name));
  }

  std::vector<Use> read_set(std::string_view name) {
    std::vector<Use> uses;
    if (!reader_.accept(name)) return uses;
    reader_.expect("=", "'='");
    reader_.expect("{", "'{' and factors");
    do {
      const Use use = read_one();
      known(use);
      if (!uses.empty() && use.index == uses.back().index) {
        fail_use(use, fmt::format("factor '{}' stands twice in {}", name_of(use), name), "name it once");
      }
      if (!uses.empty() && use.index < uses.back().index) {
        fail_use(use, fmt::format("factor '{}' stands behind '{}' in {}", name_of(use), name_of(uses.back()), name),
                 "name the factors in the order of their sizes");
      }
      uses.push_back(use);
    } while (reader_.accept(","));
    reader_.expect("}", "',' or '}'");
    return uses;
  }

  void read_set(std::string_view name, ShardyFactorKind kind) {
    for (const Use& use : read_set(name)) {
      ShardyFactor& factor = rule_.factors[static_cast<std::size_t>(use.index)];
      if (factor.kind != ShardyFactorKind::kPassThrough) {
        fail_use(use, fmt::format("factor '{}' is in two sets", factor.name),
                 "a factor is in one of reduction, need_replication and permutation");
      }
      if (kind == ShardyFactorKind::kReduction && in_result(static_cast<int>(use.index))) {
        fail_use(use, fmt::format("factor '{}' is reduced, but a result has it", factor.name),
                 "what is reduced is in operands only");
      }
      factor.kind = kind;
    }
  }

  void read_blocked() {
    for (const Use& use : read_set("blocked_propagation"))
      rule_.factors[static_cast<std::size_t>(use.index)].blocked = true;
  }

  [[nodiscard]] bool in_result(int factor) const {
    return std::any_of(rule_.results.begin(), rule_.results.end(), [&](const ShardyRule::Tensor& tensor) {
      return std::any_of(tensor.begin(), tensor.end(),
                         [&](const auto& dim) { return std::find(dim.begin(), dim.end(), factor) != dim.end(); });
    });
  }

  std::string_view text_;
  TextReader reader_;
  ShardyRule rule_;
  std::vector<std::vector<Use>> dims_;  // of each dim of each tensor
  std::vector<Use> declared_;           // where each size stands
};

void check_side(std::span<const ShardyRule::Tensor> tensors, std::span<const Shape> shapes, std::string_view side) {
  if (tensors.size() != shapes.size()) {
    fail("shardy-rule-count", fmt::format("the rule has {} {}{}, the operator {}", tensors.size(), side,
                                          tensors.size() == 1 ? "" : "s", shapes.size()));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].size() == shapes[i].size()) continue;
    fail("shardy-rule-rank", fmt::format("{} {} has {} dims {}, the rule gives it {}", side, i, shapes[i].size(),
                                         to_string(shapes[i]), tensors[i].size()));
  }
}

bool has_factor(const ShardyRule::Tensor& tensor, int factor) {
  return std::any_of(tensor.begin(), tensor.end(),
                     [&](const auto& dim) { return std::find(dim.begin(), dim.end(), factor) != dim.end(); });
}

// "x0[i (j k)], x1[]"
std::string tensors_text(const ShardyRule& rule, std::span<const ShardyRule::Tensor> tensors, char letter) {
  std::string text;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<std::string> dims;
    for (const std::vector<int>& dim : tensors[i]) {
      std::vector<std::string> names;
      for (int factor : dim) names.push_back(rule.factors[static_cast<std::size_t>(factor)].name);
      dims.push_back(names.size() == 1 ? names[0] : fmt::format("({})", fmt::join(names, " ")));
    }
    text += fmt::format("{}{}{}[{}]", i == 0 ? "" : ", ", letter, i, fmt::join(dims, " "));
  }
  return text;
}

}  // namespace

ShardyRule parse_shardy_rule(std::string_view text) { return ShardyRuleParser(text).parse(); }

void check_shapes(const ShardyRule& rule, std::span<const Shape> operands, std::span<const Shape> results) {
  check_side(rule.operands, operands, "operand");
  check_side(rule.results, results, "result");
}

Rule to_rule(const ShardyRule& rule) {
  std::string text = fmt::format("{} -> {}", tensors_text(rule, rule.operands, 'x'), tensors_text(rule, rule.results, 'y'));
  std::vector<std::string> whole;
  std::vector<std::string> sizes;
  for (std::size_t f = 0; f < rule.factors.size(); ++f) {
    const ShardyFactor& factor = rule.factors[f];
    const auto has = [f](const ShardyRule::Tensor& tensor) { return has_factor(tensor, static_cast<int>(f)); };
    const bool dropped = !std::all_of(rule.results.begin(), rule.results.end(), has);
    const bool passes =
        factor.kind == ShardyFactorKind::kReduction || (factor.kind == ShardyFactorKind::kPassThrough && !dropped);
    if (!passes) whole.push_back(factor.name);
    if (factor.size > 0) {
      sizes.push_back(fmt::format("{}={}", factor.name, factor.size));
    } else if (std::none_of(rule.operands.begin(), rule.operands.end(), has)) {
      fail("shardy-rule-limit", fmt::format("factor '{}' has size 0, and no operand tells it", factor.name));
    }
  }
  if (!whole.empty()) text += fmt::format(" | whole {}", fmt::join(whole, " "));
  if (!sizes.empty()) text += fmt::format(" | size {}", fmt::join(sizes, " "));
  try {
    return Rule::parse(text);
  } catch (const Error& error) {  // all that is left: our limits
    Diagnostic diagnostic = error.diagnostic();
    diagnostic.code = "shardy-rule-limit";
    fail(std::move(diagnostic));
  }
}

Rule rule_from_shardy(std::string_view text) { return to_rule(parse_shardy_rule(text)); }

}  // namespace tessera
