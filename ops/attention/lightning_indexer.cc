// lightning_indexer and dense_lightning_indexer_softmax_lse: which keys a sparse attention reads, and the softmax of its scores.
#include <fmt/format.h>

#include "core/op/registry.h"
#include "kernels/lightning_indexer.h"
#include "ops/attention/attention.h"
#include "ops/attention/row_plans.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::size_t kQuery = 0;
constexpr std::size_t kKey = 1;
constexpr std::size_t kWeights = 2;
constexpr std::size_t kQueryLengths = 3;
constexpr std::size_t kKeyLengths = 4;
constexpr std::size_t kBlockTable = 5;

constexpr char kIndexer[] = "lightning_indexer";
constexpr char kLse[] = "dense_lightning_indexer_softmax_lse";

[[noreturn]] void fail_indexer(std::string_view op, std::string_view code, std::string message, std::string hint = {}) {
  fail(
      Diagnostic{.code = std::string(code), .message = std::move(message), .op = std::string(op), .hint = std::move(hint)});
}

// The indexer says its layout of queries and keys apart, the statistics once.
bool is_packed(const Attributes& attributes) {
  const AttributeValue* layout = attributes.find("layout_query");
  return std::get<std::string>(layout != nullptr ? *layout : *attributes.find("layout")) == "TND";
}

SequenceOperands sequences(const Attributes& attributes) {
  return sparse_sequences(is_packed(attributes), kQueryLengths, kKeyLengths);
}

void check_common(const CallSpec& call, std::string_view op) {
  check_tokens_unlimited(call, op);
  const bool packed = is_packed(call.attributes);
  if (packed && !(call.has(kQueryLengths) && call.has(kKeyLengths))) {
    const bool lse = op == kLse;
    fail_indexer(op, "missing-operand",
                 fmt::format("layout TND takes {} and {}, the documents' prefix sums",
                             lse ? "actual_seq_qlen" : "actual_seq_lengths_query",
                             lse ? "actual_seq_klen" : "actual_seq_lengths_key"));
  }
  const std::size_t heads = packed ? 1 : 2;
  const Shape& query = call.shape(kQuery);
  const Shape& key = call.shape(kKey);
  if (query.size() == heads + 2 && key.size() == heads + 2 && query[heads] > 0 &&
      (key[heads] == 0 || query[heads] % key[heads] != 0)) {
    fail_indexer(op, "size-mismatch", fmt::format("{} index heads cannot share {} key heads", query[heads], key[heads]),
                 "the number of index heads is a multiple of that of key heads");
  }
}

void check_indexer(const CallSpec& call) {
  check_kinds(call, kIndexer,
              {{kQuery, "query"},
               {kKey, "key"},
               {kWeights, "weights"},
               {kQueryLengths, "actual_seq_lengths_query", true},
               {kKeyLengths, "actual_seq_lengths_key", true}});
  const auto& query_layout = call.attributes.get<std::string>("layout_query");
  const auto& key_layout = call.attributes.get<std::string>("layout_key");
  if (query_layout == "PA_BSND" || key_layout == "PA_BSND" || call.has(kBlockTable)) {
    fail_indexer(kIndexer, "unsupported-layout", "the paged layout PA_BSND is not supported in distributed mode",
                 "pass keys as BSND or TND, without a block_table");
  }
  if (query_layout != key_layout) {
    fail_indexer(kIndexer, "attribute-value",
                 fmt::format("layout_query is {} but layout_key is {}", query_layout, key_layout),
                 "give both the same layout");
  }
  check_common(call, kIndexer);
  const auto mode = call.attributes.get<std::int64_t>("sparse_mode");
  if (mode != 0 && mode != 3) {
    fail_indexer(kIndexer, "attribute-value",
                 fmt::format("sparse_mode is {}, it takes 0 (all keys) or 3 (right-down causal)", mode));
  }
  const auto count = call.attributes.get<std::int64_t>("sparse_count");
  if (count < 1) fail_indexer(kIndexer, "attribute-value", fmt::format("sparse_count is {}, it takes at least 1", count));
}

void check_lse(const CallSpec& call) {
  check_kinds(call, kLse,
              {{kQuery, "query_index"},
               {kKey, "key_index"},
               {kWeights, "weights"},
               {kQueryLengths, "actual_seq_qlen", true},
               {kKeyLengths, "actual_seq_klen", true}});
  check_common(call, kLse);
  const auto mode = call.attributes.get<std::int64_t>("sparse_mode");
  if (mode != 3)
    fail_indexer(kLse, "attribute-value", fmt::format("sparse_mode is {}, it takes 3 (right-down causal)", mode));
}

