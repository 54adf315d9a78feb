// Reductions over dims: a split dim leaves the result pending.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/dense.h"
#include "ops/catalogue.h"
#include "ops/dims.h"

namespace tessera {
namespace {

using kernels::Reduce;
using Ints = std::vector<std::int64_t>;

constexpr Rule kExtremum = "x[...], y[...]? -> out[...]";  // of two operands; over dims the letters are x's dims

struct Reduction {
  const char* name;
  Rule rule;  // over the last dim; over others the letter stands elsewhere
  Reduce kind;
  std::vector<std::string> aliases;
  const char* summary;
};

std::vector<Reduction> reduction_table() {
  return {
      {"sum", "x[... d] -> out[...] | sum d | linear x", Reduce::kSum, {"SumExt", "ReduceSum"}, "the sum; i64 of integers"},
      {"mean", "x[... d] -> out[...] | avg d | linear x", Reduce::kMean, {"MeanExt", "ReduceMean"}, "the mean"},
      {"amax", "x[... d] -> out[...] | max d", Reduce::kMax, {"ReduceMax", "AmaxExt"}, "the largest"},
      {"amin", "x[... d] -> out[...] | min d", Reduce::kMin, {"ReduceMin", "AminExt"}, "the smallest"},
      {"prod", "x[... d] -> out[...] | prod d", Reduce::kProd, {"ProdExt", "ReduceProd"}, "the product; i64 of integers"},
      {"any", "x[... d] -> out[...] | any d", Reduce::kAny, {"ReduceAny"}, "whether any is not 0"},
      {"all", "x[... d] -> out[...] | all d", Reduce::kAll, {"ReduceAll"}, "whether none is 0"},
  };
}

std::vector<AttributeSpec> dim_attributes() {
  return {{.name = "dim",
           .type = AttributeType::kInts,
           .doc = "dims to reduce: all where it is none, none where it is empty",
           .aliases = {"axis", "dims"}},
          {.name = "keepdim",
           .type = AttributeType::kBool,
           .default_value = false,
           .doc = "whether they stay, with size 1",
           .aliases = {"keep_dims", "keepdims"}}};
}

// The dims that a call reduces.
std::vector<int> reduced_dims(std::string_view op, const Attributes& attributes, int rank) {
  if (const auto dims = attributes.get_optional<Ints>("dim")) return dims_attribute(op, "dim", *dims, rank);
  std::vector<int> all(static_cast<std::size_t>(rank));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The dims of the result: "d0 1", or "d0" where reduced dims go.
std::string remaining(int rank, std::span<const int> reduced, bool keep) {
  std::string text;
  for (int dim = 0; dim < rank; ++dim) {
    const bool gone = std::find(reduced.begin(), reduced.end(), dim) != reduced.end();
    if (gone && !keep) continue;
    text += (text.empty() ? "" : " ") + (gone ? "1" : dim_letter(dim));
  }
  return text;
}

// "x[d0 d1], y[...]? -> out[d0] | max d1", the second operand where `other` gives it.
Rule reduction_rule(const CallSpec& call, std::span<const int> dims, std::string_view keyword, std::string_view clause,
                    std::string_view other = "") {
  const int rank = rank_of(call, 0);
  const std::string clauses = dims.empty() ? "" : fmt::format(" | {} {}", keyword, dim_letters(dims));
  const std::string result = remaining(rank, dims, call.attributes.get<bool>("keepdim"));
  return Rule::parse(fmt::format("x[{}]{} -> out[{}]{}{}", dim_letters(rank), other, result, clauses, clause));
}

std::vector<DType> reduced_dtype(Reduce kind, const CallSpec& call) {
  const DType x = call.operands[0]->dtype;
  if (kind == Reduce::kAny || kind == Reduce::kAll) return {DType::kBool};
  if (is_floating(x) || kind == Reduce::kMax || kind == Reduce::kMin) return {x};
  return {kind == Reduce::kMean ? DType::kF32 : DType::kI64};
}

// Where the largest (or smallest) element of each row along `dim` stands: the first of equal ones; a NaN before all.
Tensor index_of_extremum(const Tensor& x, int dim, bool largest, bool keep) {
  std::vector<int> order;
  for (int i = 0; i < x.rank(); ++i) {
    if (i != dim) order.push_back(i);
  }
  order.push_back(dim);
  const Tensor rows = x.permute(order).contiguous();
  Shape shape = x.shape();
  if (keep) {
    shape[static_cast<std::size_t>(dim)] = 1;
  } else {
    shape.erase(static_cast<std::size_t>(dim));
  }
  Tensor out = Tensor::zeros(shape, DType::kI64);
  const std::int64_t length = x.size(dim);
  visit_dtype(x.dtype(), [&]<class T>(T) {
    const auto is_nan = [](T value) { return std::isnan(static_cast<double>(value)); };
    const T* row = rows.data<T>();
    for (std::int64_t& index : out.span<std::int64_t>()) {
      for (std::int64_t i = 1; i < length; ++i) {
        const T best = row[index];
        const bool better = largest ? row[i] > best : row[i] < best;
        if (!is_nan(best) && (better || is_nan(row[i]))) index = i;
      }
      row += length;
    }
  });
  return out;
}

// max and min as torch has them: of two operands, of all elements, or values and indices over one dim. A rank that held
// a part of that dim would know the index of its own extremum only, so with indices the dim is whole.
DistributedOp extremum(const std::string& name, bool largest, std::vector<std::string> aliases) {
  const Reduce kind = largest ? Reduce::kMax : Reduce::kMin;
  const auto dim_of = [name](const Attributes& attributes, int rank) -> std::optional<int> {
    const auto dim = attributes.get_optional<std::int64_t>("dim");
    if (!dim) return std::nullopt;
    return dim_attribute(name, "dim", *dim, rank);
  };
  std::vector<AttributeSpec> attributes = dim_attributes();
  attributes[0] = {
      .name = "dim", .doc = "the dim to reduce, with indices; without it all are reduced", .aliases = {"axis"}};
  return {.name = name,
          .rule = kExtremum,
          .kernel = [=](const LocalCall& call) -> std::vector<Tensor> {
            const Tensor& x = call.input(0);
            if (call.has(1)) {
              const auto pick = [largest](double a, double b) {
                return std::isnan(a) || (largest ? a > b : a < b) ? a : b;
              };
              return {kernels::zip(x, call.input(1), pick)};
            }
            const bool keep = call.attributes().get<bool>("keepdim");
            const std::optional<int> dim = dim_of(call.attributes(), x.rank());
            if (!dim) return {kernels::reduce(x, reduced_dims(name, {}, x.rank()), kind, keep)};
            return {kernels::reduce(x, std::vector{*dim}, kind, keep), index_of_extremum(x, *dim, largest, keep)};
          },
          .aliases = std::move(aliases),
          .summary = fmt::format("the {}: of two operands, of all elements, or over a dim, with its index",
                                 largest ? "larger" : "smaller"),
          .attributes = std::move(attributes),
          .factors = dim_meanings(),
          .rule_for = [=](const CallSpec& call) -> Rule {
            if (call.has(1)) return kExtremum;
            const int rank = rank_of(call, 0);
            const std::optional<int> dim = dim_of(call.attributes, rank);
            if (!dim) return reduction_rule(call, reduced_dims(name, {}, rank), largest ? "max" : "min", "", ", y[...]?");
            const std::string result = remaining(rank, std::vector{*dim}, call.attributes.get<bool>("keepdim"));
            return Rule::parse(fmt::format("x[{0}], y[...]? -> values[{1}], indices[{1}] | whole {2}", dim_letters(rank),
                                           result, dim_letter(*dim)));
          },
          .result_dtypes =
              [](const CallSpec& call) {
                const DType x = call.operands[0]->dtype;
                return std::vector{call.has(1) ? kernels::promote(x, call.operands[1]->dtype) : x, DType::kI64};
              },
          .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}},
                       {.operands = {"f32 [8, 16] [dp, -]"}, .attributes = {{"dim", std::int64_t{1}}}},
                       {.operands = {"f32 [8, 16] [dp, tp]", "f32 [16] [tp]"}}}};
}

}  // namespace

