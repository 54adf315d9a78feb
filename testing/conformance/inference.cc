// Replays layout inference: an operator's results, or its refusal.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layouts/json_reader.h"
#include "layouts/notation.h"
#include "support/text.h"
#include "testing/conformance/call.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

// "[dp, -], [dp]": layouts without what has no effect.
std::string layouts_text(const std::vector<std::string>& layouts) { return layouts.empty() ? "no results" : join(layouts); }

// " (local [8, 2])": the largest local shape of the first result, where the case says it; -1 for a size that is not asserted.
std::string local_text(const Json& expected, const TensorSpec* result) {
  if (!expected.is_array()) return "";
  const std::vector<std::int64_t> asserted = read_integers(expected, "/expect/local_shape", "a shape", "a size");
  std::vector<std::int64_t> local = asserted;
  if (result != nullptr) {
    const Shape shape = largest_local_shape(result->layout, result->shape);
    local.assign(shape.begin(), shape.end());
    for (std::size_t dim = 0; dim < local.size() && dim < asserted.size(); ++dim) {
      if (asserted[dim] < 0) local[dim] = asserted[dim];
    }
  }
  return fmt::format(" (local [{}])", fmt::join(local, ", "));
}

// The layout of an input as the call has it: a scalar has no dims, however many its layout names.
Layout layout_for(const CallOperand& operand, const TensorSpec& spec, DeviceMesh mesh) {
  if (operand.input == nullptr) return spec.layout;
  const DeviceMesh own = operand.input->contains("mesh_shape") ? read_case_mesh(*operand.input) : mesh;
  const Layout layout = read_case_layout(*operand.input, own);
  if (layout.rank() == static_cast<int>(spec.shape.size())) return layout;
  if (spec.shape.empty() && layout.splitting_axes().empty())
    return Layout::replicated(own, 0).with_partials(layout.partials());
  fail("layout-rank",
       fmt::format("the layout {} is for {} dims, the tensor has {}", to_string(layout), layout.rank(), spec.shape.size()));
}

}  // namespace

Outcome replay_inference(const Json& test, const Registry& registry) {
  const std::string& name = read_text(required(test, "op", ""), "/op", "the name of an operator");
  const DistributedOp* op = registry.find(name);
  if (op == nullptr) throw Skip{fmt::format("no operator is called '{}'", name)};
  const DeviceMesh mesh = read_case_mesh(test);
  const Json& expect = required(test, "expect", "");
  const CallAttributes given = read_attributes(test, *op);
  if (!given.untold.empty()) {
    fail(Diagnostic{.code = "unknown-attribute",
                    .message = fmt::format("has no attribute for '{}' of the case", given.untold),
                    .op = op->name});
  }

  std::shared_ptr<const Plan> plan;
  Answer got = answer([&] {
    const std::vector<CallOperand> operands = read_operands(test, *op, mesh);
    if (!given.faulty.empty()) fail(Diagnostic{.code = "attribute-type", .message = given.faulty, .op = op->name});
    const Attributes attributes(given.entries);
    std::vector<std::optional<TensorSpec>> specs = invent_operands(*op, operands, attributes, mesh);
    std::vector<const TensorSpec*> pointers;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i]) specs[i]->layout = layout_for(operands[i], *specs[i], mesh);
      pointers.push_back(specs[i] ? &*specs[i] : nullptr);
    }
    plan = make_plan(*op, pointers, attributes);
    std::vector<std::string> layouts;
    for (const TensorSpec& result : plan->results) layouts.push_back(to_string(effective(result.layout)));
    return layouts_text(layouts);
  });
  if (expects_refusal(expect)) return expect_refusal(expect, std::move(got));

  const Json& outputs = required(expect, "outputs", "/expect");
  if (!outputs.is_array()) fail_json_type(outputs, "/expect/outputs", "a list of layouts");
  std::vector<std::string> layouts;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const bool asserted = outputs[i].is_object();
    if (asserted) {
      layouts.push_back(to_string(effective(read_case_layout(outputs[i], mesh))));
    } else {
      layouts.push_back(plan && i < plan->results.size() ? to_string(effective(plan->results[i].layout)) : "?");
    }
  }
  const Json& local = value_or_null(expect, "local_shape");
  if (!got.refused()) got.text += local_text(local, plan->results.empty() ? nullptr : &plan->results[0]);
  return compare(layouts_text(layouts) + local_text(local, nullptr), std::move(got));
}

}  // namespace tessera::conformance
