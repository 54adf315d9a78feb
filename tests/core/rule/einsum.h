// An operator for any rule: it computes what the rule's letters say, so that rules can be proved without a catalogue.
#pragma once

#include <string>

#include "core/op/op.h"

namespace tessera {

/// f64 only. A result is the sum over the rule's `linear` terms (one term of all operands where it has none); a term is the product of
/// its operands, reduced, by the factors' reductions, over those of its own factors which the result lacks.
/// `x[m k], w[k n], bias[n] -> out[m n] | linear x w + bias` is x times w, plus bias.
DistributedOp einsum_op(const Rule& rule, const std::string& name = "einsum");

/// The kernel alone, for a rule that claims something else than what is computed.
Kernel einsum_kernel(const Rule& computed);

}  // namespace tessera
