// scaled_dot_product_attention in every layout: dense attention with queries split along their sequence (the window schedule).
#include <fmt/format.h>

#include <cmath>

#include "core/op/registry.h"
#include "core/tensor/random.h"
#include "kernels/attention.h"
#include "ops/attention/attention.h"
#include "ops/attention/row_plans.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::size_t kQuery = 0;
constexpr std::size_t kKey = 1;
constexpr std::size_t kValue = 2;
constexpr std::size_t kMask = 3;
constexpr std::size_t kQueryLengths = 4;
constexpr std::size_t kKeyLengths = 5;

// The dims of query, key and value in each layout, as the rule writes them; % is where the operand's own letters go.
struct InputLayout {
  std::string_view name;
  std::string_view query;
  std::string_view key;
  std::string_view value;
  std::string_view out;
};
// (g r): g key heads, r query heads for each of them. In the folded layouts heads and head dim are one dim.
constexpr InputLayout kLayouts[] = {
    {"BHSD", "b (g r) s d", "b g t d", "b g t e", "b (g r) s e"},
    {"BNSD", "b (g r) s d", "b g t d", "b g t e", "b (g r) s e"},
    {"BSHD", "b s (g r) d", "b t g d", "b t g e", "b s (g r) e"},
    {"BSND", "b s (g r) d", "b t g d", "b t g e", "b s (g r) e"},
    {"BSH", "b s (g r d)", "b t (g d)", "b t (g e)", "b s (g r e)"},
    {"SBH", "s b (g r d)", "t b (g d)", "t b (g e)", "s b (g r e)"},
    {"TND", "(p s) (g r) d", "(p t) g d", "(p t) g e", "(p s) (g r) e"},
};
constexpr InputLayout kUnbatched = {"NSD", "(g r) s d", "g t d", "g t e", "(g r) s e"};

constexpr char kName[] = "scaled_dot_product_attention";

[[noreturn]] void fail_sdpa(std::string_view code, std::string message, std::string hint = {}) {
  fail(Diagnostic{.code = std::string(code), .message = std::move(message), .op = kName, .hint = std::move(hint)});
}

bool is_folded(std::string_view layout) { return layout == "BSH" || layout == "SBH"; }
bool is_packed(std::string_view layout) { return layout == "TND"; }

// Head dim of the folded layouts: hidden size of the query over its heads.
std::int64_t folded_head_dim(const CallSpec& call) {
  const auto& layout = call.attributes.get<std::string>("layout");
  const auto heads = call.attributes.get_optional<std::int64_t>("head_num");
  if (!heads)
    fail_sdpa("missing-attribute", fmt::format("layout {} needs attribute 'head_num', the number of query heads", layout));
  const std::int64_t hidden = call.shape(kQuery).empty() ? 0 : call.shape(kQuery).back();
  if (*heads < 1 || hidden % *heads != 0) {
    fail_sdpa("head-num", fmt::format("head_num is {}, which does not divide the query's hidden size {}", *heads, hidden));
  }
  return hidden / *heads;
}

bool is_unbatched(const CallSpec& call, std::string_view layout) {
  return call.shape(kQuery).size() == 3 && (layout == "BHSD" || layout == "BNSD");
}

const InputLayout& input_layout(const CallSpec& call) {
  const auto& name = call.attributes.get<std::string>("layout");
  if (is_unbatched(call, name)) return kUnbatched;
  for (const InputLayout& layout : kLayouts) {
    if (layout.name == name) return layout;
  }
  return kLayouts[0];  // normalise has refused other names
}

SequenceOperands sequences(const Attributes& attributes, std::size_t query_rank) {
  const auto& layout = attributes.get<std::string>("layout");
  const bool unbatched = query_rank == 3 && (layout == "BHSD" || layout == "BNSD");
  SequenceOperands where{.packed = is_packed(layout), .query_lengths = kQueryLengths, .key_lengths = kKeyLengths};
  if (is_packed(layout)) {
    where.query_batch = -1;
    where.query_rows = where.key_rows = 0;
  } else if (unbatched) {
    where.query_batch = -1;
    where.query_rows = where.key_rows = 1;
  } else if (layout == "BHSD" || layout == "BNSD") {
    where.query_rows = where.key_rows = 2;
  } else if (layout == "SBH") {
    where.query_batch = 1;
    where.query_rows = where.key_rows = 0;
  }
  return where;
}