// The operands, which both share, under the names that each gives them.
std::string operands_text(const CallSpec& call, bool lse) {
  const bool packed = is_packed(call.attributes);
  return fmt::format("{4}[{0} h d], {5}[{1} k d], weights[{0} h], {6}[{2}]?, {7}[{2}]?{3}", packed ? "(p s)" : "b s",
                     packed ? "(p t)" : "b t", packed ? "l" : "b", lse ? "" : ", block_table[b m]?",
                     lse ? "query_index" : "query", lse ? "key_index" : "key",
                     lse ? "actual_seq_qlen" : "actual_seq_lengths_query",
                     lse ? "actual_seq_klen" : "actual_seq_lengths_key");
}

// With the number of parts of a packed batch given.
Rule with_parts(const Rule& rule, const CallSpec& call, std::string_view op) {
  return is_packed(call.attributes) ? rule.with_size("p", packed_parts(call, op, sequences(call.attributes))) : rule;
}

// Of a padded batch one length may serve every entry.
std::string broadcast_text(const CallSpec& call, bool lse) {
  if (is_packed(call.attributes)) return "";
  return lse ? " | broadcast actual_seq_qlen actual_seq_klen"
             : " | broadcast actual_seq_lengths_query actual_seq_lengths_key";
}

Rule indexer_rule(const CallSpec& call) {
  const bool packed = is_packed(call.attributes);
  const std::string_view rows = packed ? "(p s)" : "b s";
  std::string text = fmt::format("{0} -> sparse_indices[{1} k c]", operands_text(call, false), rows);
  if (call.attributes.get<bool>("return_value")) text += fmt::format(", sparse_values[{} k c]", rows);
  text +=
      fmt::format(" | whole t h d k c{}{} | size c{}", packed ? " l" : "", broadcast_text(call, false), packed ? " p" : "");
  return with_parts(parse_once(text).with_size("c", call.attributes.get<std::int64_t>("sparse_count")), call, kIndexer);
}

Rule lse_rule(const CallSpec& call) {
  const bool packed = is_packed(call.attributes);
  const std::string_view rows = packed ? "k (p s)" : "b k s";
  const std::string text =
      fmt::format("{0} -> softmax_max[{1}], softmax_sum[{1}] | whole t h d k{2}{3}{4}", operands_text(call, true), rows,
                  packed ? " l" : "", broadcast_text(call, true), packed ? " | size p" : "");
  return with_parts(parse_once(text), call, kLse);
}

std::vector<Tensor> run_indexer(const LocalCall& call) {
  const Attributes& attributes = call.attributes();
  const bool packed = is_packed(attributes);
  const auto batched = [&](std::size_t operand) { return packed ? with_batch(call.input(operand)) : call.input(operand); };
  const kernels::IndexerResult result =
      kernels::lightning_indexer({.query = batched(kQuery),
                                  .key = batched(kKey),
                                  .weights = batched(kWeights),
                                  .plan = row_plan(call, sequences(attributes), sparse_masking(attributes)),
                                  .count = attributes.get<std::int64_t>("sparse_count")});
  std::vector<Tensor> results{result.indices};
  if (attributes.get<bool>("return_value")) results.push_back(result.values);
  if (!packed) return results;
  for (Tensor& tensor : results) tensor = without_batch(tensor);
  return results;
}

std::vector<Tensor> run_lse(const LocalCall& call) {
  const bool packed = is_packed(call.attributes());
  const auto batched = [&](std::size_t operand) { return packed ? with_batch(call.input(operand)) : call.input(operand); };
  const kernels::LseResult result = kernels::indexer_softmax_lse(
      {.query = batched(kQuery),
       .key = batched(kKey),
       .weights = batched(kWeights),
       .plan = row_plan(call, sequences(call.attributes()), sparse_masking(call.attributes()))});
  if (!packed) return {result.softmax_max, result.softmax_sum};
  return {without_batch(result.softmax_max), without_batch(result.softmax_sum)};
}

std::optional<Tensor> sample(const CallSpec& call, std::size_t operand, std::uint64_t seed) {
  return sample_lengths_of(call, sequences(call.attributes), operand, seed);
}

double work(const LocalCall& call) {
  const RowPlan plan = row_plan(call, sequences(call.attributes()), sparse_masking(call.attributes()));
  const Shape& query = call.input(kQuery).shape();
  return static_cast<double>(visible_pairs(plan)) * static_cast<double>(query[query.size() - 2] * query.back());
}

const std::vector<FactorMeaning> kFactors = {
    {"b", "batch"},     {"s", "query rows"},
    {"t", "key rows"},  {"h", "index heads"},
    {"k", "key heads"}, {"d", "index dim"},
    {"c", "kept keys"}, {"p", "parts of the packed batch, one for each shard of the keys"},
    {"l", "documents"}};

