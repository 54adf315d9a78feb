// Element-wise operators: unary, binary with broadcast, and choices. Numbers are computed in f64 and rounded once, so integers
// beyond 2^53 lose low bits.
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "kernels/dense.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

// What a pending sum may pass through is linear; what only moves numbers, as `clone` does, lets anything pending pass.
constexpr Rule kUnary = "x[...] -> out[...]";
constexpr Rule kLinearUnary = "x[...] -> out[...] | linear x";
constexpr Rule kMove = "x[...] -> out[...] | move x";
constexpr Rule kBinary = "x[...], y[...] -> out[...]";
constexpr Rule kSum = "x[...], y[...] -> out[...] | linear x + y";
constexpr Rule kProduct = "x[...], y[...] -> out[...] | linear x y";
constexpr Rule kQuotient = "x[...], y[...] -> out[...] | linear x";
constexpr Rule kAny = "x[...], y[...]? -> out[...]";
constexpr Rule kAnyLinear = "x[...], y[...]? -> out[...] | linear x + y";
constexpr Rule kMaskedFill = "x[...], mask[...] -> out[...]";
constexpr Rule kWhere = "condition[...], x[...], y[...] -> out[...] | linear x + y";

using DTypes = std::function<std::vector<DType>(const CallSpec&)>;

DType float_or(DType dtype, DType otherwise) { return is_floating(dtype) ? dtype : otherwise; }
DType promoted(const CallSpec& call, std::size_t first = 0) {
  return kernels::promote(call.operands[first]->dtype, call.operands[first + 1]->dtype);
}

// dtypes of results
std::vector<DType> same(const CallSpec& call) { return {call.operands[0]->dtype}; }
std::vector<DType> floats(const CallSpec& call) { return {float_or(call.operands[0]->dtype, DType::kF32)}; }
std::vector<DType> bools(const CallSpec&) { return {DType::kBool}; }
std::vector<DType> promote(const CallSpec& call) { return {promoted(call)}; }
std::vector<DType> promote_floats(const CallSpec& call) { return {float_or(promoted(call), DType::kF32)}; }

Tensor unary(const LocalCall& call, const std::function<double(double)>& f) {
  return kernels::map(call.input(0).to(DType::kF64), f).to(call.plan.results[0].dtype);
}
Tensor binary(const LocalCall& call, const std::function<double(double, double)>& f) {
  return kernels::zip(call.input(0), call.input(1), f, call.plan.results[0].dtype);
}

double relu(double a) { return a < 0 ? 0 : a; }
double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }
double silu(double a) { return a * sigmoid(a); }
double gelu_erf(double a) { return a / 2 * (1 + std::erf(a / std::numbers::sqrt2)); }
double gelu_tanh(double a) { return a / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (a + 0.044715 * a * a * a))); }
double sign(double a) { return std::isnan(a) ? a : static_cast<double>((a > 0) - (a < 0)); }
double product(double a, double b) { return a * b; }
double quotient(double a, double b) { return a / b; }
double power(double a, double b) { return std::pow(a, b); }
double floor_div(double a, double b) { return std::floor(a / b); }
double remainder_of(double a, double b) { return a - std::floor(a / b) * b; }  // of the sign of b
double truth(bool value) { return value ? 1 : 0; }

// A NaN wins over every number.
double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }
double smaller(double a, double b) { return std::isnan(a) || a < b ? a : b; }