// The last dims of [b, h, s, t], as many as the mask has.
std::string mask_dims(std::size_t rank, bool batched) {
  constexpr std::string_view kDims[] = {"t", "s t", "(g r) s t", "b (g r) s t"};
  const std::size_t most = batched ? 4 : 3;
  if (rank < 1 || rank > most) {
    fail_sdpa("rank-mismatch", fmt::format("attn_mask has {} dims, it takes 1 to {}", rank, most),
              fmt::format("the mask's dims are [{}h, s, t], aligned at the right", batched ? "b, " : ""));
  }
  return std::string(kDims[rank - 1]);
}

Rule rule_for(const CallSpec& call) {
  const InputLayout& layout = input_layout(call);
  const bool packed = is_packed(layout.name);
  const bool batched = &layout != &kUnbatched;
  const std::string mask = call.has(kMask) && !packed ? mask_dims(call.shape(kMask).size(), batched) : "s t";
  const std::string lengths = packed || !batched ? "l" : "b";
  // Values are as wide as keys where a fold hides their width. Without a batch there is one length at most.
  const std::string_view sizes = is_folded(layout.name)                ? " d e"
                                 : packed                              ? " p"
                                 : !batched && call.has(kQueryLengths) ? " l=1"
                                                                       : "";
  std::string text = fmt::format(
      "query[{}], key[{}], value[{}], attn_mask[{}]?, actual_seq_lengths_query[{}]?, actual_seq_lengths_kv[{}]? -> "
      "attention_out[{}]",
      layout.query, layout.key, layout.value, mask, lengths, lengths, layout.out);
  if (call.attributes.get<bool>("return_softmax_lse")) {
    const std::string_view rows = packed ? "(p s) g r" : batched ? "b g s r" : "g s r";
    text += fmt::format(", softmax_max[{}], softmax_sum[{}]", rows, rows);
  }
  // Statistics do not know of the value's columns: were they split, every rank would have the same statistics, not a share of their sum.
  text +=
      fmt::format(" | whole d t{}{} | broadcast attn_mask{}", call.attributes.get<bool>("return_softmax_lse") ? " e" : "",
                  lengths == "l" ? " l" : "", lengths == "b" ? " actual_seq_lengths_query actual_seq_lengths_kv" : "");
  if (!sizes.empty()) text += fmt::format(" | size{}", sizes);
  const Rule& rule = parse_once(text);
  if (packed) return rule.with_size("p", packed_parts(call, kName, sequences(call.attributes, call.shape(kQuery).size())));
  if (!is_folded(layout.name)) return rule;
  const std::int64_t head_dim = folded_head_dim(call);
  return rule.with_size("d", head_dim).with_size("e", head_dim);
}

Masking masking_of(const Attributes& attributes) {
  const auto mode = attributes.get_optional<std::int64_t>("sparse_mode");
  const auto window = attributes.get_optional<std::vector<std::int64_t>>("window");
  if (mode)
    return masking_of_mode(*mode, attributes.get<std::int64_t>("pre_tokens"), attributes.get<std::int64_t>("next_tokens"));
  if (window) return masking_of_window((*window)[0], (*window)[1]);
  if (attributes.get<bool>("is_causal")) return {Masking::kAll, 0, false};
  return {};
}

void check(const CallSpec& call) {
  const Attributes& attributes = call.attributes;
  const auto& layout = attributes.get<std::string>("layout");
  const bool window = attributes.get_optional<std::vector<std::int64_t>>("window").has_value();
  const bool mode = attributes.get_optional<std::int64_t>("sparse_mode").has_value();
  if (static_cast<int>(window) + static_cast<int>(mode) + static_cast<int>(attributes.get<bool>("is_causal")) > 1) {
    fail_sdpa("attribute-value", "takes one of is_causal, window and sparse_mode", "say once what a query sees");
  }
  if (window && attributes.get<std::vector<std::int64_t>>("window").size() != 2) {
    fail_sdpa("attribute-value",
              "attribute 'window' takes two numbers: keys before and after the diagonal, below 0 for all");
  }
  const bool tokens = attributes.get<std::int64_t>("pre_tokens") != Masking::kAll ||
                      attributes.get<std::int64_t>("next_tokens") != Masking::kAll;
  if (tokens && !mode)
    fail_sdpa("attribute-value", "pre_tokens and next_tokens go with a sparse_mode",
              "give sparse_mode 0 (top left) or 4 (bottom right)");
  if (mode && (attributes.get<std::int64_t>("sparse_mode") < 0 || attributes.get<std::int64_t>("sparse_mode") > 4)) {
    fail_sdpa("attribute-value",
              fmt::format("sparse_mode is {}, it takes 0 to 4", attributes.get<std::int64_t>("sparse_mode")),
              "0 top-left band, 1 explicit mask, 2 top-left causal, 3 bottom-right causal, 4 bottom-right band");
  }
  if (is_packed(layout) && call.has(kMask)) {
    fail_sdpa("unsupported-operand", "attn_mask goes with padded layouts, not with TND",
              "say with is_causal, window or sparse_mode what each document's queries see");
  }
  if (call.has(kQueryLengths) != call.has(kKeyLengths)) {
    fail_sdpa("missing-operand", "takes both actual_seq_lengths_query and actual_seq_lengths_kv, or neither");
  }
  check_kinds(call, kName,
              {{kQuery, "query"},
               {kKey, "key"},
               {kValue, "value"},
               {kQueryLengths, "actual_seq_lengths_query", true},
               {kKeyLengths, "actual_seq_lengths_kv", true}});
  if (call.has(kMask)) {
    const DType dtype = call.operands[kMask]->dtype;
    if (dtype != DType::kBool && !is_floating(dtype)) {
      fail_sdpa("dtype",
                fmt::format("attn_mask is {}, it must be bool (true: visible) or a float that is added", to_string(dtype)));
    }
  }
}