DistributedOp indexer() {
  DistributedOp op;
  op.name = kIndexer;
  op.rule =
      "query[b s h d], key[b t k d], weights[b s h], actual_seq_lengths_query[b]?, actual_seq_lengths_key[b]?, "
      "block_table[b m]? "
      "-> sparse_indices[b s k c], sparse_values[b s k c] | whole t h d k c | broadcast actual_seq_lengths_query "
      "actual_seq_lengths_key "
      "| size c";
  op.kernel = run_indexer;
  op.aliases = {"LightningIndexer", "npu_lightning_indexer"};
  op.summary = "the best-scored keys of each query: sum_h w_h max(0, q_h . k_j), largest first, ties to the lower key";
  op.attributes = sparse_mask_attributes("3 right-down causal; of the indexer also 0: all keys");
  op.attributes.push_back({.name = "layout_query",
                           .type = AttributeType::kString,
                           .default_value = "BSND",
                           .doc = "BSND, or TND: documents packed one after the other",
                           .choices = {"BSND", "TND", "PA_BSND"}});
  op.attributes.push_back({.name = "layout_key",
                           .type = AttributeType::kString,
                           .default_value = "BSND",
                           .doc = "the same as layout_query",
                           .choices = {"BSND", "TND", "PA_BSND"}});
  op.attributes.push_back({.name = "sparse_count",
                           .type = AttributeType::kInt,
                           .default_value = std::int64_t{2048},
                           .doc = "keys kept for each query"});
  op.attributes.push_back({.name = "return_value",
                           .type = AttributeType::kBool,
                           .default_value = true,
                           .doc = "false: sparse_indices only",
                           .aliases = {"return_values"}});
  op.factors = kFactors;
  op.rule_for = indexer_rule;
  op.check = check_indexer;
  op.result_dtypes = [](const CallSpec& call) { return std::vector<DType>{DType::kI32, call.operands[kQuery]->dtype}; };
  op.sample = sample;
  op.work = work;
  op.examples = {
      {.operands = {"f32 [2, 8, 4, 16] [dp, cp, -, -]", "f32 [2, 8, 1, 16] [dp, -, -, -]", "f32 [2, 8, 4] [dp, cp, -]"},
       .attributes = {{"sparse_count", std::int64_t{4}}},
       .mesh = "dp=2 x cp=2"},
      {.operands = {"f32 [10, 4, 16] [cp, -, -]", "f32 [10, 1, 16] [-, -, -]", "f32 [10, 4] [cp, -]", "i32 [3] [-]",
                    "i32 [3] [-]"},
       .attributes = {{"sparse_count", std::int64_t{4}}, {"layout_query", "TND"}, {"layout_key", "TND"}},
       .mesh = "cp=4"},
  };
  return op;
}

DistributedOp softmax_lse() {
  DistributedOp op;
  op.name = kLse;
  op.rule =
      "query_index[b s h d], key_index[b t k d], weights[b s h], actual_seq_qlen[b]?, actual_seq_klen[b]? -> softmax_max[b "
      "k s], softmax_sum[b k s] "
      "| whole t h d k | broadcast actual_seq_qlen actual_seq_klen";
  op.kernel = run_lse;
  op.aliases = {"npu_dense_lightning_indexer_softmax_lse", "DenseLightningIndexerSoftmaxLse"};
  op.summary = "largest score and sum of exponentials of the lightning indexer over all visible keys of each query";
  op.attributes = sparse_mask_attributes("3 right-down causal; of the indexer also 0: all keys");
  op.attributes.push_back({.name = "layout",
                           .type = AttributeType::kString,
                           .default_value = "BSND",
                           .doc = "BSND, or TND: documents packed one after the other",
                           .choices = {"BSND", "TND"}});
  op.factors = kFactors;
  op.rule_for = lse_rule;
  op.check = check_lse;
  op.result_dtypes = [](const CallSpec& call) {
    return std::vector<DType>(2, statistics_dtype(call.operands[kQuery]->dtype));
  };
  op.sample = sample;
  op.work = work;
  op.examples = {
      {.operands = {"f32 [2, 8, 4, 16] [dp, cp, -, -]", "f32 [2, 8, 1, 16] [dp, -, -, -]", "f32 [2, 8, 4] [dp, cp, -]"},
       .mesh = "dp=2 x cp=2"},
      {.operands = {"f32 [10, 4, 16] [cp, -, -]", "f32 [10, 1, 16] [-, -, -]", "f32 [10, 4] [cp, -]", "i32 [3] [-]",
                    "i32 [3] [-]"},
       .attributes = {{"layout", "TND"}},
       .mesh = "cp=4"},
  };
  return op;
}

}  // namespace

void register_lightning_indexer(Registry& registry) {
  registry.add(indexer());
  registry.add(softmax_lse());
}

}  // namespace tessera
