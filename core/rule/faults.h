// The diagnostics that inference can end with. Each function throws Error and says what a user needs: the factor, the operands with
// their layouts, the nearest fix.
#pragma once

#include "core/rule/engine.h"

namespace tessera {

/// A tensor of a call.
struct Source {
  static constexpr int kNoSource = -1;
  static constexpr int kOperand = 0;
  static constexpr int kResult = 1;
  int kind = kNoSource;
  int index = 0;

  friend constexpr bool operator==(Source, Source) = default;
};

/// A dim of a tensor of a call.
struct Place {
  Source source;
  int dim = -1;

  friend constexpr bool operator==(Place, Place) = default;
};

struct PlacedSplit {
  DimSplit split;
  Place place;
};

struct PlacedFactor {
  int factor = 0;
  Place place;
};

struct OperandPartial {
  int operand = 0;
  Partial kind = Partial::kNone;
};

[[noreturn]] void fail_not_whole(const RuleCall& call, const Binding& binding, int factor, Place place, AxisList axes);
[[noreturn]] void fail_factor_conflict(const RuleCall& call, const Binding& binding, int factor, const PlacedSplit& first,
                                       const PlacedSplit& second);
[[noreturn]] void fail_axis_conflict(const RuleCall& call, const Binding& binding, int axis, PlacedFactor first,
                                     PlacedFactor second);
[[noreturn]] void fail_compound(const RuleCall& call, const Binding& binding, Source source, int dim, int factor, int axis);
[[noreturn]] void fail_repeated_split(const RuleCall& call, const Binding& binding, Source source, int dim);
[[noreturn]] void fail_unsayable(const RuleCall& call, const Binding& binding, Source source, int dim);
[[noreturn]] void fail_partial_operand(const RuleCall& call, const Binding& binding, int operand, int axis, Partial kind);
[[noreturn]] void fail_partial_and_split(const RuleCall& call, const Binding& binding, int operand, int axis, Partial kind,
                                         int factor);
[[noreturn]] void fail_partial_product(const RuleCall& call, const Binding& binding, int axis, int first, int second);
[[noreturn]] void fail_partial_kinds(const RuleCall& call, const Binding& binding, int axis, OperandPartial first,
                                     OperandPartial second);
[[noreturn]] void fail_uneven_average(const RuleCall& call, const Binding& binding, int factor, std::int64_t shards);

}  // namespace tessera
