// Casts: x as another dtype.
#include <fmt/format.h>

#include "kernels/dense.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

constexpr Rule kUnary = "x[...] -> out[...]";
constexpr Rule kMove = "x[...] -> out[...] | move x";

// A float that holds all numbers of another only carries them over. Where parts would be rounded one by one, their sum is
// another number.
Rule cast_rule(DType from, DType to) {
  return is_floating(from) && is_floating(to) && kernels::promote(from, to) == to ? kMove : kUnary;
}

DType named_dtype(const Attributes& attributes) { return *parse_dtype(attributes.get<std::string>("dtype")); }

}  // namespace

void register_casts(Registry& registry) {
  const auto kernel = [](const LocalCall& call) -> std::vector<Tensor> {
    return {call.input(0).to(call.plan.results[0].dtype)};
  };
  registry.add(
      {.name = "cast",
       .rule = kUnary,
       .kernel = kernel,
       .aliases = {"Cast", "ToDtype", "to", "astype"},
       .summary = "x as another dtype",
       .attributes = {{.name = "dtype",
                       .type = AttributeType::kString,
                       .doc = "\"f32\", \"bfloat16\", ...",
                       .required = true,
                       .choices = {"f32", "f64", "bf16", "f16", "i32", "i64", "bool", "float32", "float64", "bfloat16",
                                   "float16", "int32", "int64"}}},
       .rule_for = [](const CallSpec& call) { return cast_rule(call.operands[0]->dtype, named_dtype(call.attributes)); },
       .result_dtypes = [](const CallSpec& call) { return std::vector{named_dtype(call.attributes)}; },
       .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}, .attributes = {{"dtype", std::string("i32")}}},
                    {.operands = {"bf16 [8, 16] [dp, -] partial(tp: sum)"},
                     .attributes = {{"dtype", std::string("f32")}}}}});
  constexpr std::pair<const char*, DType> kTargets[] = {
      {"float", DType::kF32}, {"double", DType::kF64}, {"half", DType::kF16}, {"bfloat16", DType::kBF16},
      {"int", DType::kI32},   {"long", DType::kI64},   {"bool", DType::kBool}};
  for (const auto& [name, dtype] : kTargets) {
    registry.add({.name = name,
                  .rule = kUnary,
                  .kernel = kernel,
                  .summary = fmt::format("x as {}", to_string(dtype)),
                  .rule_for = [dtype = dtype](const CallSpec& call) { return cast_rule(call.operands[0]->dtype, dtype); },
                  .result_dtypes = [dtype = dtype](const CallSpec&) { return std::vector{dtype}; },
                  .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}}}});
  }
}

}  // namespace tessera
