// Operators that only move numbers: transpose, permute, reshape and its kin. Anything pending passes through them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/dense.h"
#include "ops/catalogue.h"
#include "ops/dims.h"
#include "ops/regroup.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr Rule kTranspose = "x[m n] -> out[n m] | move x";
constexpr Rule kFlatten = "x[... m n] -> out[... (m n)] | move x";
constexpr Rule kExpandDims = "x[...] -> out[... 1] | move x";
constexpr Rule kSqueeze = "x[... d] -> out[...] | whole d | move x";
constexpr Rule kSwiglu = "x[... (two h)] -> out[... h] | whole two h | size two=2";
constexpr Rule kSame = "x[...] -> out[...] | move x";

// What the rank's part of the first result is shaped like.
Shape local_result(const LocalCall& call) {
  const TensorSpec& spec = call.plan.results[0];
  return local_shape(spec.layout, spec.shape, call.coordinate);
}

// A shard of a reshaped tensor is the shard, reshaped: shards cut whole factors from the outside.
std::vector<Tensor> run_reshape(const LocalCall& call) { return {call.input(0).reshape(local_result(call))}; }
std::vector<Tensor> run_expand(const LocalCall& call) {
  return {call.input(0).broadcast_to(local_result(call)).contiguous()};
}

// Result dim i is dim order[i].
Rule order_rule(const std::vector<int>& order) {
  return Rule::parse(
      fmt::format("x[{}] -> out[{}] | move x", dim_letters(static_cast<int>(order.size())), dim_letters(order)));
}

// An operator that reorders dims.
DistributedOp reorder(std::string name, const std::function<std::vector<int>(const Attributes&, int)>& order_of,
                      std::vector<std::string> aliases, std::string summary, std::vector<AttributeSpec> attributes,
                      std::vector<Example> examples) {
  return {.name = std::move(name),
          .rule = kTranspose,
          .kernel = [order_of](const LocalCall& call) -> std::vector<Tensor> {
            return {call.input(0).permute(order_of(call.attributes(), call.input(0).rank()))};
          },
          .aliases = std::move(aliases),
          .summary = std::move(summary),
          .attributes = std::move(attributes),
          .factors = dim_meanings(),
          .rule_for = [order_of](const CallSpec& call) { return order_rule(order_of(call.attributes, rank_of(call, 0))); },
          .examples = std::move(examples)};
}

