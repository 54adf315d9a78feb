#include "core/rule/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/rule/faults.h"
#include "core/rule/projection.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

std::span<const std::int64_t> sizes_of(const Binding& binding) { return {binding.sizes.data(), binding.sizes.size()}; }

bool is_absent(const RuleCall& call, std::size_t operand) {
  return operand >= call.shapes.size() || call.shapes[operand] == nullptr;
}

// Merges the splits of each factor over the tensors that have a layout.
class Merge {
 public:
  Merge(const RuleCall& call, const Binding& binding) : call_(call), binding_(binding), mesh_(call.mesh) {
    for (std::size_t f = 0; f < binding.rule.factors.size(); ++f) {
      splits_.push_back({});
      origin_.push_back(kNone);
    }
  }

  void add(const RuleTensor& tensor, const Layout& layout, Source source, std::uint16_t repeated) {
    std::size_t begin = 0;
    for (int dim = 0; dim < tensor.rank(); ++dim) {
      const std::span<const std::uint8_t> factors(tensor.factors.data() + begin,
                                                  tensor.factors_of_dim[static_cast<std::size_t>(dim)]);
      begin += factors.size();
      const DimSplit split = layout.dim(dim);
      if (factors.empty() || (repeated >> dim & 1) != 0) {
        if (!significant(split.axes, mesh_).empty()) fail_repeated_split(call_, binding_, source, dim);
        continue;
      }
      if (factors.size() == 1) {
        merge(factors[0], split, {source, dim});
        continue;
      }
      const FactorSplits projected = split_factors(split, factors, sizes_of(binding_), mesh_);
      if (projected.fault >= 0) {
        fail_compound(call_, binding_, source, dim, factors[static_cast<std::size_t>(projected.fault)],
                      projected.fault_axis);
      }
      for (std::size_t i = 0; i < factors.size(); ++i) merge(factors[i], projected.splits[i], {source, dim});
    }
  }

  // Axes of size 1 stay with the first factor that names them; any other axis splits one factor at most.
  StaticVector<DimSplit, kMaxFactors> finish() {
    std::uint32_t used = 0;
    for (std::size_t f = 0; f < splits_.size(); ++f) {
      AxisList kept;
      for (int k = 0; k < splits_[f].axes.size(); ++k) {
        const int axis = splits_[f].axes[k];
        if ((used >> axis & 1) == 0) {
          kept.push_back(axis);
          used |= 1U << axis;
        } else if (mesh_.size(axis) > 1) {
          std::size_t other = 0;
          while (!splits_[other].axes.contains(axis)) ++other;
          fail_axis_conflict(call_, binding_, axis, {static_cast<int>(other), origin_[other]},
                             {static_cast<int>(f), origin_[f]});
        }
      }
      splits_[f].axes = kept;
    }
    return splits_;
  }

 private:
  static constexpr Place kNone{{Source::kNoSource}, -1};

  void merge(std::uint8_t f, const DimSplit& split, Place place) {
    const RuleFactor& factor = binding_.rule.factors[f];
    const AxisList axes = significant(split.axes, mesh_);
    if (factor.whole && !axes.empty()) fail_not_whole(call_, binding_, f, place, axes);
    DimSplit& merged = splits_[f];
    if (origin_[f] == kNone) {
      merged = split;
      origin_[f] = place;
      return;
    }
    const bool same = axes == significant(merged.axes, mesh_) &&
                      deal_alike(split.distribution, merged.distribution, binding_.sizes[f], mesh_.size(axes));
    if (!same) fail_factor_conflict(call_, binding_, f, {merged, origin_[f]}, {split, place});
    if (merged.axes.empty()) merged.axes = split.axes;
  }

  const RuleCall& call_;
  const Binding& binding_;
  DeviceMesh mesh_;
  StaticVector<DimSplit, kMaxFactors> splits_;
  StaticVector<Place, kMaxFactors> origin_;
};

// What is pending over each axis in the results: from factors that a result lacks, and from operands' own pending sums.
class Pending {
 public:
  Pending(const RuleCall& call, Inference& inference) : call_(call), inference_(inference), rule_(inference.binding.rule) {}

  void resolve() {
    for (std::size_t i = 0; i < rule_.operands.size(); ++i) check_operand(static_cast<int>(i));
    resolve_linear();
    resolve_moved();
    check_averages();
  }