struct Unary {
  const char* name;
  const Rule& rule;
  double (*f)(double);
  DTypes dtypes;
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Unary> unary_table() {
  return {
      {"relu", kUnary, relu, same, {"ReLU", "relu_"}, "max(x, 0)"},
      {"silu", kUnary, silu, floats, {"Silu", "SiLU"}, "x sigmoid(x)"},
      {"sigmoid", kUnary, sigmoid, floats, {"Sigmoid"}, "1 / (1 + exp(-x))"},
      {"tanh", kUnary, [](double a) { return std::tanh(a); }, floats, {"Tanh"}, "hyperbolic tangent"},
      {"exp", kUnary, [](double a) { return std::exp(a); }, floats, {"Exp"}, "e to the x"},
      {"log", kUnary, [](double a) { return std::log(a); }, floats, {"Log"}, "natural logarithm"},
      {"sqrt", kUnary, [](double a) { return std::sqrt(a); }, floats, {"Sqrt"}, "square root"},
      {"rsqrt", kUnary, [](double a) { return 1 / std::sqrt(a); }, floats, {"Rsqrt"}, "1 / sqrt(x)"},
      {"reciprocal", kUnary, [](double a) { return 1 / a; }, floats, {"Reciprocal"}, "1 / x"},
      {"sin", kUnary, [](double a) { return std::sin(a); }, floats, {"Sin"}, "sine"},
      {"cos", kUnary, [](double a) { return std::cos(a); }, floats, {"Cos"}, "cosine"},
      {"erf", kUnary, [](double a) { return std::erf(a); }, floats, {"Erf"}, "error function"},
      {"abs", kUnary, [](double a) { return std::abs(a); }, same, {"Abs", "absolute"}, "|x|"},
      {"sign", kUnary, sign, same, {"Sign", "sgn"}, "-1, 0 or 1"},
      {"square", kUnary, [](double a) { return a * a; }, same, {"Square"}, "x x"},
      {"neg", kLinearUnary, [](double a) { return -a; }, same, {"Neg", "negative", "__neg__"}, "-x"},
      {"isnan", kUnary, [](double a) { return truth(std::isnan(a)); }, bools, {"IsNan"}, "whether x is NaN"},
      {"isinf", kUnary, [](double a) { return truth(std::isinf(a)); }, bools, {"IsInf"}, "whether x is infinite"},
      {"isfinite", kUnary, [](double a) { return truth(std::isfinite(a)); }, bools, {"IsFinite"}, "whether x is neither"},
      {"logical_not", kUnary, [](double a) { return truth(a == 0); }, bools, {"LogicalNot"}, "whether x is 0"},
      {"zeros_like", kUnary, [](double) { return 0.0; }, same, {"ZerosLike", "ZerosLikeExt"}, "zeros of x's shape"},
      {"ones_like", kUnary, [](double) { return 1.0; }, same, {"OnesLike", "OnesLikeExt"}, "ones of x's shape"},
  };
}

struct Binary {
  const char* name;
  const Rule& rule;
  double (*f)(double, double);
  DTypes dtypes;
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Binary> binary_table() {
  return {
      {"mul", kProduct, product, promote, {"Mul", "mul_", "multiply", "__mul__"}, "x y"},
      {"div", kQuotient, quotient, promote_floats, {"Div", "div_", "true_divide", "RealDiv", "real_div"}, "x / y, a float"},
      {"floor_div", kBinary, floor_div, promote, {"FloorDiv", "floor_divide", "__floordiv__"}, "floor(x / y)"},
      {"remainder", kBinary, remainder_of, promote, {"Mod", "FloorMod", "mod", "__mod__"}, "x - floor(x / y) y"},
      {"pow", kBinary, power, promote, {"Pow", "__pow__"}, "x to the y"},
      {"maximum", kBinary, larger, promote, {"Maximum"}, "the larger; NaN where either is"},
      {"minimum", kBinary, smaller, promote, {"Minimum"}, "the smaller; NaN where either is"},
  };
}

struct Predicate {
  const char* name;
  bool (*f)(double, double);
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Predicate> predicate_table() {
  return {
      {"eq", [](double a, double b) { return a == b; }, {"Equal", "equal", "__eq__"}, "x = y"},
      {"ne", [](double a, double b) { return a != b; }, {"NotEqual", "not_equal", "__ne__"}, "x != y"},
      {"lt", [](double a, double b) { return a < b; }, {"Less", "less", "__lt__"}, "x < y"},
      {"le", [](double a, double b) { return a <= b; }, {"LessEqual", "less_equal", "__le__"}, "x <= y"},
      {"gt", [](double a, double b) { return a > b; }, {"Greater", "greater", "__gt__"}, "x > y"},
      {"ge", [](double a, double b) { return a >= b; }, {"GreaterEqual", "greater_equal", "__ge__"}, "x >= y"},
      {"logical_and", [](double a, double b) { return a != 0 && b != 0; }, {"LogicalAnd"}, "whether both are not 0"},
      {"logical_or", [](double a, double b) { return a != 0 || b != 0; }, {"LogicalOr"}, "whether either is not 0"},
      {"logical_xor", [](double a, double b) { return (a != 0) != (b != 0); }, {"LogicalXor"}, "whether one is 0"},
  };
}

// Integers and bools bit by bit.
struct Bitwise {
  const char* name;
  std::function<std::int64_t(std::int64_t, std::int64_t)> f;
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Bitwise> bitwise_table() {
  return {
      {"bitwise_and", std::bit_and<>(), {"BitwiseAnd", "__and__"}, "bits that both have"},
      {"bitwise_or", std::bit_or<>(), {"BitwiseOr", "__or__"}, "bits that either has"},
      {"bitwise_xor", std::bit_xor<>(), {"BitwiseXor", "__xor__"}, "bits that one has"},
  };
}

// x + alpha y and its like.
struct Sum {
  const char* name;
  double x;  // signs
  double y;
  bool scales_x;  // alpha is x's factor, not y's
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Sum> sum_table() {
  return {
      {"add", 1, 1, false, {"Add", "AddExt", "add_", "__add__"}, "x + alpha y"},
      {"sub", 1, -1, false, {"Sub", "SubExt", "sub_", "subtract", "__sub__"}, "x - alpha y"},
      {"rsub", -1, 1, true, {"__rsub__"}, "y - alpha x"},
  };
}

void check_bits(const std::string& op, const CallSpec& call) {
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    const DType dtype = call.operands[i]->dtype;
    if (!is_floating(dtype)) continue;
    fail({.code = "dtype",
          .message = fmt::format("{} is {}, it takes integers or bools", i == 0 ? "x" : "y", to_string(dtype)),
          .op = op,
          .operand = i == 0 ? "x" : "y",
          .hint = fmt::format("cast {} to i64", i == 0 ? "x" : "y")});
  }
}

void register_unary(Registry& registry) {
  for (Unary& op : unary_table()) {
    std::vector<Example> examples{{.operands = {"f32 [8, 16] [dp, tp]"}}};
    if (!op.rule.linear_terms.empty()) examples.push_back({.operands = {"f32 [8, 16] [dp, -] partial(tp: sum)"}});
    registry.add({.name = op.name,
                  .rule = op.rule,
                  .kernel = [f = op.f](const LocalCall& call) -> std::vector<Tensor> { return {unary(call, f)}; },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .result_dtypes = std::move(op.dtypes),
                  .examples = std::move(examples)});
  }
  registry.add(
      {.name = "gelu",
       .rule = kUnary,
       .kernel = [](const LocalCall& call) -> std::vector<Tensor> {
         return {unary(call, call.attributes().get<std::string>("approximate") == "tanh" ? gelu_tanh : gelu_erf)};
       },
       .aliases = {"GeLU", "Gelu"},
       .summary = "x times the normal distribution at x",
       .attributes = {{.name = "approximate",
                       .type = AttributeType::kString,
                       .default_value = std::string("none"),
                       .doc = "the error function itself, or its approximation by tanh",
                       .choices = {"none", "tanh"}}},
       .result_dtypes = floats,
       .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}},
                    {.operands = {"bf16 [8, 16] [-, dp+tp]"}, .attributes = {{"approximate", std::string("tanh")}}}}});
  registry.add(
      {.name = "clone",
       .rule = kMove,
       .kernel = [](const LocalCall& call) -> std::vector<Tensor> { return {call.input(0).clone()}; },
       .aliases = {"Clone", "Contiguous", "contiguous", "alias", "detach"},
       .summary = "a copy",
       .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}}, {.operands = {"i64 [8, 16] [tp, -] partial(dp: max)"}}}});
  registry.add({.name = "bitwise_not",
                .rule = kUnary,
                .kernel = [](const LocalCall& call) -> std::vector<Tensor> {
                  if (call.input(0).dtype() == DType::kBool) return {unary(call, [](double a) { return truth(a == 0); })};
                  return {unary(call, [](double a) { return -1 - a; })};
                },
                .aliases = {"BitwiseNot", "__invert__"},
                .summary = "every bit of an integer, a bool turned over",
                .check = [](const CallSpec& call) { check_bits("bitwise_not", call); },
                .examples = {{.operands = {"i32 [8, 16] [dp, tp]"}}, {.operands = {"bool [8] [tp]"}}}});
}

