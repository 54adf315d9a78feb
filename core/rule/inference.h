// The engine: what layouts a call's operands need, and what layouts its results have.
#pragma once

#include <array>

#include "core/rule/binding.h"
#include "core/rule/rule.h"
#include "core/tensor/spec.h"

namespace tessera {

/// What to do where operands disagree: refuse the call, or find the cheapest layouts in which it can be made.
enum class Policy : std::uint8_t { kStrict, kRepair };

struct Inference {
  Binding binding;
  StaticVector<DimSplit, kMaxFactors> factors{};  ///< how each factor is split
  StaticVector<Layout, kMaxTensors>
      operands{};  ///< how each operand must come (as it does, if strict); a scalar's for absent ones
  StaticVector<Layout, kMaxTensors> results{};
  /// Axes along which an operand counts once: on ranks whose index along such an axis is not 0 it is replaced by zeros, so that a pending
  /// sum takes it in once. `out = x w + bias` with k split over tp adds bias on the first tp rank only.
  std::array<AxisList, kMaxTensors> once{};
};

/// Infers the layouts of a call's results from those of its operands.
///
/// 1. every operand's dims are projected onto the factors, 2. each factor's splits are merged over the operands (axes of size 1 do not count), 3. a
/// factor split in two ways, a split of a `whole` factor, or an axis on two factors is a conflict: an error, or repaired,
/// 4. factors are projected back onto the results; those a result lacks leave it with a pending reduction.
///
/// @pre every operand's layout fits its shape and lies on one mesh (else Error "mesh-mismatch")
/// @throws Error of `bind`, and "factor-conflict", "factor-not-whole", "axis-conflict", "compound-split", "partial-operand",
///   "partial-conflict", "repeated-split", "uneven-average", "result-split", "layout-misfit"; with details that show the rule and the operands' layouts, and a hint
Inference infer(const Rule& rule, OperandSpecs operands, Policy policy = Policy::kStrict, const OpNames& names = {});

/// The same backwards: layouts for the operands that have none yet (null in `operands`), from the operands and results that have one.
/// Pending reductions of results do not tell anything about operands.
/// @param shapes of all operands; results: null for those without a layout yet
/// @throws as `infer`, strict
Inference infer_from(const Rule& rule, std::span<const Shape* const> shapes, std::span<const Layout* const> operands,
                     std::span<const Layout* const> results, const OpNames& names = {});

/// The layout of each operand's gradient: its own, and a pending sum over every axis that splits a factor which the operand lacks (or
/// which it repeats), or along which it counts once: each rank along it sees only a part of what the operand does. A factor of a product
/// with something pending has that pending too: the gradient of w in x w is a sum over the parts of x. Holds for what is linear in the
/// operand, with the results' gradients whole where the results are pending.
StaticVector<Layout, kMaxTensors> gradient_layouts(const Inference& inference);

}  // namespace tessera
