// Shapes for a call whose case gives none.
#include <algorithm>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/tensor/dtype.h"
#include "support/diagnostic.h"
#include "testing/conformance/call.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

constexpr std::int64_t kUnknown = -1;
constexpr std::int64_t kMostDevices = 1 << 20;  // sizes stay small enough to be multiplied

// A dim of several factors; planning refuses one that is too large.
std::int64_t product(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<std::int64_t>::max() : result;
}

// How the sizes of factors are chosen; a call takes the first with which it is possible.
enum class Style : std::uint8_t {
  kMultiples,  // each factor a multiple of the next: query heads share key heads
  kDistinct,   // each another size
  kEqual,      // all the same
  kOnes,       // all the same, dims that are whole 1: they are expanded or squeezed
};
constexpr Style kStyles[] = {Style::kMultiples, Style::kDistinct, Style::kEqual, Style::kOnes};

class Inventor {
 public:
  Inventor(const DistributedOp& op, const std::vector<CallOperand>& operands, const Attributes& attributes, DeviceMesh mesh,
           Style style)
      : op_(op), operands_(operands), attributes_(attributes), mesh_(mesh), style_(style) {
    const auto include = [&](DeviceMesh other) {
      base_ = std::lcm(base_, 2 * std::min(other.device_count(), kMostDevices));
    };
    include(mesh);
    for (const CallOperand& operand : operands) {
      if (operand.input != nullptr && operand.input->contains("mesh_shape")) include(read_case_mesh(*operand.input));
    }
    const auto heads =
        attributes.get_optional<std::int64_t>("head_num");  // divides the dim in which heads and head dim are one
    if (heads && *heads > 0 && *heads < kMostDevices) base_ = std::lcm(base_, *heads);
  }

  std::vector<std::optional<TensorSpec>> invent() {
    std::vector<std::optional<TensorSpec>> specs = guess();
    constexpr int kRounds = 4;  // a rule that depends on the shapes may change with them
    for (int round = 0; round < kRounds; ++round) {
      std::optional<Rule> rule;
      try {
        rule = rule_of(specs);
      } catch (const Error&) {
        return specs;  // planning with them says what is wrong
      }
      std::vector<std::optional<TensorSpec>> next = solve(*rule, specs);
      if (next == specs) break;
      specs = std::move(next);
    }
    return specs;
  }

 private:
  [[nodiscard]] Rule rule_of(const std::vector<std::optional<TensorSpec>>& specs) const {
    if (!op_.rule_for) return op_.rule;
    std::vector<const TensorSpec*> pointers;
    for (const auto& spec : specs) pointers.push_back(spec ? &*spec : nullptr);
    const Attributes normalised = normalise(attributes_, op_.attributes, op_.name);
    return op_.rule_for({pointers, normalised});
  }

  // The dtype that the operator's examples give the operand: some take integers only.
  [[nodiscard]] DType dtype_of(std::size_t operand) const {
    for (const Example& example : op_.examples) {
      if (operand >= example.operands.size()) continue;
      const std::string& text = example.operands[operand];
      if (const auto dtype = parse_dtype(std::string_view(text).substr(0, text.find(' ')))) return *dtype;
    }
    return DType::kF32;
  }

  [[nodiscard]] std::int64_t size_given(std::size_t operand, std::size_t dim) const {
    return dim < operands_[operand].known.size() ? operands_[operand].known[dim] : kUnknown;
  }
  [[nodiscard]] bool is_split(std::size_t operand, std::size_t dim) const {
    return (operands_[operand].split >> dim & 1) != 0;
  }

  TensorSpec spec_of(std::size_t operand, const Shape& shape) const {
    return {shape, dtype_of(operand), Layout::replicated(mesh_, static_cast<int>(shape.size()))};
  }