  // Of a result: what its missing factors and the operands leave pending.
  [[nodiscard]] PartialMap of(const RuleTensor& result) const {
    PartialMap pending = passed_;
    for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
      if (result.has(static_cast<std::uint8_t>(f))) continue;
      const AxisList axes = inference_.factors[f].axes;
      for (int k = 0; k < axes.size(); ++k) {
        if (call_.mesh.size(axes[k]) > 1) pending.set(axes[k], rule_.factors[f].reduction);
      }
    }
    return pending;
  }

 private:
  [[nodiscard]] PartialMap partials(int operand) const {
    return inference_.operands[static_cast<std::size_t>(operand)].partials();
  }
  [[nodiscard]] bool in_linear(int operand) const {
    return std::any_of(rule_.linear_terms.begin(), rule_.linear_terms.end(),
                       [&](auto term) { return (term >> operand & 1) != 0; });
  }

  void check_operand(int operand) const {
    const AxisList pending = partials(operand).axes();
    for (int k = 0; k < pending.size(); ++k) {
      const int axis = pending[k];
      if (call_.mesh.size(axis) == 1) continue;
      const Partial kind = partials(operand)[axis];
      const bool passes =
          (rule_.moved >> operand & 1) != 0 || (in_linear(operand) && (kind == Partial::kSum || kind == Partial::kAvg));
      if (!passes) fail_partial_operand(call_, inference_.binding, operand, axis, kind);
      for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
        if (inference_.factors[f].axes.contains(axis)) {
          fail_partial_and_split(call_, inference_.binding, operand, axis, kind, static_cast<int>(f));
        }
      }
    }
  }

  // How a factor of this operand that the axis splits is reduced away, or kNone.
  [[nodiscard]] Partial reduced_over(int operand, int axis) const {
    const RuleTensor& tensor = rule_.operands[static_cast<std::size_t>(operand)];
    for (std::uint8_t f : tensor.factors) {
      if (!inference_.factors[f].axes.contains(axis)) continue;
      const bool kept =
          std::any_of(rule_.results.begin(), rule_.results.end(), [&](const RuleTensor& result) { return result.has(f); });
      return kept ? Partial::kNone : rule_.factors[f].reduction;
    }
    return Partial::kNone;
  }

  void resolve_linear() {
    if (rule_.linear_terms.empty()) return;
    for (int axis = 0; axis < call_.mesh.axis_count(); ++axis) {
      if (call_.mesh.size(axis) == 1) continue;
      Partial kind = Partial::kNone;
      int first = -1;  // the operand that made it pending
      std::uint16_t pending_terms = 0;
      for (std::size_t t = 0; t < rule_.linear_terms.size(); ++t) {
        int pending_in_term = -1;
        for (int o = 0; o < static_cast<int>(rule_.operands.size()); ++o) {
          if ((rule_.linear_terms[t] >> o & 1) == 0) continue;
          const Partial own = partials(o)[axis];
          if (own != Partial::kNone) {
            if (pending_in_term >= 0) fail_partial_product(call_, inference_.binding, axis, pending_in_term, o);
            if (first >= 0 && kind != own) fail_partial_kinds(call_, inference_.binding, axis, {first, kind}, {o, own});
            pending_in_term = o;
            kind = own;
            if (first < 0) first = o;
            passed_.set(axis, own);
          } else if (const Partial reduced = reduced_over(o, axis); reduced != Partial::kNone && pending_in_term < 0) {
            pending_in_term = o;
            kind = reduced;
            if (first < 0) first = o;
          }
        }
        if (pending_in_term >= 0) pending_terms = static_cast<std::uint16_t>(pending_terms | 1U << t);
      }
      if (pending_terms == 0 || kind != Partial::kSum) continue;
      // A term that is not pending would be added once by every rank along the axis.
      for (std::size_t t = 0; t < rule_.linear_terms.size(); ++t) {
        if ((pending_terms >> t & 1) != 0) continue;
        for (std::size_t o = 0; o < rule_.operands.size(); ++o) {
          if ((rule_.linear_terms[t] >> o & 1) != 0) inference_.once[o].push_back(axis);
        }
      }
    }
  }

  void resolve_moved() {
    int first = -1;
    for (int o = 0; o < static_cast<int>(rule_.operands.size()); ++o) {
      if ((rule_.moved >> o & 1) == 0 || is_absent(call_, static_cast<std::size_t>(o))) continue;
      if (first < 0) first = o;
      for (int axis = 0; axis < call_.mesh.axis_count(); ++axis) {
        if (call_.mesh.size(axis) == 1) continue;
        const Partial kind = partials(o)[axis];
        if (o == first && kind != Partial::kNone) passed_.set(axis, kind);
        else if (kind != partials(first)[axis])
          fail_partial_kinds(call_, inference_.binding, axis, {first, partials(first)[axis]}, {o, kind});
      }
    }
  }

  // The mean of means is the mean only of parts of equal size.
  void check_averages() const {
    for (std::size_t f = 0; f < rule_.factors.size(); ++f) {
      const DimSplit& split = inference_.factors[f];
      const std::int64_t shards = call_.mesh.size(split.axes);
      if (rule_.factors[f].reduction != Partial::kAvg || shards == 1) continue;
      if (is_even(split.distribution, inference_.binding.sizes[f], shards)) continue;
      fail_uneven_average(call_, inference_.binding, static_cast<int>(f), shards);
    }
  }

  const RuleCall& call_;
  Inference& inference_;
  const Rule& rule_;
  PartialMap passed_;
};

