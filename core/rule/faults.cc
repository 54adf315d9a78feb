#include "core/rule/faults.h"

#include <fmt/format.h>

#include "core/rule/projection.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {
namespace {

const Layout& layout_at(const RuleCall& call, Source source) {
  const auto i = static_cast<std::size_t>(source.index);
  return source.kind == Source::kOperand ? *call.operands[i] : *call.results[i];
}

std::string name_of(const RuleCall& call, Source source) {
  return source.kind == Source::kOperand ? operand_name(*call.rule, source.index) : result_name(*call.rule, source.index);
}

std::string quoted(DeviceMesh mesh, AxisList axes) { return fmt::format("'{}'", join(mesh.names_of(axes), "+")); }

// "split over 'tp'", "whole", "dealt head_tail over 'cp'".
std::string describe(const DimSplit& split, DeviceMesh mesh) {
  const AxisList axes = significant(split.axes, mesh);
  if (axes.empty()) return "whole";
  if (split.distribution.is_block()) return fmt::format("split over {}", quoted(mesh, axes));
  return fmt::format("dealt {} over {}", to_string(split.distribution), quoted(mesh, axes));
}

// The fault with the rule and the layouts of these tensors shown, each once.
Diagnostic fault(const RuleCall& call, std::string_view code, std::string message, std::initializer_list<Source> shown) {
  Diagnostic diagnostic{.code = std::string(code), .message = std::move(message), .op = std::string(call.names.op)};
  diagnostic.details.push_back({"rule", to_string(*call.rule), ""});
  for (Source source : shown) {
    const Detail line{name_of(call, source), to_string(layout_at(call, source)), ""};
    if (std::find(diagnostic.details.begin(), diagnostic.details.end(), line) == diagnostic.details.end()) {
      diagnostic.details.push_back(line);
    }
  }
  return diagnostic;
}

void set_place(Diagnostic& diagnostic, const RuleCall& call, Place place, DeviceMesh mesh, AxisList axes) {
  diagnostic.operand = name_of(call, place.source);
  diagnostic.dim = place.dim;
  diagnostic.axes = mesh.names_of(axes);
}

// "reshard x to [dp, -]", where the layout can be said; else nothing.
std::string reshard_hint(const RuleCall& call, Place place, const DimSplit& split) {
  const Layout& layout = layout_at(call, place.source);
  // What the new split uses is taken from the tensor's other dims' reach: only a free axis can be given to this dim.
  std::uint32_t elsewhere = layout.partials().axes().mask();
  for (int dim = 0; dim < layout.rank(); ++dim) {
    if (dim != place.dim) elsewhere |= layout.axes(dim).mask();
  }
  if ((elsewhere & split.axes.mask()) != 0) return "";
  return fmt::format("reshard {} to {}", name_of(call, place.source), to_string(layout.with_dim(place.dim, split)));
}

}  // namespace

void fail_not_whole(const RuleCall& call, const Binding& binding, int factor, Place place, AxisList axes) {
  Diagnostic diagnostic =
      fault(call, "factor-not-whole",
            fmt::format("{} must be whole, but {} splits it over {}", describe_factor(binding.rule, factor, call.names),
                        name_of(call, place.source), quoted(call.mesh, axes)),
            {place.source});
  set_place(diagnostic, call, place, call.mesh, axes);
  diagnostic.factor = factor_name(binding.rule, factor);
  // Of a compound dim only the axes in front of those that cut this factor may stay.
  DimSplit kept = layout_at(call, place.source).dim(place.dim);
  const AxisList all = kept.axes;
  kept.axes = {};
  for (int k = 0; k < all.size() && !axes.contains(all[k]); ++k) kept.axes.push_back(all[k]);
  if (kept.axes.empty()) kept.distribution = Distribution::block();
  diagnostic.hint = reshard_hint(call, place, kept);
  fail(std::move(diagnostic));
}

void fail_factor_conflict(const RuleCall& call, const Binding& binding, int factor, const PlacedSplit& first,
                          const PlacedSplit& second) {
  Diagnostic diagnostic =
      fault(call, "factor-conflict",
            fmt::format("{} is {} in {} but {} in {}", describe_factor(binding.rule, factor, call.names),
                        describe(first.split, call.mesh), name_of(call, first.place.source),
                        describe(second.split, call.mesh), name_of(call, second.place.source)),
            {first.place.source, second.place.source});
  AxisList axes = first.split.axes;
  for (int k = 0; k < second.split.axes.size(); ++k) {
    if (!axes.contains(second.split.axes[k])) axes.push_back(second.split.axes[k]);
  }
  set_place(diagnostic, call, second.place, call.mesh, axes);
  diagnostic.factor = factor_name(binding.rule, factor);
  // Splitting what is whole needs no communication, so it is proposed before gathering what is split.
  const bool second_is_whole = significant(second.split.axes, call.mesh).empty();
  const bool first_is_whole = significant(first.split.axes, call.mesh).empty();
  // What a factor's split says of its dim is plain only where the dim is that factor alone.
  const auto hint = [&](Place place, const DimSplit& wanted) -> std::string {
    const bool operand = place.source.kind == Source::kOperand;
    const RuleTensor& tensor =
        (operand ? binding.rule.operands : binding.rule.results)[static_cast<std::size_t>(place.source.index)];
    return tensor.dim(place.dim).size() == 1 ? reshard_hint(call, place, wanted) : "";
  };
  const bool change_first = first_is_whole && !second_is_whole;
  diagnostic.hint = change_first ? hint(first.place, second.split) : hint(second.place, first.split);
  if (diagnostic.hint.empty())
    diagnostic.hint = change_first ? hint(second.place, first.split) : hint(first.place, second.split);
  fail(std::move(diagnostic));
}

