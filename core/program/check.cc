#include "core/program/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/rule/projection.h"
#include "core/rule/repair.h"
#include "layouts/notation.h"

namespace tessera {
namespace {

std::int64_t whole_bytes(double bytes) {
  constexpr double kEnd = 0x1p63;
  return bytes < kEnd ? static_cast<std::int64_t>(std::ceil(bytes)) : std::numeric_limits<std::int64_t>::max();
}

class Checker {
 public:
  Checker(const Program& program, Policy policy) : program_(program), policy_(policy) {
    for (const Claim& claim : program.annotations) annotations_.emplace(claim.tensor, &claim);
  }

  CheckReport check() {
    report_.diagnostics = program_.faults;
    for (const ProgramInput& input : program_.inputs) report_.tensors.emplace(input.name, input.spec);
    for (const ProgramOp& op : program_.ops) check_op(op);
    for (const Claim& claim : program_.expectations) hold(claim, "expected");
    return std::move(report_);
  }

 private:
  void check_op(const ProgramOp& op) {
    CheckedOp& checked = report_.ops.emplace_back();
    checked.op = op.op == nullptr ? op.name : op.op->name;
    if (op.op == nullptr) return;
    std::vector<const TensorSpec*> operands;
    for (const std::string& name : op.inputs) {
      const auto known = report_.tensors.find(name);
      if (known == report_.tensors.end() && !name.empty()) return;  // what makes it has failed
      operands.push_back(name.empty() ? nullptr : &known->second);
    }
    while (!operands.empty() && operands.back() == nullptr) operands.pop_back();
    try {
      const auto plan = make_plan(*op.op, operands, op.attributes, policy_);
      check_count(op, *plan);
      add_inputs(op, *plan, operands, checked);
      add_outputs(op, *plan, checked);
      checked.plan = plan;
    } catch (const Error& error) {
      checked = {.op = checked.op};
      report_.diagnostics.push_back(placed(error.diagnostic(), op));
    }
  }

  static void check_count(const ProgramOp& op, const Plan& plan) {
    if (op.outputs.size() <= plan.results.size()) return;
    Diagnostic diagnostic{.code = "output-count",
                          .message = fmt::format("has {} result{} in this call, {} {} named", plan.results.size(),
                                                 plan.results.size() == 1 ? "" : "s", op.outputs.size(),
                                                 op.outputs.size() == 1 ? "is" : "are")};
    diagnostic.op = op.op->name;
    diagnostic.details = {{"rule", to_string(plan.inference.binding.rule), ""}};
    diagnostic.hint = "name the results in their order; null for one that is not wanted";
    diagnostic.pointer = op.pointer + "/outputs";
    fail(std::move(diagnostic));
  }

  // @throws Error "shape-too-large" where a result of that shape has more bytes than int64_t holds
  static CheckedTensor checked_tensor(std::string tensor, std::string operand, const TensorSpec& spec,
                                      const std::string& op) {
    if (element_count(spec.shape) > std::numeric_limits<std::int64_t>::max() / size_of(spec.dtype)) {
      Diagnostic diagnostic{
          .code = "shape-too-large",
          .message = fmt::format("{} of shape {} would take more than 2^63-1 bytes", operand, to_string(spec.shape))};
      diagnostic.op = op;
      fail(std::move(diagnostic));
    }
    const Shape local = largest_local_shape(spec.layout, spec.shape);
    return {std::move(tensor), std::move(operand), spec, local, element_count(local) * size_of(spec.dtype)};
  }

  void add_inputs(const ProgramOp& op, const Plan& plan, OperandSpecs operands, CheckedOp& checked) const {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (operands[i] == nullptr) continue;
      const TensorSpec& taken = *plan.operands[i];
      const std::string operand = operand_name(op.op->rule, static_cast<int>(i));
      checked.inputs.push_back(checked_tensor(op.inputs[i], operand, taken, op.op->name));
      if (taken.layout == operands[i]->layout) continue;
      checked.redistributions.push_back({op.op->name, operand, op.inputs[i], operands[i]->layout, taken.layout,
                                         whole_bytes(redistribution_bytes(*operands[i], taken.layout))});
    }
  }

  void add_outputs(const ProgramOp& op, const Plan& plan, CheckedOp& checked) {
    for (std::size_t i = 0; i < plan.results.size(); ++i) {
      const std::string name = op.output(i);
      const std::string result = result_name(plan.inference.binding.rule, static_cast<int>(i));
      TensorSpec spec = plan.results[i];
      if (const Claim* claim = annotation_of(name)) {
        if (const auto wanted = redistributed_to(*claim, spec)) {
          checked.redistributions.push_back(
              {op.op->name, result, name, spec.layout, *wanted, whole_bytes(redistribution_bytes(spec, *wanted))});
          spec.layout = *wanted;
        }
      }
      checked.outputs.push_back(checked_tensor(name, result, spec, op.op->name));
    }
    for (const CheckedTensor& output : checked.outputs) {
      if (output.tensor.empty()) continue;
      report_.tensors.emplace(output.tensor, output.spec);
      if (const Claim* claim = annotation_of(output.tensor)) hold(*claim, "annotated");
    }
  }

  [[nodiscard]] const Claim* annotation_of(const std::string& tensor) const {
    const auto found = annotations_.find(tensor);
    return found == annotations_.end() ? nullptr : found->second;
  }

