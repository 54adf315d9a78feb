// Attention with its queries split along their sequence computes the unsharded numbers: every layout, mask, length and distribution.
#include <gtest/gtest.h>

#include <random>

#include "core/op/registry.h"
#include "core/tensor/random.h"
#include "kernels/attention.h"
#include "ops/attention/attention.h"
#include "support/diagnostic.h"
#include "tests/ops/attention/sharded_call.h"

namespace tessera {
namespace {

const Registry& attention_ops() {
  static const Registry& registry = *[] {
    auto* filled = new Registry;
    register_scaled_dot_product_attention(*filled);
    register_sparse_flash_attention(*filled);
    register_lightning_indexer(*filled);
    return filled;
  }();
  return registry;
}

Tensor normal(const Shape& shape, std::string_view name, DType dtype = DType::kF64) {
  return random_normal(shape, dtype, 1, name);
}
Tensor integers(std::vector<std::int64_t> values) {
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

const ShardedOperand kAbsent{};

void expect_unsharded(std::string_view name, DeviceMesh mesh, const std::vector<ShardedOperand>& operands,
                      const Attributes& attributes) {
  const DistributedOp& op = attention_ops().get(name);
  const std::vector<Tensor> sharded = run_sharded(op, mesh, operands, attributes);
  const std::vector<Tensor> whole = run_whole(op, operands, attributes);
  ASSERT_EQ(sharded.size(), whole.size());
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(same_bits(sharded[i], whole[i])) << name << " result " << i;
}

// How the rows of a sequence are split: a mesh, and the layout entry of the sequence dim.
struct RowSplit {
  DeviceMesh mesh;
  std::string entry;
};
std::vector<RowSplit> row_splits() {
  std::vector<RowSplit> splits;
  for (std::int64_t ranks : {1, 2, 3, 4, 6, 8}) {
    const DeviceMesh mesh({{"cp", ranks}});
    for (const char* entry : {"-", "cp", "cp:balanced", "cp:head_tail", "cp:cyclic(1)", "cp:cyclic(2)"})
      splits.push_back({mesh, entry});
  }
  // Several axes on the sequence, in both orders: the position of both counts.
  const DeviceMesh two({{"a", 2}, {"b", 3}});
  for (const char* entry : {"a+b", "b+a", "b", "a+b:head_tail", "b+a:cyclic(2)"}) splits.push_back({two, entry});
  const DeviceMesh permuted({{"a", 2}, {"b", 2}}, std::vector<std::int64_t>{3, 0, 2, 1});
  for (const char* entry : {"a+b", "b+a"}) splits.push_back({permuted, entry});
  splits.push_back({DeviceMesh({{"cp", 3}}), "cp:intervals(0-2 7-8 | | 2-7)"});
  return splits;
}

TEST(ContextParallelSdpa, OfPaddedBatchesIsUnsharded) {
  const std::vector<Attributes> masks = {
      {},
      {{"is_causal", true}},
      {{"sparse_mode", std::int64_t{3}}},
      {{"sparse_mode", std::int64_t{2}}},
      {{"sparse_mode", std::int64_t{0}}, {"pre_tokens", std::int64_t{3}}, {"next_tokens", std::int64_t{1}}},
      {{"sparse_mode", std::int64_t{4}}, {"pre_tokens", std::int64_t{2}}, {"next_tokens", std::int64_t{1}}},
      {{"window", std::vector<std::int64_t>{2, 0}}, {"scale", 0.3}}};
  for (const RowSplit& split : row_splits()) {
    for (const Attributes& attributes : masks) {
      for (std::int64_t keys : {8, 5, 12}) {  // S1 = 8
        const std::string query = "[-, -, " + split.entry + ", -]";
        expect_unsharded("sdpa", split.mesh,
                         {{normal({2, 4, 8, 4}, "q"), query},
                          {normal({2, 2, keys, 4}, "k"), "[-, -, -, -]"},
                          {normal({2, 2, keys, 6}, "v"), "[-, -, -, -]"}},
                         attributes);
      }
    }
  }
}

TEST(ContextParallelSdpa, OfPerBatchLengthsIsUnsharded) {
  for (const RowSplit& split : row_splits()) {
    for (std::int64_t mode : {0, 3}) {
      expect_unsharded("sdpa", split.mesh,
                       {{normal({3, 8, 2, 4}, "q"), "[-, " + split.entry + ", -, -]"},
                        {normal({3, 7, 1, 4}, "k"), "[-, -, -, -]"},
                        {normal({3, 7, 1, 4}, "v"), "[-, -, -, -]"},
                        kAbsent,
                        {integers({8, 3, 0}), "[-]"},
                        {integers({5, 7, 2}), "[-]"}},
                       {{"layout", "BSHD"}, {"sparse_mode", mode}, {"return_softmax_lse", true}});
    }
  }
}

// A kernel of a user's own, which drops half of the weights by the plan that any kernel for the operator gets.
std::vector<Tensor> attention_with_dropout(const LocalCall& call) {
  const bool packed = call.attributes().get<std::string>("layout") == "TND";
  SequenceOperands where{.packed = packed, .query_lengths = 4, .key_lengths = 5};
  if (packed) {
    where.query_batch = -1;
    where.query_rows = where.key_rows = 0;
  }
  const auto batched = [&](std::size_t operand) { return packed ? with_batch(call.input(operand)) : call.input(operand); };
  const IndexSet heads = call.indices(0, packed ? 1 : 2);
  const Tensor out = kernels::reference::attention(
                         {.query = batched(0),
                          .key = batched(1),
                          .value = batched(2),
                          .plan = row_plan(call, where, {}),
                          .dropout = {.probability = 0.5, .seed = 1, .first_head = heads.empty() ? 0 : heads[0].begin}})
                         .out;
  return {packed ? without_batch(out) : out};
}

TEST(ContextParallelDropout, DropsTheSameWeightsHoweverTheCallIsSplit) {
  DistributedOp op = attention_ops().get("sdpa");
  op.kernel = attention_with_dropout;
  const auto expect_same = [&](const DeviceMesh& mesh, const std::vector<ShardedOperand>& operands, const char* layout) {
    const Attributes attributes{{"layout", layout}};
    EXPECT_TRUE(same_bits(run_sharded(op, mesh, operands, attributes)[0], run_whole(op, operands, attributes)[0]))
        << layout << " " << operands[0].layout;
  };
  const DeviceMesh mesh({{"dp", 2}, {"cp", 2}, {"tp", 2}});
  for (const std::string batch : {"-", "dp", "dp:cyclic(1)", "dp:head_tail", "dp+cp"}) {
    const std::string rows = batch == "dp+cp" ? "-" : "cp:head_tail";
    const Tensor key = normal({5, 6, 2, 4}, "k");
    expect_same(mesh,
                {{normal({5, 8, 4, 4}, "q"), "[" + batch + ", " + rows + ", tp, -]"},
                 {key, "[" + batch + ", -, tp, -]"},
                 {key, "[" + batch + ", -, tp, -]"}},
                "BSND");
  }
  for (const std::string rows : {"-", "cp", "cp:head_tail", "cp:cyclic(2)"}) {
    const Tensor key = normal({16, 2, 4}, "k");
    expect_same(mesh,
                {{normal({16, 4, 4}, "q"), "[" + rows + ", tp, -]"},
                 {key, "[-, tp, -]"},
                 {key, "[-, tp, -]"},
                 kAbsent,
                 {integers({3, 11, 16}), "[-]"},
                 {integers({3, 11, 16}), "[-]"}},
                "TND");
  }
}

TEST(ContextParallelSdpa, OfOneLengthForAllEntriesIsUnsharded) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 2}});
  const ShardedOperand query{normal({4, 8, 2, 4}, "q"), "[dp, cp, -, -]"};
  const ShardedOperand key{normal({4, 7, 1, 4}, "k"), "[dp, -, -, -]"};
  const Attributes attributes{{"layout", "BSHD"}, {"sparse_mode", std::int64_t{3}}};
  const std::vector<ShardedOperand> one{query, key, key, kAbsent, {integers({6}), "[-]"}, {integers({5}), "[-]"}};
  expect_unsharded("sdpa", mesh, one, attributes);
  // It means what a length for each entry means.
  std::vector<ShardedOperand> each = one;
  each[4].tensor = integers({6, 6, 6, 6});
  each[5].tensor = integers({5, 5, 5, 5});
  const DistributedOp& op = attention_ops().get("sdpa");
  EXPECT_TRUE(same_bits(run_whole(op, one, attributes)[0], run_whole(op, each, attributes)[0]));
}

