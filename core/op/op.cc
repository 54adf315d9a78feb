#include "core/op/op.h"

#include <fmt/format.h>

#include "support/diagnostic.h"

namespace tessera {
namespace {

[[noreturn]] void fail_kernel(const Plan& plan, std::string message) {
  fail(Diagnostic{.code = "kernel-result",
                  .message = std::move(message),
                  .op = plan.op->name,
                  .hint = "a kernel returns one tensor for each result of the rule, of its local shape and dtype"});
}

void check_results(const Plan& plan, const Coordinate& coordinate, std::span<const Tensor> results) {
  if (results.size() != plan.results.size()) {
    fail_kernel(plan, fmt::format("the kernel returned {} results, the rule has {}", results.size(), plan.results.size()));
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const TensorSpec& spec = plan.results[i];
    const Shape expected = local_shape(spec.layout, spec.shape, coordinate);
    if (results[i].shape() == expected && results[i].dtype() == spec.dtype) continue;
    fail_kernel(plan, fmt::format("the kernel returned {} as {}, the plan wants {} {}",
                                  result_name(plan.inference.binding.rule, static_cast<int>(i)), to_string(results[i]),
                                  to_string(spec.dtype), to_string(expected)));
  }
}

bool is_first_along(const Coordinate& coordinate, AxisList axes) {
  for (int k = 0; k < axes.size(); ++k) {
    if (coordinate[static_cast<std::size_t>(axes[k])] != 0) return false;
  }
  return true;
}

}  // namespace

IndexSet LocalCall::indices(std::size_t operand, int dim) const {
  const TensorSpec& spec = *plan.operands[operand];
  return owned_indices(spec.layout.distribution(dim), spec.shape[static_cast<std::size_t>(dim)],
                       split_count(spec.layout, dim), split_id(spec.layout, dim, coordinate));
}

std::int64_t LocalCall::global_size(std::size_t operand, int dim) const {
  return plan.operands[operand]->shape[static_cast<std::size_t>(dim)];
}

std::vector<Tensor> run_local(const Plan& plan, const Kernel& kernel, const Coordinate& coordinate,
                              std::span<const std::optional<Tensor>> inputs) {
  if (!kernel) {
    fail(Diagnostic{.code = "no-kernel",
                    .message = "has no kernel: it can be planned, but not run",
                    .op = plan.op->name,
                    .hint = "register it with a kernel"});
  }
  std::vector<Tensor> results;
  bool counts_once = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    counts_once = counts_once || (inputs[i] && !is_first_along(coordinate, plan.inference.once[i]));
  }
  if (counts_once) {
    std::vector<std::optional<Tensor>> adjusted(inputs.begin(), inputs.end());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] && !is_first_along(coordinate, plan.inference.once[i])) {
        adjusted[i] = Tensor::zeros(inputs[i]->shape(), inputs[i]->dtype());
      }
    }
    results = kernel(LocalCall{adjusted, plan, coordinate});
  } else {
    results = kernel(LocalCall{inputs, plan, coordinate});
  }
  check_results(plan, coordinate, results);
  return results;
}

LocalKernel DistributedOp::expand(Kernel kernel, std::shared_ptr<const Plan> plan, const Coordinate& coordinate) {
  return [kernel = std::move(kernel), plan = std::move(plan), coordinate](std::span<const std::optional<Tensor>> inputs) {
    return run_local(*plan, kernel, coordinate, inputs);
  };
}

std::shared_ptr<const Plan> make_plan(const DistributedOp& op, OperandSpecs operands, const Attributes& attributes,
                                      Policy policy) {
  Attributes normalised = normalise(attributes, op.attributes, op.name);
  const CallSpec call{operands, normalised};
  const OpNames names = op.names();
  if (op.rule_for || op.check) {
    // An operator's own functions may read its required operands.
    for (std::size_t i = 0; i < op.rule.operands.size(); ++i) {
      if (!op.rule.operands[i].optional && !call.has(i)) bind(op.rule, operands, names);  // throws "missing-operand"
    }
  }
  if (op.check) op.check(call);
  // Made in place, which make_shared cannot: a plan is some kilobytes, and planning is a microsecond.
  // NOLINTNEXTLINE(modernize-make-shared)
  auto plan = std::shared_ptr<Plan>(new Plan{.op = &op,
                                             .inference = op.rule_for ? infer(op.rule_for(call), operands, policy, names)
                                                                      : infer(op.rule, operands, policy, names)});
  if (op.result_layouts) {
    const std::vector<Layout> layouts = op.result_layouts(call);
    plan->inference.results = StaticVector<Layout, kMaxTensors>(layouts.begin(), layouts.end());
  }
  const std::vector<DType> dtypes = op.result_dtypes ? op.result_dtypes(call) : std::vector<DType>{};
  const Inference& inference = plan->inference;
  DType first = DType::kF32;
  bool found = false;
  plan->operands.reserve(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i] == nullptr) {
      plan->operands.emplace_back();
      continue;
    }
    if (!found) {
      first = operands[i]->dtype;
      plan->mesh = operands[i]->layout.mesh();
    }
    found = true;
    plan->operands.emplace_back(TensorSpec{operands[i]->shape, operands[i]->dtype, inference.operands[i]});
  }
  plan->results.reserve(inference.results.size());
  for (std::size_t i = 0; i < inference.results.size(); ++i) {
    plan->results.push_back({inference.binding.results[i], i < dtypes.size() ? dtypes[i] : first, inference.results[i]});
  }
  plan->attributes = std::move(normalised);
  return plan;
}

}  // namespace tessera