void register_reductions(Registry& registry) {
  for (Reduction& op : reduction_table()) {
    const std::string name = op.name;
    registry.add({.name = name,
                  .rule = op.rule,
                  .kernel = [name, kind = op.kind](const LocalCall& call) -> std::vector<Tensor> {
                    const Tensor& x = call.input(0);
                    return {kernels::reduce(x, reduced_dims(name, call.attributes(), x.rank()), kind,
                                            call.attributes().get<bool>("keepdim"))};
                  },
                  .aliases = std::move(op.aliases),
                  .summary = op.summary,
                  .attributes = dim_attributes(),
                  .factors = dim_meanings(),
                  .rule_for =
                      [name, rule = op.rule](const CallSpec& call) {
                        const std::string_view keyword = to_string(rule.factors[0].reduction);
                        const std::string_view clause = rule.linear_terms.empty() ? "" : " | linear x";
                        return reduction_rule(call, reduced_dims(name, call.attributes, rank_of(call, 0)), keyword, clause);
                      },
                  .result_dtypes = [kind = op.kind](const CallSpec& call) { return reduced_dtype(kind, call); },
                  .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}, .attributes = {{"dim", Ints{1}}}},
                               {.operands = {"f32 [4, 8, 16] [dp+tp, -, -]"}},
                               {.operands = {"f32 [4, 8, 16] [-, dp, tp]"},
                                .attributes = {{"dim", Ints{0, -1}}, {"keepdim", true}}}}});
  }
  registry.add(extremum("max", true, {"Max", "MaxDim"}));
  registry.add(extremum("min", false, {"Min", "MinDim"}));
}

}  // namespace tessera