  // The annotated layout, where repairing has to change the result's to it and can: nothing makes a pending softmax, nor completes it.
  [[nodiscard]] std::optional<Layout> redistributed_to(const Claim& claim, const TensorSpec& spec) const {
    if (policy_ != Policy::kRepair) return std::nullopt;
    std::optional<Layout> wanted;
    try {
      wanted = layout_of(claim, spec);
    } catch (const Error&) {
      return std::nullopt;  // holding the result against it says why
    }
    if (!wanted || misfit(*wanted, spec.shape) || same_parts(*wanted, spec.layout, spec.shape)) return std::nullopt;
    for (int axis = 0; axis < program_.mesh.axis_count(); ++axis) {
      const Partial before = spec.layout.partials()[axis];
      const Partial after = wanted->partials()[axis];
      if (before != after && (before == Partial::kSoftmax || after == Partial::kSoftmax)) return std::nullopt;
    }
    return wanted;
  }

  // The layout that is claimed for a tensor, or nothing where none is. @throws Error of the placements
  [[nodiscard]] std::optional<Layout> layout_of(const Claim& claim, const TensorSpec& spec) const {
    if (claim.placements.empty()) return claim.layout;
    return layout_from_placements(program_.mesh, static_cast<int>(spec.shape.size()), claim.placements);
  }

  void hold(const Claim& claim, std::string_view claimed) {
    const auto found = report_.tensors.find(claim.tensor);
    if (found == report_.tensors.end()) return;  // what makes it has failed
    const TensorSpec& spec = found->second;
    const auto differ = [&](std::string_view what, const std::string& key, const std::string& is,
                            const std::string& should) {
      Diagnostic diagnostic{.code = fmt::format("{}-{}", claimed, what),
                            .message = fmt::format("the {} of '{}' is not as {}", what, claim.tensor, claimed)};
      diagnostic.operand = claim.tensor;
      diagnostic.pointer = claim.pointer + "/" + key;
      diagnostic.details = {{std::string(claimed), should, diagnostic.pointer}, {"inferred", is, ""}};
      diagnostic.hint =
          what == "layout" && claimed == "annotated" ? "change the layouts of the inputs, or use --repair" : "";
      report_.diagnostics.push_back(std::move(diagnostic));
    };
    if (claim.shape && *claim.shape != spec.shape) differ("shape", "shape", to_string(spec.shape), to_string(*claim.shape));
    if (claim.dtype && *claim.dtype != spec.dtype) {
      differ("dtype", "dtype", std::string(to_string(spec.dtype)), std::string(to_string(*claim.dtype)));
    }
    try {
      const auto layout = layout_of(claim, spec);
      if (layout && !same_parts(*layout, spec.layout, spec.shape)) {
        differ("layout", "layout", to_string(spec.layout), to_string(*layout));
      }
    } catch (const Error& error) {
      Diagnostic diagnostic = error.diagnostic();
      diagnostic.pointer = claim.layout_place.pointer;
      report_.diagnostics.push_back(std::move(diagnostic));
    }
  }

  // Where the config gives an operand: its layout, or where the op names it.
  [[nodiscard]] std::string place_of(const ProgramOp& op, std::size_t operand, int dim) const {
    const ProgramInput* input = program_.find_input(op.inputs[operand]);
    if (input == nullptr || input->layout_place.pointer.empty()) return op.input_places[operand];
    return input->layout_place.of(dim);
  }

  // The engine's diagnostic with the config's places in it.
  [[nodiscard]] Diagnostic placed(Diagnostic diagnostic, const ProgramOp& op) const {
    if (diagnostic.op.empty()) diagnostic.op = op.op->name;
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].empty()) continue;
      const std::string operand = operand_name(op.op->rule, static_cast<int>(i));
      const bool concerned = operand == diagnostic.operand;
      const bool by_layout = !diagnostic.axes.empty() || diagnostic.code == "layout-misfit";
      if (concerned && diagnostic.pointer.empty()) {
        diagnostic.pointer = by_layout ? place_of(op, i, diagnostic.dim) : op.input_places[i];
      }
      for (Detail& detail : diagnostic.details) {
        if (detail.label == operand && detail.pointer.empty())
          detail.pointer = place_of(op, i, concerned ? diagnostic.dim : -1);
      }
    }
    if (diagnostic.pointer.empty()) diagnostic.pointer = op.pointer;
    return diagnostic;
  }

  const Program& program_;
  Policy policy_;
  std::map<std::string, const Claim*> annotations_;
  CheckReport report_;
};

}  // namespace

bool same_parts(const Layout& a, const Layout& b, const Shape& shape) {
  if (a.mesh() != b.mesh() || a.rank() != b.rank()) return false;
  const DeviceMesh mesh = a.mesh();
  for (int dim = 0; dim < a.rank(); ++dim) {
    const AxisList axes = significant(a.axes(dim), mesh);
    if (axes != significant(b.axes(dim), mesh)) return false;
    if (!deal_alike(a.distribution(dim), b.distribution(dim), shape[static_cast<std::size_t>(dim)], mesh.size(axes)))
      return false;
  }
  for (int axis = 0; axis < mesh.axis_count(); ++axis) {
    if (mesh.size(axis) > 1 && a.partials()[axis] != b.partials()[axis]) return false;
  }
  return true;
}

CheckReport check(const Program& program, Policy policy) { return Checker(program, policy).check(); }

}  // namespace tessera
