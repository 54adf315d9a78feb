#include "core/rule/inference.h"

#include "core/rule/engine.h"
#include "core/rule/repair.h"

namespace tessera {

Inference infer(const Rule& rule, OperandSpecs operands, Policy policy, const OpNames& names) {
  Inference inference{.binding = bind(rule, operands, names)};
  StaticVector<const Layout*, kMaxTensors> layouts;
  StaticVector<const Shape*, kMaxTensors> shapes;
  for (const TensorSpec* operand : operands) {
    layouts.push_back(operand == nullptr ? nullptr : &operand->layout);
    shapes.push_back(operand == nullptr ? nullptr : &operand->shape);
  }
  const RuleCall call = make_call(rule, shapes, layouts, {}, names);
  if (policy == Policy::kRepair) return infer_repaired(call, operands, inference.binding);
  complete(call, inference);
  return inference;
}

Inference infer_from(const Rule& rule, std::span<const Shape* const> shapes, std::span<const Layout* const> operands,
                     std::span<const Layout* const> results, const OpNames& names) {
  StaticVector<TensorSpec, kMaxTensors> specs;
  StaticVector<const TensorSpec*, kMaxTensors> pointers;
  for (const Shape* shape : shapes) {
    specs.push_back(shape == nullptr ? TensorSpec{} : TensorSpec{*shape, DType::kF32, Layout{}});
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) pointers.push_back(shapes[i] == nullptr ? nullptr : &specs[i]);
  const Binding binding = bind(rule, pointers, names);
  const RuleCall call = make_call(rule, shapes, operands, results, names);
  check_results(call, binding);
  return infer_layouts(call, binding);
}

}  // namespace tessera
