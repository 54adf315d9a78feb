#include "core/rule/binding.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::int64_t kUnknown = -1;

Diagnostic operand_fault(std::string_view code, std::string message, const Rule& rule, int operand, int dim,
                         const OpNames& names) {
  Diagnostic diagnostic{.code = std::string(code), .message = std::move(message), .op = std::string(names.op)};
  diagnostic.operand = operand_name(rule, operand);
  diagnostic.dim = dim;
  diagnostic.details = {{"rule", to_string(rule), ""}};
  return diagnostic;
}

// How many dims `...` stands for: the most that any operand needs. Operands with fewer lack the leading ones.
int batch_rank(const Rule& rule, OperandSpecs operands) {
  int count = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i] == nullptr || rule.operands[i].ellipsis < 0) continue;
    count = std::max(count, static_cast<int>(operands[i]->shape.size()) - rule.operands[i].rank());
  }
  return count;
}

// The tensor with `...` replaced by the last `count` of the batch factors, which are numbered from `first` on, the leftmost first.
RuleTensor expand(const RuleTensor& tensor, int count, int first, int batch) {
  RuleTensor expanded = tensor;
  expanded.ellipsis = -1;
  expanded.factors.clear();
  expanded.factors_of_dim.clear();
  for (int dim = 0; dim <= tensor.rank(); ++dim) {
    if (dim == tensor.ellipsis) {
      for (int i = batch - count; i < batch; ++i) {
        expanded.factors.push_back(static_cast<std::uint8_t>(first + i));
        expanded.factors_of_dim.push_back(1);
      }
    }
    if (dim == tensor.rank()) break;
    for (std::uint8_t factor : tensor.dim(dim)) expanded.factors.push_back(factor);
    expanded.factors_of_dim.push_back(static_cast<std::uint8_t>(tensor.dim(dim).size()));
  }
  return expanded;
}

void expand_ellipsis(Rule& rule, OperandSpecs operands, const OpNames& names) {
  const int batch = batch_rank(rule, operands);
  const int first = static_cast<int>(rule.factors.size());
  const auto check_room = [&](const RuleTensor& tensor, int count) {
    if (rule.factors.size() <= kMaxFactors && tensor.factors.size() + static_cast<std::size_t>(count) <= 20 &&
        tensor.rank() + count <= static_cast<int>(kMaxRank)) {
      return;
    }
    Diagnostic diagnostic{.code = "rank-mismatch",
                          .message = fmt::format("'...' would stand for {} dims, which are too many", batch)};
    diagnostic.op = std::string(names.op);
    diagnostic.details = {{"rule", to_string(rule), ""}};
    fail(std::move(diagnostic));
  };
  for (int i = 0; i < batch; ++i) {
    RuleFactor factor;
    factor.batch = static_cast<std::int8_t>(batch - i);
    if (rule.factors.full()) check_room(RuleTensor{}, static_cast<int>(kMaxRank) + 1);
    rule.factors.push_back(factor);
  }
  for (std::size_t i = 0; i < rule.operands.size(); ++i) {
    RuleTensor& tensor = rule.operands[i];
    if (tensor.ellipsis < 0) continue;
    const bool present = i < operands.size() && operands[i] != nullptr;
    const int count = present ? std::max(0, static_cast<int>(operands[i]->shape.size()) - tensor.rank()) : 0;
    check_room(tensor, count);
    tensor = expand(tensor, count, first, batch);
  }
  for (RuleTensor& tensor : rule.results) {
    if (tensor.ellipsis < 0) continue;
    check_room(tensor, batch);
    tensor = expand(tensor, batch, first, batch);
  }
}

