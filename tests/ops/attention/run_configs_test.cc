// `tessera run` of configs of every attention operator, with the numbers that it generates for them.
#include <gmock/gmock.h>

#include "core/program/read_program.h"
#include "core/program/run.h"
#include "core/program/run_inputs.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

struct RunConfig {
  const char* name;
  const char* body;  // "tensors" and "ops"; $T is the dtype of the floats
};

// Over 13 query rows, which no mesh below divides, and other numbers of keys.
const RunConfig kConfigs[] = {
    {"sdpa_float_mask", R"("tensors": {
       "q": {"shape": [2, 4, 13, 8], "dtype": "$T", "layout": ["dp", null, "cp", null]}, "k": {"shape": [2, 2, 9, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "v": {"shape": [2, 2, 9, 6], "dtype": "$T", "layout": ["dp", null, null, null]}, "m": {"shape": [1, 13, 9], "dtype": "$T", "layout": [null, "cp", null]}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "v", "m"], "attrs": {"return_softmax_lse": true}, "outputs": ["out", "max", "sum"]}])"},
    {"sdpa_bool_mask", R"("tensors": {
       "q": {"shape": [2, 13, 4, 8], "dtype": "$T", "layout": ["dp", "cp", null, null]}, "k": {"shape": [2, 13, 2, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "m": {"shape": [2, 4, 13, 13], "dtype": "bool", "layout": ["dp", null, "cp", null]}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", "m"], "attrs": {"layout": "BSHD", "is_causal": true}, "outputs": ["out"]}])"},
    {"sdpa_folded", R"("tensors": {
       "q": {"shape": [2, 13, 16], "dtype": "$T", "layout": ["dp", {"axes": ["cp"], "distribution": "head_tail"}, null]},
       "k": {"shape": [2, 17, 8], "dtype": "$T", "layout": ["dp", null, null]}, "l": {"shape": [2], "dtype": "i32", "layout": ["dp"]}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "l", "l"], "attrs": {"layout": "BSH", "head_num": 4, "sparse_mode": 3}, "outputs": ["out"]}])"},
    {"sdpa_rows_first", R"("tensors": {
       "q": {"shape": [13, 2, 16], "dtype": "$T", "layout": ["cp", "dp", null]}, "k": {"shape": [9, 2, 8], "dtype": "$T", "layout": [null, "dp", null]},
       "ql": {"shape": [2], "dtype": "i64", "layout": ["dp"]}, "kl": {"shape": [2], "dtype": "i32", "layout": ["dp"]}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "ql", "kl"], "attrs": {"layout": "SBH", "head_num": 4, "window": [3, 1]}, "outputs": ["out"]}])"},
    {"sdpa_unbatched", R"("tensors": {
       "q": {"shape": [4, 13, 8], "dtype": "$T", "layout": [null, ["dp", "cp"], null]}, "k": {"shape": [2, 13, 8], "dtype": "$T"}, "l": {"shape": [1], "dtype": "i32"}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "l", "l"], "attrs": {"is_causal": true}, "outputs": ["out"]}])"},
    {"sdpa_packed", R"("tensors": {
       "q": {"shape": [13, 4, 8], "dtype": "$T", "layout": [["cp", "dp"], null, null]}, "k": {"shape": [15, 2, 8], "dtype": "$T"},
       "ql": {"shape": [4], "dtype": "i64"}, "kl": {"shape": [4], "dtype": "i64"}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "ql", "kl"], "attrs": {"layout": "TND", "sparse_mode": 3, "return_softmax_lse": true}, "outputs": ["out", "max", "sum"]}])"},
    {"sdpa_packed_with_split_keys", R"("tensors": {
       "q": {"shape": [24, 4, 8], "dtype": "$T", "layout": [["dp", "cp"], null, null]}, "k": {"shape": [16, 2, 8], "dtype": "$T", "layout": ["dp", null, null]},
       "ql": {"shape": [5], "dtype": "i64"}, "kl": {"shape": [5], "dtype": "i64"}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "ql", "kl"], "attrs": {"layout": "TND", "sparse_mode": 3}, "outputs": ["out"]}])"},
    {"sdpa_one_document_and_split_keys", R"("tensors": {
       "q": {"shape": [24, 4, 8], "dtype": "$T", "layout": [["dp", "cp"], null, null]}, "k": {"shape": [24, 2, 8], "dtype": "$T", "layout": ["dp", null, null]},
       "l": {"shape": [1], "dtype": "i64"}},
     "ops": [{"op": "sdpa", "inputs": ["q", "k", "k", null, "l", "l"], "attrs": {"layout": "TND", "sparse_mode": 3}, "outputs": ["out"]}])"},
    {"sfa_lengths_and_rope", R"("tensors": {
       "q": {"shape": [2, 13, 4, 8], "dtype": "$T", "layout": ["dp", "cp", null, null]}, "k": {"shape": [2, 18, 1, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "i": {"shape": [2, 13, 1, 3], "dtype": "i32", "layout": ["dp", "cp", null, null]}, "ql": {"shape": [2], "dtype": "i32", "layout": ["dp"]}, "kl": {"shape": [2], "dtype": "i32", "layout": ["dp"]},
       "qr": {"shape": [2, 13, 4, 4], "dtype": "$T", "layout": ["dp", "cp", null, null]}, "kr": {"shape": [2, 18, 1, 4], "dtype": "$T", "layout": ["dp", null, null, null]}},
     "ops": [{"op": "sparse_flash_attention", "inputs": ["q", "k", "k", "i", null, "ql", "kl", "qr", "kr"], "attrs": {"scale_value": 0.3, "sparse_block_size": 4},
              "outputs": ["out", "max", "sum"]}])"},
    {"sfa_shared_lengths", R"("tensors": {
       "q": {"shape": [2, 13, 4, 8], "dtype": "$T", "layout": ["dp", {"axes": ["cp"], "distribution": "balanced"}, null, null]},
       "k": {"shape": [2, 7, 1, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "i": {"shape": [2, 13, 1, 9], "dtype": "i64", "layout": ["dp", {"axes": ["cp"], "distribution": "balanced"}, null, null]}, "l": {"shape": [2], "dtype": "i32", "layout": ["dp"]}},
     "ops": [{"op": "sparse_flash_attention", "inputs": ["q", "k", null, "i", null, "l", "l"], "attrs": {"scale_value": 0.3, "attention_mode": 0, "return_softmax_lse": false}, "outputs": ["out"]}])"},
    {"sfa_packed", R"("tensors": {
       "q": {"shape": [13, 4, 8], "dtype": "$T", "layout": ["cp", null, null]}, "k": {"shape": [22, 1, 8], "dtype": "$T"}, "i": {"shape": [13, 1, 3], "dtype": "i32", "layout": ["cp", null, null]},
       "ql": {"shape": [3], "dtype": "i32"}, "kl": {"shape": [3], "dtype": "i32"}},
     "ops": [{"op": "sparse_flash_attention", "inputs": ["q", "k", "k", "i", null, "ql", "kl"],
              "attrs": {"scale_value": 0.3, "attention_mode": 0, "sparse_block_size": 4, "layout_query": "TND", "layout_kv": "TND"}, "outputs": ["out", "max", "sum"]}])"},
    {"sfa_packed_with_shared_documents_and_split_keys", R"("tensors": {
       "q": {"shape": [24, 4, 8], "dtype": "$T", "layout": [["dp", "cp"], null, null]}, "k": {"shape": [24, 1, 8], "dtype": "$T", "layout": ["dp", null, null]},
       "i": {"shape": [24, 1, 3], "dtype": "i32", "layout": [["dp", "cp"], null, null]}, "l": {"shape": [4], "dtype": "i32"}},
     "ops": [{"op": "sparse_flash_attention", "inputs": ["q", "k", "k", "i", null, "l", "l"],
              "attrs": {"scale_value": 0.3, "attention_mode": 0, "sparse_mode": 0, "layout_query": "TND", "layout_kv": "TND"}, "outputs": ["out", "max", "sum"]}])"},
    {"sparse_layer", R"("tensors": {
       "iq": {"shape": [2, 13, 4, 8], "dtype": "$T", "layout": ["dp", {"axes": ["cp"], "distribution": "head_tail"}, null, null]}, "ik": {"shape": [2, 19, 1, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "w": {"shape": [2, 13, 4], "dtype": "$T", "layout": ["dp", {"axes": ["cp"], "distribution": "head_tail"}, null]},
       "q": {"shape": [2, 13, 4, 8], "dtype": "$T", "layout": ["dp", {"axes": ["cp"], "distribution": "head_tail"}, null, null]}, "k": {"shape": [2, 19, 1, 8], "dtype": "$T", "layout": ["dp", null, null, null]},
       "ql": {"shape": [2], "dtype": "i32", "layout": ["dp"]}, "kl": {"shape": [2], "dtype": "i32", "layout": ["dp"]}},
     "ops": [{"op": "lightning_indexer", "inputs": ["iq", "ik", "w", "ql", "kl"], "attrs": {"sparse_count": 5}, "outputs": ["i", "scores"]},
             {"op": "sparse_flash_attention", "inputs": ["q", "k", "k", "i", null, "ql", "kl"], "attrs": {"scale_value": 0.3, "attention_mode": 0}, "outputs": ["out", "max", "sum"]},
             {"op": "dense_lightning_indexer_softmax_lse", "inputs": ["iq", "ik", "w", "ql", "kl"], "outputs": ["index_max", "index_sum"]}])"},
    {"sparse_layer_packed", R"("tensors": {
       "iq": {"shape": [13, 4, 8], "dtype": "$T", "layout": [["dp", "cp"], null, null]}, "ik": {"shape": [13, 1, 8], "dtype": "$T"}, "w": {"shape": [13, 4], "dtype": "$T", "layout": [["dp", "cp"], null]},
       "q": {"shape": [13, 4, 8], "dtype": "$T", "layout": [["dp", "cp"], null, null]}, "k": {"shape": [13, 1, 8], "dtype": "$T"}, "l": {"shape": [3], "dtype": "i32"}},
     "ops": [{"op": "lightning_indexer", "inputs": ["iq", "ik", "w", "l", "l"], "attrs": {"sparse_count": 5, "layout_query": "TND", "layout_key": "TND"}, "outputs": ["i", null]},
             {"op": "sparse_flash_attention", "inputs": ["q", "k", "k", "i", null, "l", "l"],
              "attrs": {"scale_value": 0.3, "attention_mode": 0, "layout_query": "TND", "layout_kv": "TND"}, "outputs": ["out", "max", "sum"]},
             {"op": "dense_lightning_indexer_softmax_lse", "inputs": ["iq", "ik", "w", "l", "l"], "attrs": {"layout": "TND"}, "outputs": ["index_max", "index_sum"]}])"},
};

