// sparse_flash_attention: what planning accepts and refuses, word for word, and its numbers beside a loop of scalars.
#include <gmock/gmock.h>

#include <cmath>

#include "core/tensor/random.h"
#include "testing/matchers.h"
#include "testing/prover.h"
#include "tests/ops/attention/attention_calls.h"
#include "tests/ops/attention/sharded_call.h"

namespace tessera {
namespace {

const AttentionCall kPadded{"sparse_flash_attention",
                            {{"query", "f32 [2, 8, 4, 16] [dp, cp, -, -]"},
                             {"key", "f32 [2, 8, 1, 16] [dp, -, -, -]"},
                             {"value", "f32 [2, 8, 1, 16] [dp, -, -, -]"},
                             {"sparse_indices", "i32 [2, 8, 1, 4] [dp, cp, -, -]"},
                             {"query_rope", "f32 [2, 8, 4, 8] [dp, cp, -, -]"},
                             {"key_rope", "f32 [2, 8, 1, 8] [dp, -, -, -]"}},
                            {{"scale_value", 0.25}},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kPaddedRule[] =
    "query[b s n d], key[b t k d], value[b t k e]?, sparse_indices[b s k c], block_table[b m]?, "
    "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]?, query_rope[b s n r]?, key_rope[b t k r]? -> attention_out[b "
    "s n e], softmax_max[b k s g], softmax_sum[b k s g] | whole t n d k c r g e | broadcast actual_seq_lengths_query "
    "actual_seq_lengths_kv | size g";

const AttentionCall kPacked{
    "sparse_flash_attention",
    {{"query", "f32 [8, 4, 16] [dp+cp, -, -]"},
     {"key", "f32 [8, 1, 16] [dp, -, -]"},
     {"value", "f32 [8, 1, 16] [dp, -, -]"},
     {"sparse_indices", "i32 [8, 1, 4] [dp+cp, -, -]"},
     {"actual_seq_lengths_query", "i32 [3] [-]"},
     {"actual_seq_lengths_kv", "i32 [3] [-]"}},
    {{"scale_value", 0.25}, {"layout_query", "TND"}, {"layout_kv", "TND"}, {"attention_mode", std::int64_t{0}}},
    "dp=2 x cp=2 x tp=2"};
constexpr char kPackedRule[] =
    "query[(p s) n d], key[(p t) k d], value[(p t) k e]?, sparse_indices[(p s) k c], block_table[b m]?, "
    "actual_seq_lengths_query[l]?, actual_seq_lengths_kv[l]?, query_rope[(p s) n r]?, key_rope[(p t) k r]? -> "
    "attention_out[(p s) n e], softmax_max[k (p s) g], softmax_sum[k (p s) g] | whole t n d k c r g e l | size g p";

TEST(SfaPlanning, LaysOutResultsOfPaddedBatches) {
  expect_said(kPadded, kPaddedRule,
              {
                  {"whole",
                   {{"query", "f32 [2, 8, 4, 16] [-, -, -, -]"},
                    {"key", "f32 [2, 8, 1, 16] [-, -, -, -]"},
                    {"value", "f32 [2, 8, 1, 16] [-, -, -, -]"},
                    {"sparse_indices", "i32 [2, 8, 1, 4] [-, -, -, -]"},
                    {"query_rope", "f32 [2, 8, 4, 8] [-, -, -, -]"},
                    {"key_rope", "f32 [2, 8, 1, 8] [-, -, -, -]"}},
                   {},
                   "[-, -, -, -], [-, -, -, -], [-, -, -, -]"},
                  {"dp",
                   {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -]"},
                    {"sparse_indices", "i32 [2, 8, 1, 4] [dp, -, -, -]"},
                    {"query_rope", "f32 [2, 8, 4, 8] [dp, -, -, -]"}},
                   {},
                   "[dp, -, -, -], [dp, -, -, -], [dp, -, -, -]"},
                  {"cp",
                   {{"query", "f32 [2, 8, 4, 16] [-, cp, -, -]"},
                    {"key", "f32 [2, 8, 1, 16] [-, -, -, -]"},
                    {"value", "f32 [2, 8, 1, 16] [-, -, -, -]"},
                    {"sparse_indices", "i32 [2, 8, 1, 4] [-, cp, -, -]"},
                    {"query_rope", "f32 [2, 8, 4, 8] [-, cp, -, -]"},
                    {"key_rope", "f32 [2, 8, 1, 8] [-, -, -, -]"}},
                   {},
                   "[-, cp, -, -], [-, -, cp, -], [-, -, cp, -]"},
                  {"dp_and_cp", {}, {}, "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
                  {"head_tail",
                   {{"query", "f32 [2, 8, 4, 16] [dp, cp:head_tail, -, -]"},
                    {"sparse_indices", "i32 [2, 8, 1, 4] [dp, cp:head_tail, -, -]"},
                    {"query_rope", "f32 [2, 8, 4, 8] [dp, cp:head_tail, -, -]"}},
                   {},
                   "[dp, cp:head_tail, -, -], [dp, -, cp:head_tail, -], [dp, -, cp:head_tail, -]"},
                  {"two_axes_on_rows",
                   {{"query", "f32 [2, 8, 4, 16] [dp, cp+tp, -, -]"},
                    {"sparse_indices", "i64 [2, 8, 1, 4] [dp, cp+tp, -, -]"},
                    {"query_rope", "f32 [2, 8, 4, 8] [dp, cp+tp, -, -]"}},
                   {},
                   "[dp, cp+tp, -, -], [dp, -, cp+tp, -], [dp, -, cp+tp, -]"},
                  {"without_statistics", {}, {{"return_softmax_lse", false}}, "[dp, cp, -, -]"},
                  {"without_value", {{"value", "-"}}, {}, "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
                  {"without_rope",
                   {{"query_rope", "-"}, {"key_rope", "-"}},
                   {{"attention_mode", std::int64_t{0}}},
                   "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
                  {"lengths",
                   {{"actual_seq_lengths_query", "i32 [2] [dp]"}, {"actual_seq_lengths_kv", "i32 [2] [dp]"}},
                   {},
                   "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
                  {"key_heads",
                   {{"key", "f32 [2, 8, 2, 16] [dp, -, -, -]"},
                    {"value", "f32 [2, 8, 2, 16] [dp, -, -, -]"},
                    {"sparse_indices", "i32 [2, 8, 2, 4] [dp, cp, -, -]"},
                    {"key_rope", "f32 [2, 8, 2, 8] [dp, -, -, -]"}},
                   {},
                   "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
                  {"unlimited_tokens",
                   {},
                   {{"pre_tokens", std::int64_t{2147483647}}, {"next_tokens", std::int64_t{9223372036854775807}}},
                   "[dp, cp, -, -], [dp, -, cp, -], [dp, -, cp, -]"},
              });
}

TEST(SfaPlanning, RefusesOfPaddedBatches) {
  expect_said(
      kPadded, kPaddedRule,
      {
          {"sf_e_split",
           {{"value", "f32 [2, 8, 1, 16] [dp, -, -, tp]"}},
           {},
           "sparse_flash_attention: factor e (value dim) must be whole, but value splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  value      [dp, -, -, tp]\n"
           "  hint       reshard value to [dp, -, -, -]"},
          {"partial_q",
           {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -] partial(cp: sum)"},
            {"sparse_indices", "i32 [2, 8, 1, 4] [dp, -, -, -]"},
            {"query_rope", "f32 [2, 8, 4, 8] [dp, -, -, -]"}},
           {},
           "sparse_flash_attention: query has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  query      [dp, -, -, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard query to [dp, -, -, -]"},
          {"partial_i",
           {{"query", "f32 [2, 8, 4, 16] [dp, -, -, -]"},
            {"sparse_indices", "i32 [2, 8, 1, 4] [dp, -, -, -] partial(cp: sum)"},
            {"query_rope", "f32 [2, 8, 4, 8] [dp, -, -, -]"}},
           {},
           "sparse_flash_attention: sparse_indices has a pending sum over 'cp', which cannot pass through\n"
           "  rule           {rule}\n"
           "  sparse_indices [dp, -, -, -] partial(cp: sum)\n"
           "  hint           reduce it first: reshard sparse_indices to [dp, -, -, -]"},
          {"partial_kr",
           {{"key_rope", "f32 [2, 8, 1, 8] [dp, -, -, -] partial(tp: sum)"}},
           {},
           "sparse_flash_attention: key_rope has a pending sum over 'tp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  key_rope   [dp, -, -, -] partial(tp: sum)\n"
           "  hint       reduce it first: reshard key_rope to [dp, -, -, -]"},
          {"n1",
           {{"query", "f32 [2, 8, 4, 16] [dp, cp, tp, -]"}},
           {},
           "sparse_flash_attention: factor n (query heads) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, tp, -]\n"
           "  hint       reshard query to [dp, cp, -, -]"},
          {"d",
           {{"query", "f32 [2, 8, 4, 16] [dp, cp, -, tp]"}},
           {},
           "sparse_flash_attention: factor d (head dim) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, tp]\n"
           "  hint       reshard query to [dp, cp, -, -]"},
          {"s2",
           {{"key", "f32 [2, 8, 1, 16] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: factor t (key rows) must be whole, but key splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  key        [dp, cp, -, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"v_s2",
           {{"value", "f32 [2, 8, 1, 16] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: factor t (key rows) must be whole, but value splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  value      [dp, cp, -, -]\n"
           "  hint       reshard value to [dp, -, -, -]"},
          {"n2",
           {{"key", "f32 [2, 8, 2, 16] [dp, -, tp, -]"},
            {"value", "f32 [2, 8, 2, 16] [dp, -, tp, -]"},
            {"sparse_indices", "i32 [2, 8, 2, 4] [dp, cp, tp, -]"},
            {"key_rope", "f32 [2, 8, 2, 8] [dp, -, tp, -]"}},
           {},
           "sparse_flash_attention: factor k (key heads) must be whole, but key splits it over 'tp'\n"
           "  rule       query[b s n d], key[b t k d], value[b t k e]?, sparse_indices[b s k c], block_table[b m]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]?, query_rope[b s n r]?, key_rope[b t k r]? -> "
           "attention_out[b s n e], softmax_max[b k s g], softmax_sum[b k s g] | whole t n d k c r g e | broadcast "
           "actual_seq_lengths_query actual_seq_lengths_kv | size g\n"
           "  key        [dp, -, tp, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"kd",
           {{"key", "f32 [2, 8, 1, 16] [dp, -, -, tp]"}},
           {},
           "sparse_flash_attention: factor d (head dim) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, -, -, tp]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"i_n2",
           {{"sparse_indices", "i32 [2, 8, 1, 4] [dp, cp, tp, -]"}},
           {},
           "sparse_flash_attention: factor k (key heads) must be whole, but sparse_indices splits it over 'tp'\n"
           "  rule           {rule}\n"
           "  sparse_indices [dp, cp, tp, -]\n"
           "  hint           reshard sparse_indices to [dp, cp, -, -]"},
          {"i_c",
           {{"sparse_indices", "i32 [2, 8, 1, 4] [dp, cp, -, tp]"}},
           {},
           "sparse_flash_attention: factor c (slots of the index list) must be whole, but sparse_indices splits it over "
           "'tp'\n"
           "  rule           {rule}\n"
           "  sparse_indices [dp, cp, -, tp]\n"
           "  hint           reshard sparse_indices to [dp, cp, -, -]"},
          {"qr_r",
           {{"query_rope", "f32 [2, 8, 4, 8] [dp, cp, -, tp]"}},
           {},
           "sparse_flash_attention: factor r (rope dim) must be whole, but query_rope splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query_rope [dp, cp, -, tp]\n"
           "  hint       reshard query_rope to [dp, cp, -, -]"},
          {"kr_r",
           {{"key_rope", "f32 [2, 8, 1, 8] [dp, -, -, tp]"}},
           {},
           "sparse_flash_attention: factor r (rope dim) must be whole, but key_rope splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key_rope   [dp, -, -, tp]\n"
           "  hint       reshard key_rope to [dp, -, -, -]"},
          {"qr_rows",
           {{"query_rope", "f32 [2, 8, 4, 8] [dp, -, -, -]"}},
           {},
           "sparse_flash_attention: factor s (query rows) is split over 'cp' in query but whole in query_rope\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  query_rope [dp, -, -, -]\n"
           "  hint       reshard query_rope to [dp, cp, -, -]"},
          {"qr_heads",
           {{"query_rope", "f32 [2, 8, 4, 8] [dp, cp, tp, -]"}},
           {},
           "sparse_flash_attention: factor n (query heads) must be whole, but query_rope splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query_rope [dp, cp, tp, -]\n"
           "  hint       reshard query_rope to [dp, cp, -, -]"},
          {"kr_batch",
           {{"key_rope", "f32 [2, 8, 1, 8] [-, -, -, -]"}},
           {},
           "sparse_flash_attention: factor b (batch) is split over 'dp' in query but whole in key_rope\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  key_rope   [-, -, -, -]\n"
           "  hint       reshard key_rope to [dp, -, -, -]"},
          {"k_batch",
           {{"key", "f32 [2, 8, 1, 16] [-, -, -, -]"}},
           {},
           "sparse_flash_attention: factor b (batch) is split over 'dp' in query but whole in key\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  key        [-, -, -, -]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"v_batch",
           {{"value", "f32 [2, 8, 1, 16] [-, -, -, -]"}},
           {},
           "sparse_flash_attention: factor b (batch) is split over 'dp' in query but whole in value\n"
           "  rule       {rule}\n"
           "  query      [dp, cp, -, -]\n"
           "  value      [-, -, -, -]\n"
           "  hint       reshard value to [dp, -, -, -]"},
          {"i_batch",
           {{"sparse_indices", "i32 [2, 8, 1, 4] [-, cp, -, -]"}},
           {},
           "sparse_flash_attention: factor b (batch) is split over 'dp' in query but whole in sparse_indices\n"
           "  rule           {rule}\n"
           "  query          [dp, cp, -, -]\n"
           "  sparse_indices [-, cp, -, -]\n"
           "  hint           reshard sparse_indices to [dp, cp, -, -]"},
          {"i_rows",
           {{"sparse_indices", "i32 [2, 8, 1, 4] [dp, -, -, -]"}},
           {},
           "sparse_flash_attention: factor s (query rows) is split over 'cp' in query but whole in sparse_indices\n"
           "  rule           {rule}\n"
           "  query          [dp, cp, -, -]\n"
           "  sparse_indices [dp, -, -, -]\n"
           "  hint           reshard sparse_indices to [dp, cp, -, -]"},
          {"i_dist",
           {{"sparse_indices", "i32 [2, 8, 1, 4] [dp, cp:head_tail, -, -]"}},
           {},
           "sparse_flash_attention: factor s (query rows) is split over 'cp' in query but dealt head_tail over 'cp' in "
           "sparse_indices\n"
           "  rule           {rule}\n"
           "  query          [dp, cp, -, -]\n"
           "  sparse_indices [dp, cp:head_tail, -, -]\n"
           "  hint           reshard sparse_indices to [dp, cp, -, -]"},
          {"pa_q",
           {},
           {{"layout_query", "PA_BSND"}},
           "sparse_flash_attention: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys and values as BSND or TND, without a block_table"},
          {"pa_kv",
           {},
           {{"layout_kv", "PA_BSND"}},
           "sparse_flash_attention: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys and values as BSND or TND, without a block_table"},
          {"bt",
           {{"block_table", "i32 [2, 3] [dp, -]"}},
           {},
           "sparse_flash_attention: the paged layout PA_BSND is not supported in distributed mode\n"
           "  hint       pass keys and values as BSND or TND, without a block_table"},
          {"mismatch",
           {},
           {{"layout_kv", "TND"}},
           "sparse_flash_attention: layout_query is BSND but layout_kv is TND\n"
           "  hint       give both the same layout"},
          {"mismatch2",
           {},
           {{"layout_query", "TND"}},
           "sparse_flash_attention: layout_query is TND but layout_kv is BSND\n"
           "  hint       give both the same layout"},
          {"unknown",
           {},
           {{"layout_query", "BNSD"}},
           "sparse_flash_attention: attribute 'layout_query' is 'BNSD', it takes BSND, TND, PA_BSND\n"
           "  hint       did you mean 'BSND'?"},
          {"unknown_kv",
           {},
           {{"layout_kv", "BSDN"}},
           "sparse_flash_attention: attribute 'layout_kv' is 'BSDN', it takes BSND, TND, PA_BSND\n"
           "  hint       did you mean 'BSND'?"},
          {"mode1",
           {},
           {{"sparse_mode", std::int64_t{1}}},
           "sparse_flash_attention: sparse_mode is 1, it takes 0 (all keys) or 3 (right-down causal)"},
          {"bs0",
           {},
           {{"sparse_block_size", std::int64_t{0}}},
           "sparse_flash_attention: sparse_block_size is 0, it takes a power of two from 1 to 128"},
          {"bs3",
           {},
           {{"sparse_block_size", std::int64_t{3}}},
           "sparse_flash_attention: sparse_block_size is 3, it takes a power of two from 1 to 128"},
          {"bs256",
           {},
           {{"sparse_block_size", std::int64_t{256}}},
           "sparse_flash_attention: sparse_block_size is 256, it takes a power of two from 1 to 128"},
          {"am1",
           {},
           {{"attention_mode", std::int64_t{1}}},
           "sparse_flash_attention: attention_mode is 1, it takes 0 (no rope parts) or 2 (MLA-absorb, with both)"},
          {"am2_norope",
           {{"query_rope", "-"}, {"key_rope", "-"}},
           {},
           "sparse_flash_attention: attention_mode 2 takes both query_rope and key_rope\n"
           "  hint       pass them, or use attention_mode 0"},
          {"am2_half",
           {{"key_rope", "-"}},
           {},
           "sparse_flash_attention: attention_mode 2 takes both query_rope and key_rope\n"
           "  hint       pass them, or use attention_mode 0"},
          {"am0_rope",
           {},
           {{"attention_mode", std::int64_t{0}}},
           "sparse_flash_attention: attention_mode 0 takes neither query_rope nor key_rope\n"
           "  hint       use attention_mode 2"},
          {"am0_half",
           {{"key_rope", "-"}},
           {{"attention_mode", std::int64_t{0}}},
           "sparse_flash_attention: attention_mode 0 takes neither query_rope nor key_rope\n"
           "  hint       use attention_mode 2"},
          {"pre",
           {},
           {{"pre_tokens", std::int64_t{4}}},
           "sparse_flash_attention: pre_tokens is 4, only an unlimited one is defined\n"
           "  hint       leave pre_tokens out; sparse_mode 3 is causal, 0 sees all"},
          {"next",
           {},
           {{"next_tokens", std::int64_t{0}}},
           "sparse_flash_attention: next_tokens is 0, only an unlimited one is defined\n"
           "  hint       leave next_tokens out; sparse_mode 3 is causal, 0 sees all"},
          {"scale",
           {},
           {{"scale_value", {}}},
           "sparse_flash_attention: attribute 'scale_value' is missing\n"
           "  hint       multiplies the whole score, rope part included"},
          {"i_f32",
           {{"sparse_indices", "f32 [2, 8, 1, 4] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: sparse_indices is f32, it must be i32 or i64"},
          {"heads",
           {{"query", "f32 [2, 8, 5, 16] [dp, cp, -, -]"},
            {"key", "f32 [2, 8, 2, 16] [dp, -, -, -]"},
            {"query_rope", "f32 [2, 8, 5, 8] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: 5 query heads cannot share 2 key heads\n"
           "  hint       the number of query heads is a multiple of that of key heads"},
          {"k_d",
           {{"key", "f32 [2, 8, 1, 8] [dp, -, -, -]"}},
           {},
           "sparse_flash_attention: factor d (head dim) is 16 in query (dim 3) but 8 in key (dim 3)\n"
           "  rule       {rule}"},
          {"i_heads",
           {{"sparse_indices", "i32 [2, 8, 2, 4] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: factor k (key heads) is 1 in key (dim 2) but 2 in sparse_indices (dim 2)\n"
           "  rule       {rule}"},
          {"len_split",
           {{"actual_seq_lengths_query", "i32 [2] [-]"}, {"actual_seq_lengths_kv", "i32 [2] [dp]"}},
           {},
           "sparse_flash_attention: factor b (batch) is split over 'dp' in query but whole in actual_seq_lengths_query\n"
           "  rule                     {rule}\n"
           "  query                    [dp, cp, -, -]\n"
           "  actual_seq_lengths_query [-]\n"
           "  hint                     reshard actual_seq_lengths_query to [dp]"},
          {"len_count",
           {{"actual_seq_lengths_query", "i32 [3] [-]"}, {"actual_seq_lengths_kv", "i32 [2] [dp]"}},
           {},
           "sparse_flash_attention: factor b (batch) is 2 in query (dim 0) but 3 in actual_seq_lengths_query (dim 0)\n"
           "  rule       {rule}"},
          {"len_f",
           {{"actual_seq_lengths_query", "f32 [2] [dp]"}},
           {},
           "sparse_flash_attention: actual_seq_lengths_query is f32, it must be i32 or i64"},
          {"q_int",
           {{"query", "i64 [2, 8, 4, 16] [dp, cp, -, -]"}},
           {},
           "sparse_flash_attention: query is i64, it must be a float"},
          {"rank",
           {{"query", "f32 [8, 4, 16] [cp, -, -]"}},
           {},
           "sparse_flash_attention: query has 3 dims [8, 4, 16], the rule gives it 4\n"
           "  rule       query[b s n d], key[b t k d], value[b t k e]?, sparse_indices[b s k c], block_table[b m]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]?, query_rope[b s n r]?, key_rope[b t k r]? -> "
           "attention_out[b s n e], softmax_max[b k s g], softmax_sum[b k s g] | whole t n d k c r g e | broadcast "
           "actual_seq_lengths_query actual_seq_lengths_kv | size g"},
          {"value_columns_without_statistics",
           {{"value", "f32 [2, 8, 1, 12] [dp, -, -, tp]"}},
           {{"return_softmax_lse", false}},
           "sparse_flash_attention: factor e (value dim) must be whole, but value splits it over 'tp'\n"
           "  rule       query[b s n d], key[b t k d], value[b t k e]?, sparse_indices[b s k c], block_table[b m]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]?, query_rope[b s n r]?, key_rope[b t k r]? -> "
           "attention_out[b s n e] | whole t n d k c r e | broadcast actual_seq_lengths_query actual_seq_lengths_kv\n"
           "  value      [dp, -, -, tp]\n"
           "  hint       reshard value to [dp, -, -, -]"},
      });
}

TEST(SfaPlanning, LaysOutResultsOfPackedBatches) {
  expect_said(kPacked, kPackedRule,
              {
                  {"tnd", {}, {}, "[dp+cp, -, -], [-, dp+cp, -], [-, dp+cp, -]"},
                  {"cp",
                   {{"query", "f32 [8, 4, 16] [cp, -, -]"},
                    {"key", "f32 [8, 1, 16] [-, -, -]"},
                    {"value", "-"},
                    {"sparse_indices", "i32 [8, 1, 4] [cp, -, -]"}},
                   {},
                   "[cp, -, -], [-, cp, -], [-, cp, -]"},
                  {"dp",
                   {{"query", "f32 [8, 4, 16] [dp, -, -]"}, {"sparse_indices", "i32 [8, 1, 4] [dp, -, -]"}},
                   {},
                   "[dp, -, -], [-, dp, -], [-, dp, -]"},
                  {"without_statistics", {}, {{"return_softmax_lse", false}}, "[dp+cp, -, -]"},
                  {"rope",
                   {{"query_rope", "f32 [8, 4, 8] [dp+cp, -, -]"}, {"key_rope", "f32 [8, 1, 8] [dp, -, -]"}},
                   {{"attention_mode", std::int64_t{2}}},
                   "[dp+cp, -, -], [-, dp+cp, -], [-, dp+cp, -]"},
              });
}

TEST(SfaPlanning, RefusesOfPackedBatches) {
  expect_said(
      kPacked, kPackedRule,
      {
          {"nolen",
           {{"actual_seq_lengths_query", "-"}, {"actual_seq_lengths_kv", "-"}},
           {},
           "sparse_flash_attention: layout TND takes actual_seq_lengths_query and actual_seq_lengths_kv, the documents' "
           "prefix sums"},
          {"onelen",
           {{"actual_seq_lengths_kv", "-"}},
           {},
           "sparse_flash_attention: layout TND takes actual_seq_lengths_query and actual_seq_lengths_kv, the documents' "
           "prefix sums"},
          {"len_split",
           {{"actual_seq_lengths_query", "i32 [4] [dp]"}, {"actual_seq_lengths_kv", "i32 [4] [dp]"}},
           {},
           "sparse_flash_attention: factor l (documents) must be whole, but actual_seq_lengths_query splits it over 'dp'\n"
           "  rule                     {rule}\n"
           "  actual_seq_lengths_query [dp]\n"
           "  hint                     reshard actual_seq_lengths_query to [-]"},
          {"len_count",
           {{"actual_seq_lengths_kv", "i32 [4] [-]"}},
           {},
           "sparse_flash_attention: factor l (documents) is 3 in actual_seq_lengths_query (dim 0) but 4 in "
           "actual_seq_lengths_kv (dim 0)\n"
           "  rule       {rule}"},
          {"order",
           {{"query", "f32 [8, 4, 16] [cp+dp, -, -]"}},
           {},
           "sparse_flash_attention: factor p (parts of the packed batch, one for each shard of the keys) is split over "
           "'cp' in query but split over 'dp' in key\n"
           "  rule       {rule}\n"
           "  query      [cp+dp, -, -]\n"
           "  key        [dp, -, -]"},
          {"finer",
           {{"query", "f32 [8, 4, 16] [dp, -, -]"},
            {"key", "f32 [8, 1, 16] [dp+cp, -, -]"},
            {"value", "f32 [8, 1, 16] [dp+cp, -, -]"},
            {"sparse_indices", "i32 [8, 1, 4] [dp, -, -]"}},
           {},
           "sparse_flash_attention: factor p (parts of the packed batch, one for each shard of the keys) is split over "
           "'dp' in query but split over 'dp+cp' in key\n"
           "  rule       query[(p s) n d], key[(p t) k d], value[(p t) k e]?, sparse_indices[(p s) k c], block_table[b "
           "m]?, actual_seq_lengths_query[l]?, actual_seq_lengths_kv[l]?, query_rope[(p s) n r]?, key_rope[(p t) k r]? -> "
           "attention_out[(p s) n e], softmax_max[k (p s) g], softmax_sum[k (p s) g] | whole t n d k c r g e l | size g p\n"
           "  query      [dp, -, -]\n"
           "  key        [dp+cp, -, -]"},
          {"parts",
           {{"key", "f32 [9, 1, 16] [dp, -, -]"}, {"value", "f32 [9, 1, 16] [dp, -, -]"}},
           {},
           "sparse_flash_attention: the keys' 9 packed rows are no multiple of their 2 shards\n"
           "  hint       split packed keys evenly, where documents end, or keep them whole"},
          {"i",
           {{"sparse_indices", "i32 [8, 1, 4] [dp, -, -]"}},
           {},
           "sparse_flash_attention: factor s (query rows) is split over 'cp' in query but whole in sparse_indices\n"
           "  rule           {rule}\n"
           "  query          [dp+cp, -, -]\n"
           "  sparse_indices [dp, -, -]"},
          {"v",
           {{"value", "f32 [8, 1, 16] [-, -, -]"}},
           {},
           "sparse_flash_attention: factor p (parts of the packed batch, one for each shard of the keys) is split over "
           "'dp' in query but whole in value\n"
           "  rule       {rule}\n"
           "  query      [dp+cp, -, -]\n"
           "  value      [-, -, -]"},
          {"n1",
           {{"query", "f32 [8, 4, 16] [dp+cp, tp, -]"}},
           {},
           "sparse_flash_attention: factor n (query heads) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp+cp, tp, -]\n"
           "  hint       reshard query to [dp+cp, -, -]"},
          {"d",
           {{"query", "f32 [8, 4, 16] [dp+cp, -, tp]"}},
           {},
           "sparse_flash_attention: factor d (head dim) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp+cp, -, tp]\n"
           "  hint       reshard query to [dp+cp, -, -]"},
          {"n2",
           {{"key", "f32 [8, 1, 16] [dp, tp, -]"}},
           {},
           "sparse_flash_attention: factor k (key heads) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, tp, -]\n"
           "  hint       reshard key to [dp, -, -]"},
          {"kd",
           {{"key", "f32 [8, 1, 16] [dp, -, tp]"}},
           {},
           "sparse_flash_attention: factor d (head dim) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, -, tp]\n"
           "  hint       reshard key to [dp, -, -]"},
          {"c",
           {{"sparse_indices", "i32 [8, 1, 4] [dp+cp, -, tp]"}},
           {},
           "sparse_flash_attention: factor c (slots of the index list) must be whole, but sparse_indices splits it over "
           "'tp'\n"
           "  rule           {rule}\n"
           "  sparse_indices [dp+cp, -, tp]\n"
           "  hint           reshard sparse_indices to [dp+cp, -, -]"},
      });
}

Tensor normal(const Shape& shape, std::string_view name, DType dtype = DType::kF64) {
  return random_normal(shape, dtype, 1, name);
}
Tensor integers(std::vector<std::int64_t> values) {
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

// Lists of blocks that a row may see and of some that it may not, the last first, then -1.
Tensor index_lists(std::int64_t batch, std::int64_t rows, std::int64_t slots, std::int64_t blocks) {
  Tensor indices = Tensor::zeros({batch, rows, 1, slots}, DType::kI32);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t slot = 0; slot < slots; ++slot) {
        const std::int64_t block = (b + row + blocks - slot) % blocks;
        indices.at<std::int32_t>({b, row, 0, slot}) =
            slot + 1 == slots && row % 2 == 0 ? -1 : static_cast<std::int32_t>(block);
      }
    }
  }
  return indices;
}

struct Sizes {
  std::int64_t rows;
  std::int64_t keys;
  std::int64_t block;
  std::int64_t mode;
};

// The definition, one scalar after the other: out, max and sum of [2, rows, 2, 3] queries over one key head.
std::vector<std::vector<double>> by_definition(const Sizes& sizes, const std::vector<Tensor>& tensors,
                                               const std::vector<std::int64_t>& query_lengths,
                                               const std::vector<std::int64_t>& key_lengths, double scale) {
  const Tensor& q = tensors[0];
  const Tensor& k = tensors[1];
  const Tensor& v = tensors[2];
  const Tensor& indices = tensors[3];
  const Tensor& q_rope = tensors[4];
  const Tensor& k_rope = tensors[5];
  const std::int64_t heads = 2;
  std::vector<std::vector<double>> results(3);
  for (std::vector<double>& result : results) result.clear();
  results[1].assign(static_cast<std::size_t>(2 * sizes.rows * heads), 0);
  results[2] = results[1];
  for (std::int64_t b = 0; b < 2; ++b) {
    const std::int64_t lq = query_lengths[static_cast<std::size_t>(b)];
    const std::int64_t lk = key_lengths[static_cast<std::size_t>(b)];
    for (std::int64_t i = 0; i < sizes.rows; ++i) {
      const std::int64_t limit = i >= lq ? 0 : sizes.mode == 3 ? lk - lq + i + 1 : lk;
      std::vector<std::int64_t> keys;
      for (std::int64_t slot = 0; limit > 0 && slot < std::min(indices.size(3), (limit + sizes.block - 1) / sizes.block);
           ++slot) {
        const std::int64_t e = indices.at<std::int32_t>({b, i, 0, slot});
        if (e < 0) break;
        for (std::int64_t j = e * sizes.block; j < std::min((e + 1) * sizes.block, limit); ++j) keys.push_back(j);
      }
      for (std::int64_t head = 0; head < heads; ++head) {
        std::vector<double> scores;
        for (std::int64_t j : keys) {
          double score = 0;
          for (std::int64_t x = 0; x < q.size(3); ++x) score += q.at<double>({b, i, head, x}) * k.at<double>({b, j, 0, x});
          for (std::int64_t x = 0; x < q_rope.size(3); ++x)
            score += q_rope.at<double>({b, i, head, x}) * k_rope.at<double>({b, j, 0, x});
          scores.push_back(scale * score);
        }
        const double most = scores.empty() ? 0 : *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (double score : scores) sum += std::exp(score - most);
        for (std::int64_t x = 0; x < v.size(3); ++x) {
          double out = 0;
          for (std::size_t n = 0; n < keys.size(); ++n)
            out += std::exp(scores[n] - most) / sum * v.at<double>({b, keys[n], 0, x});
          results[0].push_back(out);
        }
        const auto statistic = static_cast<std::size_t>((b * sizes.rows + i) * heads + head);  // [b, 1, s, 2]
        results[1][statistic] = most;
        results[2][statistic] = sum;
      }
    }
  }
  return results;
}

TEST(SfaNumbers, AreThoseOfTheDefinition) {
  for (const Sizes& sizes :
       {Sizes{5, 9, 1, 3}, Sizes{5, 9, 2, 3}, Sizes{9, 5, 2, 3}, Sizes{4, 8, 4, 0}, Sizes{4, 8, 1, 0}, Sizes{6, 6, 4, 3}}) {
    for (bool padded : {false, true}) {
      const std::vector<std::int64_t> query_lengths =
          padded ? std::vector<std::int64_t>{sizes.rows - 1, 2} : std::vector<std::int64_t>(2, sizes.rows);
      const std::vector<std::int64_t> key_lengths =
          padded ? std::vector<std::int64_t>{sizes.keys, 4} : std::vector<std::int64_t>(2, sizes.keys);
      // Blocks that begin inside the shortest sequence: others are refused.
      const std::int64_t blocks = (key_lengths[1] + sizes.block - 1) / sizes.block;
      const std::vector<Tensor> tensors{normal({2, sizes.rows, 2, 3}, "q"),  normal({2, sizes.keys, 1, 3}, "k"),
                                        normal({2, sizes.keys, 1, 4}, "v"),  index_lists(2, sizes.rows, 4, blocks),
                                        normal({2, sizes.rows, 2, 2}, "qr"), normal({2, sizes.keys, 1, 2}, "kr")};
      for (const char* rows : {"[-, -, -, -]", "[-, cp, -, -]", "[-, cp:head_tail, -, -]"}) {
        const auto results =
            run_sharded(catalogue().get("sparse_flash_attention"), DeviceMesh({{"cp", 3}}),
                        {{tensors[0], rows},
                         {tensors[1], "[-, -, -, -]"},
                         {tensors[2], "[-, -, -, -]"},
                         {tensors[3], rows},
                         {},
                         {integers(query_lengths), "[-]"},
                         {integers(key_lengths), "[-]"},
                         {tensors[4], rows},
                         {tensors[5], "[-, -, -, -]"}},
                        {{"scale_value", 0.7}, {"sparse_block_size", sizes.block}, {"sparse_mode", sizes.mode}});
        const auto expected = by_definition(sizes, tensors, query_lengths, key_lengths, 0.7);
        for (std::size_t i = 0; i < 3; ++i) {
          EXPECT_THAT(numbers(results[i]), testing::Pointwise(testing::DoubleNear(1e-12), expected[i]))
              << "result " << i << " of " << sizes.rows << " x " << sizes.keys << " in blocks of " << sizes.block << ' '
              << rows;
        }
      }
    }
  }
}

TEST(SfaNumbers, AreTheUnshardedOnesInEveryDtypeAndWithEmptyShards) {
  const DistributedOp& op = catalogue().get("sparse_flash_attention");
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    for (std::int64_t ranks : {2, 3, 8}) {  // 5 rows: of 8 ranks three hold none
      for (const char* rows : {"[-, cp, -, -]", "[-, cp:head_tail, -, -]", "[-, cp:balanced, -, -]"}) {
        const std::vector<ShardedOperand> operands{{normal({2, 5, 4, 8}, "q", dtype), rows},
                                                   {normal({2, 7, 1, 8}, "k", dtype), "[-, -, -, -]"},
                                                   {},
                                                   {index_lists(2, 5, 3, 7), rows}};
        const Attributes attributes{{"scale_value", 0.3}, {"attention_mode", std::int64_t{0}}};
        const auto sharded = run_sharded(op, DeviceMesh({{"cp", ranks}}), operands, attributes);
        const auto whole = run_whole(op, operands, attributes);
        ASSERT_EQ(sharded.size(), 3U);
        for (std::size_t i = 0; i < 3; ++i)
          EXPECT_TRUE(same_bits(sharded[i], whole[i])) << to_string(dtype) << ' ' << rows << ' ' << ranks << ' ' << i;
      }
    }
  }
}

// Every layout of every operand on two ranks: what planning accepts must give the unsharded numbers.
TEST(SfaProof, HoldsInEveryLayout) {
  const DistributedOp& op = catalogue().get("sparse_flash_attention");
  ProofOptions options;
  options.find_missed = false;
  const DeviceMesh mesh({{"dp", 2}});
  for (bool statistics : {false, true}) {
    EXPECT_THAT(prove(op,
                      {TensorCase{{2, 3, 2, 4}}, TensorCase{{2, 5, 1, 4}}, TensorCase{{2, 5, 1, 6}},
                       TensorCase{{2, 3, 1, 2}, DType::kI32}},
                      {{"scale_value", 0.5}, {"attention_mode", std::int64_t{0}}, {"return_softmax_lse", statistics}}, mesh,
                      options),
                IsSound());
    const TensorCase documents{{3}, DType::kI32, integers({1, 4, 8}).to(DType::kI32)};  // one ends where the shards do
    Tensor first = Tensor::zeros({8, 1, 1}, DType::kI32);                               // the first key of each document
    EXPECT_THAT(prove(op,
                      {TensorCase{{8, 2, 4}}, TensorCase{{8, 1, 4}}, std::nullopt,
                       TensorCase{{8, 1, 1}, DType::kI32, first}, std::nullopt, documents, documents},
                      {{"scale_value", 0.5},
                       {"attention_mode", std::int64_t{0}},
                       {"layout_query", "TND"},
                       {"layout_kv", "TND"},
                       {"return_softmax_lse", statistics}},
                      mesh, options),
                IsSound());
  }
}

}  // namespace
}  // namespace tessera
