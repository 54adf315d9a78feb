// A call as a corpus tells it, and what it leaves out: operands, attributes, shapes. Not for users of the library.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/op/op.h"

namespace tessera::conformance {

/// An operand of a call: an input of the case, or a plain tensor, which every rank holds whole.
struct CallOperand {
  bool present = false;
  const nlohmann::json* input = nullptr;  ///< null for a plain tensor
  std::optional<int> rank;                ///< nothing where neither the input nor a shape tells it
  std::vector<std::int64_t> known;        ///< sizes that the case gives, dim by dim; -1 for one that it does not
  std::uint32_t split = 0;                ///< bit d: an axis of more than one rank splits dim d
};

/// The operands of a case in the order of the operator's rule. Inputs go by their roles where the case names them, else by position; an input that
/// is null is an absent optional operand or a plain tensor; where there are more inputs than operands, nulls stand for arguments that are no
/// tensors and are left out.
/// @throws Error "too-many-operands", "json-type", or of the inputs' layouts' notation
std::vector<CallOperand> read_operands(const nlohmann::json& test, const DistributedOp& op, DeviceMesh mesh);

/// The attributes of a case under our names.
struct CallAttributes {
  std::vector<Attributes::Entry> entries;
  std::string untold;  ///< an attribute of the case that the operator has no name for; empty where there is none
  std::string faulty;  ///< an attribute whose value no attribute can have; empty where there is none
};
CallAttributes read_attributes(const nlohmann::json& test, const DistributedOp& op);

/// Operands with shapes, replicated over the mesh; null for absent ones. Shapes that the case does not give are invented: every factor of the rule
/// gets a size that all axes divide, another one for each factor where the call allows it, so that operands paired wrongly do not fit.
/// @throws Error of planning, where no shapes make a call of it even with nothing split
std::vector<std::optional<TensorSpec>> invent_operands(const DistributedOp& op, std::vector<CallOperand> operands,
                                                       const Attributes& attributes, DeviceMesh mesh);

}  // namespace tessera::conformance
