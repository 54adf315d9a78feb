// The corpora pass, and the replay tells right from wrong.
#include "testing/conformance/conformance.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ops/catalogue.h"
#include "support/diagnostic.h"

namespace tessera::conformance {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;
using Json = nlohmann::json;

std::string read(const std::string& name) {
  std::ifstream file("tests/conformance/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}
Json cases_of(const std::string& name) { return Json::parse(read(name))["cases"]; }
Deviations listed() { return read_deviations(read("deviations.json")); }

std::vector<Outcome> replay_file(const std::string& name) {
  return replay(read(name), name.substr(0, name.find('.')), catalogue(), listed());
}
Outcome replay_one(const Json& test, const Deviations& deviations = {}) {
  return replay(Json{{"cases", Json::array({test})}}.dump(), "one", catalogue(), deviations).at(0);
}

std::vector<std::string> ids(const std::vector<Outcome>& outcomes, Verdict verdict) {
  std::vector<std::string> list;
  for (const Outcome& outcome : outcomes) {
    if (outcome.verdict == verdict) list.push_back(outcome.id);
  }
  return list;
}

template <class F>
std::string text_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A case of matmul on a 2 x 4 mesh.
Json matmul(const Json& x, const Json& w, const Json& expect) {
  return {{"id", "mm"},
          {"kind", "infer"},
          {"op", "MatMulExt"},
          {"mesh_shape", {2, 4}},
          {"mesh_dim_names", {"dp", "mp"}},
          {"inputs", {x, w}},
          {"attrs", Json::object()},
          {"expect", expect}};
}
const Json kSplitBoth{{"alias", {"dp", "mp"}}};
const Json kSplitFirst{{"alias", {"mp", "None"}}};
const Json kSum{{"outputs", {{{"alias", {"dp", "None"}}, {"partial", {{"mp", "sum"}}}}}}};

TEST(Corpora, HyperParallelPasses) {
  const std::vector<Outcome> outcomes = replay_file("hyperparallel.json");
  EXPECT_THAT(ids(outcomes, Verdict::kFailed), IsEmpty());
  EXPECT_GE(count(outcomes, Verdict::kPassed), 196U);
  std::vector<std::string> deviations;
  for (const auto& [id, reason] : listed()) deviations.push_back(id);
  EXPECT_THAT(ids(outcomes, Verdict::kDeviation), UnorderedElementsAreArray(deviations));
}

TEST(Corpora, AttentionBandsPass) {
  const std::vector<Outcome> outcomes = replay_file("attention_band.json");
  EXPECT_EQ(count(outcomes, Verdict::kPassed), 25U);
  EXPECT_EQ(outcomes.size(), 25U);
  EXPECT_EQ(outcomes[3].id, "attention_band/3");
}

TEST(Corpora, ShardyPaddleOneFlowPass) {
  const std::vector<Outcome> outcomes = replay_file("shardy_paddle_oneflow.json");
  EXPECT_THAT(ids(outcomes, Verdict::kFailed), IsEmpty());
  EXPECT_GE(count(outcomes, Verdict::kPassed), 40U);
}

// Refused for the right reason: the corpus says which words the peer has for it.
TEST(Corpora, ShardingsAreRefusedForTheRightReason) {
  std::map<std::string, std::string> codes;
  for (const Outcome& outcome : replay_file("shardy_paddle_oneflow.json")) {
    const std::string prefix = "shardy/reject_sharding/";
    if (outcome.id.starts_with(prefix)) codes[outcome.id.substr(prefix.size())] = outcome.code;
  }
  const std::map<std::string, std::string> expected{{"both_full_axis_and_sub_axis_used_replicated", "duplicate-axis"},
                                                    {"dim_shardings_rank_mismatch", "layout-misfit"},
                                                    {"duplicate_axis_dim_sharding_and_replicated", "duplicate-axis"},
                                                    {"duplicate_axis_dim_sharding_and_unreduced", "duplicate-axis"},
                                                    {"duplicate_replicated_axis", "duplicate-axis"},
                                                    {"duplicate_sharded_axis_different_dims", "duplicate-axis"},
                                                    {"duplicate_sharded_axis_same_dim", "duplicate-axis"},
                                                    {"duplicate_sub_axis", "duplicate-axis"},
                                                    {"redundant_sub_axis_in_dim", "sub-axis-merge"},
                                                    {"sub_axes_overlap", "duplicate-axis"},
                                                    {"sub_axis_next_pre_size_beyond_axis", "sub-axis-size"},
                                                    {"unknown_replicated_axis", "unknown-axis"},
                                                    {"unordered_replicated_axes", "axis-order"},
                                                    {"unordered_unreduced_sub_axes", "axis-order"}};
  EXPECT_EQ(codes, expected);
}

// The expectations of layouts hold however inputs and outputs are written.
TEST(Corpora, TensorMapNumbersSayTheSameAsNames) {
  Json cases = cases_of("hyperparallel.json");
  const auto rewrite = [](Json& layout, const Json& names) {
    if (!layout.is_object() || !layout.contains("alias") || !layout["alias"].is_array() || layout.contains("mesh_shape"))
      return;
    const auto number = [&](const Json& name) {
      return static_cast<int>(names.end() - std::find(names.begin(), names.end(), name)) - 1;
    };
    Json map = Json::array();
    for (const Json& entry : layout["alias"]) {
      Json& dim = map.emplace_back(-1);
      if (entry.is_string() && entry != "None") dim = number(entry);
      if (!entry.is_array()) continue;
      dim = Json::array();
      for (const Json& name : entry) dim.push_back(number(name));
    }
    layout.erase("alias");
    layout["tensor_map"] = map;
  };
  int rewritten = 0;
  for (Json& test : cases) {
    if (test["kind"] != "infer") continue;
    const Outcome before = replay_one(test);
    for (Json& input : test["inputs"]) rewrite(input, test["mesh_dim_names"]);
    if (test["expect"].contains("outputs")) {
      for (Json& output : test["expect"]["outputs"]) rewrite(output, test["mesh_dim_names"]);
    }
    EXPECT_EQ(replay_one(test), before);
    ++rewritten;
  }
  EXPECT_EQ(rewritten, 291);
}

// A wrong expectation does not pass: results that are refused, refusals that have results, layouts with another axis.
TEST(Replay, NoticesWrongExpectations) {
  int turned = 0;
  for (const Json& test : cases_of("hyperparallel.json")) {
    if (test["kind"] != "infer" || replay_one(test).verdict != Verdict::kPassed) continue;
    Json wrong = test;
    if (test["expect"].contains("error")) {
      wrong["expect"] = {{"outputs", Json::array({{{"alias", Json::array()}}})}};
      EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test["id"];
    } else {
      wrong["expect"] = {{"error", true}};
      EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test["id"];
      wrong = test;
      wrong["expect"]["outputs"].push_back({{"alias", {"None"}}});
      EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test["id"];
      wrong = test;
      wrong["expect"]["outputs"][0]["alias"].push_back("None");
      EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test["id"];
    }
    ++turned;
  }
  EXPECT_GE(turned, 170);
}

TEST(Replay, NoticesWrongBands) {
  for (const Json& test : cases_of("attention_band.json")) {
    Json wrong = test;
    wrong["local_band"]["hi"] = test["local_band"]["hi"].get<int>() + 1;
    EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test;
    wrong = test;
    Json& last = wrong["visible_keys_per_local_row"].back();
    last = last.is_null() ? Json{0, 0} : Json(nullptr);
    EXPECT_EQ(replay_one(wrong).verdict, Verdict::kFailed) << test;
  }
}

TEST(Replay, BandsOfLaterShards) {
  Json test{{"kind", "band"},
            {"sparse_mode", 2},
            {"q_len", 8},
            {"kv_len", 8},
            {"q_offset", 4},
            {"kv_offset", 0},
            {"local_band", {{"lo", nullptr}, {"hi", 4}}},
            {"visible_keys_per_local_row", {{0, 4}, {0, 5}, {0, 6}, {0, 7}}}};
  EXPECT_EQ(replay_one(test).verdict, Verdict::kPassed);
  test["kv_offset"] = 2;  // local key 0 is key 2
  test["local_band"]["hi"] = 2;
  test["visible_keys_per_local_row"] = {{0, 2}, {0, 3}, {0, 4}, {0, 5}};
  EXPECT_EQ(replay_one(test).verdict, Verdict::kPassed);
}

TEST(Replay, WindowsOfKeys) {
  const auto window = [](const char* op, const Json& attributes, const Json& expect) {
    return replay_one({{"kind", "window"},
                       {"op", op},
                       {"mesh_shape", {4}},
                       {"inputs", {{{"shape", {2, 16, 1, 128}}}}},
                       {"attrs", attributes},
                       {"expect", expect}});
  };
  for (int split = 0; split < 4; ++split) {
    const Json part{{"local_q_s1", 4}, {"split_id", split}};
    EXPECT_EQ(window("adjust_bsnd_key", part, {{"s2_after", 4 * (split + 1)}}).verdict, Verdict::kPassed);
    EXPECT_EQ(window("adjust_bsnd_key", part, {{"s2_after", 4 * split + 3}}).verdict, Verdict::kFailed);
    const Json causal{
        {"is_causal", true}, {"split_id", split}, {"local_q_len", 4}, {"seq_split_num", 4}, {"global_kv_len", 16}};
    EXPECT_EQ(window("sdpa_adjust_for_sp", causal, {{"is_causal", split == 0}}).verdict, Verdict::kPassed);
    EXPECT_EQ(window("sdpa_adjust_for_sp", causal, {{"mask", split == 0 ? Json(nullptr) : Json("explicit")}}).verdict,
              Verdict::kPassed);
    EXPECT_EQ(window("sdpa_adjust_for_sp", causal, {{"mask", split == 0 ? Json("explicit") : Json(nullptr)}}).verdict,
              Verdict::kFailed);
    const Json all{
        {"is_causal", false}, {"split_id", split}, {"local_q_len", 4}, {"seq_split_num", 4}, {"global_kv_len", 16}};
    EXPECT_EQ(window("sdpa_adjust_for_sp", all, {{"mask", nullptr}, {"kv_len_after", 16}}).verdict, Verdict::kPassed);
  }
  EXPECT_EQ(window("adjust_bsnd_key", {{"local_q_s1", 4}, {"split_id", 0}}, {{"colour", "red"}}).got,
            "nothing that the case expects is known here");
  EXPECT_EQ(window("adjust_bsnd_key", {{"local_q_s1", 4}, {"split_id", 4}}, {{"s2_after", 4}}).got,
            "refused (json-type): there is no part 4 of 4");
}

TEST(Replay, QuestionsAboutLayoutsAndMeshes) {
  const auto ask = [](const char* kind, const char* op, const Json& input, const Json& attributes, const Json& expect) {
    const Outcome outcome = replay_one({{"kind", kind},
                                        {"op", op},
                                        {"mesh_shape", {2, 4}},
                                        {"mesh_dim_names", {"dp", "mp"}},
                                        {"inputs", {input}},
                                        {"attrs", attributes},
                                        {"expect", expect}});
    return std::pair(outcome.verdict, outcome.got);
  };
  const auto passed = [](const std::string& text) { return std::pair(Verdict::kPassed, text); };
  const Json split{{"alias", {{"mp", "dp"}, "None"}}};
  EXPECT_EQ(
      ask("layout", "tensor_map_to_placement", split, Json::object(), {{"placements", {"StridedShard(0, 4)", "Shard(0)"}}}),
      passed("[mp+dp, -]"));
  EXPECT_EQ(ask("layout", "placement_to_tensor_map", split,
                {{"placements", {"_StridedShard(0, 4)", "Shard(0)"}}, {"tensor_ndim", 2}}, split),
            passed("[mp+dp, -]"));
  EXPECT_EQ(ask("layout", "get_split_id", split, {{"tensor_dim", 0}, {"rank", 6}}, {{"value", 5}}),
            passed("5"));  // (1, 2): 2 * 2 + 1
  EXPECT_EQ(ask("layout", "get_dim_split_num", split, {{"tensor_dim", -2}}, {{"value", 8}}), passed("8"));
  const Json first{{"alias", {"dp", "None"}}};
  EXPECT_EQ(ask("layout", "set_partial_by_dev_axis", first, {{"axis", "mp"}, {"reduce_op", "sum"}},
                {{"partial", {{"mp", "sum"}}}}),
            passed("[dp, -] partial(mp: sum)"));
  EXPECT_EQ(
      ask("layout", "set_partial_by_dev_axis", first, {{"axis", "dp"}, {"reduce_op", "sum"}}, {{"error", true}}).first,
      Verdict::kPassed);
  EXPECT_EQ(ask("mesh", "get_devices_along_dim", first, {{"rank", 5}, {"mesh_dim", "mp"}}, {{"ranks", {4, 5, 6, 7}}}),
            passed("[4, 5, 6, 7]"));
  EXPECT_EQ(ask("mesh", "get_devices_along_dim", first, {{"rank", 5}, {"mesh_dims", {1, 0}}},
                {{"ranks_sorted", {0, 1, 2, 3, 4, 5, 6, 7}}}),
            passed("[0, 1, 2, 3, 4, 5, 6, 7]"));
  EXPECT_EQ(ask("mesh", "get_devices_along_dim", first,
                {{"rank", 1}, {"mesh_dim", 0}, {"rank_list", {7, 6, 5, 4, 3, 2, 1, 0}}}, {{"ranks", {5, 1}}}),
            passed("[5, 1]"));
  EXPECT_EQ(ask("mesh", "get_devices_along_dim", first, {{"rank", 1}, {"mesh_dim", 2}}, {{"error", true}}),
            passed("refused (unknown-axis): the mesh (dp=2 x mp=4) has no axis 2"));
}

TEST(Replay, ShardingsThatAreRefused) {
  const auto refuse = [](const char* sharding) {
    Json test = Json::parse(R"({"kind": "reject_sharding", "mesh": {"axes": [["a", 8], ["b", 2]]}, "shape": [8, 8]})");
    test["sharding"] = Json::parse(sharding);
    const Outcome outcome = replay_one(test);
    return fmt::format("{}: {}", to_string(outcome.verdict), outcome.got);
  };
  EXPECT_EQ(refuse(R"({"dims": [["a:(1)2", "b"], ["a:(2)4", "?"]]})"),
            "failed: [a_1_2+b, a_2_4]");  // nothing is wrong with it
  EXPECT_EQ(refuse(R"({"dims": [["a:(1)2", "a:(2)2"], []]})"),
            "passed: refused (sub-axis-merge): 'a:(1)2' and 'a:(2)2' stand together and are one part of axis 'a'");
  EXPECT_EQ(refuse(R"({"dims": [["a:(3)2"], []]})"),
            "passed: refused (sub-axis-size): axis 'a' of size 8 has no part of 2 behind 3");
  EXPECT_EQ(refuse(R"({"dims": [["a:(1)1"], []]})"),
            "passed: refused (sub-axis-size): axis 'a' of size 8 has no part of 1 behind 1");
  EXPECT_EQ(refuse(R"({"dims": [[], []], "unreduced": ["b", "a"]})"),
            "passed: refused (axis-order): unreduced axis 'a' stands behind 'b', on the mesh before it");
  EXPECT_EQ(refuse(R"({"dims": [[], ["b"]], "priorities": [0, null]})"),
            "passed: refused (dim-priority): dim 0 has a priority, but nothing splits it or may split it");
  EXPECT_EQ(refuse(R"({"dims": [["c"], []]})"), "passed: refused (unknown-axis): the mesh has no axis 'c'");
}

TEST(Replay, ComparesLayoutsAsValues) {
  EXPECT_EQ(replay_one(matmul(kSplitBoth, kSplitFirst, kSum)).verdict, Verdict::kPassed);
  Json placements = kSum;
  placements["outputs"][0] = {{"tensor_map", {1, -1}}, {"partial", {{"mp", "sum"}}}};
  EXPECT_EQ(replay_one(matmul(kSplitBoth, kSplitFirst, placements)).verdict, Verdict::kPassed);
  // An axis of size 1 splits nothing.
  Json single = matmul(kSplitBoth, kSplitFirst, {{"outputs", {{{"alias", {"None", "None"}}}}}});
  single["mesh_shape"] = {1, 1};
  EXPECT_EQ(replay_one(single).verdict, Verdict::kPassed);
  const Outcome wrong = replay_one(matmul(kSplitBoth, kSplitFirst, {{"outputs", {{{"alias", {"dp", "None"}}}}}}));
  EXPECT_EQ(wrong.verdict, Verdict::kFailed);
  EXPECT_EQ(wrong.expected, "[dp, -]");
  EXPECT_EQ(wrong.got, "[dp, -] partial(mp: sum)");
}

TEST(Replay, TakesShapesFromTheCase) {
  Json test = matmul(kSplitBoth, kSplitFirst, kSum);
  test["inputs"][0]["shape"] = {8, 12};
  test["inputs"][1]["shape"] = {12, 4};
  EXPECT_EQ(replay_one(test).verdict, Verdict::kPassed);
  test["inputs"][1]["shape"] = {16, 4};
  const Outcome outcome = replay_one(test);
  EXPECT_EQ(outcome.verdict, Verdict::kFailed);
  EXPECT_EQ(outcome.code, "size-mismatch");
  EXPECT_EQ(outcome.got, "refused (size-mismatch): factor k (contracted) is 12 in x (dim 1) but 16 in w (dim 0)");
}

TEST(Replay, TellsWhyACaseIsSkipped) {
  Json test = matmul(kSplitBoth, kSplitFirst, kSum);
  test["op"] = "no_such_operator";
  EXPECT_EQ(replay_one(test),
            (Outcome{.id = "mm", .verdict = Verdict::kSkipped, .got = "no operator is called 'no_such_operator'"}));
  test["kind"] = "dance";
  EXPECT_EQ(replay_one(test).got, "cases of kind 'dance' are not replayed");
  test["kind"] = "layout";
  EXPECT_EQ(replay_one(test).got, "there is no question 'no_such_operator' about layouts");
  test["kind"] = "mesh";
  EXPECT_EQ(replay_one(test).got, "there is no question 'no_such_operator' about meshes");
  test["kind"] = "window";
  EXPECT_EQ(replay_one(test).got, "there is no question 'no_such_operator' about windows");
  EXPECT_EQ(replay_one(test).verdict, Verdict::kSkipped);
}

// An operator that is registered later is replayed without more ado, by its name or an alias.
TEST(Replay, FindsOperatorsInTheRegistry) {
  Registry registry;
  Json test = matmul(kSplitBoth, kSplitFirst, kSum);
  const std::string corpus = Json{{"cases", {test}}}.dump();
  EXPECT_EQ(replay(corpus, "c", registry).at(0).verdict, Verdict::kSkipped);
  registry.add({.name = "mine", .rule = "a[i k], b[k j] -> c[i j]", .kernel = {}, .aliases = {"MatMulExt"}});
  EXPECT_EQ(replay(corpus, "c", registry).at(0).verdict, Verdict::kPassed);
}

TEST(Replay, AttributesThatCannotBeSaidFail) {
  Json test = matmul(kSplitBoth, kSplitFirst, kSum);
  test["attrs"] = {{"transpose_q", true}};
  const Outcome outcome = replay_one(test);
  EXPECT_EQ(outcome.verdict, Verdict::kFailed);
  EXPECT_EQ(outcome.got, "has no attribute for 'transpose_q' of the case");
  test["expect"] = {{"error", true}};
  EXPECT_EQ(replay_one(test).verdict, Verdict::kFailed) << "a refusal must not come from what the replay could not say";
  test["attrs"] = {{"transpose_a", {{"nested", 1}}}};
  EXPECT_EQ(replay_one(test).got, R"(refused (attribute-type): attribute 'transpose_x' is {"nested":1})");
}

TEST(Replay, CasesThatMakeNoSenseFail) {
  const auto got = [](const Json& test) {
    const Outcome outcome = replay_one(test);
    EXPECT_EQ(outcome.verdict, Verdict::kFailed);
    EXPECT_EQ(outcome.expected, "a case that makes sense");
    return outcome.got;
  };
  EXPECT_EQ(got(7), "expected a case, found 7");
  EXPECT_EQ(got({{"kind", 3}}), "expected a kind, found 3 at /kind");
  Json test = matmul(kSplitBoth, kSplitFirst, kSum);
  test.erase("expect");
  EXPECT_EQ(got(test), "key 'expect' is missing");
  test = matmul(kSplitBoth, kSplitFirst, kSum);
  test["mesh_shape"] = {2, 0};
  EXPECT_EQ(got(test), "mesh axis 'mp' has size 0, it needs at least 1");
}

// Whatever is missing or of another type in a case: an outcome, no crash.
TEST(Replay, SurvivesDamagedCases) {
  const std::vector<Json> junk{
      nullptr, 7, -1, "x", Json::array(), Json::object(), Json::array({nullptr}), Json::array({Json::array({1, 2})}),
      1e300};
  std::size_t replayed = 0;
  for (const std::string name : {"hyperparallel.json", "attention_band.json", "shardy_paddle_oneflow.json"}) {
    std::set<std::string> kinds;  // one case for each operator or kind is enough
    for (const Json& test : cases_of(name)) {
      const bool rejected = test["kind"].get<std::string>().starts_with("reject");
      if (name == "shardy_paddle_oneflow.json" && !rejected) continue;
      if (!kinds
               .insert(test["kind"].get<std::string>() + test.value("op", "") +
                       (test.contains("expect") && test["expect"].contains("error") ? "!" : ""))
               .second)
        continue;
      const Json flat = test.flatten();
      for (const auto& [pointer, value] : flat.items()) {
        for (const Json& replacement : junk) {
          Json damaged = test;
          damaged[Json::json_pointer(pointer)] = replacement;
          replay_one(damaged);
          ++replayed;
        }
      }
      for (const auto& [key, value] : test.items()) {
        Json damaged = test;
        damaged.erase(key);
        replay_one(damaged);
        for (const Json& replacement : junk) {
          damaged[key] = replacement;
          replay_one(damaged);
          ++replayed;
        }
      }
    }
  }
  EXPECT_GT(replayed, 5000U);
}

TEST(DeviationList, TurnsFailuresIntoDeviationsAndStaleOnesIntoFailures) {
  const Json right = matmul(kSplitBoth, kSplitFirst, kSum);
  const Json wrong = matmul(kSplitBoth, kSplitFirst, {{"error", true}});
  const Deviations deviations{{"mm", "because"}};
  EXPECT_EQ(replay_one(wrong, deviations), (Outcome{.id = "mm",
                                                    .verdict = Verdict::kDeviation,
                                                    .expected = "refused",
                                                    .got = "[dp, -] partial(mp: sum)",
                                                    .reason = "because"}));
  EXPECT_EQ(replay_one(right, deviations),
            (Outcome{.id = "mm",
                     .verdict = Verdict::kFailed,
                     .expected = "a deviation: because",
                     .got = "[dp, -] partial(mp: sum) (stale deviation: it does not differ)"}));
  Json skipped = right;
  skipped["op"] = "no_such_operator";
  EXPECT_EQ(replay_one(skipped, deviations).verdict, Verdict::kSkipped);
}

TEST(DeviationList, RefusesWhatIsNone) {
  const auto fault = [](const char* text) { return text_of([&] { read_deviations(text); }); };
  EXPECT_EQ(fault("[]"), "no error");
  EXPECT_EQ(fault("{}"), R"(expected a list of deviations, as [{"id": "...", "reason": "..."}], found an object)");
  EXPECT_EQ(fault("[3]"), "expected a deviation, as {\"id\": \"...\", \"reason\": \"...\"}, found 3\n  at         /0");
  EXPECT_EQ(fault(R"([{"id": "a"}])"), "key 'reason' is missing\n  at         /0");
  EXPECT_EQ(fault(R"([{"id": "a", "reason": " "}])"), "the deviation of 'a' has no reason\n  at         /0/reason");
  EXPECT_EQ(fault(R"([{"id": "a", "reason": "b"}, {"id": "a", "reason": "c"}])"),
            "'a' is listed twice\n  at         /1/id");
  EXPECT_EQ(fault(R"([{"id": "a", "raeson": "b"}])"),
            "unknown key 'raeson'\n  at         /0/raeson\n  hint       did you mean 'reason'?");
}

TEST(Corpus, RefusesWhatIsNone) {
  const auto fault = [](const char* text) { return text_of([&] { replay(text, "c", catalogue()); }); };
  EXPECT_EQ(fault(" \n"), "the corpus is empty\n  hint       begin with {\"cases\": [...]}");
  EXPECT_EQ(fault("[]"), R"(expected a corpus, as {"cases": [...]}, found an empty list)");
  EXPECT_EQ(fault("{}"), "key 'cases' is missing");
  EXPECT_EQ(fault(R"({"cases": 3})"), "expected a list of cases, found 3\n  at         /cases");
  EXPECT_EQ(fault("{\"cases\": 3,}"),
            "the config is no JSON: line 1, column 13: unexpected '}'; expected string literal\n"
            "  line 1     {\"cases\": 3,}\n"
            "                         ^");
}

}  // namespace
}  // namespace tessera::conformance