void register_binary(Registry& registry) {
  const std::vector<Example> examples{{.operands = {"f32 [8, 16] [dp, tp]", "f32 [8, 16] [dp, tp]"}},
                                      {.operands = {"f32 [4, 8, 16] [dp, -, tp]", "f32 [16] [tp]"}}};
  for (Binary& op : binary_table()) {
    registry.add({.name = op.name,
                  .rule = op.rule,
                  .kernel = [f = op.f](const LocalCall& call) -> std::vector<Tensor> { return {binary(call, f)}; },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .result_dtypes = std::move(op.dtypes),
                  .examples = examples});
  }
  for (Predicate& op : predicate_table()) {
    registry.add({.name = op.name,
                  .rule = kBinary,
                  .kernel = [f = op.f](const LocalCall& call) -> std::vector<Tensor> { return {binary(call, f)}; },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .result_dtypes = bools,
                  .examples = examples});
  }
  for (Bitwise& op : bitwise_table()) {
    registry.add({.name = op.name,
                  .rule = kBinary,
                  .kernel = [f = op.f](const LocalCall& call) -> std::vector<Tensor> {
                    return {binary(call, [f](double a, double b) {
                      return static_cast<double>(f(static_cast<std::int64_t>(a), static_cast<std::int64_t>(b)));
                    })};
                  },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .check = [name = op.name](const CallSpec& call) { check_bits(name, call); },
                  .result_dtypes = promote,
                  .examples = {{.operands = {"i64 [8, 16] [dp, tp]", "i32 [16] [tp]"}},
                               {.operands = {"bool [8] [dp]", "bool [8] [dp]"}}}});
  }
  for (Sum& op : sum_table()) {
    registry.add(
        {.name = op.name,
         .rule = kSum,
         .kernel = [x = op.x, y = op.y, scales_x = op.scales_x](const LocalCall& call) -> std::vector<Tensor> {
           const double alpha = call.attributes().get<double>("alpha");
           const double p = scales_x ? x * alpha : x;
           const double q = scales_x ? y : y * alpha;
           return {binary(call, [p, q](double a, double b) { return p * a + q * b; })};
         },
         .aliases = std::move(op.aliases),
         .summary = op.summary,
         .attributes =
             {{.name = "alpha", .type = AttributeType::kFloat, .default_value = 1.0, .doc = "factor of the second term"}},
         .result_dtypes = promote,
         .examples = {{.operands = {"f32 [8, 16] [dp, tp]", "f32 [16] [tp]"}},
                      {.operands = {"f32 [8, 16] [dp, -] partial(tp: sum)", "f32 [8, 1] [dp, -]"},
                       .attributes = {{"alpha", 0.5}}}}});
  }
}