TEST(ContextParallelSdpa, OfEveryInputLayoutIsUnshardedOverBatchHeadsAndRows) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 3}, {"tp", 2}});
  const Attributes causal{{"is_causal", true}};
  const auto with = [](const char* layout, bool folded) {
    std::vector<Attributes::Entry> entries{{"layout", layout}, {"is_causal", true}, {"return_softmax_lse", true}};
    if (folded) entries.emplace_back("head_num", std::int64_t{4});
    return Attributes(entries);
  };
  expect_unsharded("sdpa", mesh,
                   {{normal({2, 4, 7, 4}, "q"), "[dp, tp, cp, -]"},
                    {normal({2, 2, 7, 4}, "k"), "[dp, tp, -, -]"},
                    {normal({2, 2, 7, 4}, "v"), "[dp, tp, -, -]"}},
                   with("BNSD", false));
  expect_unsharded("sdpa", mesh,
                   {{normal({2, 7, 4, 4}, "q"), "[dp, cp, tp, -]"},
                    {normal({2, 7, 2, 4}, "k"), "[dp, -, tp, -]"},
                    {normal({2, 7, 2, 4}, "v"), "[dp, -, tp, -]"}},
                   with("BSND", false));
  expect_unsharded("sdpa", mesh,
                   {{normal({2, 7, 16}, "q"), "[dp, cp, tp]"},
                    {normal({2, 7, 8}, "k"), "[dp, -, tp]"},
                    {normal({2, 7, 8}, "v"), "[dp, -, tp]"}},
                   with("BSH", true));
  expect_unsharded("sdpa", mesh,
                   {{normal({7, 2, 16}, "q"), "[cp, dp, tp]"},
                    {normal({7, 2, 8}, "k"), "[-, dp, tp]"},
                    {normal({7, 2, 8}, "v"), "[-, dp, tp]"}},
                   with("SBH", true));
  expect_unsharded("sdpa", mesh,
                   {{normal({4, 7, 4}, "q"), "[tp, dp+cp, -]"},
                    {normal({2, 7, 4}, "k"), "[tp, -, -]"},
                    {normal({2, 7, 6}, "v"), "[tp, -, -]"}},
                   with("BHSD", false));
}