std::vector<int> swapped(const Attributes& attributes, int rank) {
  std::vector<int> order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  const int a = dim_attribute("transpose", "dim0", attributes.get<std::int64_t>("dim0"), rank);
  const int b = dim_attribute("transpose", "dim1", attributes.get<std::int64_t>("dim1"), rank);
  std::swap(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
  return order;
}

// A permutation names every dim once, counted from 0 as MindSpore has it.
std::vector<int> permuted(const Attributes& attributes, int rank) {
  const Ints& dims = attributes.get<Ints>("dims");
  std::vector<int> order;
  std::vector<bool> named(static_cast<std::size_t>(rank), false);
  for (std::int64_t dim : dims) {
    if (dim < 0 || dim >= rank || named[static_cast<std::size_t>(dim)]) break;
    named[static_cast<std::size_t>(dim)] = true;
    order.push_back(static_cast<int>(dim));
  }
  if (static_cast<int>(order.size()) != rank || dims.size() != order.size()) {
    fail({.code = "permutation",
          .message = fmt::format("attribute 'dims' is [{}], no permutation of the {} dim{} of x", fmt::join(dims, ", "),
                                 rank, rank == 1 ? "" : "s"),
          .op = "permute",
          .operand = "x",
          .hint = "name each dim from 0 on once: result dim i is dim dims[i] of x"});
  }
  return order;
}

// An operator whose result is x's elements in another shape.
DistributedOp regroup(const std::string& name, const Rule& rule, std::function<Shape(const CallSpec&)> shape_of,
                      std::vector<std::string> aliases, std::string summary, std::vector<AttributeSpec> attributes,
                      std::vector<Example> examples) {
  return {.name = name,
          .rule = rule,
          .kernel = run_reshape,
          .aliases = std::move(aliases),
          .summary = std::move(summary),
          .attributes = std::move(attributes),
          .rule_for = [name, shape_of = std::move(shape_of)](
                          const CallSpec& call) { return regroup_rule(name, call.shape(0), shape_of(call)); },
          .examples = std::move(examples)};
}

Shape flattened(const CallSpec& call) {
  const int rank = rank_of(call, 0);
  if (rank == 0) return {1};
  const int first = dim_attribute("flatten", "start_dim", call.attributes.get<std::int64_t>("start_dim"), rank);
  const int last = dim_attribute("flatten", "end_dim", call.attributes.get<std::int64_t>("end_dim"), rank);
  if (first > last) {
    fail({.code = "flatten-dims",
          .message = fmt::format("attribute 'start_dim' is dim {}, which is behind 'end_dim', dim {}", first, last),
          .op = "flatten",
          .operand = "x",
          .hint = "swap them"});
  }
  Shape shape;
  for (int dim = 0; dim < rank; ++dim) {
    if (dim > first && dim <= last) {
      shape.back() *= call.shape(0)[static_cast<std::size_t>(dim)];
    } else {
      shape.push_back(call.shape(0)[static_cast<std::size_t>(dim)]);
    }
  }
  return shape;
}

// Dims of size 1 that go: those named, or all.
Rule squeeze_rule(const CallSpec& call) {
  const Shape& x = call.shape(0);
  std::vector<int> gone;
  if (const auto dims = call.attributes.get_optional<Ints>("dim")) {
    gone = dims_attribute("squeeze", "dim", *dims, rank_of(call, 0));
    for (int dim : gone) {
      if (x[static_cast<std::size_t>(dim)] == 1) continue;
      fail({.code = "squeeze-size",
            .message = fmt::format("attribute 'dim' names dim {}, which has size {}, not 1", dim,
                                   x[static_cast<std::size_t>(dim)]),
            .op = "squeeze",
            .operand = "x",
            .dim = dim,
            .hint = "name dims of size 1"});
    }
  } else {
    for (int dim = 0; dim < rank_of(call, 0); ++dim) {
      if (x[static_cast<std::size_t>(dim)] == 1) gone.push_back(dim);
    }
  }
  std::vector<int> kept;
  for (int dim = 0; dim < rank_of(call, 0); ++dim) {
    if (std::find(gone.begin(), gone.end(), dim) == gone.end()) kept.push_back(dim);
  }
  const std::string clause = gone.empty() ? "" : " | whole " + dim_letters(gone);
  return Rule::parse(fmt::format("x[{}] -> out[{}]{} | move x", dim_letters(rank_of(call, 0)), dim_letters(kept), clause));
}

Rule expand_dims_rule(const CallSpec& call) {
  const int rank = rank_of(call, 0);
  const std::int64_t given = call.attributes.get<std::int64_t>("dim");
  if (given < -rank - 1 || given > rank) {
    fail({.code = "dim-out-of-range",
          .message =
              fmt::format("attribute 'dim' is {}, but the result has {} dim{}", given, rank + 1, rank == 0 ? "" : "s"),
          .op = "expand_dims",
          .operand = "x",
          .hint = fmt::format("dims go from {} to {}", -rank - 1, rank)});
  }
  const std::int64_t at = given < 0 ? given + rank + 1 : given;
  std::string result;
  for (int dim = 0; dim <= rank; ++dim) {
    if (dim == at) result += " 1";
    if (dim < rank) result += " " + dim_letter(dim);
  }
  return Rule::parse(fmt::format("x[{}] -> out[{}] | move x", dim_letters(rank), result.substr(1)));
}

// Dims of size 1 that repeat, and new leading ones, are whole.
Rule expand_rule(const CallSpec& call) {
  const Ints& sizes = call.attributes.get<Ints>("shape");
  const Shape& x = call.shape(0);
  const int added = static_cast<int>(sizes.size()) - rank_of(call, 0);
  const auto refuse = [&](const std::string& what, const std::string& hint) {
    fail({.code = "expand-size",
          .message = fmt::format("x {} cannot be expanded to [{}]: {}", to_string(x), fmt::join(sizes, ", "), what),
          .op = "expand",
          .operand = "x",
          .hint = hint});
  };
  if (added < 0) refuse("it has more dims", "give a size for each dim, -1 where it stays");
  if (sizes.size() > kMaxRank) refuse(fmt::format("a tensor has at most {} dims", kMaxRank), "expand to fewer dims");
  std::string from;
  std::string to;
  std::string clause;
  for (int i = 0; i < static_cast<int>(sizes.size()); ++i) {
    const std::int64_t wanted = sizes[static_cast<std::size_t>(i)];
    const int dim = i - added;
    const std::int64_t size = dim < 0 ? 1 : x[static_cast<std::size_t>(dim)];
    const bool stays = dim >= 0 && (wanted == -1 || wanted == size);
    if (dim < 0 && wanted == -1)
      refuse(fmt::format("dim {} is new, so its size cannot stay", i), "give the sizes of new dims");
    if (!stays && size != 1)
      refuse(fmt::format("dim {} has size {}, and only dims of size 1 repeat", dim, size), "give -1 where the size stays");
    if (!stays && wanted < 1) refuse(fmt::format("size {} in dim {}", wanted, i), "a dim repeats once or more");
    if (dim >= 0) from += " " + (stays ? dim_letter(dim) : "1");
    to += stays ? " " + dim_letter(dim) : fmt::format(" n{}", i);
    if (!stays) clause += fmt::format(" n{}={}", i, wanted);
  }
  return Rule::parse(fmt::format("x[{}] -> out[{}]{} | move x", from.empty() ? "" : from.substr(1),
                                 to.empty() ? "" : to.substr(1), clause.empty() ? "" : " | size" + clause));
}

int swiglu_dim(const Attributes& attributes, int rank) {
  return dim_attribute("swiglu", "dim", attributes.get<std::int64_t>("dim"), rank);
}

Rule swiglu_rule(const CallSpec& call) {
  const int rank = rank_of(call, 0);
  const int halved = swiglu_dim(call.attributes, rank);
  std::string from;
  std::string to;
  for (int dim = 0; dim < rank; ++dim) {
    from += " " + (dim == halved ? "(two h)" : dim_letter(dim));
    to += " " + (dim == halved ? "h" : dim_letter(dim));
  }
  return Rule::parse(fmt::format("x[{}] -> out[{}] | whole two h | size two=2", from.substr(1), to.substr(1)));
}

// silu(gate) up, gate and up the two halves of a dim.
std::vector<Tensor> run_swiglu(const LocalCall& call) {
  const Tensor& x = call.input(0);
  const int dim = swiglu_dim(call.attributes(), x.rank());
  const std::int64_t half = x.size(dim) / 2;
  const auto glu = [](double gate, double up) { return gate / (1 + std::exp(-gate)) * up; };
  return {kernels::zip(x.slice(dim, 0, half), x.slice(dim, half, 2 * half), glu, call.plan.results[0].dtype)};
}

std::vector<FactorMeaning> swiglu_meanings() {
  std::vector<FactorMeaning> meanings = dim_meanings();
  meanings.push_back({"two", "gate and up"});
  meanings.push_back({"h", "a half"});
  return meanings;
}

AttributeSpec number(const char* name, AttributeValue value, const char* doc, std::vector<std::string> aliases = {}) {
  const bool required = std::holds_alternative<std::monostate>(value);
  return {.name = name, .default_value = std::move(value), .doc = doc, .required = required, .aliases = std::move(aliases)};
}
AttributeSpec list(const char* name, const char* doc, bool required, std::vector<std::string> aliases) {
  return {.name = name, .type = AttributeType::kInts, .doc = doc, .required = required, .aliases = std::move(aliases)};
}

std::vector<DType> float_of(const CallSpec& call) {
  const DType x = call.operands[0]->dtype;
  return {is_floating(x) ? x : DType::kF32};
}

}  // namespace