void register_choices(Registry& registry) {
  registry.add(
      {.name = "masked_fill",
       .rule = kMaskedFill,
       .kernel = [](const LocalCall& call) -> std::vector<Tensor> {
         return {kernels::masked_fill(call.input(0), call.input(1), call.attributes().get<double>("value"))};
       },
       .aliases = {"MaskedFill", "masked_fill_"},
       .summary = "value where mask is true, else x",
       .attributes = {{.name = "value", .type = AttributeType::kFloat, .doc = "the number to fill with", .required = true}},
       .examples = {
           {.operands = {"f32 [4, 8, 16] [dp, -, tp]", "bool [8, 16] [-, tp]"}, .attributes = {{"value", -1.0}}}}});
  registry.add({.name = "where",
                .rule = kWhere,
                .kernel = [](const LocalCall& call) -> std::vector<Tensor> {
                  const DType result = call.plan.results[0].dtype;
                  const auto when = [&](std::size_t operand, bool wanted) {
                    return kernels::zip(
                        call.input(0), call.input(operand), [=](double c, double a) { return (c != 0) == wanted ? a : 0; },
                        result);
                  };
                  return {kernels::zip(
                      when(1, true), when(2, false), [](double a, double b) { return a + b; }, result)};
                },
                .aliases = {"Where", "Select"},
                .summary = "x where condition is true, else y",
                .result_dtypes = [](const CallSpec& call) { return std::vector{promoted(call, 1)}; },
                .examples = {{.operands = {"bool [8, 16] [dp, tp]", "f32 [8, 16] [dp, tp]", "f32 [1] [-]"}}}});
  registry.add(
      {.name = "element_wise",
       .rule = kAny,
       .kernel = {},
       .summary = "any element-wise operator of one or two operands: planned, not run",
       .examples = {{.operands = {"f32 [8, 16] [dp, tp]", "f32 [16] [tp]"}}, {.operands = {"f32 [8, 16] [dp, tp]", "-"}}}});
  registry.add({.name = "element_wise_with_partial",
                .rule = kAnyLinear,
                .kernel = {},
                .summary = "any element-wise operator that is linear, of one or two operands: planned, not run",
                .examples = {{.operands = {"f32 [8, 16] [dp, -] partial(tp: sum)", "f32 [16] [-]"}}}});
}

}  // namespace

void register_elementwise(Registry& registry) {
  register_unary(registry);
  register_binary(registry);
  register_choices(registry);
}

}  // namespace tessera