Program program_of(const RunConfig& config, const std::string& dtype, std::int64_t dp, std::int64_t cp) {
  std::string body = config.body;
  for (std::size_t at = body.find("$T"); at != std::string::npos; at = body.find("$T")) body.replace(at, 2, dtype);
  return read_program(R"({"mesh": {"shape": [)" + std::to_string(dp) + ", " + std::to_string(cp) +
                          R"(], "names": ["dp", "cp"]}, )" + body + "}",
                      catalogue());
}

class RunConfigs : public testing::TestWithParam<RunConfig> {};

TEST_P(RunConfigs, AgreeWithTheUnshardedComputation) {
  const std::pair<std::int64_t, std::int64_t> meshes[] = {{1, 1}, {1, 2}, {2, 1}, {1, 3}, {2, 2}, {2, 3}, {2, 4}, {1, 8}};
  for (const auto& [dp, cp] : meshes) {
    for (const char* dtype : {"f64", "f32", "bf16", "f16"}) {
      const RunReport report = run(program_of(GetParam(), dtype, dp, cp), {.seed = 5});
      for (const Diagnostic& diagnostic : report.diagnostics)
        ADD_FAILURE() << dtype << ' ' << dp << " x " << cp << '\n' << to_string(diagnostic);
      EXPECT_EQ(report.ranks, dp * cp);
      EXPECT_FALSE(report.outputs.empty());
      for (const RunOutput& output : report.outputs) {
        EXPECT_TRUE(output.ok()) << dtype << ' ' << dp << " x " << cp << ' ' << output.tensor << ": "
                                 << output.max_rel_error << ", tolerance " << output.tolerance;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, RunConfigs, testing::ValuesIn(kConfigs),
                         [](const auto& test) { return std::string(test.param.name); });

std::vector<std::int64_t> generated(const RunConfig& config, const std::string& tensor, std::int64_t dp) {
  const Program program = program_of(config, "f32", dp, 1);
  const Tensor values = make_inputs(program, check(program, Policy::kStrict), {.seed = 5}).at(tensor).to(DType::kI64);
  return {values.span<std::int64_t>().begin(), values.span<std::int64_t>().end()};
}

const RunConfig& config_of(std::string_view name) {
  return *std::find_if(std::begin(kConfigs), std::end(kConfigs),
                       [&](const RunConfig& config) { return config.name == name; });
}

TEST(GeneratedLengths, ArePrefixSumsOrLengthsInsideTheirRows) {
  const auto padded = generated(config_of("sfa_lengths_and_rope"), "kl", 2);
  EXPECT_THAT(padded, testing::Each(testing::AllOf(testing::Ge(9), testing::Le(18))));
  EXPECT_THAT(generated(config_of("sfa_shared_lengths"), "l", 1),
              testing::Each(testing::AllOf(testing::Ge(3), testing::Le(7))));  // of 13 and of 7 rows
  const auto packed = generated(config_of("sdpa_packed"), "kl", 1);
  EXPECT_TRUE(std::is_sorted(packed.begin(), packed.end()));
  EXPECT_EQ(packed.back(), 15);
}

TEST(GeneratedLengths, EndWhereTheShardsOfPackedKeysDo) {
  const RunConfig& split = config_of("sdpa_packed_with_split_keys");
  for (std::int64_t dp : {1, 2, 4}) {
    const auto queries = generated(split, "ql", dp);
    const auto keys = generated(split, "kl", dp);
    for (std::int64_t part = 1; part <= dp; ++part) {
      // The sequence that ends a part of the queries ends that part of the keys.
      const auto ends = std::find(keys.begin(), keys.end(), part * 16 / dp);
      ASSERT_NE(ends, keys.end()) << part << " of " << dp;
      EXPECT_THAT(queries, testing::Contains(part * 24 / dp));
    }
  }
  EXPECT_THAT(generated(config_of("sdpa_one_document_and_split_keys"), "l", 2),
              testing::ElementsAre(12));  // the second half is padding
  EXPECT_THAT(generated(config_of("sdpa_one_document_and_split_keys"), "l", 1), testing::ElementsAre(24));
}

}  // namespace
}  // namespace tessera
