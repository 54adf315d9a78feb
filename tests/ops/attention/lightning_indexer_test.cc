// lightning_indexer and dense_lightning_indexer_softmax_lse: planning, word for word, and whole sparse layers over ranks.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "core/tensor/random.h"
#include "testing/matchers.h"
#include "testing/prover.h"
#include "tests/ops/attention/attention_calls.h"
#include "tests/ops/attention/sharded_call.h"

namespace tessera {
namespace {

const AttentionCall kPadded{"lightning_indexer",
                            {{"query", "f32 [2, 8, 4, 16] [dp, cp, -, -]"},
                             {"key", "f32 [2, 8, 1, 16] [dp, -, -, -]"},
                             {"weights", "f32 [2, 8, 4] [dp, cp, -]"}},
                            {{"sparse_count", std::int64_t{4}}},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kPaddedRule[] =
    "query[b s h d], key[b t k d], weights[b s h], actual_seq_lengths_query[b]?, actual_seq_lengths_key[b]?, block_table[b "
    "m]? -> sparse_indices[b s k c], sparse_values[b s k c] | whole t h d k c | broadcast actual_seq_lengths_query "
    "actual_seq_lengths_key | size c";

const AttentionCall kPacked{"lightning_indexer",
                            {{"query", "f32 [8, 4, 16] [dp+cp, -, -]"},
                             {"key", "f32 [8, 1, 16] [dp, -, -]"},
                             {"weights", "f32 [8, 4] [dp+cp, -]"},
                             {"actual_seq_lengths_query", "i32 [3] [-]"},
                             {"actual_seq_lengths_key", "i32 [3] [-]"}},
                            {{"sparse_count", std::int64_t{4}}, {"layout_query", "TND"}, {"layout_key", "TND"}},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kPackedRule[] =
    "query[(p s) h d], key[(p t) k d], weights[(p s) h], actual_seq_lengths_query[l]?, actual_seq_lengths_key[l]?, "
    "block_table[b m]? -> sparse_indices[(p s) k c], sparse_values[(p s) k c] | whole t h d k c l | size c p";

const AttentionCall kPaddedStatistics{"dense_lightning_indexer_softmax_lse",
                                      {{"query_index", "f32 [2, 8, 4, 16] [dp, cp, -, -]"},
                                       {"key_index", "f32 [2, 8, 1, 16] [dp, -, -, -]"},
                                       {"weights", "f32 [2, 8, 4] [dp, cp, -]"}},
                                      {},
                                      "dp=2 x cp=2 x tp=2"};
constexpr char kPaddedStatisticsRule[] =
    "query_index[b s h d], key_index[b t k d], weights[b s h], actual_seq_qlen[b]?, actual_seq_klen[b]? -> softmax_max[b k "
    "s], softmax_sum[b k s] | whole t h d k | broadcast actual_seq_qlen actual_seq_klen";

const AttentionCall kPackedStatistics{"dense_lightning_indexer_softmax_lse",
                                      {{"query_index", "f32 [8, 4, 16] [dp+cp, -, -]"},
                                       {"key_index", "f32 [8, 1, 16] [dp, -, -]"},
                                       {"weights", "f32 [8, 4] [dp+cp, -]"},
                                       {"actual_seq_qlen", "i32 [3] [-]"},
                                       {"actual_seq_klen", "i32 [3] [-]"}},
                                      {{"layout", "TND"}},
                                      "dp=2 x cp=2 x tp=2"};

TEST(IndexerPlanning, LaysOutResultsOfPaddedBatches) {
  expect_said(
      kPadded, kPaddedRule,
      {
          {"dp_and_cp", {}, {}, "[dp, cp, -, -], [dp, cp, -, -]"},
          {"cp",
           {{"query", "f32 [2, 8, 4, 16] [-, cp, -, -]"},
            {"key", "f32 [2, 8, 1, 16] [-, -, -, -]"},
            {"weights", "f32 [2, 8, 4] [-, cp, -]"}},
           {},
           "[-, cp, -, -], [-, cp, -, -]"},
          {"dp",
           {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -]"}, {"weights", "f32 [2, 8, 4] [dp, -, -]"}},
           {},
           "[dp, -, -, -], [dp, -, -, -]"},
          {"head_tail",
           {{"query", "f32 [2, 8, 4, 16] [dp, cp:head_tail, -, -]"}, {"weights", "f32 [2, 8, 4] [dp, cp:head_tail, -]"}},
           {},
           "[dp, cp:head_tail, -, -], [dp, cp:head_tail, -, -]"},
          {"without_values", {}, {{"return_value", false}}, "[dp, cp, -, -]"},
          {"values_by_their_other_name", {}, {{"return_values", false}}, "[dp, cp, -, -]"},
      });
}

TEST(IndexerPlanning, RefusesOfPaddedBatches) {
  expect_said(
      kPadded, kPaddedRule,
      {
          {"partial",
           {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -] partial(cp: sum)"}, {"weights", "f32 [2, 8, 4] [dp, -, -]"}},
           {},
           "lightning_indexer: query has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  query      [dp, -, -, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard query to [dp, -, -, -]"},
          {"partial_w",
           {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -]"}, {"weights", "f32 [2, 8, 4] [dp, -, -] partial(cp: sum)"}},
           {},
           "lightning_indexer: weights has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  weights    [dp, -, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard weights to [dp, -, -]"},
          {"h",
           {{"query", "f32 [2, 8, 4, 16] [dp, cp, tp, -]"}, {"weights", "f32 [2, 8, 4] [dp, cp, tp]"}},
           {},
           "lightning_indexer: factor h (index heads) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, tp, -]\n"
           "  hint       reshard query to [dp, cp, -, -]"},
          {"d",
           {{"query", "f32 [2, 8, 4, 16] [dp, cp, -, tp]"}},
           {},
           "lightning_indexer: factor d (index dim) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, tp]\n"
           "  hint       reshard query to [dp, cp, -, -]"},
          {"s2",
           {{"key", "f32 [2, 8, 1, 16] [dp, cp, -, -]"}},
           {},
           "lightning_indexer: factor t (key rows) must be whole, but key splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  key        [dp, cp, -, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"n2",
           {{"key", "f32 [2, 8, 1, 16] [dp, -, tp, -]"}},
           {},
           "lightning_indexer: factor k (key heads) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, -, tp, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"kd",
           {{"key", "f32 [2, 8, 1, 16] [dp, -, -, tp]"}},
           {},
           "lightning_indexer: factor d (index dim) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, -, -, tp]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"w_rows",
           {{"weights", "f32 [2, 8, 4] [dp, -, -]"}},
           {},
           "lightning_indexer: factor s (query rows) is split over 'cp' in query but whole in weights\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  weights    [dp, -, -]\n"
           "  hint       reshard weights to [dp, cp, -]"},
          {"w_batch",
           {{"weights", "f32 [2, 8, 4] [-, cp, -]"}},
           {},
           "lightning_indexer: factor b (batch) is split over 'dp' in query but whole in weights\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  weights    [-, cp, -]\n"
           "  hint       reshard weights to [dp, cp, -]"},
          {"w_heads",
           {{"weights", "f32 [2, 8, 4] [dp, cp, tp]"}},
           {},
           "lightning_indexer: factor h (index heads) must be whole, but weights splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  weights    [dp, cp, tp]\n"
           "  hint       reshard weights to [dp, cp, -]"},
          {"k_batch",
           {{"key", "f32 [2, 8, 1, 16] [-, -, -, -]"}},
           {},
           "lightning_indexer: factor b (batch) is split over 'dp' in query but whole in key\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  key        [-, -, -, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"w_dist",
           {{"weights", "f32 [2, 8, 4] [dp, cp:cyclic(1), -]"}},
           {},
           "lightning_indexer: factor s (query rows) is split over 'cp' in query but dealt cyclic(1) over 'cp' in weights\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  weights    [dp, cp:cyclic(1), -]\n"
           "  hint       reshard weights to [dp, cp, -]"},
          {"pa_q",
           {},
           {{"layout_query", "PA_BSND"}},
           "lightning_indexer: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys as BSND or TND, without a block_table"},
          {"pa_k",
           {},
           {{"layout_key", "PA_BSND"}},
           "lightning_indexer: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys as BSND or TND, without a block_table"},
          {"bt",
           {{"block_table", "i32 [2, 3] [dp, -]"}},
           {},
           "lightning_indexer: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys as BSND or TND, without a block_table"},
          {"mismatch",
           {},
           {{"layout_key", "TND"}},
           "lightning_indexer: layout_query is BSND but layout_key is TND\n"
           "  hint       give both the same layout"},
          {"unknown",
           {},
           {{"layout_query", "BSN"}},
           "lightning_indexer: attribute 'layout_query' is 'BSN', it takes BSND, TND, PA_BSND\n"
           "  hint       did you mean 'BSND'?"},
          {"mode2",
           {},
           {{"sparse_mode", std::int64_t{2}}},
           "lightning_indexer: sparse_mode is 2, it takes 0 (all keys) or 3 (right-down causal)"},
          {"count0", {}, {{"sparse_count", std::int64_t{0}}}, "lightning_indexer: sparse_count is 0, it takes at least 1"},
          {"count_big",
           {},
           {{"sparse_count", std::int64_t{9223372036854775807}}},
           "shape [2, 8, 1, 9223372036854775807] has more than 2^63-1 elements"},
          {"pre",
           {},
           {{"pre_tokens", std::int64_t{7}}},
           "lightning_indexer: pre_tokens is 7, only an unlimited one is defined\n"
           "  hint       leave pre_tokens out; sparse_mode 3 is causal, 0 sees all"},
          {"heads",
           {{"key", "f32 [2, 8, 3, 16] [dp, -, -, -]"}},
           {},
           "lightning_indexer: 4 index heads cannot share 3 key heads\n"
           "  hint       the number of index heads is a multiple of that of key heads"},
          {"w_size",
           {{"weights", "f32 [2, 8, 3] [dp, cp, -]"}},
           {},
           "lightning_indexer: factor h (index heads) is 4 in query (dim 2) but 3 in weights (dim 2)\n"
           "  rule       {rule}"},
          {"len_split",
           {{"actual_seq_lengths_query", "i32 [2] [-]"}},
           {},
           "lightning_indexer: factor b (batch) is split over 'dp' in query but whole in actual_seq_lengths_query\n"
           "  rule                     {rule}\n"
           "  query                    [dp, cp, -, -]\n"
           "  actual_seq_lengths_query [-]\n"
           "  hint                     reshard actual_seq_lengths_query to [dp]"},
          {"len_f",
           {{"actual_seq_lengths_query", "f32 [2] [dp]"}},
           {},
           "lightning_indexer: actual_seq_lengths_query is f32, it must be i32 or i64"},
          {"w_int",
           {{"weights", "i32 [2, 8, 4] [dp, cp, -]"}},
           {},
           "lightning_indexer: weights is i32, it must be a float"},
      });
}

TEST(IndexerPlanning, LaysOutResultsOfPackedBatches) {
  expect_said(
      kPacked, kPackedRule,
      {
          {"tnd", {}, {}, "[dp+cp, -, -], [dp+cp, -, -]"},
          {"cp",
           {{"query", "f32 [8, 4, 16] [cp, -, -]"}, {"key", "f32 [8, 1, 16] [-, -, -]"}, {"weights", "f32 [8, 4] [cp, -]"}},
           {},
           "[cp, -, -], [cp, -, -]"},
          {"without_values", {}, {{"return_value", false}}, "[dp+cp, -, -]"},
      });
}

TEST(IndexerPlanning, RefusesOfPackedBatches) {
  expect_said(
      kPacked, kPackedRule,
      {
          {"nolen",
           {{"actual_seq_lengths_query", "-"}, {"actual_seq_lengths_key", "-"}},
           {},
           "lightning_indexer: layout TND takes actual_seq_lengths_query and actual_seq_lengths_key, the documents' prefix "
           "sums"},
          {"order",
           {{"query", "f32 [8, 4, 16] [cp+dp, -, -]"}},
           {},
           "lightning_indexer: factor p (parts of the packed batch, one for each shard of the keys) is split over 'cp' in "
           "query but split over 'dp' in key\n"
           "  rule       {rule}\n"
           "  query      [cp+dp, -, -]\n"
           "  key        [dp, -, -]"},
          {"finer",
           {{"query", "f32 [8, 4, 16] [dp, -, -]"},
            {"key", "f32 [8, 1, 16] [dp+cp, -, -]"},
            {"weights", "f32 [8, 4] [dp, -]"}},
           {},
           "lightning_indexer: factor p (parts of the packed batch, one for each shard of the keys) is split over 'dp' in "
           "query but split over 'dp+cp' in key\n"
           "  rule       query[(p s) h d], key[(p t) k d], weights[(p s) h], actual_seq_lengths_query[l]?, "
           "actual_seq_lengths_key[l]?, block_table[b m]? -> sparse_indices[(p s) k c], sparse_values[(p s) k c] | whole t "
           "h d k c l | size c p\n"
           "  query      [dp, -, -]\n"
           "  key        [dp+cp, -, -]"},
          {"parts",
           {{"key", "f32 [9, 1, 16] [dp, -, -]"}},
           {},
           "lightning_indexer: the keys' 9 packed rows are no multiple of their 2 shards\n"
           "  hint       split packed keys evenly, where documents end, or keep them whole"},
          {"w",
           {{"weights", "f32 [8, 4] [dp, -]"}},
           {},
           "lightning_indexer: factor s (query rows) is split over 'cp' in query but whole in weights\n"
           "  rule       {rule}\n"
           "  query      [dp+cp, -, -]\n"
           "  weights    [dp, -]"},
          {"len_count",
           {{"actual_seq_lengths_key", "i32 [4] [-]"}},
           {},
           "lightning_indexer: factor l (documents) is 3 in actual_seq_lengths_query (dim 0) but 4 in "
           "actual_seq_lengths_key (dim 0)\n"
           "  rule       {rule}"},
          {"len_split",
           {{"actual_seq_lengths_query", "i32 [4] [dp]"}, {"actual_seq_lengths_key", "i32 [4] [dp]"}},
           {},
           "lightning_indexer: factor l (documents) must be whole, but actual_seq_lengths_query splits it over 'dp'\n"
           "  rule                     {rule}\n"
           "  actual_seq_lengths_query [dp]\n"
           "  hint                     reshard actual_seq_lengths_query to [-]"},
      });
}

TEST(IndexerStatisticsPlanning, LaysOutResultsOfPaddedBatches) {
  expect_said(kPaddedStatistics, kPaddedStatisticsRule,
              {
                  {"dp_and_cp", {}, {}, "[dp, -, cp], [dp, -, cp]"},
                  {"cp",
                   {{"query_index", "f32 [2, 8, 4, 16] [-, cp, -, -]"},
                    {"key_index", "f32 [2, 8, 1, 16] [-, -, -, -]"},
                    {"weights", "f32 [2, 8, 4] [-, cp, -]"}},
                   {},
                   "[-, -, cp], [-, -, cp]"},
              });
}

TEST(IndexerStatisticsPlanning, RefusesOfPaddedBatches) {
  expect_said(
      kPaddedStatistics, kPaddedStatisticsRule,
      {
          {"mode0",
           {},
           {{"sparse_mode", std::int64_t{0}}},
           "dense_lightning_indexer_softmax_lse: sparse_mode is 0, it takes 3 (right-down causal)"},
          {"h",
           {{"weights", "f32 [2, 8, 4] [dp, cp, tp]"}},
           {},
           "dense_lightning_indexer_softmax_lse: factor h (index heads) must be whole, but weights splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  weights    [dp, cp, tp]\n"
           "  hint       reshard weights to [dp, cp, -]"},
          {"w",
           {{"weights", "f32 [2, 8, 4] [dp, -, -]"}},
           {},
           "dense_lightning_indexer_softmax_lse: factor s (query rows) is split over 'cp' in query_index but whole in "
           "weights\n"
           "  rule        {rule}\n"
           "  query_index [dp, cp, -, -]\n"
           "  weights     [dp, -, -]\n"
           "  hint        reshard weights to [dp, cp, -]"},
          {"layout",
           {},
           {{"layout", "PA_BSND"}},
           "dense_lightning_indexer_softmax_lse: attribute 'layout' is 'PA_BSND', it takes BSND, TND"},
          {"s2",
           {{"key_index", "f32 [2, 8, 1, 16] [dp, cp, -, -]"}},
           {},
           "dense_lightning_indexer_softmax_lse: factor t (key rows) must be whole, but key_index splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  key_index  [dp, cp, -, -]\n"
           "  hint       reshard key_index to [dp, -, -, -]"},
          {"pre",
           {},
           {{"next_tokens", std::int64_t{1}}},
           "dense_lightning_indexer_softmax_lse: next_tokens is 1, only an unlimited one is defined\n"
           "  hint       leave next_tokens out; sparse_mode 3 is causal, 0 sees all"},
          {"heads",
           {{"key_index", "f32 [2, 8, 3, 16] [dp, -, -, -]"}},
           {},
           "dense_lightning_indexer_softmax_lse: 4 index heads cannot share 3 key heads\n"
           "  hint       the number of index heads is a multiple of that of key heads"},
      });
}

TEST(IndexerStatisticsPlanning, LaysOutResultsOfPackedBatches) {
  expect_said(kPackedStatistics, "",
              {
                  {"tnd", {}, {}, "[-, dp+cp], [-, dp+cp]"},
              });
}

TEST(IndexerStatisticsPlanning, RefusesOfPackedBatches) {
  expect_said(kPackedStatistics, "",
              {
                  {"tnd_nolen",
                   {{"actual_seq_qlen", "-"}, {"actual_seq_klen", "-"}},
                   {},
                   "dense_lightning_indexer_softmax_lse: layout TND takes actual_seq_qlen and actual_seq_klen, the "
                   "documents' prefix sums"},
                  {"len_f",
                   {{"actual_seq_qlen", "f32 [3] [-]"}},
                   {},
                   "dense_lightning_indexer_softmax_lse: actual_seq_qlen is f32, it must be i32 or i64"},
              });
}

Tensor normal(const Shape& shape, std::string_view name) { return random_normal(shape, DType::kF64, 1, name); }
Tensor integers(std::vector<std::int64_t> values) {
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

// A sparse layer: the indexer chooses keys, sparse flash attention reads them. Entries are those of rows and keys in the layouts.
struct Layer {
  DeviceMesh mesh;
  std::string rows;
  std::string keys = "-";
  std::int64_t queries = 0;
  std::int64_t key_count = 0;
  std::vector<std::int64_t> query_ends{};  // packed documents; none: a padded batch of two
  std::vector<std::int64_t> key_ends{};
  std::int64_t mode = 3;
};

// Indices and values of the indexer, output and statistics of the attention.
std::vector<Tensor> run_layer(const Layer& layer, bool sharded) {
  const bool packed = !layer.query_ends.empty();
  const auto shaped = [&](std::int64_t rows, std::vector<std::int64_t> rest, std::string_view name) {
    Shape shape;
    if (!packed) shape.push_back(2);
    shape.push_back(rows);
    for (std::int64_t size : rest) shape.push_back(size);
    return normal(shape, name);
  };
  const auto layout = [&](const std::string& entry, int rank) {
    std::string text = packed ? "[" + entry : "[-, " + entry;
    for (int i = packed ? 1 : 2; i < rank + (packed ? 0 : 1); ++i) text += ", -";
    return text + "]";
  };
  const char* name = packed ? "TND" : "BSND";
  ShardedOperand query_lengths;
  ShardedOperand key_lengths;
  if (packed) query_lengths = {integers(layer.query_ends), "[-]"};
  if (packed) key_lengths = {integers(layer.key_ends), "[-]"};
  const auto run = [&](std::string_view op, const std::vector<ShardedOperand>& operands, const Attributes& attributes) {
    return sharded ? run_sharded(catalogue().get(op), layer.mesh, operands, attributes)
                   : run_whole(catalogue().get(op), operands, attributes);
  };
  std::vector<Tensor> results =
      run("lightning_indexer",
          {{shaped(layer.queries, {2, 4}, "iq"), layout(layer.rows, 3)},
           {shaped(layer.key_count, {1, 4}, "ik"), layout(layer.keys, 3)},
           {shaped(layer.queries, {2}, "iw"), layout(layer.rows, 2)},
           query_lengths,
           key_lengths},
          {{"sparse_count", std::int64_t{3}}, {"sparse_mode", layer.mode}, {"layout_query", name}, {"layout_key", name}});
  const std::vector<Tensor> attention = run("sparse_flash_attention",
                                            {{shaped(layer.queries, {2, 4}, "q"), layout(layer.rows, 3)},
                                             {shaped(layer.key_count, {1, 4}, "k"), layout(layer.keys, 3)},
                                             {},
                                             {results[0], layout(layer.rows, 3)},
                                             {},
                                             query_lengths,
                                             key_lengths},
                                            {{"scale_value", 0.5},
                                             {"attention_mode", std::int64_t{0}},
                                             {"sparse_mode", layer.mode},
                                             {"layout_query", name},
                                             {"layout_kv", name}});
  results.insert(results.end(), attention.begin(), attention.end());
  return results;
}

void expect_unsharded(const Layer& layer, const std::string& what) {
  const std::vector<Tensor> sharded = run_layer(layer, true);
  const std::vector<Tensor> whole = run_layer(layer, false);
  ASSERT_EQ(sharded.size(), 5U);
  for (std::size_t i = 0; i < sharded.size(); ++i) EXPECT_TRUE(same_bits(sharded[i], whole[i])) << what << ", result " << i;
}

DeviceMesh cp(std::int64_t ranks) { return DeviceMesh({{"cp", ranks}}); }

// Packings on which recipes that restate prefix sums let rows see keys of their future.
TEST(SparseLayer, OverPackedDocumentsIsUnsharded) {
  const std::vector<std::pair<std::vector<std::int64_t>, std::int64_t>> packings = {{{8}, 8},
                                                                                    {{4}, 4},
                                                                                    {{3, 11, 16}, 16},
                                                                                    {{6, 14}, 16},
                                                                                    {{14}, 16},
                                                                                    {{4, 8, 12, 16}, 16},
                                                                                    {{3, 11, 16, 16}, 16},
                                                                                    {{6, 14, 16}, 16},
                                                                                    {{10, 16}, 16},
                                                                                    {{5, 11, 16, 16}, 16},
                                                                                    {{3, 8, 10, 16}, 16}};
  for (const auto& [ends, rows] : packings) {
    for (std::int64_t ranks : {1, 2, 3, 4, 8}) {
      for (const char* entry : {"cp", "cp:balanced", "cp:head_tail", "cp:cyclic(2)"}) {
        for (std::int64_t mode : {0, 3}) {
          expect_unsharded({cp(ranks), entry, "-", rows, rows, ends, ends, mode},
                           fmt::format("{} rows, {} ranks, {}, mode {}", rows, ranks, entry, mode));
        }
      }
    }
  }
}

TEST(SparseLayer, OverPackedDocumentsSeesNoFutureKeys) {
  // One document of 8 rows over two ranks: row i may choose among keys 0 to i only.
  const Tensor indices = run_layer({cp(2), "cp", "-", 8, 8, {8}, {8}}, true)[0];
  for (std::int64_t row = 0; row < 8; ++row) {
    std::vector<std::int64_t> chosen;
    for (std::int64_t slot = 0; slot < 3; ++slot) chosen.push_back(indices.at<std::int32_t>({row, 0, slot}));
    EXPECT_EQ(std::count_if(chosen.begin(), chosen.end(), [](std::int64_t key) { return key >= 0; }),
              std::min<std::int64_t>(3, row + 1))
        << row;
    EXPECT_THAT(chosen, testing::Each(testing::Le(row))) << row;
  }
}

TEST(SparseLayer, OverPackedDocumentsWithTheirKeysSplitIsUnsharded) {
  const DeviceMesh mesh({{"dp", 2}, {"cp", 2}});
  for (std::int64_t mode : {0, 3}) {
    expect_unsharded({mesh, "dp+cp", "dp", 16, 16, {3, 8, 10, 16}, {3, 8, 10, 16}, mode}, "dp+cp");
    expect_unsharded({mesh, "dp", "dp", 16, 16, {3, 8, 10, 16}, {3, 8, 10, 16}, mode}, "dp");
  }
}

TEST(SparseLayer, WithOtherKeysThanQueriesIsUnsharded) {
  const std::pair<std::int64_t, std::int64_t> sizes[] = {{4, 8}, {8, 4}, {8, 12}, {10, 10}, {2, 9}};
  for (const auto& [rows, keys] : sizes) {
    for (std::int64_t ranks : {2, 3, 4}) {
      for (const char* entry : {"cp", "cp:head_tail"}) {
        for (std::int64_t mode : {0, 3}) {
          expect_unsharded({cp(ranks), entry, "-", rows, keys, {}, {}, mode},
                           fmt::format("{} x {}, {} ranks, {}, mode {}", rows, keys, ranks, entry, mode));
        }
      }
    }
  }
  // Documents of 2, 5 and 0 queries over 4, 3 and 2 keys.
  for (std::int64_t ranks : {2, 3, 4}) expect_unsharded({cp(ranks), "cp", "-", 8, 9, {2, 7, 7}, {4, 7, 9}}, "documents");
}

TEST(SparseLayer, OverTwoAxesInEitherOrderIsUnsharded) {
  const DeviceMesh mesh({{"a", 2}, {"b", 2}});
  for (const char* entry : {"a+b", "b+a"}) {
    expect_unsharded({mesh, entry, "-", 8, 8, {}, {}}, entry);
    expect_unsharded({mesh, entry, "-", 8, 8, {3, 8}, {3, 8}}, entry);
  }
}

// Every layout of every operand on two ranks: what planning accepts must give the unsharded numbers.
TEST(IndexerProof, HoldsInEveryLayout) {
  ProofOptions options;
  options.find_missed = false;
  const DeviceMesh mesh({{"dp", 2}});
  const TensorCase lengths{{2}, DType::kI32};
  const TensorCase documents{{3}, DType::kI32, integers({1, 4, 8}).to(DType::kI32)};  // one ends where the shards do
  EXPECT_THAT(prove(catalogue().get("lightning_indexer"),
                    {TensorCase{{2, 3, 2, 4}}, TensorCase{{2, 5, 1, 4}}, TensorCase{{2, 3, 2}}, lengths, lengths},
                    {{"sparse_count", std::int64_t{2}}}, mesh, options),
              IsSound());
  EXPECT_THAT(prove(catalogue().get("lightning_indexer"),
                    {TensorCase{{8, 2, 4}}, TensorCase{{8, 1, 4}}, TensorCase{{8, 2}}, documents, documents},
                    {{"sparse_count", std::int64_t{2}}, {"layout_query", "TND"}, {"layout_key", "TND"}}, mesh, options),
              IsSound());
  EXPECT_THAT(prove(catalogue().get("dense_lightning_indexer_softmax_lse"),
                    {TensorCase{{2, 3, 2, 4}}, TensorCase{{2, 5, 1, 4}}, TensorCase{{2, 3, 2}}, lengths, lengths}, {}, mesh,
                    options),
              IsSound());
  EXPECT_THAT(prove(catalogue().get("dense_lightning_indexer_softmax_lse"),
                    {TensorCase{{8, 2, 4}}, TensorCase{{8, 1, 4}}, TensorCase{{8, 2}}, documents, documents},
                    {{"layout", "TND"}}, mesh, options),
              IsSound());
}

}  // namespace
}  // namespace tessera
