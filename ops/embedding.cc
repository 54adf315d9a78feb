// Looking up rows of a table, whole or split over its rows.
#include <fmt/format.h>

#include "core/tensor/random.h"
#include "kernels/dense.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr Rule kEmbedding = "ids[...], weight[v d] -> out[... d] | linear weight";

// Each rank looks up the ids of its own rows, one interval after another, and gives zeros for the others.
std::vector<Tensor> run_embedding(const LocalCall& call) {
  const Tensor& weight = call.input(1);
  const std::int64_t total = call.global_size(1, 0);
  Tensor out = kernels::embedding(call.input(0), weight.slice(0, 0, 0), 0, total);
  std::int64_t local = 0;
  for (const Interval& rows : call.indices(1, 0)) {
    const Tensor part = kernels::embedding(call.input(0), weight.slice(0, local, local + rows.size()), rows.begin, total);
    local += rows.size();
    out = local == rows.size() ? part : kernels::zip(out, part, [](double a, double b) { return a + b; });
  }
  return {out};
}

void check_embedding(const CallSpec& call) {
  if (!std::holds_alternative<std::monostate>(*call.attributes.find("max_norm"))) {
    fail({.code = "attribute-value",
          .message = fmt::format("attribute 'max_norm' is {}, which would change rows of weight in place",
                                 to_string(*call.attributes.find("max_norm"))),
          .op = "embedding",
          .operand = "weight",
          .hint = "leave max_norm out, and scale the rows of weight before"});
  }
  const DType ids = call.operands[0]->dtype;
  if (ids != DType::kI32 && ids != DType::kI64) {
    fail({.code = "dtype",
          .message = fmt::format("ids is {}, it takes i32 or i64", to_string(ids)),
          .op = "embedding",
          .operand = "ids",
          .hint = "cast ids to i64"});
  }
  const Layout& weight = call.operands[1]->layout;
  if (call.attributes.get<bool>("scale_grad_by_freq") && weight.rank() == 2 && split_count(weight, 0) > 1) {
    fail({.code = "attribute-value",
          .message = "attribute 'scale_grad_by_freq' counts ids, but a rank that holds a part of weight's rows does not "
                     "see all of them",
          .op = "embedding",
          .operand = "weight",
          .dim = 0,
          .hint = "keep dim 0 of weight whole, or leave scale_grad_by_freq out"});
  }
}

std::optional<Tensor> sample_ids(const CallSpec& call, std::size_t operand, std::uint64_t seed) {
  if (operand != 0) return std::nullopt;
  const std::int64_t rows = call.shape(1)[0];
  if (rows == 0) return std::nullopt;  // no id is valid
  return random_integers(call.shape(0), call.operands[0]->dtype, 0, rows, seed, "ids");
}

}  // namespace

void register_embedding(Registry& registry) {
  registry.add(
      {.name = "embedding",
       .rule = kEmbedding,
       .kernel = run_embedding,
       .aliases = {"Embedding"},
       .summary = "rows of weight named by ids; split over its rows, a pending sum",
       .attributes = {{.name = "padding_idx", .doc = "the row whose gradient is zero; the result does not depend on it"},
                      {.name = "max_norm", .type = AttributeType::kFloat, .doc = "refused: it changes weight in place"},
                      {.name = "norm_type", .type = AttributeType::kFloat, .default_value = 2.0, .doc = "of max_norm"},
                      {.name = "scale_grad_by_freq",
                       .type = AttributeType::kBool,
                       .default_value = false,
                       .doc = "whether gradients are divided by how often an id occurs; needs whole rows"},
                      {.name = "sparse",
                       .type = AttributeType::kBool,
                       .default_value = false,
                       .doc = "a sparse gradient; of no effect here"}},
       .factors = {{"v", "vocabulary"}, {"d", "features"}},
       .check = check_embedding,
       .result_dtypes = [](const CallSpec& call) { return std::vector{call.operands[1]->dtype}; },
       .sample = sample_ids,
       .examples = {{.operands = {"i64 [4, 6] [dp, -]", "f32 [10, 8] [tp, -]"}},
                    {.operands = {"i32 [4, 6] [dp, -]", "f32 [10, 8] [-, tp]"}},
                    {.operands = {"i64 [6] [-]", "f32 [9, 4] [dp+tp:cyclic(2), -]"}}}});
}

}  // namespace tessera