void fail_axis_conflict(const RuleCall& call, const Binding& binding, int axis, PlacedFactor first, PlacedFactor second) {
  const std::string name = call.mesh.name(axis);
  Diagnostic diagnostic =
      fault(call, "axis-conflict",
            fmt::format("axis '{}' splits both {} (in {}) and {} (in {})", name,
                        describe_factor(binding.rule, first.factor, call.names), name_of(call, first.place.source),
                        describe_factor(binding.rule, second.factor, call.names), name_of(call, second.place.source)),
            {first.place.source, second.place.source});
  set_place(diagnostic, call, second.place, call.mesh, AxisList{axis});
  diagnostic.factor = factor_name(binding.rule, second.factor);
  const DimSplit split = layout_at(call, second.place.source).dim(second.place.dim);
  DimSplit kept{.axes = {}, .distribution = split.distribution};
  for (int k = 0; k < split.axes.size(); ++k) {
    if (split.axes[k] != axis) kept.axes.push_back(split.axes[k]);
  }
  if (kept.axes.empty() || split.distribution.kind() == Distribution::Kind::kIntervals)
    kept.distribution = Distribution::block();
  diagnostic.hint = reshard_hint(call, second.place, kept);
  fail(std::move(diagnostic));
}

void fail_compound(const RuleCall& call, const Binding& binding, Source source, int dim, int factor, int axis) {
  const Layout& layout = layout_at(call, source);
  const DimSplit split = layout.dim(dim);
  std::string message;
  if (axis >= 0) {
    message =
        fmt::format("axis '{}' (size {}) of {} dim {} would cut {} of size {} within its elements", call.mesh.name(axis),
                    call.mesh.size(axis), name_of(call, source), dim, describe_factor(binding.rule, factor, call.names),
                    binding.sizes[static_cast<std::size_t>(factor)]);
  } else {
    message = fmt::format("{} dim {}, {}, cuts {} of size {} within its elements", name_of(call, source), dim,
                          describe(split, call.mesh), describe_factor(binding.rule, factor, call.names),
                          binding.sizes[static_cast<std::size_t>(factor)]);
  }
  Diagnostic diagnostic = fault(call, "compound-split", std::move(message), {source});
  set_place(diagnostic, call, {source, dim}, call.mesh, split.axes);
  diagnostic.factor = factor_name(binding.rule, factor);
  // The longest run of axes from the outside that splits the compound cleanly.
  const RuleTensor& tensor = source.kind == Source::kOperand ? binding.rule.operands[static_cast<std::size_t>(source.index)]
                                                             : binding.rule.results[static_cast<std::size_t>(source.index)];
  for (int keep = split.axes.size() - 1; keep >= 0; --keep) {
    const DimSplit kept{split.axes.sublist(0, keep), Distribution::block()};
    if (split_factors(kept, tensor.dim(dim), {binding.sizes.data(), binding.sizes.size()}, call.mesh).fault >= 0) continue;
    diagnostic.hint = reshard_hint(call, {source, dim}, kept);
    break;
  }
  fail(std::move(diagnostic));
}

void fail_repeated_split(const RuleCall& call, const Binding&, Source source, int dim) {
  const Layout& layout = layout_at(call, source);
  const AxisList axes = significant(layout.axes(dim), call.mesh);
  Diagnostic diagnostic = fault(call, "repeated-split",
                                fmt::format("{} dim {} has size 1 and repeats, but is split over {}", name_of(call, source),
                                            dim, quoted(call.mesh, axes)),
                                {source});
  set_place(diagnostic, call, {source, dim}, call.mesh, axes);
  diagnostic.hint = reshard_hint(call, {source, dim}, {});
  fail(std::move(diagnostic));
}