TEST(ContextParallelSdpa, OfExplicitMasksIsUnsharded) {
  Tensor visible = Tensor::zeros({8, 6}, DType::kBool);
  std::mt19937 random(3);
  for (bool& element : visible.span<bool>()) element = random() % 3 != 0;
  const Tensor bias = normal({2, 1, 8, 6}, "bias");
  for (const RowSplit& split : row_splits()) {
    const ShardedOperand query{normal({2, 4, 8, 4}, "q"), "[-, -, " + split.entry + ", -]"};
    const ShardedOperand key{normal({2, 2, 6, 4}, "k"), "[-, -, -, -]"};
    const ShardedOperand value{normal({2, 2, 6, 4}, "v"), "[-, -, -, -]"};
    expect_unsharded("sdpa", split.mesh, {query, key, value, {visible, "[" + split.entry + ", -]"}}, {});
    expect_unsharded("sdpa", split.mesh, {query, key, value, {bias, "[-, -, " + split.entry + ", -]"}},
                     {{"is_causal", true}});
  }
}

TEST(ContextParallelSdpa, OfPackedDocumentsIsUnsharded) {
  for (const RowSplit& split : row_splits()) {
    for (std::int64_t mode : {0, 2, 3, 4}) {
      const Attributes attributes{{"layout", "TND"},
                                  {"sparse_mode", mode},
                                  {"return_softmax_lse", true},
                                  {"pre_tokens", std::int64_t{2}},
                                  {"next_tokens", std::int64_t{1}}};
      // Documents of 1, 4, 0 and 2 rows over 3, 2, 1 and 2 keys, and a tail of one row that is padding.
      expect_unsharded("sdpa", split.mesh,
                       {{normal({8, 4, 4}, "q"), "[" + split.entry + ", -, -]"},
                        {normal({8, 2, 4}, "k"), "[-, -, -]"},
                        {normal({8, 2, 4}, "v"), "[-, -, -]"},
                        kAbsent,
                        {integers({1, 5, 5, 7}), "[-]"},
                        {integers({3, 5, 6, 8}), "[-]"}},
                       attributes);
    }
  }
}

