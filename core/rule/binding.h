// A rule bound to the shapes of a call: the sizes of its factors, and the shapes of its results.
#pragma once

#include <array>
#include <string_view>

#include "core/rule/rule.h"
#include "core/tensor/spec.h"

namespace tessera {

/// What a letter of a rule means, for messages: {"n", "query heads"}.
struct FactorMeaning {
  std::string_view factor;
  std::string_view meaning;
};

/// How the operator is called in messages.
struct OpNames {
  std::string_view op = {};
  std::span<const FactorMeaning> meanings = {};
};

struct Binding {
  Rule rule;                                      ///< without `...`: its dims are factors of their own
  StaticVector<std::int64_t, kMaxFactors> sizes;  ///< of the factors
  std::array<std::uint16_t, kMaxTensors>
      repeated{};                            ///< per operand, bit d: dim d has size 1 and repeats, so it has no factor
  StaticVector<Shape, kMaxTensors> results;  ///< their shapes
};

/// Binds a rule to the operands' shapes. Compound factors are solved where one of their factors is unknown:
/// `(g r)` of size 64 with g = 8 from elsewhere gives r = 8.
/// @throws Error "missing-operand", "too-many-operands", "rank-mismatch", "size-mismatch" (a factor with two sizes, a compound that is no
///   product), "unknown-size" (a factor whose size nothing tells)
Binding bind(const Rule& rule, OperandSpecs operands, const OpNames& names = {});

/// "factor n (query heads)".
std::string describe_factor(const Rule& rule, int factor, const OpNames& names);

}  // namespace tessera
