// The repairing policy: the cheapest layouts in which a call can be made.
#pragma once

#include "core/rule/engine.h"

namespace tessera {

/// Bytes that a rank receives at least when a tensor of this spec changes to layout `to`: what it needs and does not hold already, and
/// for a pending reduction a ring all-reduce of what it holds. An estimate that orders choices; 0 only where nothing moves.
double redistribution_bytes(const TensorSpec& from, const Layout& to);

/// infer, repairing. What strict inference accepts stays as it is; else, over all ways to choose for each factor one of the splits that some
/// operand has, what is left of it without some of its axes, or none, and to make pending reductions or keep them, the one whose redistributions of
/// operands move the fewest bytes; ties go to the one that keeps more splits, then to the first found.
Inference infer_repaired(const RuleCall& call, OperandSpecs operands, const Binding& binding);

}  // namespace tessera