// From merged factors to the layouts of everything that has none, and of the results.
void project_all_back(const RuleCall& call, Inference& inference) {
  const Binding& binding = inference.binding;
  for (std::size_t i = 0; i < binding.rule.operands.size(); ++i) {
    if (i < call.operands.size() && call.operands[i] != nullptr) {
      inference.operands.push_back(*call.operands[i]);
      continue;
    }
    if (is_absent(call, i)) {
      inference.operands.push_back(Layout{});
      continue;
    }
    const Projected projected =
        project_back(binding.rule.operands[i], binding, inference.factors, call.mesh, binding.repeated[i]);
    if (!projected.layout) fail_unsayable(call, binding, {Source::kOperand, static_cast<int>(i)}, projected.faulty_dim);
    inference.operands.push_back(*projected.layout);
  }
  Pending pending(call, inference);
  pending.resolve();
  for (std::size_t i = 0; i < binding.rule.results.size(); ++i) {
    const RuleTensor& result = binding.rule.results[i];
    const Projected projected = project_back(result, binding, inference.factors, call.mesh, 0);
    if (!projected.layout) fail_unsayable(call, binding, {Source::kResult, static_cast<int>(i)}, projected.faulty_dim);
    const PartialMap partials = pending.of(result);
    inference.results.push_back(partials.empty() ? *projected.layout : projected.layout->with_partials(partials));
  }
}

void check_fit(const OpNames& names, const std::string& name, const Layout& layout, const Shape& shape) {
  const auto why = misfit(layout, shape);
  if (!why) return;
  Diagnostic diagnostic{.code = "layout-misfit",
                        .message = fmt::format("{} cannot have layout {}: {}", name, to_string(layout), *why)};
  diagnostic.op = std::string(names.op);
  diagnostic.operand = name;
  fail(std::move(diagnostic));
}

}  // namespace

RuleCall make_call(const Rule& rule, std::span<const Shape* const> shapes, std::span<const Layout* const> operands,
                   std::span<const Layout* const> results, const OpNames& names) {
  RuleCall call;
  call.rule = &rule;
  call.names = names;
  for (const Shape* shape : shapes) call.shapes.push_back(shape);
  bool found = false;
  const auto add = [&](const Layout* layout, const Shape* shape, const std::string& name) {
    if (layout == nullptr) return;
    if (!found) call.mesh = layout->mesh();
    found = true;
    if (layout->mesh() != call.mesh) {
      Diagnostic diagnostic{.code = "mesh-mismatch",
                            .message = fmt::format("{} lies on another mesh than the operands before it", name)};
      diagnostic.op = std::string(names.op);
      diagnostic.operand = name;
      diagnostic.details = {{"mesh", to_string(call.mesh), ""}, {name, to_string(layout->mesh()), ""}};
      diagnostic.hint = "put all operands of a call on one mesh";
      fail(std::move(diagnostic));
    }
    if (shape != nullptr) check_fit(names, name, *layout, *shape);
  };
  for (std::size_t i = 0; i < operands.size(); ++i) {
    call.operands.push_back(operands[i]);
    add(operands[i], i < shapes.size() ? shapes[i] : nullptr,
        operands[i] == nullptr ? "" : operand_name(rule, static_cast<int>(i)));
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    call.results.push_back(results[i]);
    add(results[i], nullptr, results[i] == nullptr ? "" : result_name(rule, static_cast<int>(i)));
  }
  return call;
}

void check_results(const RuleCall& call, const Binding& binding) {
  for (std::size_t i = 0; i < call.results.size(); ++i) {
    if (call.results[i] == nullptr) continue;
    check_fit(call.names, result_name(*call.rule, static_cast<int>(i)), *call.results[i], binding.results[i]);
  }
}

void complete(const RuleCall& call, Inference& inference) {
  const Binding& bound = inference.binding;
  Merge merge(call, bound);
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    if (call.operands[i] == nullptr) continue;
    merge.add(bound.rule.operands[i], *call.operands[i], {Source::kOperand, static_cast<int>(i)}, bound.repeated[i]);
  }
  for (std::size_t i = 0; i < call.results.size(); ++i) {
    if (call.results[i] == nullptr) continue;
    merge.add(bound.rule.results[i], *call.results[i], {Source::kResult, static_cast<int>(i)}, 0);
  }
  inference.factors = merge.finish();
  project_all_back(call, inference);
}

Inference infer_layouts(const RuleCall& call, const Binding& binding) {
  Inference inference{.binding = binding};
  complete(call, inference);
  return inference;
}

}  // namespace tessera