  std::vector<std::optional<TensorSpec>> guess() const {
    std::vector<std::optional<TensorSpec>> specs(operands_.size());
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (!operands_[i].present) continue;
      Shape shape;
      const auto rank =
          std::min(static_cast<std::size_t>(operands_[i].rank.value_or(op_.rule.operands[i].rank())), kMaxRank);
      for (std::size_t dim = 0; dim < rank; ++dim) {
        const std::int64_t whole = style_ == Style::kOnes && !is_split(i, dim) ? 1 : base_;
        shape.push_back(size_given(i, dim) >= 0 ? size_given(i, dim) : whole);
      }
      specs[i] = spec_of(i, shape);
    }
    return specs;
  }

  // Sizes that attributes tell: heads of a dim in which heads and head dim are one, each query head with a key head of its own.
  void pin(const Rule& rule, std::vector<std::int64_t>& sizes) const {
    const auto heads = attributes_.get_optional<std::int64_t>("head_num");
    if (!heads || *heads < 1) return;
    for (std::size_t f = 0; f < rule.factors.size(); ++f) {
      const std::string name = factor_name(rule, static_cast<int>(f));
      if (name == "g") sizes[f] = *heads;
      if (name == "r") sizes[f] = 1;
    }
  }

  [[nodiscard]] std::int64_t chosen(std::size_t factor, std::size_t factors) const {
    constexpr std::int64_t kOdd[] = {1, 3, 5, 7, 9, 11, 13, 15};
    switch (style_) {
      case Style::kMultiples: return base_ << std::min<std::size_t>(factors - 1 - factor, 8);
      case Style::kDistinct: return base_ * kOdd[factor % std::size(kOdd)];
      default: return base_;
    }
  }

  // How many dims `...` stands for in an operand, and at most.
  [[nodiscard]] int batch_rank(const Rule& rule, std::size_t operand) const {
    if (rule.operands[operand].ellipsis < 0 || !operands_[operand].present || !operands_[operand].rank) return 0;
    return std::max(0, *operands_[operand].rank - rule.operands[operand].rank());
  }

  std::vector<std::optional<TensorSpec>> solve(const Rule& rule,
                                               const std::vector<std::optional<TensorSpec>>& before) const {
    std::vector<std::optional<TensorSpec>> specs(operands_.size());
    std::vector<std::int64_t> sizes(rule.factors.size(), kUnknown);
    for (std::size_t f = 0; f < sizes.size(); ++f) {
      if (rule.factors[f].size > 0) sizes[f] = rule.factors[f].size;
    }
    pin(rule, sizes);
    int batch = 0;
    bool beside = false;  // whether `...` stands beside other dims
    for (std::size_t i = 0; i < operands_.size() && i < rule.operands.size(); ++i) {
      batch = std::max(batch, batch_rank(rule, i));
      beside = beside || (rule.operands[i].ellipsis >= 0 && rule.operands[i].rank() > 0);
    }
    std::vector<std::int64_t> batch_sizes(static_cast<std::size_t>(batch), kUnknown);  // the leftmost first
    std::vector<bool> batch_split(batch_sizes.size(), false);
    const auto place_in_batch = [&](int count, int k) { return static_cast<std::size_t>(batch - count + k); };
    for (std::size_t i = 0; i < operands_.size() && i < rule.operands.size(); ++i) {
      if (operands_[i].present) {
        for_each_dim(rule, i, [&](std::size_t dim, std::span<const std::uint8_t> factors, int k, int count) {
          const std::int64_t given = size_given(i, dim);
          if (k >= 0) {
            batch_split[place_in_batch(count, k)] = batch_split[place_in_batch(count, k)] || is_split(i, dim);
            if (given > 1) batch_sizes[place_in_batch(count, k)] = given;
          } else if (factors.size() == 1 && given >= 0 && sizes[factors[0]] == kUnknown) {
            sizes[factors[0]] = given;
          }
        });
      }
    }
    const std::size_t all = sizes.size() + batch_sizes.size();
    for (std::size_t f = 0; f < sizes.size(); ++f) {
      if (sizes[f] == kUnknown) sizes[f] = chosen(f, all);
    }
    for (std::size_t b = 0; b < batch_sizes.size(); ++b) {
      if (batch_sizes[b] == kUnknown) batch_sizes[b] = chosen(sizes.size() + b, all);
    }
    for (std::size_t i = 0; i < operands_.size() && i < rule.operands.size(); ++i) {
      if (!operands_[i].present) continue;
      Shape shape;
      for_each_dim(rule, i, [&](std::size_t dim, std::span<const std::uint8_t> factors, int k, int count) {
        std::int64_t size = 1;
        if (k >= 0) {
          // A batch dim that is whole beside one that is split repeats; where an operator has nothing but `...`, sizes are equal.
          const bool repeats = beside && batch_split[place_in_batch(count, k)] && !is_split(i, dim);
          size = repeats ? 1 : batch_sizes[place_in_batch(count, k)];
        }
        for (std::uint8_t f : factors) size = product(size, sizes[f]);
        if (style_ == Style::kOnes && !is_split(i, dim)) size = 1;
        shape.push_back(size_given(i, dim) >= 0 ? size_given(i, dim) : size);
      });
      // An operand whose rank is not the rule's keeps its shape: planning says what is wrong.
      const bool fits = !operands_[i].rank || static_cast<int>(shape.size()) == *operands_[i].rank;
      specs[i] = fits ? spec_of(i, shape) : *before[i];
    }
    return specs;
  }

  // f(dim, its factors, its place in `...` or -1, how many dims `...` stands for)
  template <class F>
  void for_each_dim(const Rule& rule, std::size_t operand, F f) const {
    const RuleTensor& tensor = rule.operands[operand];
    const int count = batch_rank(rule, operand);
    std::size_t dim = 0;
    for (int d = 0; d <= tensor.rank(); ++d) {
      if (d == tensor.ellipsis) {
        for (int k = 0; k < count; ++k) f(dim++, std::span<const std::uint8_t>{}, k, count);
      }
      if (d < tensor.rank()) f(dim++, tensor.dim(d), -1, count);
    }
  }

  const DistributedOp& op_;
  const std::vector<CallOperand>& operands_;
  const Attributes& attributes_;
  DeviceMesh mesh_;
  Style style_;
  std::int64_t base_ = 2;
};

