// Element-wise operators of a tensor and a number.
#include <cmath>

#include "kernels/dense.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

constexpr Rule kUnary = "x[...] -> out[...]";
constexpr Rule kLinearUnary = "x[...] -> out[...] | linear x";

// A tensor and a number.
struct Scalar {
  const char* name;
  const Rule& rule;
  double (*f)(double x, double other);
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Scalar> scalar_table() {
  return {
      {"add_scalar", kUnary, [](double a, double b) { return a + b; }, {"AddScalar"}, "x + other"},
      {"sub_scalar", kUnary, [](double a, double b) { return a - b; }, {"SubScalar"}, "x - other"},
      {"mul_scalar", kLinearUnary, [](double a, double b) { return a * b; }, {"MulScalar", "Muls", "scale"}, "x other"},
      {"div_scalar", kLinearUnary, [](double a, double b) { return a / b; }, {"DivScalar"}, "x / other, a float"},
      {"pow_scalar", kUnary, [](double a, double b) { return std::pow(a, b); }, {"PowTensorScalar"}, "x to the other"},
  };
}

// Integers stay integers beside a whole number, except that a quotient is a float.
std::vector<DType> scalar_dtype(const CallSpec& call, bool quotient) {
  const DType x = call.operands[0]->dtype;
  const double other = call.attributes.get<double>("other");
  if (is_floating(x)) return {x};
  if (quotient || other != std::floor(other) || std::isinf(other)) return {DType::kF32};
  return {x == DType::kBool ? DType::kI64 : x};
}

}  // namespace

void register_scalars(Registry& registry) {
  for (Scalar& op : scalar_table()) {
    const bool quotient = std::string_view(op.name) == "div_scalar";
    registry.add({.name = op.name,
                  .rule = op.rule,
                  .kernel = [f = op.f](const LocalCall& call) -> std::vector<Tensor> {
                    const auto with = [f, other = call.attributes().get<double>("other")](double x) { return f(x, other); };
                    return {kernels::map(call.input(0).to(DType::kF64), with).to(call.plan.results[0].dtype)};
                  },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .attributes = {{.name = "other",
                                  .type = AttributeType::kFloat,
                                  .doc = "the number",
                                  .required = true,
                                  .aliases = {"scalar", "value", "exponent"}}},
                  .result_dtypes = [quotient](const CallSpec& call) { return scalar_dtype(call, quotient); },
                  .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}, .attributes = {{"other", 2.0}}}}});
  }
}

}  // namespace tessera