void fail_unsayable(const RuleCall& call, const Binding& binding, Source source, int dim) {
  const bool result = source.kind == Source::kResult;
  const RuleTensor& tensor =
      (result ? binding.rule.results : binding.rule.operands)[static_cast<std::size_t>(source.index)];
  std::vector<std::string> parts;
  for (std::uint8_t f : tensor.dim(dim)) parts.push_back(factor_name(binding.rule, f));
  Diagnostic diagnostic{.code = "result-split",
                        .message = fmt::format("no layout says how {} dim {} ({}) would be split", name_of(call, source),
                                               dim, join(parts, " "))};
  diagnostic.op = std::string(call.names.op);
  diagnostic.operand = name_of(call, source);
  diagnostic.dim = dim;
  diagnostic.details.push_back({"rule", to_string(*call.rule), ""});
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    if (call.operands[i] == nullptr) continue;
    diagnostic.details.push_back({operand_name(*call.rule, static_cast<int>(i)), to_string(*call.operands[i]), ""});
  }
  diagnostic.hint =
      "a factor behind another can be split only where the one in front is cut to single, equal parts; else keep it whole";
  fail(std::move(diagnostic));
}

void fail_partial_operand(const RuleCall& call, const Binding&, int operand, int axis, Partial kind) {
  const Source source{Source::kOperand, operand};
  Diagnostic diagnostic = fault(call, "partial-operand",
                                fmt::format("{} has a pending {} over '{}', which cannot pass through",
                                            name_of(call, source), to_string(kind), call.mesh.name(axis)),
                                {source});
  set_place(diagnostic, call, {source, -1}, call.mesh, AxisList{axis});
  PartialMap rest = layout_at(call, source).partials();
  rest.set(axis, Partial::kNone);
  diagnostic.hint = fmt::format("reduce it first: reshard {} to {}", name_of(call, source),
                                to_string(layout_at(call, source).with_partials(rest)));
  fail(std::move(diagnostic));
}

void fail_partial_and_split(const RuleCall& call, const Binding& binding, int operand, int axis, Partial kind, int factor) {
  const Source source{Source::kOperand, operand};
  Diagnostic diagnostic =
      fault(call, "partial-conflict",
            fmt::format("{} has a pending {} over '{}', which splits {}", name_of(call, source), to_string(kind),
                        call.mesh.name(axis), describe_factor(binding.rule, factor, call.names)),
            {source});
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    if (call.operands[i] == nullptr || !call.operands[i]->splitting_axes().contains(axis)) continue;
    diagnostic.details.push_back({operand_name(*call.rule, static_cast<int>(i)), to_string(*call.operands[i]), ""});
  }
  set_place(diagnostic, call, {source, -1}, call.mesh, AxisList{axis});
  diagnostic.factor = factor_name(binding.rule, factor);
  PartialMap rest = layout_at(call, source).partials();
  rest.set(axis, Partial::kNone);
  diagnostic.hint = fmt::format("reduce it first: reshard {} to {}", name_of(call, source),
                                to_string(layout_at(call, source).with_partials(rest)));
  fail(std::move(diagnostic));
}

void fail_partial_product(const RuleCall& call, const Binding&, int axis, int first, int second) {
  const Source a{Source::kOperand, first};
  const Source b{Source::kOperand, second};
  Diagnostic diagnostic =
      fault(call, "partial-conflict",
            fmt::format("{} and {} are multiplied and both pending over '{}': a product of sums is no sum of products",
                        name_of(call, a), name_of(call, b), call.mesh.name(axis)),
            {a, b});
  set_place(diagnostic, call, {b, -1}, call.mesh, AxisList{axis});
  PartialMap rest = layout_at(call, b).partials();
  rest.set(axis, Partial::kNone);
  diagnostic.hint = fmt::format("reduce one first: reshard {} to {}", name_of(call, b),
                                to_string(layout_at(call, b).with_partials(rest)));
  fail(std::move(diagnostic));
}

void fail_partial_kinds(const RuleCall& call, const Binding&, int axis, OperandPartial first, OperandPartial second) {
  const Source a{Source::kOperand, first.operand};
  const Source b{Source::kOperand, second.operand};
  const auto describe_kind = [&](OperandPartial p) {
    return p.kind == Partial::kNone ? std::string("not pending") : fmt::format("a pending {}", to_string(p.kind));
  };
  Diagnostic diagnostic = fault(call, "partial-conflict",
                                fmt::format("{} is {} over '{}' but {} is {}", name_of(call, a), describe_kind(first),
                                            call.mesh.name(axis), name_of(call, b), describe_kind(second)),
                                {a, b});
  set_place(diagnostic, call, {b, -1}, call.mesh, AxisList{axis});
  diagnostic.hint = "reduce what is pending first";
  fail(std::move(diagnostic));
}

void fail_uneven_average(const RuleCall& call, const Binding& binding, int factor, std::int64_t shards) {
  Diagnostic diagnostic{
      .code = "uneven-average",
      .message = fmt::format(
          "{} of size {} is averaged, but its {} shards are not equal: the mean of their means is not the mean",
          describe_factor(binding.rule, factor, call.names), binding.sizes[static_cast<std::size_t>(factor)], shards)};
  diagnostic.op = std::string(call.names.op);
  diagnostic.factor = factor_name(binding.rule, factor);
  diagnostic.details.push_back({"rule", to_string(*call.rule), ""});
  diagnostic.hint = "keep it whole, or take the sum and divide by the size";
  fail(std::move(diagnostic));
}

}  // namespace tessera
