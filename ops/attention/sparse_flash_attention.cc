// sparse_flash_attention: attention over the keys that an index list names, for latent (absorbed MLA) attention.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "core/op/registry.h"
#include "core/tensor/random.h"
#include "kernels/sparse_attention.h"
#include "ops/attention/attention.h"
#include "ops/attention/row_plans.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::size_t kQuery = 0;
constexpr std::size_t kKey = 1;
constexpr std::size_t kValue = 2;
constexpr std::size_t kIndices = 3;
constexpr std::size_t kBlockTable = 4;
constexpr std::size_t kQueryLengths = 5;
constexpr std::size_t kKeyLengths = 6;
constexpr std::size_t kQueryRope = 7;
constexpr std::size_t kKeyRope = 8;

constexpr char kName[] = "sparse_flash_attention";

[[noreturn]] void fail_sfa(std::string_view code, std::string message, std::string hint = {}) {
  fail(Diagnostic{.code = std::string(code), .message = std::move(message), .op = kName, .hint = std::move(hint)});
}

bool is_packed(const Attributes& attributes) { return attributes.get<std::string>("layout_query") == "TND"; }

SequenceOperands sequences(const Attributes& attributes) {
  return sparse_sequences(is_packed(attributes), kQueryLengths, kKeyLengths);
}

void check(const CallSpec& call) {
  const Attributes& attributes = call.attributes;
  const auto& query_layout = attributes.get<std::string>("layout_query");
  const auto& key_layout = attributes.get<std::string>("layout_kv");
  if (query_layout == "PA_BSND" || key_layout == "PA_BSND" || call.has(kBlockTable)) {
    fail_sfa("unsupported-layout", "the paged layout PA_BSND is not supported in distributed mode",
             "pass keys and values as BSND or TND, without a block_table");
  }
  if (query_layout != key_layout) {
    fail_sfa("attribute-value", fmt::format("layout_query is {} but layout_kv is {}", query_layout, key_layout),
             "give both the same layout");
  }
  const auto mode = attributes.get<std::int64_t>("sparse_mode");
  if (mode != 0 && mode != 3)
    fail_sfa("attribute-value", fmt::format("sparse_mode is {}, it takes 0 (all keys) or 3 (right-down causal)", mode));
  check_tokens_unlimited(call, kName);
  const auto block = attributes.get<std::int64_t>("sparse_block_size");
  if (block < 1 || block > 128 || (block & (block - 1)) != 0) {
    fail_sfa("attribute-value", fmt::format("sparse_block_size is {}, it takes a power of two from 1 to 128", block));
  }
  const auto attention_mode = attributes.get<std::int64_t>("attention_mode");
  const bool rope = call.has(kQueryRope) || call.has(kKeyRope);
  if (attention_mode != 0 && attention_mode != 2) {
    fail_sfa("attribute-value",
             fmt::format("attention_mode is {}, it takes 0 (no rope parts) or 2 (MLA-absorb, with both)", attention_mode));
  }
  if (attention_mode == 2 && !(call.has(kQueryRope) && call.has(kKeyRope))) {
    fail_sfa("missing-operand", "attention_mode 2 takes both query_rope and key_rope",
             "pass them, or use attention_mode 0");
  }
  if (attention_mode == 0 && rope)
    fail_sfa("unsupported-operand", "attention_mode 0 takes neither query_rope nor key_rope", "use attention_mode 2");
  if (is_packed(attributes) && !(call.has(kQueryLengths) && call.has(kKeyLengths))) {
    fail_sfa("missing-operand",
             "layout TND takes actual_seq_lengths_query and actual_seq_lengths_kv, the documents' prefix sums");
  }
  check_kinds(call, kName,
              {{kQuery, "query"},
               {kKey, "key"},
               {kValue, "value"},
               {kIndices, "sparse_indices", true},
               {kQueryLengths, "actual_seq_lengths_query", true},
               {kKeyLengths, "actual_seq_lengths_kv", true},
               {kQueryRope, "query_rope"},
               {kKeyRope, "key_rope"}});
}

// n query heads on k key heads: g on each. Statistics are [b, k, s, g]. An absent value is the key.
std::string rule_text(bool packed, bool value, bool statistics) {
  std::string text = fmt::format(
      "query[{0} n d], key[{1} k d], value[{1} k {2}]?, sparse_indices[{0} k c], block_table[b m]?, "
      "actual_seq_lengths_query[{3}]?, "
      "actual_seq_lengths_kv[{3}]?, query_rope[{0} n r]?, key_rope[{1} k r]? -> attention_out[{0} n {2}]",
      packed ? "(p s)" : "b s", packed ? "(p t)" : "b t", value ? "e" : "d", packed ? "l" : "b");
  if (statistics) text += fmt::format(", softmax_max[{0}], softmax_sum[{0}]", packed ? "k (p s) g" : "b k s g");
  text += fmt::format(" | whole t n d k c r{}{}{}", statistics ? " g" : "", value ? " e" : "", packed ? " l" : "");
  if (!packed) text += " | broadcast actual_seq_lengths_query actual_seq_lengths_kv";
  if (statistics || packed) text += fmt::format(" | size{}{}", statistics ? " g" : "", packed ? " p" : "");
  return text;
}

