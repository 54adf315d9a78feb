// The engine behind inference: one call's layouts, strictly. Repair asks it which choices can be made.
#pragma once

#include "core/rule/binding.h"
#include "core/rule/inference.h"

namespace tessera {

/// A call as the engine sees it: layouts of what has one, null for what has none or is absent.
struct RuleCall {
  const Rule* rule = nullptr;  ///< as the user wrote it
  DeviceMesh mesh;
  StaticVector<const Shape*, kMaxTensors> shapes;  ///< of the operands; null for absent ones
  StaticVector<const Layout*, kMaxTensors> operands;
  StaticVector<const Layout*, kMaxTensors> results;
  OpNames names;
};

/// @throws Error "mesh-mismatch", "layout-misfit" where a layout cannot be that of its operand's shape
RuleCall make_call(const Rule& rule, std::span<const Shape* const> shapes, std::span<const Layout* const> operands,
                   std::span<const Layout* const> results, const OpNames& names);

/// @throws Error "layout-misfit" where the layout of a result cannot be that of its shape
void check_results(const RuleCall& call, const Binding& binding);

/// Fills in what is inferred from a call and the binding that `inference` has. @pre both are of the same rule and shapes
void complete(const RuleCall& call, Inference& inference);
/// The same as a value.
Inference infer_layouts(const RuleCall& call, const Binding& binding);

}  // namespace tessera