// Whether the call is possible with nothing split; else why not.
std::optional<Error> fault_of(const DistributedOp& op, const std::vector<std::optional<TensorSpec>>& specs,
                              const Attributes& attributes) {
  std::vector<const TensorSpec*> pointers;
  for (const auto& spec : specs) pointers.push_back(spec ? &*spec : nullptr);
  try {
    make_plan(op, pointers, attributes);
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace

std::vector<std::optional<TensorSpec>> invent_operands(const DistributedOp& op, std::vector<CallOperand> operands,
                                                       const Attributes& attributes, DeviceMesh mesh) {
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].present || op.rule.operands[i].optional) continue;
    const std::string name = operand_name(op.rule, static_cast<int>(i));
    fail(Diagnostic{.code = "missing-operand", .message = name + " is missing", .op = op.name, .operand = name});
  }
  // Some calls need operands that cases leave out (the lengths of a packed batch): the fewest that make it possible, as plain tensors.
  std::vector<std::size_t> absent;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].present) absent.push_back(i);
  }
  std::vector<std::uint32_t> choices(std::size_t{1} << std::min<std::size_t>(absent.size(), 6));
  std::iota(choices.begin(), choices.end(), 0U);
  std::stable_sort(choices.begin(), choices.end(),
                   [](std::uint32_t a, std::uint32_t b) { return std::popcount(a) < std::popcount(b); });
  std::optional<Error> first;
  for (std::uint32_t choice : choices) {
    std::vector<CallOperand> chosen = operands;
    for (std::size_t k = 0; k < absent.size(); ++k)
      chosen[absent[k]].present = chosen[absent[k]].present || (choice >> k & 1) != 0;
    for (Style style : kStyles) {
      std::vector<std::optional<TensorSpec>> specs = Inventor(op, chosen, attributes, mesh, style).invent();
      const std::optional<Error> fault = fault_of(op, specs, attributes);
      if (!fault) return specs;
      if (!first) first = fault;
    }
    if (first->diagnostic().code != "missing-operand") break;
  }
  throw *first;
}

}  // namespace tessera::conformance