void check_operands(const Rule& rule, OperandSpecs operands, const OpNames& names) {
  if (operands.size() > rule.operands.size()) {
    Diagnostic diagnostic{.code = "too-many-operands",
                          .message = fmt::format("takes {} operands, {} are given", rule.operands.size(), operands.size())};
    diagnostic.op = std::string(names.op);
    diagnostic.details = {{"rule", to_string(rule), ""}};
    fail(std::move(diagnostic));
  }
  for (std::size_t i = 0; i < rule.operands.size(); ++i) {
    const auto operand = static_cast<int>(i);
    if (i >= operands.size() || operands[i] == nullptr) {
      if (rule.operands[i].optional) continue;
      fail(operand_fault("missing-operand", fmt::format("{} is missing", operand_name(rule, operand)), rule, operand, -1,
                         names));
    }
    const auto rank = static_cast<int>(operands[i]->shape.size());
    const RuleTensor& tensor = rule.operands[i];
    if (tensor.ellipsis >= 0 ? rank >= tensor.rank() : rank == tensor.rank()) continue;
    fail(operand_fault("rank-mismatch",
                       fmt::format("{} has {} dims {}, the rule gives it {}{}", operand_name(rule, operand), rank,
                                   to_string(operands[i]->shape), tensor.rank(), tensor.ellipsis >= 0 ? " at least" : ""),
                       rule, operand, -1, names));
  }
}

// Finds the sizes of the factors. Dims of one factor tell it; compounds with one unknown follow, until nothing new is learnt.
class SizeSolver {
 public:
  SizeSolver(Binding& binding, OperandSpecs operands, const OpNames& names)
      : binding_(binding), rule_(binding.rule), operands_(operands), names_(names) {
    for (const RuleFactor& factor : rule_.factors) {
      binding_.sizes.push_back(factor.size > 0 ? factor.size : kUnknown);
      origin_.push_back(factor.size > 0 ? kFromClause : kNowhere);
    }
  }

