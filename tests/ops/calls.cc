// Calls of the catalogue's dense operators.
#include "tests/ops/calls.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <charconv>

#include "layouts/notation.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"
#include "testing/matchers.h"

namespace tessera {
namespace {

std::int64_t read_number(std::string_view text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "dp=2 x tp=2"
DeviceMesh read_mesh(std::string_view text) {
  std::vector<MeshAxis> axes;
  while (!text.empty()) {
    const std::size_t equals = text.find('=');
    const std::size_t end = std::min(text.find(' '), text.size());
    axes.push_back({std::string(text.substr(0, equals)), read_number(text.substr(equals + 1, end - equals - 1))});
    text.remove_prefix(std::min(text.size(), end + 3));
  }
  return DeviceMesh(axes);
}

// "f32 [8, 16] [dp, tp]"
TensorSpec read_operand(DeviceMesh mesh, std::string_view text) {
  const std::size_t shape = text.find('[');
  const std::size_t layout = text.find('[', shape + 1);
  TensorSpec spec{{}, *parse_dtype(text.substr(0, shape - 1)), parse_layout(mesh, text.substr(layout))};
  std::string_view sizes = text.substr(shape + 1, text.find(']') - shape - 1);
  while (!sizes.empty()) {
    spec.shape.push_back(read_number(sizes));
    sizes.remove_prefix(std::min(sizes.size(), std::min(sizes.find(' '), sizes.size() - 1) + 1));
  }
  return spec;
}

std::shared_ptr<const Plan> plan_of(std::string_view op, std::string_view mesh, const std::vector<std::string>& operands,
                                    const std::vector<Attributes::Entry>& attributes) {
  const ExampleCall call = read_example({operands, attributes, std::string(mesh)});
  return make_plan(dense_catalogue().get(op), call.pointers(), call.attributes);
}

}  // namespace

const Registry& dense_catalogue() {
  static const Registry& registry = *[] {
    auto* filled = new Registry;
    register_elementwise(*filled);
    register_casts(*filled);
    register_scalars(*filled);
    register_matmul(*filled);
    register_reductions(*filled);
    register_normalize(*filled);
    register_embedding(*filled);
    register_shapes(*filled);
    return filled;
  }();
  return registry;
}

std::vector<const TensorSpec*> ExampleCall::pointers() const {
  std::vector<const TensorSpec*> pointers;
  for (const auto& operand : operands) pointers.push_back(operand ? &*operand : nullptr);
  return pointers;
}

ExampleCall read_example(const Example& example) {
  ExampleCall call{read_mesh(example.mesh), {}, Attributes(example.attributes)};
  for (const std::string& text : example.operands) {
    call.operands.push_back(text == "-" ? std::nullopt : std::optional(read_operand(call.mesh, text)));
  }
  return call;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string error_of(std::string_view op, std::string_view mesh, const std::vector<std::string>& operands,
                     const std::vector<Attributes::Entry>& attributes) {
  return error_of([&] { plan_of(op, mesh, operands, attributes); });
}

std::string results_of(std::string_view op, std::string_view mesh, const std::vector<std::string>& operands,
                       const std::vector<Attributes::Entry>& attributes) {
  try {
    std::string text;
    const auto plan = plan_of(op, mesh, operands, attributes);
    for (const TensorSpec& result : plan->results) text += (text.empty() ? "" : ", ") + to_string(result.layout);
    return text;
  } catch (const Error& error) {
    return error.diagnostic().code;
  }
}

std::string rule_of(std::string_view op, const std::vector<std::string>& operands,
                    const std::vector<Attributes::Entry>& attributes) {
  return to_string(plan_of(op, "dp=1", operands, attributes)->inference.binding.rule);
}

std::vector<Tensor> compute(std::string_view op, const std::vector<std::optional<Tensor>>& operands,
                            const std::vector<Attributes::Entry>& attributes) {
  std::vector<TensorSpec> specs(operands.size());
  std::vector<const TensorSpec*> pointers(operands.size(), nullptr);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i]) continue;
    specs[i] = {operands[i]->shape(), operands[i]->dtype(), Layout::replicated(DeviceMesh(), operands[i]->rank())};
    pointers[i] = &specs[i];
  }
  const DistributedOp& known = dense_catalogue().get(op);
  return run_local(*make_plan(known, pointers, Attributes(attributes)), known.kernel, Coordinate(), operands);
}

void expect_sound(std::string_view op, const std::vector<std::optional<TensorCase>>& operands,
                  const std::vector<Attributes::Entry>& attributes) {
  const DistributedOp& known = dense_catalogue().get(op);
  ProofOptions options;
  options.find_missed = false;
  options.space = {.partials = {Partial::kSum, Partial::kAvg, Partial::kMax},
                   .distributions = {Distribution::block(), Distribution::balanced(), Distribution::cyclic(1),
                                     Distribution::head_tail()}};
  EXPECT_THAT(prove(known, operands, Attributes(attributes), DeviceMesh({{"dp", 2}}), options), IsSound()) << op;
  options.space = {.partials = {Partial::kSum}};
  EXPECT_THAT(prove(known, operands, Attributes(attributes), DeviceMesh({{"dp", 2}, {"tp", 2}}), options), IsSound()) << op;
}

std::vector<double> numbers(const Tensor& tensor) {
  const Tensor values = tensor.to(DType::kF64);
  return {values.span<double>().begin(), values.span<double>().end()};
}

}  // namespace tessera