TEST(ContextParallelSdpa, OfPackedDocumentsWithKeysSplitByDataParallelismIsUnsharded) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 2}});
  expect_unsharded("sdpa", mesh,
                   {{normal({8, 2, 4}, "q"), "[dp+cp, -, -]"},
                    {normal({8, 1, 4}, "k"), "[dp, -, -]"},
                    {normal({8, 1, 4}, "v"), "[dp, -, -]"},
                    kAbsent,
                    {integers({3, 4, 8}), "[-]"},
                    {integers({3, 4, 8}), "[-]"}},
                   {{"layout", "TND"}, {"sparse_mode", std::int64_t{3}}});
}

std::vector<Attributes::Entry> sfa_attributes(std::int64_t mode, std::int64_t block, bool rope, const char* layout) {
  return {{"scale_value", 0.5},         {"sparse_mode", mode},
          {"sparse_block_size", block}, {"attention_mode", std::int64_t{rope ? 2 : 0}},
          {"layout_query", layout},     {"layout_kv", layout}};
}

TEST(ContextParallelSparseFlashAttention, OfPaddedBatchesIsUnsharded) {
  const DistributedOp& op = attention_ops().get("sparse_flash_attention");
  for (const RowSplit& split : row_splits()) {
    for (std::int64_t mode : {0, 3}) {
      for (std::int64_t block : {1, 2, 4}) {
        for (std::int64_t keys : {8, 5, 12}) {
          for (bool lengths : {false, true}) {
            const Attributes attributes(sfa_attributes(mode, block, true, "BSND"));
            const std::string rows = "[-, " + split.entry + ", -, -]";
            std::vector<ShardedOperand> operands{{normal({2, 8, 4, 8}, "q"), rows},
                                                 {normal({2, keys, 1, 8}, "k"), "[-, -, -, -]"},
                                                 {normal({2, keys, 1, 8}, "v"), "[-, -, -, -]"},
                                                 {Tensor::zeros({2, 8, 1, 3}, DType::kI32), rows},
                                                 kAbsent,
                                                 kAbsent,
                                                 kAbsent,
                                                 {normal({2, 8, 4, 4}, "qr"), rows},
                                                 {normal({2, keys, 1, 4}, "kr"), "[-, -, -, -]"}};
            if (lengths) {
              operands[5] = {Tensor::zeros({2}, DType::kI32), "[-]"};
              operands[6] = {Tensor::zeros({2}, DType::kI32), "[-]"};
            }
            // Index lists and lengths as the operator samples them.
            std::vector<TensorSpec> specs;
            for (const ShardedOperand& operand : operands) {
              specs.push_back({operand.tensor.shape(), operand.tensor.dtype(),
                               Layout::replicated(DeviceMesh(), operand.tensor.rank())});
            }
            std::vector<const TensorSpec*> pointers;
            for (std::size_t i = 0; i < operands.size(); ++i)
              pointers.push_back(operands[i].layout.empty() ? nullptr : &specs[i]);
            const Attributes normal_attributes = normalise(attributes, op.attributes, op.name);
            for (std::size_t i : {std::size_t{3}, std::size_t{5}, std::size_t{6}}) {
              if (!operands[i].layout.empty()) operands[i].tensor = *op.sample({pointers, normal_attributes}, i, 11);
            }
            expect_unsharded("sparse_flash_attention", split.mesh, operands, attributes);
          }
        }
      }
    }
  }
}