  void solve() {
    for_each_dim([&](int operand, int dim, std::span<const std::uint8_t> factors, std::int64_t n) {
      if (factors.empty() && n != 1) {
        fail(operand_fault("size-mismatch",
                           fmt::format("{} dim {} has size {}, the rule wants 1", operand_name(rule_, operand), dim, n),
                           rule_, operand, dim, names_));
      }
      if (factors.size() == 1 && !(n == 1 && may_repeat(operand, factors[0]))) learn(operand, dim, factors[0], n);
    });
    // A dim of size 1 that may repeat does so where another operand has more; a factor that is 1 everywhere is just 1.
    for_each_dim([&](int operand, int dim, std::span<const std::uint8_t> factors, std::int64_t n) {
      if (factors.size() != 1 || n != 1 || !may_repeat(operand, factors[0])) return;
      if (size(factors[0]) == kUnknown) learn(operand, dim, factors[0], 1);
      if (size(factors[0]) != 1) repeat(operand, dim);
    });
    while (solve_compounds()) {
    }
    for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
      if (binding_.sizes[f] != kUnknown) continue;
      if (!is_needed(static_cast<std::uint8_t>(f))) {  // only in operands that are absent
        binding_.sizes[f] = 1;
        continue;
      }
      Diagnostic diagnostic{.code = "unknown-size",
                            .message = fmt::format("the shapes do not tell the size of {}",
                                                   describe_factor(rule_, static_cast<int>(f), names_))};
      diagnostic.op = std::string(names_.op);
      diagnostic.factor = factor_name(rule_, static_cast<int>(f));
      diagnostic.details = {{"rule", to_string(rule_), ""}};
      diagnostic.hint = fmt::format("give it with a clause '| size {}=...'", diagnostic.factor);
      fail(std::move(diagnostic));
    }
  }

 private:
  static constexpr std::int16_t kNowhere = -1;
  static constexpr std::int16_t kFromClause = -2;

  template <class F>
  void for_each_dim(F&& f) const {
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i] == nullptr) continue;
      const RuleTensor& tensor = rule_.operands[i];
      std::size_t begin = 0;
      for (std::size_t dim = 0; dim < tensor.factors_of_dim.size(); ++dim) {
        const std::span<const std::uint8_t> factors(tensor.factors.data() + begin, tensor.factors_of_dim[dim]);
        begin += factors.size();
        f(static_cast<int>(i), static_cast<int>(dim), factors, operands_[i]->shape[dim]);
      }
    }
  }

  [[nodiscard]] std::int64_t size(std::uint8_t factor) const { return binding_.sizes[factor]; }
  [[nodiscard]] bool may_repeat(int operand, std::uint8_t factor) const {
    return rule_.factors[factor].batch > 0 || (rule_.broadcast >> operand & 1) != 0;
  }
  void repeat(int operand, int dim) {
    auto& dims = binding_.repeated[static_cast<std::size_t>(operand)];
    dims = static_cast<std::uint16_t>(dims | 1U << dim);
  }
  // Whether the factor is in a result or in an operand that is there.
  [[nodiscard]] bool is_needed(std::uint8_t factor) const {
    for (const RuleTensor& tensor : rule_.results) {
      if (tensor.has(factor)) return true;
    }
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i] != nullptr && rule_.operands[i].has(factor)) return true;
    }
    return false;
  }

  void learn(int operand, int dim, std::uint8_t factor, std::int64_t n) {
    if (size(factor) == kUnknown) {
      binding_.sizes[factor] = n;
      origin_[factor] = static_cast<std::int16_t>(operand * static_cast<int>(kMaxRank) + dim);
    } else if (size(factor) != n) {
      const std::int16_t from = origin_[factor];
      const std::string place = from == kFromClause
                                    ? "by its 'size' clause"
                                    : fmt::format("in {} (dim {})", operand_name(rule_, from / static_cast<int>(kMaxRank)),
                                                  from % static_cast<int>(kMaxRank));
      Diagnostic diagnostic =
          operand_fault("size-mismatch",
                        fmt::format("{} is {} {} but {} in {} (dim {})", describe_factor(rule_, factor, names_),
                                    size(factor), place, n, operand_name(rule_, operand), dim),
                        rule_, operand, dim, names_);
      diagnostic.factor = factor_name(rule_, factor);
      fail(std::move(diagnostic));
    }
  }

  bool solve_compounds() {
    bool learnt = false;
    for_each_dim([&](int operand, int dim, std::span<const std::uint8_t> factors, std::int64_t n) {
      if (factors.size() < 2) return;
      std::int64_t product = 1;
      int unknown = -1;
      for (std::uint8_t factor : factors) {
        if (size(factor) != kUnknown) {
          product *= size(factor);
        } else if (unknown < 0) {
          unknown = factor;
        } else {
          return;  // two unknowns: perhaps another operand tells one
        }
      }
      if (n == 1 && product != 1 && (rule_.broadcast >> operand & 1) != 0) {
        repeat(operand, dim);
      } else if (unknown >= 0 && product != 0 && n % product == 0) {
        learn(operand, dim, static_cast<std::uint8_t>(unknown), n / product);
        learnt = true;
      } else if (unknown >= 0 || product != n) {
        std::string parts;
        for (std::uint8_t factor : factors) {
          if (size(factor) != kUnknown)
            parts += fmt::format("{}{}={}", parts.empty() ? "" : " ", factor_name(rule_, factor), size(factor));
        }
        fail(operand_fault("size-mismatch",
                           fmt::format("{} dim {} has size {}, which is {} {}", operand_name(rule_, operand), dim, n,
                                       unknown >= 0 ? "no multiple of" : "not the product of", parts),
                           rule_, operand, dim, names_));
      }
    });
    return learnt;
  }

  Binding& binding_;
  const Rule& rule_;
  OperandSpecs operands_;
  const OpNames& names_;
  StaticVector<std::int16_t, kMaxFactors> origin_;  // operand * kMaxRank + dim that told a factor's size
};

}  // namespace

std::string describe_factor(const Rule& rule, int factor, const OpNames& names) {
  const std::string name = factor_name(rule, factor);
  for (const FactorMeaning& known : names.meanings) {
    if (known.factor == name) return fmt::format("factor {} ({})", name, known.meaning);
  }
  return fmt::format("factor {}", name);
}

Binding bind(const Rule& rule, OperandSpecs operands, const OpNames& names) {
  Binding binding;
  check_operands(rule, operands, names);
  binding.rule = rule;
  if (rule.has_ellipsis()) expand_ellipsis(binding.rule, operands, names);
  SizeSolver(binding, operands, names).solve();
  for (const RuleTensor& tensor : binding.rule.results) {
    Shape shape;
    std::size_t next = 0;
    for (std::uint8_t count : tensor.factors_of_dim) {
      std::int64_t n = 1;
      for (std::uint8_t i = 0; i < count; ++i) {
        if (__builtin_mul_overflow(n, binding.sizes[tensor.factors[next++]], &n)) {
          fail("shape-too-large", "a result would have a dim of more than 2^63-1 indices");
        }
      }
      shape.push_back(n);
    }
    element_count(shape);  // throws where the result is too large
    binding.results.push_back(shape);
  }
  return binding;
}

}  // namespace tessera