// The texts of the eight variants cost more to write than all else in planning a call.
const Rule& rule_variant(bool packed, bool value, bool statistics) {
  static const auto variants = [] {
    std::array<const Rule*, 8> rules{};
    for (std::size_t i = 0; i < rules.size(); ++i)
      rules[i] = &parse_once(rule_text((i & 4) != 0, (i & 2) != 0, (i & 1) != 0));
    return rules;
  }();
  return *variants[(packed ? 4U : 0U) | (value ? 2U : 0U) | (statistics ? 1U : 0U)];
}

Rule rule_for(const CallSpec& call) {
  const bool packed = is_packed(call.attributes);
  const Shape& query = call.shape(kQuery);
  const Shape& key = call.shape(kKey);
  const std::size_t heads = packed ? 1 : 2;
  std::int64_t group = 1;
  if (query.size() == heads + 2 && key.size() == heads + 2 && query[heads] > 0) {
    if (key[heads] == 0 || query[heads] % key[heads] != 0) {
      fail_sfa("size-mismatch", fmt::format("{} query heads cannot share {} key heads", query[heads], key[heads]),
               "the number of query heads is a multiple of that of key heads");
    }
    group = query[heads] / key[heads];
  }
  Rule rule = rule_variant(packed, call.has(kValue), call.attributes.get<bool>("return_softmax_lse")).with_size("g", group);
  if (packed) rule = rule.with_size("p", packed_parts(call, kName, sequences(call.attributes)));
  return rule;
}

std::vector<Tensor> run(const LocalCall& call) {
  const Attributes& attributes = call.attributes();
  const bool packed = is_packed(attributes);
  const auto batched = [&](std::size_t operand) { return packed ? with_batch(call.input(operand)) : call.input(operand); };
  const auto optional = [&](std::size_t operand) {
    return call.has(operand) ? std::optional(batched(operand)) : std::nullopt;
  };
  const Tensor key = batched(kKey);
  const bool statistics = attributes.get<bool>("return_softmax_lse");
  const kernels::AttentionResult result =
      kernels::sparse_attention({.query = batched(kQuery),
                                 .key = key,
                                 .value = call.has(kValue) ? batched(kValue) : key,
                                 .indices = batched(kIndices),
                                 .plan = row_plan(call, sequences(attributes), sparse_masking(attributes)),
                                 .scale = attributes.get<double>("scale_value"),
                                 .block_size = attributes.get<std::int64_t>("sparse_block_size"),
                                 .query_rope = optional(kQueryRope),
                                 .key_rope = optional(kKeyRope),
                                 .return_statistics = statistics});
  std::vector<Tensor> results{result.out};
  if (statistics) results.insert(results.end(), {result.softmax_max, result.softmax_sum});
  if (!packed) return results;
  for (Tensor& tensor : results) tensor = without_batch(tensor);
  return results;
}

std::vector<DType> result_dtypes(const CallSpec& call) {
  const DType query = call.operands[kQuery]->dtype;
  return {query, statistics_dtype(query), statistics_dtype(query)};
}

// Index lists as an indexer makes them: for each row some of the blocks that it may see, each once, then -1.
std::optional<Tensor> sample_indices(const CallSpec& call, std::uint64_t seed) {
  const Attributes& attributes = call.attributes;
  const bool packed = is_packed(attributes);
  const Shape& shape = call.shape(kIndices);
  const std::size_t rows_dim = packed ? 0 : 1;
  const std::int64_t rows = call.shape(kQuery)[rows_dim];
  const std::int64_t keys = call.shape(kKey)[rows_dim];
  const std::int64_t batch = packed ? 1 : shape[0];
  const std::int64_t heads = shape[shape.size() - 2];
  const std::int64_t slots = shape.back();
  const IndexSet all_rows{{0, rows}};
  const SequenceLengths lengths = sample_lengths(call, sequences(attributes), seed);
  const RowPlan plan =
      packed ? plan_packed({rows, keys, lengths.query, lengths.key}, all_rows, {{0, keys}}, sparse_masking(attributes))
             : plan_padded({batch, rows, keys, lengths.query, lengths.key}, all_rows, sparse_masking(attributes));
  const auto block = attributes.get<std::int64_t>("sparse_block_size");
  Tensor indices = Tensor::uninitialized({batch, rows, heads, slots}, DType::kI64);
  std::fill(indices.span<std::int64_t>().begin(), indices.span<std::int64_t>().end(), std::int64_t{-1});
  // A row's blocks are start, start + step, ... around all of them, with step and their number coprime: each once.
  const Tensor drawn =
      random_integers({batch, rows, heads, 2}, DType::kI64, 0, std::int64_t{1} << 30, seed, "sparse_indices");
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const std::int64_t blocks = (std::max<std::int64_t>(keys_of(segment, i).end, 0) + block - 1) / block;
      for (std::int64_t head = 0; blocks > 0 && head < heads; ++head) {
        const std::int64_t row = segment.row + i;
        const std::int64_t start = drawn.at<std::int64_t>({segment.batch, row, head, 0}) % blocks;
        std::int64_t step = 1 + drawn.at<std::int64_t>({segment.batch, row, head, 1}) % blocks;
        while (std::gcd(step, blocks) != 1) ++step;
        for (std::int64_t slot = 0; slot < std::min(slots, blocks); ++slot) {
          indices.at<std::int64_t>({segment.batch, row, head, slot}) = (start + slot * step) % blocks;
        }
      }
    }
  }
  return (packed ? without_batch(indices) : indices).to(call.operands[kIndices]->dtype);
}

