#include "core/rule/inference.h"

namespace tessera {
namespace {

// What is pending in the operands that this one is multiplied with: its gradient has them as a factor.
PartialMap pending_partners(const Inference& inference, std::size_t operand) {
  PartialMap pending;
  for (std::uint16_t term : inference.binding.rule.linear_terms) {
    if ((term >> operand & 1) == 0) continue;
    for (std::size_t o = 0; o < inference.operands.size(); ++o) {
      if (o == operand || (term >> o & 1) == 0) continue;
      const Layout& partner = inference.operands[o];
      for (int axis = 0; axis < partner.mesh().axis_count(); ++axis) {
        const Partial kind = partner.partials()[axis];
        if (kind != Partial::kNone && partner.mesh().size(axis) > 1) pending.set(axis, kind);
      }
    }
  }
  return pending;
}

}  // namespace

StaticVector<Layout, kMaxTensors> gradient_layouts(const Inference& inference) {
  const Binding& binding = inference.binding;
  StaticVector<Layout, kMaxTensors> gradients;
  for (std::size_t i = 0; i < inference.operands.size(); ++i) {
    const RuleTensor& tensor = binding.rule.operands[i];
    std::uint32_t own = 0;  // the factors that the operand has, and does not repeat
    for (int dim = 0; dim < tensor.rank(); ++dim) {
      if ((binding.repeated[i] >> dim & 1) != 0) continue;
      for (std::uint8_t f : tensor.dim(dim)) own |= 1U << f;
    }
    const Layout& layout = inference.operands[i];
    PartialMap partials = pending_partners(inference, i);
    for (int k = 0; k < inference.once[i].size(); ++k) partials.set(inference.once[i][k], Partial::kSum);
    for (std::size_t f = 0; f < inference.factors.size(); ++f) {
      const AxisList axes = inference.factors[f].axes;
      for (int k = 0; (own >> f & 1) == 0 && k < axes.size(); ++k) {
        if (axes[k] < layout.mesh().axis_count() && layout.mesh().size(axes[k]) > 1) partials.set(axes[k], Partial::kSum);
      }
    }
    gradients.push_back(layout.with_partials(partials));
  }
  return gradients;
}

}  // namespace tessera