TEST(ContextParallelSparseFlashAttention, OfPackedDocumentsIsUnsharded) {
  // Lists that rely on the operator's own mask: every row names blocks 0 and 1 of its document, causal or not.
  for (const RowSplit& split : row_splits()) {
    for (std::int64_t mode : {0, 3}) {
      for (std::int64_t block : {1, 2}) {
        Tensor indices = Tensor::zeros({8, 1, 3}, DType::kI32);
        for (std::int64_t row = 0; row < 8; ++row) {
          indices.at<std::int32_t>({row, 0, 1}) = 1;
          indices.at<std::int32_t>({row, 0, 2}) = -1;
        }
        const std::string rows = "[" + split.entry + ", -, -]";
        expect_unsharded("sparse_flash_attention", split.mesh,
                         {{normal({8, 4, 8}, "q"), rows},
                          {normal({9, 1, 8}, "k"), "[-, -, -]"},
                          kAbsent,
                          {indices, rows},
                          kAbsent,
                          {integers({2, 7, 7}), "[-]"},
                          {integers({3, 6, 9}), "[-]"}},
                         Attributes(sfa_attributes(mode, block, false, "TND")));
      }
    }
  }
}

TEST(ContextParallelIndexer, IsUnshardedInBothLayouts) {
  for (const RowSplit& split : row_splits()) {
    for (std::int64_t mode : {0, 3}) {
      const std::string rows4 = "[-, " + split.entry + ", -, -]";
      const std::string rows3 = "[-, " + split.entry + ", -]";
      expect_unsharded("lightning_indexer", split.mesh,
                       {{normal({2, 8, 4, 4}, "q"), rows4},
                        {normal({2, 11, 1, 4}, "k"), "[-, -, -, -]"},
                        {normal({2, 8, 4}, "w"), rows3}},
                       {{"sparse_count", std::int64_t{4}}, {"sparse_mode", mode}});
      const std::string packed3 = "[" + split.entry + ", -, -]";
      const std::string packed2 = "[" + split.entry + ", -]";
      expect_unsharded(
          "lightning_indexer", split.mesh,
          {{normal({8, 4, 4}, "q"), packed3},
           {normal({9, 1, 4}, "k"), "[-, -, -]"},
           {normal({8, 4}, "w"), packed2},
           {integers({2, 7, 7}), "[-]"},
           {integers({3, 6, 9}), "[-]"}},
          {{"sparse_count", std::int64_t{4}}, {"sparse_mode", mode}, {"layout_query", "TND"}, {"layout_key", "TND"}});
    }
    expect_unsharded("dense_lightning_indexer_softmax_lse", split.mesh,
                     {{normal({2, 8, 4, 4}, "q"), "[-, " + split.entry + ", -, -]"},
                      {normal({2, 11, 1, 4}, "k"), "[-, -, -, -]"},
                      {normal({2, 8, 4}, "w"), "[-, " + split.entry + ", -]"}},
                     {});
    expect_unsharded("dense_lightning_indexer_softmax_lse", split.mesh,
                     {{normal({8, 4, 4}, "q"), "[" + split.entry + ", -, -]"},
                      {normal({9, 1, 4}, "k"), "[-, -, -]"},
                      {normal({8, 4}, "w"), "[" + split.entry + ", -]"},
                      {integers({2, 7, 7}), "[-]"},
                      {integers({3, 6, 9}), "[-]"}},
                     {{"layout", "TND"}});
  }
}

}  // namespace
}  // namespace tessera