std::optional<Tensor> sample(const CallSpec& call, std::size_t operand, std::uint64_t seed) {
  if (operand == kIndices) return sample_indices(call, seed);
  return sample_lengths_of(call, sequences(call.attributes), operand, seed);
}

// A row attends at most to the keys that its slots name.
double work(const LocalCall& call) {
  const Attributes& attributes = call.attributes();
  const RowPlan plan = row_plan(call, sequences(attributes), sparse_masking(attributes));
  const std::int64_t most = call.input(kIndices).shape().back() * attributes.get<std::int64_t>("sparse_block_size");
  double pairs = 0;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i)
      pairs += static_cast<double>(std::clamp<std::int64_t>(keys_of(segment, i).end, 0, most));
  }
  const Shape& query = call.input(kQuery).shape();
  return pairs * static_cast<double>(query[query.size() - 2] * 2 * query.back());
}

}  // namespace

void register_sparse_flash_attention(Registry& registry) {
  DistributedOp op;
  op.name = kName;
  op.rule = rule_variant(false, true, true);
  op.kernel = run;
  op.aliases = {"npu_sparse_flash_attention", "SparseFlashAttention"};
  op.summary =
      "attention over the keys that an index list names (DeepSeek sparse attention); queries may be split along their "
      "sequence";
  op.attributes = {
      {.name = "scale_value",
       .type = AttributeType::kFloat,
       .doc = "multiplies the whole score, rope part included",
       .required = true,
       .aliases = {"scale"}},
      {.name = "sparse_block_size",
       .type = AttributeType::kInt,
       .default_value = std::int64_t{1},
       .doc = "keys that a slot of sparse_indices names"},
      {.name = "layout_query",
       .type = AttributeType::kString,
       .default_value = "BSND",
       .doc = "BSND, or TND: documents packed one after the other",
       .choices = {"BSND", "TND", "PA_BSND"}},
      {.name = "layout_kv",
       .type = AttributeType::kString,
       .default_value = "BSND",
       .doc = "the same as layout_query",
       .choices = {"BSND", "TND", "PA_BSND"}},
      {.name = "attention_mode",
       .type = AttributeType::kInt,
       .default_value = std::int64_t{2},
       .doc = "2 MLA-absorb with both rope parts, 0 without"},
      {.name = "return_softmax_lse",
       .type = AttributeType::kBool,
       .default_value = true,
       .doc = "false: attention_out only"},
  };
  for (AttributeSpec& spec : sparse_mask_attributes("0 all keys, 3 right-down causal"))
    op.attributes.push_back(std::move(spec));
  op.factors = {{"b", "batch"},     {"s", "query rows"},
                {"t", "key rows"},  {"n", "query heads"},
                {"k", "key heads"}, {"d", "head dim"},
                {"e", "value dim"}, {"c", "slots of the index list"},
                {"r", "rope dim"},  {"g", "query heads of a key head"},
                {"l", "documents"}, {"p", "parts of the packed batch, one for each shard of the keys"}};
  op.rule_for = rule_for;
  op.check = check;
  op.result_dtypes = result_dtypes;
  op.sample = sample;
  op.work = work;
  op.examples = {
      {.operands = {"f32 [2, 8, 4, 16] [dp, cp, -, -]", "f32 [2, 8, 1, 16] [dp, -, -, -]",
                    "f32 [2, 8, 1, 16] [dp, -, -, -]", "i32 [2, 8, 1, 4] [dp, cp, -, -]", "-", "-", "-",
                    "f32 [2, 8, 4, 8] [dp, cp, -, -]", "f32 [2, 8, 1, 8] [dp, -, -, -]"},
       .attributes = {{"scale_value", 0.25}},
       .mesh = "dp=2 x cp=2"},
      {.operands = {"f32 [10, 4, 16] [cp, -, -]", "f32 [10, 1, 16] [-, -, -]", "-", "i32 [10, 1, 4] [cp, -, -]", "-",
                    "i32 [3] [-]", "i32 [3] [-]"},
       .attributes =
           {{"scale_value", 0.25}, {"layout_query", "TND"}, {"layout_kv", "TND"}, {"attention_mode", std::int64_t{0}}},
       .mesh = "cp=4"},
  };
  registry.add(std::move(op));
}

}  // namespace tessera
