// Matrix products: matmul with its batched and transposed forms, linear, outer.
#include <algorithm>
#include <array>

#include "kernels/dense.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

constexpr Rule kMatmul = "x[... m k], w[... k n] -> out[... m n] | linear x w";
constexpr Rule kMatmulTransposedX = "x[... k m], w[... k n] -> out[... m n] | linear x w";
constexpr Rule kMatmulTransposedW = "x[... m k], w[... n k] -> out[... m n] | linear x w";
constexpr Rule kMatmulTransposedBoth = "x[... k m], w[... n k] -> out[... m n] | linear x w";
constexpr Rule kLinear = "x[... k], weight[n k], bias[n]? -> out[... n] | linear x weight + bias";
constexpr Rule kOuter = "x[m], y[n] -> out[m n] | linear x y";

Rule matmul_rule(const CallSpec& call) {
  const bool x = call.attributes.get<bool>("transpose_x");
  const bool w = call.attributes.get<bool>("transpose_w");
  if (x) return w ? kMatmulTransposedBoth : kMatmulTransposedX;
  return w ? kMatmulTransposedW : kMatmul;
}

// The dtype that holds every operand's numbers.
std::vector<DType> promoted(const CallSpec& call) {
  DType dtype = call.operands[0]->dtype;
  for (std::size_t i = 1; i < call.operands.size(); ++i) {
    if (call.has(i)) dtype = kernels::promote(dtype, call.operands[i]->dtype);
  }
  return {dtype};
}

std::vector<Tensor> run_matmul(const LocalCall& call) {
  return {kernels::matmul(call.input(0), call.input(1), call.attributes().get<bool>("transpose_x"),
                          call.attributes().get<bool>("transpose_w"))};
}

double sum(double a, double b) { return a + b; }
double product(double a, double b) { return a * b; }

// x w + bias, rounded once.
std::vector<Tensor> run_linear(const LocalCall& call) {
  const DType result = call.plan.results[0].dtype;
  const DType computed = is_floating(result) ? DType::kF64 : DType::kI64;
  const Tensor& x = call.input(0);
  Shape row = x.shape();  // [..., 1, k], so that x may have one dim
  row.insert(row.size() - 1, 1);
  Tensor out = kernels::matmul(x.to(computed).reshape(row), call.input(1).to(computed), false, true);
  Shape shape = x.shape();
  shape.back() = call.input(1).size(0);
  out = out.reshape(shape);
  if (call.has(2)) out = kernels::zip(out, call.input(2), sum, computed);
  return {out.to(result)};
}

std::vector<Tensor> run_outer(const LocalCall& call) {
  const Tensor column = call.input(0).reshape({call.input(0).size(0), 1});
  return {kernels::zip(column, call.input(1), product, call.plan.results[0].dtype)};
}

AttributeSpec flag(const char* name, const char* doc, std::vector<std::string> aliases) {
  return {.name = name, .type = AttributeType::kBool, .default_value = false, .doc = doc, .aliases = std::move(aliases)};
}

}  // namespace

void register_matmul(Registry& registry) {
  registry.add({.name = "matmul",
                .rule = kMatmul,
                .kernel = run_matmul,
                .aliases = {"MatMul", "MatMulExt", "BatchMatMul", "BatchMatMulExt", "bmm", "mm"},
                .summary = "matrix product, batched over leading dims that broadcast",
                .attributes = {flag("transpose_x", "x is [..., k, m]", {"transpose_a"}),
                               flag("transpose_w", "w is [..., n, k]", {"transpose_b"})},
                .factors = {{"m", "rows"}, {"k", "contracted"}, {"n", "columns"}},
                .rule_for = matmul_rule,
                .result_dtypes = promoted,
                .examples = {{.operands = {"f32 [8, 16] [dp, tp]", "f32 [16, 4] [tp, -]"}},
                             {.operands = {"f32 [4, 8, 16] [dp, -, -]", "f32 [4, 4, 16] [dp, tp, -]"},
                              .attributes = {{"transpose_w", true}}},
                             {.operands = {"f32 [8, 16] [-, tp] partial(dp: sum)", "f32 [16, 4] [tp, -]"}}}});
  registry.add({.name = "linear",
                .rule = kLinear,
                .kernel = run_linear,
                .aliases = {"Dense", "dense"},
                .summary = "x weight^T + bias",
                .factors = {{"k", "input features"}, {"n", "output features"}},
                .result_dtypes = promoted,
                .examples = {{.operands = {"f32 [4, 8, 16] [dp, -, tp]", "f32 [12, 16] [-, tp]", "f32 [12] [-]"}},
                             {.operands = {"f32 [8, 16] [dp, -]", "f32 [12, 16] [tp, -]", "-"}}}});
  registry.add({.name = "outer",
                .rule = kOuter,
                .kernel = run_outer,
                .aliases = {"Outer", "ger"},
                .summary = "x[i] * y[j]",
                .result_dtypes = promoted,
                .examples = {{.operands = {"f32 [8] [dp]", "f32 [6] [tp]"}}}});
}

}  // namespace tessera
