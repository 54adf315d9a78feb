// Softmax and normalisation: what is normalised over must be whole.
#include <fmt/format.h>

#include <cmath>

#include "kernels/dense.h"
#include "ops/catalogue.h"
#include "ops/dims.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr Rule kSoftmax = "x[... d] -> out[... d] | whole d";
constexpr Rule kRmsNorm = "x[... d], gamma[d] -> out[... d], rstd[... 1] | whole d";
constexpr Rule kLayerNorm = "x[... d], weight[d]?, bias[d]? -> out[... d] | whole d";

// x's dtype, f32 for integers and bools.
std::vector<DType> float_of(const CallSpec& call) {
  const DType dtype = call.operands[0]->dtype;
  return {is_floating(dtype) ? dtype : DType::kF32};
}

AttributeSpec epsilon(double value) {
  return {.name = "epsilon",
          .type = AttributeType::kFloat,
          .default_value = value,
          .doc = "added to the mean square",
          .aliases = {"eps"}};
}

// softmax and log_softmax: one dim is whole, all others may be split.
DistributedOp row_op(const std::string& name, Tensor (*kernel)(const Tensor&, int), std::vector<std::string> aliases,
                     std::string summary) {
  const auto dim_of = [name](const Attributes& attributes, int rank) {
    return dim_attribute(name, "dim", attributes.get<std::int64_t>("dim"), rank);
  };
  return {.name = name,
          .rule = kSoftmax,
          .kernel = [=](const LocalCall& call) -> std::vector<Tensor> {
            return {kernel(call.input(0), dim_of(call.attributes(), call.input(0).rank()))};
          },
          .aliases = std::move(aliases),
          .summary = std::move(summary),
          .attributes = {{.name = "dim",
                          .default_value = std::int64_t{-1},
                          .doc = "the dim whose elements sum to one",
                          .aliases = {"axis"}}},
          .factors = dim_meanings(),
          .rule_for =
              [=](const CallSpec& call) {
                const int dim = dim_of(call.attributes, rank_of(call, 0));
                const std::string dims = dim_letters(rank_of(call, 0));
                return Rule::parse(fmt::format("x[{0}] -> out[{0}] | whole {1}", dims, dim_letter(dim)));
              },
          .result_dtypes = float_of,
          .examples = {{.operands = {"f32 [8, 16] [dp+tp, -]"}},
                       {.operands = {"f32 [4, 6, 8] [dp, -, tp]"}, .attributes = {{"dim", std::int64_t{1}}}}}};
}

// The last `count` dims of a tensor of `rank` dims: "d2 d3".
std::string last_dims(int rank, int count) {
  std::vector<int> dims;
  for (int dim = rank - count; dim < rank; ++dim) dims.push_back(dim);
  return dim_letters(dims);
}

Rule rms_norm_rule(const CallSpec& call) {
  const int rank = rank_of(call, 0);
  const int count = rank_of(call, 1);
  if (count > rank || count == 0) return kRmsNorm;  // says how the ranks disagree
  std::string ones;
  for (int i = 0; i < count; ++i) ones += " 1";
  const std::string dims = last_dims(rank, count);
  return Rule::parse(fmt::format("x[... {0}], gamma[{0}] -> out[... {0}], rstd[...{1}] | whole {0}", dims, ones));
}

std::vector<DType> rms_norm_dtypes(const CallSpec& call) {
  const DType x = call.operands[0]->dtype;
  return {x, x == DType::kF64 ? DType::kF64 : DType::kF32};
}

void check_float(std::string_view op, const CallSpec& call) {
  const DType x = call.operands[0]->dtype;
  if (is_floating(x)) return;
  fail({.code = "dtype",
        .message = fmt::format("x is {}, it takes floats", to_string(x)),
        .op = std::string(op),
        .operand = "x",
        .hint = "cast x to f32"});
}

std::vector<Tensor> run_rms_norm(const LocalCall& call) {
  auto [out, rstd] = kernels::rms_norm(call.input(0), call.input(1), call.attributes().get<double>("epsilon"));
  return {std::move(out), std::move(rstd)};
}