void register_shapes(Registry& registry) {
  const auto ints = [](std::initializer_list<std::int64_t> values) { return Ints(values); };
  const auto shape_of = [](const char* op) {
    return [op](const CallSpec& call) { return target_shape(op, call.shape(0), call.attributes.get<Ints>("shape")); };
  };
  const std::vector<AttributeSpec> shape{list("shape", "the sizes, -1 for what is left", true, {"dst_shape", "size"})};
  const std::vector<Example> reshapes{
      {.operands = {"f32 [32, 64] [dp, tp]"}, .attributes = {{"shape", ints({4, 8, -1})}}},
      {.operands = {"f32 [16, 4, 8] [dp, -, tp]"}, .attributes = {{"shape", ints({64, 8})}}},
      {.operands = {"f32 [4, 6] [dp, -] partial(tp: max)"}, .attributes = {{"shape", ints({6, 4})}}}};
  registry.add(reorder("transpose", swapped, {"TransposeExtView", "transpose_ext_view", "TransposeExt", "swapaxes"},
                       "two dims swapped",
                       {number("dim0", std::int64_t{-2}, "one of them"), number("dim1", std::int64_t{-1}, "the other")},
                       {{.operands = {"f32 [8, 16] [dp, tp]"}},
                        {.operands = {"f32 [4, 8, 16] [-, dp+tp, -]"},
                         .attributes = {{"dim0", std::int64_t{0}}, {"dim1", std::int64_t{-2}}}}}));
  registry.add(reorder("permute", permuted, {"Transpose"}, "dims reordered: result dim i is dim dims[i]",
                       {list("dims", "the dims of x, in the result's order", true, {"perm", "axes"})},
                       {{.operands = {"f32 [4, 8, 16] [dp, -, tp]"}, .attributes = {{"dims", ints({2, 0, 1})}}}}));
  registry.add(regroup("reshape", kFlatten, shape_of("reshape"), {"Reshape"}, "the same elements in another shape", shape,
                       reshapes));
  registry.add(regroup("view", kFlatten, shape_of("view"), {"View", "_unsafe_view"}, "the same elements in another shape",
                       shape, reshapes));
  registry.add(regroup(
      "flatten", kFlatten, flattened, {"Flatten", "FlattenExt"}, "dims start_dim to end_dim as one",
      {number("start_dim", std::int64_t{0}, "the first of them"), number("end_dim", std::int64_t{-1}, "the last of them")},
      {{.operands = {"f32 [4, 8, 16] [dp, -, -]"}},
       {.operands = {"f32 [4, 8, 16] [dp, tp, -]"}, .attributes = {{"start_dim", std::int64_t{1}}}}}));
  registry.add({.name = "expand_dims",
                .rule = kExpandDims,
                .kernel = run_reshape,
                .aliases = {"ExpandDims", "unsqueeze"},
                .summary = "a new dim of size 1",
                .attributes = {number("dim", {}, "its place in the result", {"axis"})},
                .factors = dim_meanings(),
                .rule_for = expand_dims_rule,
                .examples = {{.operands = {"f32 [8, 16] [dp, tp]"}, .attributes = {{"dim", std::int64_t{1}}}}}});
  registry.add({.name = "squeeze",
                .rule = kSqueeze,
                .kernel = run_reshape,
                .aliases = {"Squeeze"},
                .summary = "without dims of size 1",
                .attributes = {list("dim", "the dims that go; all of size 1 where it is none", false, {"axis"})},
                .factors = dim_meanings(),
                .rule_for = squeeze_rule,
                .examples = {{.operands = {"f32 [8, 1, 16] [dp, -, tp]"}, .attributes = {{"dim", ints({1})}}},
                             {.operands = {"f32 [1, 8, 1] [-, dp+tp, -]"}}}});
  registry.add(
      {.name = "expand",
       .rule = kSame,
       .kernel = run_expand,
       .aliases = {"Expand", "broadcast_to", "BroadcastTo"},
       .summary = "dims of size 1 repeated, and new leading dims",
       .attributes = {list("shape", "the sizes, -1 where one stays", true, {"size"})},
       .factors = dim_meanings(),
       .rule_for = expand_rule,
       .examples = {{.operands = {"f32 [4, 1, 8] [dp, -, tp]"}, .attributes = {{"shape", ints({3, -1, 10, 8})}}}}});
  registry.add({.name = "swiglu",
                .rule = kSwiglu,
                .kernel = run_swiglu,
                .aliases = {"Swiglu", "npu_swiglu"},
                .summary = "silu(gate) up, the two halves of a dim, which is whole",
                .attributes = {number("dim", std::int64_t{-1}, "the dim whose halves are gate and up", {"axis"})},
                .factors = swiglu_meanings(),
                .rule_for = swiglu_rule,
                .result_dtypes = float_of,
                .examples = {{.operands = {"f32 [4, 6, 16] [dp, tp, -]"}},
                             {.operands = {"bf16 [8, 16] [-, dp+tp]"}, .attributes = {{"dim", std::int64_t{0}}}}}});
}

}  // namespace tessera