// A local tensor as [b, s, n, d], whatever the layout; `head_dim` unfolds heads.
Tensor to_bsnd(const Tensor& tensor, std::string_view layout, std::int64_t head_dim) {
  if (is_packed(layout)) return with_batch(tensor);
  if (layout == "BHSD" || layout == "BNSD")
    return tensor.rank() == 3 ? with_batch(tensor.permute({1, 0, 2})) : tensor.permute({0, 2, 1, 3});
  if (layout == "BSHD" || layout == "BSND") return tensor;
  const Tensor rows_second = layout == "SBH" ? tensor.permute({1, 0, 2}) : tensor;
  const Shape& shape = rows_second.shape();
  return rows_second.reshape({shape[0], shape[1], head_dim == 0 ? 0 : shape[2] / head_dim, head_dim});
}

Tensor from_bsnd(const Tensor& tensor, std::string_view layout, bool unbatched) {
  if (is_packed(layout)) return without_batch(tensor);
  if (layout == "BHSD" || layout == "BNSD") {
    return unbatched ? without_batch(tensor).permute({1, 0, 2}).contiguous() : tensor.permute({0, 2, 1, 3}).contiguous();
  }
  if (layout == "BSHD" || layout == "BSND") return tensor;
  const Shape& shape = tensor.shape();
  const Tensor folded = tensor.contiguous().reshape({shape[0], shape[1], shape[2] * shape[3]});
  return layout == "SBH" ? folded.permute({1, 0, 2}).contiguous() : folded;
}

std::vector<Tensor> run(const LocalCall& call) {
  const Attributes& attributes = call.attributes();
  const auto& layout = attributes.get<std::string>("layout");
  const bool unbatched = call.input(kQuery).rank() == 3 && (layout == "BHSD" || layout == "BNSD");
  const std::int64_t folded_dim =
      is_folded(layout) ? call.global_size(kQuery, 2) / attributes.get<std::int64_t>("head_num") : 0;
  const Tensor query = to_bsnd(call.input(kQuery), layout, folded_dim);
  const Tensor key = to_bsnd(call.input(kKey), layout, folded_dim);
  const Tensor value = to_bsnd(call.input(kValue), layout, folded_dim);
  const double scale =
      attributes.get_optional<double>("scale").value_or(1.0 / std::sqrt(static_cast<double>(query.size(3))));
  const bool statistics = attributes.get<bool>("return_softmax_lse");
  const kernels::AttentionResult result = kernels::attention(
      {.query = query,
       .key = key,
       .value = value,
       .plan = row_plan(call, sequences(attributes, call.input(kQuery).shape().size()), masking_of(attributes)),
       .scale = scale,
       .mask = call.has(kMask) ? std::optional(call.input(kMask)) : std::nullopt,
       .return_statistics = statistics});
  std::vector<Tensor> results{from_bsnd(result.out, layout, unbatched)};
  if (statistics) {
    for (const Tensor& statistic : {result.softmax_max, result.softmax_sum}) {  // [b, g, s, r]
      if (is_packed(layout)) {
        results.push_back(without_batch(statistic).permute({1, 0, 2}).contiguous());
      } else {
        results.push_back(unbatched ? without_batch(statistic) : statistic);
      }
    }
  }
  return results;
}

std::vector<DType> result_dtypes(const CallSpec& call) {
  const DType query = call.operands[kQuery]->dtype;
  return {query, statistics_dtype(query), statistics_dtype(query)};
}