// normalized_shape is the end of x's shape.
void check_layer_norm(const CallSpec& call) {
  check_float("layer_norm", call);
  const auto& sizes = call.attributes.get<std::vector<std::int64_t>>("normalized_shape");
  const Shape& x = call.shape(0);
  const auto refuse = [&](const std::string& what) {
    fail({.code = "normalized-shape",
          .message =
              fmt::format("attribute 'normalized_shape' is [{}], but x {} {}", fmt::join(sizes, ", "), to_string(x), what),
          .op = "layer_norm",
          .operand = "x",
          .hint = "give the sizes of the last dims of x"});
  };
  if (sizes.empty()) {
    fail({.code = "normalized-shape",
          .message = "attribute 'normalized_shape' is [], so nothing is normalised",
          .op = "layer_norm",
          .hint = "give the sizes of the last dims of x"});
  }
  if (sizes.size() > x.size()) refuse(fmt::format("has {} dim{}", x.size(), x.size() == 1 ? "" : "s"));
  const Shape end(x.end() - static_cast<std::ptrdiff_t>(sizes.size()), x.end());
  if (!std::equal(sizes.begin(), sizes.end(), end.begin())) refuse(fmt::format("ends in {}", to_string(end)));
}

Rule layer_norm_rule(const CallSpec& call) {
  const auto count = static_cast<int>(call.attributes.get<std::vector<std::int64_t>>("normalized_shape").size());
  const std::string dims = last_dims(rank_of(call, 0), count);
  return Rule::parse(fmt::format("x[... {0}], weight[{0}]?, bias[{0}]? -> out[... {0}] | whole {0}", dims));
}

// (x - mean) / sqrt(variance + epsilon) * weight + bias over the last dims, in f64, rounded once.
std::vector<Tensor> run_layer_norm(const LocalCall& call) {
  const double epsilon = call.attributes().get<double>("epsilon");
  const auto count = static_cast<int>(call.attributes().get<std::vector<std::int64_t>>("normalized_shape").size());
  const Tensor x = call.input(0).to(DType::kF64);
  std::vector<int> dims;
  for (int dim = x.rank() - count; dim < x.rank(); ++dim) dims.push_back(dim);
  const Tensor mean = kernels::reduce(x, dims, kernels::Reduce::kMean, true);
  const Tensor centred = kernels::zip(x, mean, [](double a, double b) { return a - b; });
  const Tensor squares = kernels::map(centred, [](double a) { return a * a; });
  const Tensor variance = kernels::reduce(squares, dims, kernels::Reduce::kMean, true);
  Tensor out = kernels::zip(centred, variance, [=](double a, double v) { return a / std::sqrt(v + epsilon); });
  if (call.has(1)) out = kernels::zip(out, call.input(1), [](double a, double b) { return a * b; });
  if (call.has(2)) out = kernels::zip(out, call.input(2), [](double a, double b) { return a + b; });
  return {out.to(call.input(0).dtype())};
}

}  // namespace

void register_normalize(Registry& registry) {
  registry.add(row_op("softmax", kernels::softmax, {"Softmax", "_softmax"}, "exp(x) over its sum along dim"));
  registry.add(row_op("log_softmax", kernels::log_softmax, {"LogSoftmax", "LogSoftmaxExt", "_log_softmax"},
                      "the logarithm of softmax"));
  registry.add({.name = "rms_norm",
                .rule = kRmsNorm,
                .kernel = run_rms_norm,
                .aliases = {"RmsNorm", "npu_rms_norm"},
                .summary = "x / sqrt(mean(x^2) + epsilon) * gamma over the dims of gamma, and the reciprocal root",
                .attributes = {epsilon(1e-6)},
                .factors = dim_meanings(),
                .rule_for = rms_norm_rule,
                .check = [](const CallSpec& call) { check_float("rms_norm", call); },
                .result_dtypes = rms_norm_dtypes,
                .examples = {{.operands = {"f32 [4, 6, 8] [dp, tp, -]", "f32 [8] [-]"}},
                             {.operands = {"bf16 [4, 6, 8] [dp, -, -]", "bf16 [6, 8] [-, -]"}}}});
  registry.add({.name = "layer_norm",
                .rule = kLayerNorm,
                .kernel = run_layer_norm,
                .aliases = {"LayerNorm", "LayerNormExt"},
                .summary = "(x - mean) / sqrt(variance + epsilon) * weight + bias over the last dims",
                .attributes = {{.name = "normalized_shape",
                                .type = AttributeType::kInts,
                                .doc = "the sizes of the last dims of x, over which it is normalised",
                                .required = true},
                               epsilon(1e-5)},
                .factors = dim_meanings(),
                .rule_for = layer_norm_rule,
                .check = check_layer_norm,
                .examples = {{.operands = {"f32 [4, 6, 8] [dp, tp, -]", "f32 [8] [-]", "f32 [8] [-]"},
                              .attributes = {{"normalized_shape", std::vector<std::int64_t>{8}}}},
                             {.operands = {"f32 [4, 6, 8] [dp+tp, -, -]"},
                              .attributes = {{"normalized_shape", std::vector<std::int64_t>{6, 8}}}}}});
}

}  // namespace tessera
