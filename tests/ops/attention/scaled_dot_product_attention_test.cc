// scaled_dot_product_attention: what planning accepts and refuses, word for word, and what its masks mean.
#include <gmock/gmock.h>

#include <cmath>

#include "core/tensor/random.h"
#include "kernels/provider.h"
#include "testing/matchers.h"
#include "testing/prover.h"
#include "tests/ops/attention/attention_calls.h"
#include "tests/ops/attention/sharded_call.h"

namespace tessera {
namespace {

const AttentionCall kPadded{"scaled_dot_product_attention",
                            {{"query", "f32 [2, 4, 8, 16] [dp, tp, cp, -]"},
                             {"key", "f32 [2, 2, 8, 16] [dp, tp, -, -]"},
                             {"value", "f32 [2, 2, 8, 16] [dp, tp, -, -]"}},
                            {},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kPaddedRule[] =
    "query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[s t]?, actual_seq_lengths_query[b]?, "
    "actual_seq_lengths_kv[b]? -> attention_out[b (g r) s e] | whole d t | broadcast attn_mask actual_seq_lengths_query "
    "actual_seq_lengths_kv";

const AttentionCall kFolded{"scaled_dot_product_attention",
                            {{"query", "f32 [2, 8, 16] [dp, cp, tp]"},
                             {"key", "f32 [2, 8, 8] [dp, -, tp]"},
                             {"value", "f32 [2, 8, 8] [dp, -, tp]"}},
                            {{"layout", "BSH"}, {"head_num", std::int64_t{4}}},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kFoldedRule[] =
    "query[b s (g r d)], key[b t (g d)], value[b t (g e)], attn_mask[s t]?, actual_seq_lengths_query[b]?, "
    "actual_seq_lengths_kv[b]? -> attention_out[b s (g r e)] | whole d t | broadcast attn_mask actual_seq_lengths_query "
    "actual_seq_lengths_kv | size d e";

const AttentionCall kPacked{"scaled_dot_product_attention",
                            {{"query", "f32 [8, 4, 16] [dp+cp, tp, -]"},
                             {"key", "f32 [8, 2, 16] [dp, tp, -]"},
                             {"value", "f32 [8, 2, 16] [dp, tp, -]"},
                             {"actual_seq_lengths_query", "i32 [3] [-]"},
                             {"actual_seq_lengths_kv", "i32 [3] [-]"}},
                            {{"layout", "TND"}},
                            "dp=2 x cp=2 x tp=2"};
constexpr char kPackedRule[] =
    "query[(p s) (g r) d], key[(p t) g d], value[(p t) g e], attn_mask[s t]?, actual_seq_lengths_query[l]?, "
    "actual_seq_lengths_kv[l]? -> attention_out[(p s) (g r) e] | whole d t l | broadcast attn_mask | size p";

TEST(SdpaPlanning, LaysOutResultsOfPaddedLayouts) {
  expect_said(kPadded, kPaddedRule,
              {
                  {"whole",
                   {{"query", "f32 [2, 4, 8, 16] [-, -, -, -]"},
                    {"key", "f32 [2, 2, 8, 16] [-, -, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [-, -, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[-, -, -, -], [-, -, -, -], [-, -, -, -]"},
                  {"batch",
                   {{"query", "f32 [2, 4, 8, 16] [dp, -, -, -]"},
                    {"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [dp, -, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[dp, -, -, -], [dp, -, -, -], [dp, -, -, -]"},
                  {"rows",
                   {{"query", "f32 [2, 4, 8, 16] [-, -, cp, -]"},
                    {"key", "f32 [2, 2, 8, 16] [-, -, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [-, -, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[-, -, cp, -], [-, -, cp, -], [-, -, cp, -]"},
                  {"heads",
                   {{"query", "f32 [2, 4, 8, 16] [-, tp, -, -]"},
                    {"key", "f32 [2, 2, 8, 16] [-, tp, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [-, tp, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[-, tp, -, -], [-, tp, -, -], [-, tp, -, -]"},
                  {"all", {}, {{"return_softmax_lse", true}}, "[dp, tp, cp, -], [dp, tp, cp, -], [dp, tp, cp, -]"},
                  {"head_tail",
                   {{"query", "f32 [2, 4, 8, 16] [dp, tp, cp:head_tail, -]"}},
                   {{"return_softmax_lse", true}},
                   "[dp, tp, cp:head_tail, -], [dp, tp, cp:head_tail, -], [dp, tp, cp:head_tail, -]"},
                  {"two_axes_on_rows",
                   {{"query", "f32 [2, 4, 8, 16] [-, tp, cp+dp, -]"},
                    {"key", "f32 [2, 2, 8, 16] [-, tp, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [-, tp, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[-, tp, cp+dp, -], [-, tp, cp+dp, -], [-, tp, cp+dp, -]"},
                  {"heads_within_groups",
                   {{"query", "f32 [2, 4, 8, 16] [-, tp+in, cp, -]"},
                    {"key", "f32 [2, 2, 8, 16] [-, tp, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [-, tp, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[-, tp+in, cp, -], [-, tp, cp, in], [-, tp, cp, in]",
                   "cp=2 x tp=2 x in=2"},
                  {"value_columns",
                   {{"query", "f32 [2, 4, 8, 16] [dp, -, cp, -]"},
                    {"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"},
                    {"value", "f32 [2, 2, 8, 16] [dp, -, -, tp]"}},
                   {},
                   "[dp, -, cp, tp]"},
                  {"without_statistics", {}, {}, "[dp, tp, cp, -]"},
                  {"mask_of_rows", {{"attn_mask", "bool [8, 8] [cp, -]"}}, {}, "[dp, tp, cp, -]"},
                  {"mask_of_heads", {{"attn_mask", "f32 [4, 8, 8] [tp, cp, -]"}}, {}, "[dp, tp, cp, -]"},
                  {"mask_of_batch", {{"attn_mask", "f32 [2, 1, 8, 8] [dp, -, cp, -]"}}, {}, "[dp, tp, cp, -]"},
                  {"mask_of_keys", {{"attn_mask", "bool [8] [-]"}}, {}, "[dp, tp, cp, -]"},
                  {"mask_repeated", {{"attn_mask", "f32 [1, 4, 1, 8] [-, tp, -, -]"}}, {}, "[dp, tp, cp, -]"},
                  {"lengths",
                   {{"actual_seq_lengths_query", "i32 [2] [dp]"}, {"actual_seq_lengths_kv", "i64 [2] [dp]"}},
                   {},
                   "[dp, tp, cp, -]"},
                  {"bnsd",
                   {},
                   {{"layout", "BNSD"}, {"return_softmax_lse", true}},
                   "[dp, tp, cp, -], [dp, tp, cp, -], [dp, tp, cp, -]"},
                  {"bshd",
                   {{"query", "f32 [2, 8, 4, 16] [dp, cp, tp, -]"},
                    {"key", "f32 [2, 8, 2, 16] [dp, -, tp, -]"},
                    {"value", "f32 [2, 8, 2, 16] [dp, -, tp, -]"}},
                   {{"layout", "BSHD"}, {"return_softmax_lse", true}},
                   "[dp, cp, tp, -], [dp, tp, cp, -], [dp, tp, cp, -]"},
                  {"bsnd",
                   {{"query", "f32 [2, 8, 4, 16] [dp, cp, tp, -]"},
                    {"key", "f32 [2, 8, 2, 16] [dp, -, tp, -]"},
                    {"value", "f32 [2, 8, 2, 16] [dp, -, tp, -]"}},
                   {{"layout", "BSND"}, {"return_softmax_lse", true}},
                   "[dp, cp, tp, -], [dp, tp, cp, -], [dp, tp, cp, -]"},
                  {"nsd",
                   {{"query", "f32 [4, 8, 16] [tp, dp+cp, -]"},
                    {"key", "f32 [2, 8, 16] [tp, -, -]"},
                    {"value", "f32 [2, 8, 16] [tp, -, -]"}},
                   {{"return_softmax_lse", true}},
                   "[tp, dp+cp, -], [tp, dp+cp, -], [tp, dp+cp, -]"},
                  {"nsd_lengths",
                   {{"query", "f32 [4, 8, 16] [tp, dp+cp, -]"},
                    {"key", "f32 [2, 8, 16] [tp, -, -]"},
                    {"value", "f32 [2, 8, 16] [tp, -, -]"},
                    {"actual_seq_lengths_query", "i32 [1] [-]"},
                    {"actual_seq_lengths_kv", "i32 [1] [-]"}},
                   {},
                   "[tp, dp+cp, -]"},
              });
}

TEST(SdpaPlanning, RefusesOfPaddedLayouts) {
  expect_said(
      kPadded, kPaddedRule,
      {
          {"sd_e_split_lse",
           {{"query", "f32 [2, 4, 8, 16] [dp, -, cp, -]"},
            {"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"},
            {"value", "f32 [2, 2, 8, 16] [dp, -, -, tp]"}},
           {{"return_softmax_lse", true}},
           "scaled_dot_product_attention: factor e (value dim) must be whole, but value splits it over 'tp'\n"
           "  rule       query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[s t]?, actual_seq_lengths_query[b]?, "
           "actual_seq_lengths_kv[b]? -> attention_out[b (g r) s e], softmax_max[b g s r], softmax_sum[b g s r] | whole d "
           "t e | broadcast attn_mask actual_seq_lengths_query actual_seq_lengths_kv\n"
           "  value      [dp, -, -, tp]\n"
           "  hint       reshard value to [dp, -, -, -]"},
          {"partial_q",
           {{"query", "f32 [2, 4, 8, 16] [dp, -, -, -] partial(cp: sum)"},
            {"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"},
            {"value", "f32 [2, 2, 8, 16] [dp, -, -, -]"}},
           {},
           "scaled_dot_product_attention: query has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  query      [dp, -, -, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard query to [dp, -, -, -]"},
          {"partial_v",
           {{"value", "f32 [2, 2, 8, 16] [dp, tp, -, -] partial(cp: sum)"}},
           {},
           "scaled_dot_product_attention: value has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  value      [dp, tp, -, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard value to [dp, tp, -, -]"},
          {"d_split",
           {{"query", "f32 [2, 4, 8, 16] [dp, -, cp, tp]"}},
           {},
           "scaled_dot_product_attention: factor d (head dim) must be whole, but query splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  query      [dp, -, cp, tp]\n"
           "  hint       reshard query to [dp, -, cp, -]"},
          {"kd_split",
           {{"query", "f32 [2, 4, 8, 16] [dp, -, cp, -]"}, {"key", "f32 [2, 2, 8, 16] [dp, -, -, tp]"}},
           {},
           "scaled_dot_product_attention: factor d (head dim) must be whole, but key splits it over 'tp'\n"
           "  rule       {rule}\n"
           "  key        [dp, -, -, tp]\n"
           "  hint       reshard key to [dp, -, -, -]"},
          {"t_split",
           {{"key", "f32 [2, 2, 8, 16] [dp, tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: factor t (key rows) must be whole, but key splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  key        [dp, tp, cp, -]\n"
           "  hint       reshard key to [dp, tp, -, -]"},
          {"v_t_split",
           {{"value", "f32 [2, 2, 8, 16] [dp, tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: factor t (key rows) must be whole, but value splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  value      [dp, tp, cp, -]\n"
           "  hint       reshard value to [dp, tp, -, -]"},
          {"batch",
           {{"key", "f32 [2, 2, 8, 16] [-, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: factor b (batch) is split over 'dp' in query but whole in key\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, cp, -]\n"
           "  key        [-, tp, -, -]\n"
           "  hint       reshard key to [dp, tp, -, -]"},
          {"v_batch",
           {{"query", "f32 [2, 4, 8, 16] [dp, tp, -, -]"}, {"value", "f32 [2, 2, 8, 16] [cp, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: factor b (batch) is split over 'dp' in query but split over 'cp' in value\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, -, -]\n"
           "  value      [cp, tp, -, -]\n"
           "  hint       reshard value to [dp, tp, -, -]"},
          {"k_heads_whole",
           {{"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"}},
           {},
           "scaled_dot_product_attention: factor g (key heads) is split over 'tp' in query but whole in key\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, cp, -]\n"
           "  key        [dp, -, -, -]\n"
           "  hint       reshard key to [dp, tp, -, -]"},
          {"v_heads",
           {{"value", "f32 [2, 2, 8, 16] [dp, -, -, -]"}},
           {},
           "scaled_dot_product_attention: factor g (key heads) is split over 'tp' in query but whole in value\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, cp, -]\n"
           "  value      [dp, -, -, -]\n"
           "  hint       reshard value to [dp, tp, -, -]"},
          {"heads_div",
           {{"query", "f32 [2, 5, 8, 16] [dp, -, cp, -]"}},
           {},
           "scaled_dot_product_attention: query dim 1 has size 5, which is no multiple of g=2\n"
           "  rule       {rule}"},
          {"tp_larger",
           {{"query", "f32 [2, 4, 8, 16] [dp, tp, -, -]"},
            {"key", "f32 [2, 2, 8, 16] [dp, -, -, -]"},
            {"value", "f32 [2, 2, 8, 16] [dp, -, -, -]"}},
           {},
           "scaled_dot_product_attention: axis 'tp' (size 4) of query dim 1 would cut factor g (key heads) of size 2 "
           "within its elements\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, -, -]\n"
           "  hint       reshard query to [dp, -, -, -]",
           "dp=2 x tp=4"},
          {"tp_larger_k",
           {{"query", "f32 [2, 4, 8, 16] [dp, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: axis 'tp' (size 4) of query dim 1 would cut factor g (key heads) of size 2 "
           "within its elements\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, -, -]\n"
           "  hint       reshard query to [dp, -, -, -]",
           "dp=2 x tp=4"},
          {"mask_rows",
           {{"attn_mask", "bool [8, 8] [-, -]"}},
           {},
           "scaled_dot_product_attention: factor s (query rows) is split over 'cp' in query but whole in attn_mask\n"
           "  rule       {rule}\n"
           "  query      [dp, tp, cp, -]\n"
           "  attn_mask  [-, -]\n"
           "  hint       reshard attn_mask to [cp, -]"},
          {"mask_batch",
           {{"attn_mask", "f32 [2, 4, 8, 8] [-, tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: factor b (batch) is split over 'dp' in query but whole in attn_mask\n"
           "  rule       query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[b (g r) s t]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]? -> attention_out[b (g r) s e] | whole d t | broadcast "
           "attn_mask actual_seq_lengths_query actual_seq_lengths_kv\n"
           "  query      [dp, tp, cp, -]\n"
           "  attn_mask  [-, tp, cp, -]\n"
           "  hint       reshard attn_mask to [dp, tp, cp, -]"},
          {"mask_heads",
           {{"attn_mask", "f32 [2, 4, 8, 8] [dp, -, cp, -]"}},
           {},
           "scaled_dot_product_attention: factor g (key heads) is split over 'tp' in query but whole in attn_mask\n"
           "  rule       query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[b (g r) s t]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]? -> attention_out[b (g r) s e] | whole d t | broadcast "
           "attn_mask actual_seq_lengths_query actual_seq_lengths_kv\n"
           "  query      [dp, tp, cp, -]\n"
           "  attn_mask  [dp, -, cp, -]"},
          {"mask_keys",
           {{"query", "f32 [2, 4, 8, 16] [dp, tp, -, -]"}, {"attn_mask", "f32 [8, 8] [-, cp]"}},
           {},
           "scaled_dot_product_attention: factor t (key rows) must be whole, but attn_mask splits it over 'cp'\n"
           "  rule       {rule}\n"
           "  attn_mask  [-, cp]\n"
           "  hint       reshard attn_mask to [-, -]"},
          {"mask_repeat",
           {{"attn_mask", "f32 [2, 1, 8, 8] [dp, tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: attn_mask dim 1 has size 1 and repeats, but is split over 'tp'\n"
           "  rule       query[b (g r) s d], key[b g t d], value[b g t e], attn_mask[b (g r) s t]?, "
           "actual_seq_lengths_query[b]?, actual_seq_lengths_kv[b]? -> attention_out[b (g r) s e] | whole d t | broadcast "
           "attn_mask actual_seq_lengths_query actual_seq_lengths_kv\n"
           "  attn_mask  [dp, tp, cp, -]\n"
           "  hint       reshard attn_mask to [dp, -, cp, -]"},
          {"mask_int",
           {{"attn_mask", "i32 [8, 8] [cp, -]"}},
           {},
           "scaled_dot_product_attention: attn_mask is i32, it must be bool (true: visible) or a float that is added"},
          {"mask_rank",
           {{"attn_mask", "bool [1, 2, 4, 8, 8] [-, -, -, -, -]"}},
           {},
           "scaled_dot_product_attention: attn_mask has 5 dims, it takes 1 to 4\n"
           "  hint       the mask's dims are [b, h, s, t], aligned at the right"},
          {"mask_rank0",
           {{"attn_mask", "bool [] []"}},
           {},
           "scaled_dot_product_attention: attn_mask has 0 dims, it takes 1 to 4\n"
           "  hint       the mask's dims are [b, h, s, t], aligned at the right"},
          {"mask_size",
           {{"attn_mask", "bool [8, 6] [cp, -]"}},
           {},
           "scaled_dot_product_attention: factor t (key rows) is 8 in key (dim 2) but 6 in attn_mask (dim 1)\n"
           "  rule       {rule}"},
          {"mask_partial",
           {{"query", "f32 [2, 4, 8, 16] [dp, tp, -, -]"}, {"attn_mask", "f32 [8, 8] [-, -] partial(cp: sum)"}},
           {},
           "scaled_dot_product_attention: attn_mask has a pending sum over 'cp', which cannot pass through\n"
           "  rule       {rule}\n"
           "  attn_mask  [-, -] partial(cp: sum)\n"
           "  hint       reduce it first: reshard attn_mask to [-, -]"},
          {"nsd_mask",
           {{"query", "f32 [4, 8, 16] [tp, cp, -]"},
            {"key", "f32 [2, 8, 16] [tp, -, -]"},
            {"value", "f32 [2, 8, 16] [tp, -, -]"},
            {"attn_mask", "bool [1, 1, 8, 8] [-, -, -, -]"}},
           {},
           "scaled_dot_product_attention: attn_mask has 4 dims, it takes 1 to 3\n"
           "  hint       the mask's dims are [h, s, t], aligned at the right"},
          {"nsd_len",
           {{"query", "f32 [4, 8, 16] [tp, cp, -]"},
            {"key", "f32 [2, 8, 16] [tp, -, -]"},
            {"value", "f32 [2, 8, 16] [tp, -, -]"},
            {"actual_seq_lengths_query", "i32 [2] [-]"},
            {"actual_seq_lengths_kv", "i32 [2] [-]"}},
           {},
           "scaled_dot_product_attention: factor l (sequences) is 1 by its 'size' clause but 2 in actual_seq_lengths_query "
           "(dim 0)\n"
           "  rule       query[(g r) s d], key[g t d], value[g t e], attn_mask[s t]?, actual_seq_lengths_query[l]?, "
           "actual_seq_lengths_kv[l]? -> attention_out[(g r) s e] | whole d t l | broadcast attn_mask | size l=1"},
          {"causal_window",
           {},
           {{"is_causal", true}, {"window", ints({2, 0})}},
           "scaled_dot_product_attention: takes one of is_causal, window and sparse_mode\n"
           "  hint       say once what a query sees"},
          {"mode_window",
           {},
           {{"sparse_mode", std::int64_t{3}}, {"window", ints({2, 0})}},
           "scaled_dot_product_attention: takes one of is_causal, window and sparse_mode\n"
           "  hint       say once what a query sees"},
          {"window1",
           {},
           {{"window", ints({2})}},
           "scaled_dot_product_attention: attribute 'window' takes two numbers: keys before and after the diagonal, below "
           "0 for all"},
          {"tokens",
           {},
           {{"pre_tokens", std::int64_t{3}}},
           "scaled_dot_product_attention: pre_tokens and next_tokens go with a sparse_mode\n"
           "  hint       give sparse_mode 0 (top left) or 4 (bottom right)"},
          {"mode5",
           {},
           {{"sparse_mode", std::int64_t{5}}},
           "scaled_dot_product_attention: sparse_mode is 5, it takes 0 to 4\n"
           "  hint       0 top-left band, 1 explicit mask, 2 top-left causal, 3 bottom-right causal, 4 bottom-right band"},
          {"layout",
           {},
           {{"layout", "BNDS"}},
           "scaled_dot_product_attention: attribute 'layout' is 'BNDS', it takes BHSD, BNSD, BSHD, BSND, BSH, SBH, TND\n"
           "  hint       did you mean 'BNSD'?"},
          {"len_one",
           {{"actual_seq_lengths_query", "i32 [2] [dp]"}},
           {},
           "scaled_dot_product_attention: takes both actual_seq_lengths_query and actual_seq_lengths_kv, or neither"},
          {"len_split",
           {{"actual_seq_lengths_query", "i32 [2] [-]"}, {"actual_seq_lengths_kv", "i32 [2] [dp]"}},
           {},
           "scaled_dot_product_attention: factor b (batch) is split over 'dp' in query but whole in "
           "actual_seq_lengths_query\n"
           "  rule                     {rule}\n"
           "  query                    [dp, tp, cp, -]\n"
           "  actual_seq_lengths_query [-]\n"
           "  hint                     reshard actual_seq_lengths_query to [dp]"},
          {"len_count",
           {{"actual_seq_lengths_query", "i32 [3] [-]"}, {"actual_seq_lengths_kv", "i32 [2] [dp]"}},
           {},
           "scaled_dot_product_attention: factor b (batch) is 2 in query (dim 0) but 3 in actual_seq_lengths_query (dim "
           "0)\n"
           "  rule       {rule}"},
          {"len_f32",
           {{"actual_seq_lengths_query", "f32 [2] [dp]"}, {"actual_seq_lengths_kv", "f32 [2] [dp]"}},
           {},
           "scaled_dot_product_attention: actual_seq_lengths_query is f32, it must be i32 or i64"},
          {"q_int",
           {{"query", "i32 [2, 4, 8, 16] [dp, tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: query is i32, it must be a float"},
          {"v_bool",
           {{"value", "bool [2, 2, 8, 16] [dp, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: value is bool, it must be a float"},
          {"q_rank",
           {{"query", "f32 [2, 8] [-, -]"}},
           {},
           "scaled_dot_product_attention: query has 2 dims [2, 8], the rule gives it 4\n"
           "  rule       {rule}"},
          {"bshd3",
           {{"query", "f32 [4, 8, 16] [tp, cp, -]"}},
           {{"layout", "BSHD"}},
           "scaled_dot_product_attention: query has 3 dims [4, 8, 16], the rule gives it 4\n"
           "  rule       query[b s (g r) d], key[b t g d], value[b t g e], attn_mask[s t]?, actual_seq_lengths_query[b]?, "
           "actual_seq_lengths_kv[b]? -> attention_out[b s (g r) e] | whole d t | broadcast attn_mask "
           "actual_seq_lengths_query actual_seq_lengths_kv"},
          {"k_rank",
           {{"query", "f32 [4, 8, 16] [tp, cp, -]"}},
           {},
           "scaled_dot_product_attention: key has 4 dims [2, 2, 8, 16], the rule gives it 3\n"
           "  rule       query[(g r) s d], key[g t d], value[g t e], attn_mask[s t]?, actual_seq_lengths_query[l]?, "
           "actual_seq_lengths_kv[l]? -> attention_out[(g r) s e] | whole d t l | broadcast attn_mask"},
          {"v_keys",
           {{"value", "f32 [2, 2, 7, 16] [dp, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: factor t (key rows) is 8 in key (dim 2) but 7 in value (dim 2)\n"
           "  rule       {rule}"},
          {"k_d",
           {{"key", "f32 [2, 2, 8, 8] [dp, tp, -, -]"}},
           {},
           "scaled_dot_product_attention: factor d (head dim) is 16 in query (dim 3) but 8 in key (dim 3)\n"
           "  rule       {rule}"},
      });
}

TEST(SdpaPlanning, LaysOutResultsOfFoldedLayouts) {
  expect_said(kFolded, kFoldedRule,
              {
                  {"bsh", {}, {{"return_softmax_lse", true}}, "[dp, cp, tp], [dp, tp, cp, -], [dp, tp, cp, -]"},
                  {"sbh",
                   {{"query", "f32 [8, 2, 16] [cp, dp, tp]"},
                    {"key", "f32 [8, 2, 8] [-, dp, tp]"},
                    {"value", "f32 [8, 2, 8] [-, dp, tp]"}},
                   {{"layout", "SBH"}, {"return_softmax_lse", true}},
                   "[cp, dp, tp], [dp, tp, cp, -], [dp, tp, cp, -]"},
              });
}

TEST(SdpaPlanning, RefusesOfFoldedLayouts) {
  expect_said(kFolded, kFoldedRule,
              {
                  {"head_num_missing",
                   {},
                   {{"head_num", {}}},
                   "scaled_dot_product_attention: layout BSH needs attribute 'head_num', the number of query heads"},
                  {"head_num",
                   {},
                   {{"head_num", std::int64_t{3}}},
                   "scaled_dot_product_attention: head_num is 3, which does not divide the query's hidden size 16"},
                  {"head_num0",
                   {},
                   {{"head_num", std::int64_t{0}}},
                   "scaled_dot_product_attention: head_num is 0, which does not divide the query's hidden size 16"},
                  {"keyhidden",
                   {{"key", "f32 [2, 8, 6] [dp, -, -]"}},
                   {},
                   "scaled_dot_product_attention: key dim 2 has size 6, which is no multiple of d=4\n"
                   "  rule       {rule}"},
                  {"keygroups",
                   {{"query", "f32 [2, 8, 16] [dp, cp, -]"},
                    {"key", "f32 [2, 8, 12] [dp, -, -]"},
                    {"value", "f32 [2, 8, 12] [dp, -, -]"}},
                   {},
                   "scaled_dot_product_attention: query dim 2 has size 16, which is no multiple of g=3 d=4\n"
                   "  rule       {rule}"},
                  {"value",
                   {{"value", "f32 [2, 8, 16] [dp, -, tp]"}},
                   {},
                   "scaled_dot_product_attention: value dim 2 has size 16, which is not the product of g=2 e=4\n"
                   "  rule       {rule}"},
                  {"tp",
                   {},
                   {},
                   "scaled_dot_product_attention: axis 'tp' (size 8) of query dim 2 would cut factor g (key heads) of size "
                   "2 within its elements\n"
                   "  rule       {rule}\n"
                   "  query      [dp, cp, tp]\n"
                   "  hint       reshard query to [dp, cp, -]",
                   "dp=2 x cp=2 x tp=8"},
              });
}

TEST(SdpaPlanning, LaysOutResultsOfPackedLayout) {
  expect_said(
      kPacked, kPackedRule,
      {
          {"tnd", {}, {{"return_softmax_lse", true}}, "[dp+cp, tp, -], [dp+cp, tp, -], [dp+cp, tp, -]"},
          {"cp",
           {{"query", "f32 [8, 4, 16] [cp, tp, -]"},
            {"key", "f32 [8, 2, 16] [-, tp, -]"},
            {"value", "f32 [8, 2, 16] [-, tp, -]"}},
           {{"return_softmax_lse", true}},
           "[cp, tp, -], [cp, tp, -], [cp, tp, -]"},
          {"dp",
           {{"query", "f32 [8, 4, 16] [dp, tp, -]"}},
           {{"return_softmax_lse", true}},
           "[dp, tp, -], [dp, tp, -], [dp, tp, -]"},
          {"head_tail",
           {{"query", "f32 [8, 4, 16] [cp:head_tail, tp, -]"},
            {"key", "f32 [8, 2, 16] [-, tp, -]"},
            {"value", "f32 [8, 2, 16] [-, tp, -]"}},
           {},
           "[cp:head_tail, tp, -]"},
          {"one_sequence", {{"actual_seq_lengths_query", "-"}, {"actual_seq_lengths_kv", "-"}}, {}, "[dp+cp, tp, -]"},
      });
}

TEST(SdpaPlanning, RefusesOfPackedLayout) {
  expect_said(
      kPacked, kPackedRule,
      {
          {"mask_tnd",
           {{"attn_mask", "bool [8, 8] [-, -]"}},
           {},
           "scaled_dot_product_attention: attn_mask goes with padded layouts, not with TND\n"
           "  hint       say with is_causal, window or sparse_mode what each document's queries see"},
          {"parts",
           {{"key", "f32 [9, 2, 16] [dp, tp, -]"}, {"value", "f32 [9, 2, 16] [dp, tp, -]"}},
           {},
           "scaled_dot_product_attention: the keys' 9 packed rows are no multiple of their 2 shards\n"
           "  hint       split packed keys evenly, where documents end, or keep them whole"},
          {"parts_q",
           {{"query", "f32 [7, 4, 16] [dp, tp, -]"}},
           {},
           "scaled_dot_product_attention: the queries' 7 packed rows are no multiple of the keys' 2 shards\n"
           "  hint       split packed keys evenly, where documents end, or keep them whole"},
          {"order",
           {{"query", "f32 [8, 4, 16] [cp+dp, tp, -]"}},
           {},
           "scaled_dot_product_attention: factor p (parts of the packed batch, one for each shard of the keys) is split "
           "over 'cp' in query but split over 'dp' in key\n"
           "  rule       {rule}\n"
           "  query      [cp+dp, tp, -]\n"
           "  key        [dp, tp, -]"},
          {"finer",
           {{"query", "f32 [8, 4, 16] [dp, tp, -]"},
            {"key", "f32 [8, 2, 16] [dp+cp, tp, -]"},
            {"value", "f32 [8, 2, 16] [dp+cp, tp, -]"}},
           {},
           "scaled_dot_product_attention: factor p (parts of the packed batch, one for each shard of the keys) is split "
           "over 'dp' in query but split over 'dp+cp' in key\n"
           "  rule       query[(p s) (g r) d], key[(p t) g d], value[(p t) g e], attn_mask[s t]?, "
           "actual_seq_lengths_query[l]?, actual_seq_lengths_kv[l]? -> attention_out[(p s) (g r) e] | whole d t l | "
           "broadcast attn_mask | size p\n"
           "  query      [dp, tp, -]\n"
           "  key        [dp+cp, tp, -]"},
          {"k_only",
           {{"query", "f32 [8, 4, 16] [-, tp, -]"}},
           {},
           "scaled_dot_product_attention: factor p (parts of the packed batch, one for each shard of the keys) is whole in "
           "query but split over 'dp' in key\n"
           "  rule       {rule}\n"
           "  query      [-, tp, -]\n"
           "  key        [dp, tp, -]"},
          {"v",
           {{"value", "f32 [8, 2, 16] [-, tp, -]"}},
           {},
           "scaled_dot_product_attention: factor p (parts of the packed batch, one for each shard of the keys) is split "
           "over 'dp' in query but whole in value\n"
           "  rule       {rule}\n"
           "  query      [dp+cp, tp, -]\n"
           "  value      [-, tp, -]"},
          {"headtail",
           {{"query", "f32 [8, 4, 16] [dp+cp:head_tail, tp, -]"}},
           {},
           "scaled_dot_product_attention: query dim 0, dealt head_tail over 'dp+cp', cuts factor p (parts of the packed "
           "batch, one for each shard of the keys) of size 2 within its elements\n"
           "  rule       {rule}\n"
           "  query      [dp+cp:head_tail, tp, -]\n"
           "  hint       reshard query to [dp, tp, -]"},
          {"k_headtail",
           {{"query", "f32 [8, 4, 16] [dp:head_tail, tp, -]"},
            {"key", "f32 [8, 2, 16] [dp:head_tail, tp, -]"},
            {"value", "f32 [8, 2, 16] [dp:head_tail, tp, -]"}},
           {},
           "scaled_dot_product_attention: query dim 0, dealt head_tail over 'dp', cuts factor p (parts of the packed "
           "batch, one for each shard of the keys) of size 2 within its elements\n"
           "  rule       {rule}\n"
           "  query      [dp:head_tail, tp, -]\n"
           "  hint       reshard query to [-, tp, -]"},
          {"len_split",
           {{"actual_seq_lengths_kv", "i32 [4] [dp]"}},
           {},
           "scaled_dot_product_attention: factor l (sequences) is 3 in actual_seq_lengths_query (dim 0) but 4 in "
           "actual_seq_lengths_kv (dim 0)\n"
           "  rule       {rule}"},
          {"len_split2",
           {{"actual_seq_lengths_query", "i32 [4] [dp]"}, {"actual_seq_lengths_kv", "i32 [4] [dp]"}},
           {},
           "scaled_dot_product_attention: factor l (sequences) must be whole, but actual_seq_lengths_query splits it over "
           "'dp'\n"
           "  rule                     {rule}\n"
           "  actual_seq_lengths_query [dp]\n"
           "  hint                     reshard actual_seq_lengths_query to [-]"},
          {"len_count",
           {{"actual_seq_lengths_kv", "i32 [4] [-]"}},
           {},
           "scaled_dot_product_attention: factor l (sequences) is 3 in actual_seq_lengths_query (dim 0) but 4 in "
           "actual_seq_lengths_kv (dim 0)\n"
           "  rule       {rule}"},
          {"len_half",
           {{"actual_seq_lengths_kv", "-"}},
           {},
           "scaled_dot_product_attention: takes both actual_seq_lengths_query and actual_seq_lengths_kv, or neither"},
      });
}

const ShardedOperand kAbsent{};

Tensor normal(const Shape& shape, std::string_view name, DType dtype = DType::kF64) {
  return random_normal(shape, dtype, 1, name);
}
Tensor integers(std::vector<std::int64_t> values) {
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

// Means of values 1, 10, 100, ... show which keys a row sees: scores are 0, so that all weigh the same.
std::vector<double> seen(std::int64_t rows, std::int64_t keys, const Attributes& attributes, std::int64_t ranks) {
  Tensor value = Tensor::zeros({1, 1, keys, 1}, DType::kF64);
  for (std::int64_t j = 0; j < keys; ++j) value.at<double>({0, 0, j, 0}) = std::pow(10, j);
  return numbers(run_sharded(catalogue().get("sdpa"), DeviceMesh({{"cp", ranks}}),
                             {{Tensor::zeros({1, 1, rows, 1}, DType::kF64), "[-, -, cp, -]"},
                              {Tensor::zeros({1, 1, keys, 1}, DType::kF64), "[-, -, -, -]"},
                              {value, "[-, -, -, -]"}},
                             attributes)[0]);
}

TEST(SdpaMasks, MeanWhatTheyMeanElsewhere) {
  const auto are = [](std::vector<double> means) { return testing::Pointwise(testing::DoubleNear(1e-10), means); };
  for (std::int64_t ranks : {1, 2, 3}) {
    // torch's is_causal and sparse_mode 2 begin at the top left, sparse_mode 3 and windows end at the bottom right.
    EXPECT_THAT(seen(2, 4, {}, ranks), are({1111 / 4.0, 1111 / 4.0}));
    EXPECT_THAT(seen(2, 4, {{"is_causal", true}}, ranks), are({1, 11 / 2.0}));
    EXPECT_THAT(seen(2, 4, {{"sparse_mode", std::int64_t{2}}}, ranks), are({1, 11 / 2.0}));
    EXPECT_THAT(seen(2, 4, {{"sparse_mode", std::int64_t{3}}}, ranks), are({111 / 3.0, 1111 / 4.0}));
    EXPECT_THAT(seen(2, 4, {{"window", std::vector<std::int64_t>{1, 0}}}, ranks), are({110 / 2.0, 1100 / 2.0}));
    EXPECT_THAT(seen(2, 4, {{"window", std::vector<std::int64_t>{-1, 0}}}, ranks), are({111 / 3.0, 1111 / 4.0}));
    EXPECT_THAT(
        seen(2, 4, {{"sparse_mode", std::int64_t{0}}, {"pre_tokens", std::int64_t{0}}, {"next_tokens", std::int64_t{1}}},
             ranks),
        are({11 / 2.0, 110 / 2.0}));
    EXPECT_THAT(
        seen(2, 4, {{"sparse_mode", std::int64_t{4}}, {"pre_tokens", std::int64_t{1}}, {"next_tokens", std::int64_t{0}}},
             ranks),
        are({110 / 2.0, 1100 / 2.0}));
    EXPECT_THAT(seen(2, 4, {{"sparse_mode", std::int64_t{1}}}, ranks), are({1111 / 4.0, 1111 / 4.0}));
    // More queries than keys: at the bottom right the first rows see nothing, at the top left the last ones see all.
    EXPECT_THAT(seen(4, 2, {{"sparse_mode", std::int64_t{3}}}, ranks), are({0, 0, 1, 11 / 2.0}));
    EXPECT_THAT(seen(4, 2, {{"is_causal", true}}, ranks), are({1, 11 / 2.0, 11 / 2.0, 11 / 2.0}));
  }
}

// The largest difference of two tensors over the largest magnitude of the second.
double difference(const Tensor& actual, const Tensor& expected) {
  const Tensor a = actual.to(DType::kF64);
  const Tensor b = expected.to(DType::kF64);
  double error = 0;
  double magnitude = 0;
  for (std::size_t i = 0; i < b.span<double>().size(); ++i) {
    error = std::max(error, std::abs(a.span<double>()[i] - b.span<double>()[i]));
    magnitude = std::max(magnitude, std::abs(b.span<double>()[i]));
  }
  return error / magnitude;
}

// The reference gives the same bits however rows are cut; the fast kernels choose their way by the number of rows, and round.
class SdpaNumbers : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { kernels::prefer({GetParam()}); }
  void TearDown() override { kernels::prefer({}); }
};
INSTANTIATE_TEST_SUITE_P(Providers, SdpaNumbers, testing::Values("reference", "cpu"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(SdpaNumbers, AreTheUnshardedOnesInEveryDtypeAndWithEmptyShards) {
  const bool exact = std::string_view(GetParam()) == "reference";
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    for (std::int64_t ranks : {2, 3, 8}) {  // 5 rows: of 8 ranks three hold none
      for (const char* rows :
           {"[-, -, cp, -]", "[-, -, cp:head_tail, -]", "[-, -, cp:balanced, -]", "[-, -, cp:cyclic(1), -]"}) {
        const std::vector<ShardedOperand> operands{{normal({2, 4, 5, 8}, "q", dtype), rows},
                                                   {normal({2, 2, 7, 8}, "k", dtype), "[-, -, -, -]"},
                                                   {normal({2, 2, 7, 8}, "v", dtype), "[-, -, -, -]"}};
        const Attributes attributes{{"sparse_mode", std::int64_t{3}}, {"return_softmax_lse", true}};
        const DistributedOp& op = catalogue().get("sdpa");
        const auto sharded = run_sharded(op, DeviceMesh({{"cp", ranks}}), operands, attributes);
        const auto whole = run_whole(op, operands, attributes);
        ASSERT_EQ(sharded.size(), 3U);
        EXPECT_EQ(sharded[0].dtype(), dtype);
        EXPECT_EQ(sharded[1].dtype(), dtype == DType::kF64 ? DType::kF64 : DType::kF32);
        for (std::size_t i = 0; i < 3; ++i) {
          SCOPED_TRACE(testing::Message() << to_string(dtype) << ' ' << rows << ' ' << ranks << ' ' << i);
          const double roundings = sharded[i].dtype() == DType::kBF16  ? 8e-3
                                   : sharded[i].dtype() == DType::kF16 ? 1e-3
                                                                       : 1e-6;
          if (exact || dtype == DType::kF64) EXPECT_TRUE(same_bits(sharded[i], whole[i]));
          else EXPECT_LE(difference(sharded[i], whole[i]), roundings);
        }
      }
    }
  }
}

TEST_P(SdpaNumbers, OfAPackedBatchWithoutDocumentsAreZero) {
  const auto results = run_sharded(catalogue().get("sdpa"), DeviceMesh({{"cp", 2}}),
                                   {{normal({4, 2, 4}, "q"), "[cp, -, -]"},
                                    {normal({4, 1, 4}, "k"), "[-, -, -]"},
                                    {normal({4, 1, 4}, "v"), "[-, -, -]"},
                                    kAbsent,
                                    {integers({}), "[-]"},
                                    {integers({}), "[-]"}},
                                   {{"layout", "TND"}, {"return_softmax_lse", true}});
  for (const Tensor& result : results) EXPECT_THAT(numbers(result), testing::Each(0));
}

TEST_P(SdpaNumbers, OfDocumentsThatCrossABorderOfTheKeysAreRefused) {
  EXPECT_EQ(error_of([] {
              run_sharded(catalogue().get("sdpa"), DeviceMesh({{"dp", 2}}),
                          {{normal({8, 2, 4}, "q"), "[dp, -, -]"},
                           {normal({8, 1, 4}, "k"), "[dp, -, -]"},
                           {normal({8, 1, 4}, "v"), "[dp, -, -]"},
                           kAbsent,
                           {integers({3, 8}), "[-]"},
                           {integers({3, 8}), "[-]"}},
                          {{"layout", "TND"}, {"sparse_mode", std::int64_t{3}}});
            }),
            "sequence 1 (query rows 4 to 7) sees keys 3 to 7, this rank holds keys 4 to 7\n"
            "  hint       split the keys only where sequences end, or keep them whole");
}

// Every layout of every operand on two ranks: what planning accepts must give the unsharded numbers.
TEST(SdpaProof, HoldsInEveryLayout) {
  const DistributedOp& op = catalogue().get("sdpa");
  ProofOptions options;
  options.find_missed = false;
  const DeviceMesh mesh({{"dp", 2}});
  const TensorCase mask{{2, 4, 3, 5}};
  for (bool statistics : {false, true}) {
    EXPECT_THAT(prove(op, {TensorCase{{2, 4, 3, 4}}, TensorCase{{2, 2, 5, 4}}, TensorCase{{2, 2, 5, 6}}, mask},
                      {{"sparse_mode", std::int64_t{3}}, {"return_softmax_lse", statistics}}, mesh, options),
                IsSound());
    EXPECT_THAT(
        prove(op, {TensorCase{{3, 2, 16}}, TensorCase{{3, 2, 8}}, TensorCase{{3, 2, 8}}},
              {{"layout", "SBH"}, {"head_num", std::int64_t{4}}, {"is_causal", true}, {"return_softmax_lse", statistics}},
              mesh, options),
        IsSound());
    const TensorCase documents{{3}, DType::kI64, integers({1, 4, 8})};  // one ends where the shards do
    EXPECT_THAT(
        prove(op, {TensorCase{{8, 4, 4}}, TensorCase{{8, 2, 4}}, TensorCase{{8, 2, 6}}, std::nullopt, documents, documents},
              {{"layout", "TND"}, {"sparse_mode", std::int64_t{3}}, {"return_softmax_lse", statistics}}, mesh, options),
        IsSound());
  }
}

}  // namespace
}  // namespace tessera