std::optional<Tensor> sample(const CallSpec& call, std::size_t operand, std::uint64_t seed) {
  return sample_lengths_of(call, sequences(call.attributes, call.shape(kQuery).size()), operand, seed);
}

double work(const LocalCall& call) {
  const auto& layout = call.attributes().get<std::string>("layout");
  const RowPlan plan =
      row_plan(call, sequences(call.attributes(), call.input(kQuery).shape().size()), masking_of(call.attributes()));
  const std::int64_t folded_dim =
      is_folded(layout) ? call.global_size(kQuery, 2) / call.attributes().get<std::int64_t>("head_num") : 0;
  const Tensor query = to_bsnd(call.input(kQuery), layout, folded_dim);
  const Tensor value = to_bsnd(call.input(kValue), layout, folded_dim);
  return static_cast<double>(visible_pairs(plan)) * static_cast<double>(query.size(2)) *
         static_cast<double>(query.size(3) + value.size(3));
}

}  // namespace

void register_scaled_dot_product_attention(Registry& registry) {
  DistributedOp op;
  op.name = kName;
  op.rule =
      "query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[b (g r) s t]?, actual_seq_lengths_query[b]?, "
      "actual_seq_lengths_kv[b]? "
      "-> attention_out[b (g r) s e] | whole d t | broadcast attn_mask actual_seq_lengths_query actual_seq_lengths_kv";
  op.kernel = run;
  op.aliases = {"sdpa"};
  op.summary = "softmax(scale * query key^T + mask) value; queries may be split along their sequence, keys are whole";
  op.attributes = {
      {.name = "is_causal",
       .type = AttributeType::kBool,
       .default_value = false,
       .doc = "query i sees keys 0..i: aligned at the top left, as torch's"},
      {.name = "scale", .type = AttributeType::kFloat, .doc = "multiplies the scores; none is 1/sqrt(d)"},
      {.name = "layout",
       .type = AttributeType::kString,
       .default_value = "BHSD",
       .doc = "order of the inputs' dims; TND is a packed batch",
       .choices = {"BHSD", "BNSD", "BSHD", "BSND", "BSH", "SBH", "TND"}},
      {.name = "head_num",
       .type = AttributeType::kInt,
       .doc = "query heads, for BSH and SBH, whose last dim folds heads and head dim"},
      {.name = "window",
       .type = AttributeType::kInts,
       .doc = "[left, right]: keys seen before and after the bottom-right diagonal, below 0 for all"},
      {.name = "sparse_mode",
       .type = AttributeType::kInt,
       .doc = "0 top-left band of pre/next tokens, 1 explicit mask, 2 top-left causal, 3 bottom-right causal, 4 "
              "bottom-right band"},
      {.name = "pre_tokens",
       .type = AttributeType::kInt,
       .default_value = Masking::kAll,
       .doc = "keys seen before the diagonal (modes 0 and 4)"},
      {.name = "next_tokens",
       .type = AttributeType::kInt,
       .default_value = Masking::kAll,
       .doc = "keys seen after the diagonal (modes 0 and 4)"},
      {.name = "return_softmax_lse",
       .type = AttributeType::kBool,
       .default_value = false,
       .doc = "also softmax_max and softmax_sum, [b g s r] (TND: [t g r])"},
  };
  op.factors = {{"b", "batch"},
                {"s", "query rows"},
                {"t", "key rows"},
                {"g", "key heads"},
                {"r", "query heads of a key head"},
                {"d", "head dim"},
                {"e", "value dim"},
                {"p", "parts of the packed batch, one for each shard of the keys"},
                {"l", "sequences"}};
  op.rule_for = rule_for;
  op.check = check;
  op.result_dtypes = result_dtypes;
  op.sample = sample;
  op.work = work;
  op.examples = {
      {.operands = {"f32 [2, 4, 8, 16] [dp, -, cp, -]", "f32 [2, 2, 8, 16] [dp, -, -, -]",
                    "f32 [2, 2, 8, 16] [dp, -, -, -]"},
       .attributes = {{"is_causal", true}},
       .mesh = "dp=2 x cp=2"},
      {.operands = {"f32 [10, 4, 8] [cp, tp, -]", "f32 [10, 2, 8] [-, tp, -]", "f32 [10, 2, 8] [-, tp, -]", "-",
                    "i64 [3] [-]", "i64 [3] [-]"},
       .attributes = {{"layout", "TND"}, {"sparse_mode", std::int64_t{3}}},
       .mesh = "cp=2 x tp=2"},
  };
  registry.add(std::move(op));
}

}  // namespace tessera
