// The command: exit statuses, what is written where, and the texts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/tensor/npy.h"
#include "tests/tools/tool_case.h"

namespace tessera::tools {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

json parsed(const Ran& ran) { return json::parse(ran.out); }

std::string path_to(const std::string& name) { return (std::filesystem::path(testing::TempDir()) / name).string(); }

std::string written(const std::string& name, const std::string& text) {
  const std::string path = path_to(name);
  std::ofstream(path) << text;
  return path;
}

TEST(Command, refuses_what_it_does_not_know) {
  struct Case {
    std::vector<std::string> arguments;
    const char* said;
  };
  const Case cases[] = {
      {{"chekc", "x"},
       "tessera: no command is called 'chekc'\n  hint       did you mean 'check'?\n  usage      `tessera --help` tells "
       "more\n"},
      {{"check", "--repare", "x"},
       "tessera: The following argument was not expected: --repare\n  hint       did you mean '--repair'?\n  usage      "
       "`tessera check --help` tells more\n"},
      {{"check"}, "tessera: files is required\n  usage      `tessera check --help` tells more\n"},
      {{"run", "-", "--strict", "--repair"},
       "tessera: --strict excludes --repair\n  usage      `tessera run --help` tells more\n"},
      {{"check", "no/such/file"}, "tessera: cannot read no/such/file: No such file or directory\n"},
      {{"run", "no/such/file"}, "tessera: cannot read no/such/file: No such file or directory\n"},
      {{"run", "/"}, "tessera: cannot read /: it is a folder\n"},
      {{"check", "-", "--rank", "4"}, "tessera: --rank 4: the mesh (dp=2 x tp=2, 4 devices) has no such rank\n"},
  };
  for (const Case& c : cases) {
    const Ran ran = run_tool(c.arguments, kConfig);
    EXPECT_EQ(ran.status, kUsage) << testing::PrintToString(c.arguments);
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err, c.said);
  }
  EXPECT_EQ(run_tool({"run", "-", "--seed", "many"}, kConfig).status, kUsage);
  EXPECT_EQ(run_tool({"run", "-", "--seed", "-1"}, kConfig).status, kUsage);
  EXPECT_EQ(run_tool({"run", "-", "extra"}, kConfig).status, kUsage);
  EXPECT_EQ(run_tool({"--json"}).status, kUsage);
  const Ran bare = run_tool({});
  EXPECT_EQ(bare.status, kUsage);
  EXPECT_THAT(bare.err, testing::MatchesRegex("tessera: no command is given\n  hint       known: check, run, ops[a-z, ]*\n"
                                              "  usage      `tessera --help` tells more\n"));
}

TEST(Command, refuses_libraries_that_add_nothing) {
  const Ran ran = run_tool({"ops", "--library", "libm.so.6"});
  EXPECT_EQ(ran.status, kFault);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err,
            "tessera: libm.so.6 has neither a function tessera_register nor tessera_provide\n"
            "  hint       define extern \"C\" void tessera_register(tessera::Registry&) for operators, void "
            "tessera_provide() for "
            "kernels\n");
  const Ran missing = run_tool({"ops", "--library", "no/such/library.so"});
  EXPECT_EQ(missing.status, kUsage);
  EXPECT_THAT(missing.err, StartsWith("tessera: cannot load no/such/library.so: "));
}

TEST(Command, helps) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--help"},
                                                    {"check", "--help"},
                                                    {"run", "--help"},
                                                    {"ops", "--help"},
                                                    {"check", "-", "--help"}}) {
    const Ran ran = run_tool(arguments);
    EXPECT_EQ(ran.status, kFine);
    EXPECT_THAT(ran.out, HasSubstr("Usage: tessera"));
    EXPECT_EQ(ran.err, "");
  }
}

TEST(Check, prints_tables) {
  const Ran ran = run_tool({"check", "-"}, kConfig);
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(ran.out, R"(standard input: mesh dp=2 x tp=2, 4 devices

op 0: matmul
          tensor  dtype  shape    layout                    local shape  per rank
  x       x       f32    [8, 16]  [dp, tp]                  [4, 8]          128 B
  w       w       f32    [16, 4]  [tp, -]                   [8, 4]          128 B
  -> out  y       f32    [8, 4]   [dp, -] partial(tp: sum)  [4, 4]           64 B

ok: 1 op, 0 diagnostics
)");
}

TEST(Check, prints_diagnostics_and_repairs) {
  const Ran strict = run_tool({"check", "-", "--strict"}, kFaulty);
  EXPECT_EQ(strict.status, kFault);
  EXPECT_EQ(strict.out, R"(standard input: mesh dp=2 x tp=2, 4 devices

op 0: softmax   not planned

softmax: factor i must be whole, but x splits it over 'tp'
  rule       x[b i] -> out[b i] | whole i
  x          [dp, tp]   at /tensors/x/layout/1
  hint       reshard x to [dp, -]

failed: 1 op, 1 diagnostic
)");
  const Ran repaired = run_tool({"check", "-", "--repair"}, kFaulty);
  EXPECT_EQ(repaired.status, kFine);
  EXPECT_EQ(repaired.out, R"(standard input: mesh dp=2 x tp=2, 4 devices

op 0: softmax
          tensor  dtype  shape    layout   local shape  per rank
  x       x       f32    [8, 16]  [dp, -]  [4, 16]         256 B
  -> out  y       f32    [8, 16]  [dp, -]  [4, 16]         256 B
  reshard x from [dp, tp] to [dp, -]: 128 B per rank

ok: 1 op, 0 diagnostics
)");
}

TEST(Check, shows_one_ranks_view) {
  const std::string config = R"({"mesh": {"shape": [2, 2], "names": ["dp", "cp"]}, "tensors": {
    "a": {"shape": [4, 16], "layout": ["dp", {"axes": ["cp"], "distribution": "head_tail"}]},
    "b": {"shape": [1000000000000], "layout": [{"axes": ["cp"], "distribution": {"cyclic": 2}}]},
    "c": {"shape": [1], "dtype": "i64", "layout": ["dp"]}, "d": {"shape": []}}})";
  const Ran ran = run_tool({"check", "-", "--rank", "3"}, config);
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(ran.out, R"(standard input: mesh dp=2 x cp=2, 4 devices

rank 3 at (dp=1, cp=1)
  tensor  layout              local shape       bytes  global indices
  a       [dp, cp:head_tail]  [2, 8]             64 B  [2:4, 4:12]
  b       [cp:cyclic(2)]      [500000000000]  1.8 TiB  [2:4 every 4 (250000000000 blocks)]
  c       [dp]                [0]                 0 B  [none]
  d       []                  []                  4 B  []

ok: 0 ops, 0 diagnostics
)");
  const json view = parsed(run_tool({"check", "-", "--rank", "3", "--json"}, config))["rank"];
  EXPECT_EQ(view["coordinate"], (json{{"dp", 1}, {"cp", 1}}));
  EXPECT_EQ(view["tensors"][1]["indices"], json::parse(R"([{"intervals": [[2, 4]], "count": 250000000000, "step": 4}])"));
  EXPECT_EQ(view["tensors"][2]["indices"], json::parse(R"([{"intervals": [], "count": 0}])"));
}

TEST(Check, writes_json) {
  const Ran ran = run_tool({"check", "-", "--json", "--repair"}, kFaulty);
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(parsed(ran), json::parse(R"({
    "ok": true, "diagnostics": [],
    "ops": [{
      "op": "softmax", "ok": true,
      "inputs": [{"tensor": "x", "operand": "x", "dtype": "f32", "shape": [8, 16], "layout": [["dp"], []], "distribution": ["block", "block"],
                  "partial": {}, "text": "[dp, -]", "local_shape": [4, 16], "bytes_per_rank": 256}],
      "outputs": [{"tensor": "y", "operand": "out", "dtype": "f32", "shape": [8, 16], "layout": [["dp"], []], "distribution": ["block", "block"],
                   "partial": {}, "text": "[dp, -]", "local_shape": [4, 16], "bytes_per_rank": 256}],
      "redistributions": [{"op": "softmax", "operand": "x", "tensor": "x", "bytes_per_rank": 128,
        "from": {"layout": [["dp"], ["tp"]], "distribution": ["block", "block"], "partial": {}, "text": "[dp, tp]"},
        "to": {"layout": [["dp"], []], "distribution": ["block", "block"], "partial": {}, "text": "[dp, -]"}}]
    }]})"));
  const json partial = parsed(run_tool({"check", "-", "--json"}, kConfig));
  EXPECT_EQ(partial["ops"][0]["outputs"][0]["partial"], (json{{"tp", "sum"}}));
}

TEST(Check, writes_diagnostics_as_json) {
  const Ran ran = run_tool({"check", "-", "--json"}, kFaulty);
  EXPECT_EQ(ran.status, kFault);
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(parsed(ran), json::parse(R"({
    "ok": false, "ops": [{"op": "softmax", "ok": false, "inputs": [], "outputs": [], "redistributions": []}],
    "diagnostics": [{"code": "factor-not-whole", "op": "softmax", "operand": "x", "dim": 1, "factor": "i", "axes": ["tp"],
      "message": "factor i must be whole, but x splits it over 'tp'", "hint": "reshard x to [dp, -]", "pointer": "/tensors/x/layout/1",
      "details": [{"label": "rule", "text": "x[b i] -> out[b i] | whole i", "pointer": ""},
                  {"label": "x", "text": "[dp, tp]", "pointer": "/tensors/x/layout/1"}]}]})"));
  const json broken = parsed(run_tool({"check", "-", "--json"}, "{\xff"));
  EXPECT_EQ(broken["diagnostics"][0]["code"], "json-syntax");
  EXPECT_TRUE(broken["diagnostics"][0]["dim"].is_null());
}

TEST(Check, takes_several_files) {
  const std::string good = written("tessera_good.json", kConfig);
  const std::string bad = written("tessera_bad.json", kFaulty);
  const Ran text = run_tool({"check", good, bad});
  EXPECT_EQ(text.status, kFault);
  EXPECT_THAT(text.out, StartsWith(good + ": mesh dp=2 x tp=2, 4 devices\n"));
  EXPECT_THAT(text.out, HasSubstr("ok: 1 op, 0 diagnostics\n\n" + bad + ": mesh"));
  const Ran missing = run_tool({"check", "--json", "no/such/file", good});
  EXPECT_EQ(missing.status, kUsage);
  const json files = parsed(missing);
  EXPECT_EQ(files["ok"], false);
  EXPECT_EQ(files["files"][0]["file"], "no/such/file");
  EXPECT_EQ(files["files"][0]["diagnostics"][0]["code"], "file-open");
  EXPECT_EQ(files["files"][1]["ok"], true);
  std::remove(good.c_str());
  std::remove(bad.c_str());
}

TEST(Check, colours_only_where_it_may) {
  EXPECT_THAT(run_tool({"check", "-"}, kFaulty, true).out,
              HasSubstr("\033[1;31msoftmax: factor i must be whole, but x splits it over 'tp'\033[0m\n"));
  EXPECT_THAT(run_tool({"check", "-"}, kFaulty).out, testing::Not(HasSubstr("\033")));
  EXPECT_EQ(run_tool({"check", "-", "--json"}, kFaulty, true).out, run_tool({"check", "-", "--json"}, kFaulty).out);
}

TEST(Run, prints_errors_communication_and_balance) {
  const Ran ran = run_tool({"run", "-"}, R"({"mesh": {"shape": [2], "names": ["dp"]},
    "tensors": {"table": {"shape": [3, 4]}, "ids": {"shape": [5], "dtype": "i32", "layout": ["dp"]}},
    "ops": [{"op": "pick", "inputs": ["table", "ids"], "outputs": ["rows"]}]})");
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(ran.out, R"(standard input: mesh dp=2, 2 ranks

  output  max abs error  max rel error  tolerance
  rows                0              0      2e-06  ok

  no communication
  work of the busiest rank over the mean: 1.200

ok: 1 output as unsharded, on 2 ranks
)");
}

TEST(Run, writes_json) {
  const Ran ran = run_tool({"run", "-", "--json", "--repair", "--seed", "4"}, R"({"mesh": {"shape": [2], "names": ["tp"]},
    "tensors": {"table": {"shape": [4, 2], "layout": ["tp", null]}, "ids": {"shape": [2], "dtype": "i32"}},
    "ops": [{"op": "pick", "inputs": ["table", "ids"], "outputs": ["rows"]}]})");
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(parsed(ran), json::parse(R"({
    "ok": true, "ranks": 2, "diagnostics": [], "balance": {"max_over_mean_flops": 1.0},
    "outputs": [{"tensor": "rows", "max_abs_error": 0.0, "max_rel_error": 0.0, "tolerance": 2e-6}],
    "communication": [{"op": "pick", "schedule": "redistribute", "collective": "all_to_all", "calls": 1, "bytes_per_rank": 16}]})"));
}

TEST(Run, says_why_it_cannot) {
  const Ran ran = run_tool({"run", "-"}, kFaulty);
  EXPECT_EQ(ran.status, kFault);
  EXPECT_EQ(ran.out, R"(standard input: mesh dp=2 x tp=2, 4 ranks

softmax: factor i must be whole, but x splits it over 'tp'
  rule       x[b i] -> out[b i] | whole i
  x          [dp, tp]   at /tensors/x/layout/1
  hint       reshard x to [dp, -]

failed: 1 diagnostic
)");
  EXPECT_EQ(parsed(run_tool({"run", "-", "--json"}, kFaulty))["ok"], false);
}

TEST(Run, fails_where_the_numbers_differ) {
  const std::string config =
      R"({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [4], "layout": ["dp"]}},
    "ops": [{"op": "liar", "inputs": ["x"], "outputs": ["y"]}]})";
  const Ran ran = run_tool({"run", "-"}, config);
  EXPECT_EQ(ran.status, kFault);
  EXPECT_THAT(ran.out, HasSubstr("  y                   1            inf      2e-06  differs\n"));
  EXPECT_THAT(ran.out, HasSubstr("\nfailed: 1 of 1 output differ from the unsharded computation\n"));
  const json report = parsed(run_tool({"run", "-", "--json"}, config));
  EXPECT_EQ(report["ok"], false);
  EXPECT_TRUE(report["outputs"][0]["max_rel_error"].is_null()) << "JSON has no infinity";
}

TEST(Run, reads_and_writes_folders) {
  const std::string folder = path_to("tessera_command_run");
  std::filesystem::create_directories(folder);
  save_npy(Tensor::of<float>({1, 1}, {2.F}), std::filesystem::path(folder) / "x.npy");
  const std::string config = R"({"mesh": {"shape": [1], "names": ["dp"]}, "tensors": {"x": {"shape": [1, 1]}},
    "ops": [{"op": "matmul", "inputs": ["x", "x"], "outputs": ["y"]}]})";
  EXPECT_EQ(run_tool({"run", "-", "--inputs", folder, "--outputs", folder}, config).status, kFine);
  EXPECT_EQ(load_npy(std::filesystem::path(folder) / "y.npy").at<float>({0, 0}), 4.F);
  EXPECT_EQ(run_tool({"run", "-", "--inputs", folder + "/none"}, config).status, kUsage);
  EXPECT_EQ(run_tool({"run", "-", "--outputs", "/dev/null/none"}, config).status, kUsage);
  std::filesystem::remove_all(folder);
}

TEST(Ops, lists_the_catalogue) {
  const Ran ran = run_tool({"ops"});
  EXPECT_EQ(ran.status, kFine);
  EXPECT_EQ(ran.out, R"(  op       rule
  broken   x[m] -> out[m]
  liar     x[m] -> out[m]
  linear   x[m k], w[k n], bias[n]? -> out[m n] | linear x w + bias
  matmul   x[m k], w[k n] -> out[m n] | linear x w
  moments  x[b i] -> mean[b], size[b] | whole i
  pick     table[v d], ids[n] -> out[n d] | whole v
  softmax  x[b i] -> out[b i] | whole i

7 ops; `tessera ops NAME` tells more of one
)");
  EXPECT_EQ(parsed(run_tool({"ops", "--json"}))["ops"].size(), 7U);
}

TEST(Ops, tells_all_of_one) {
  EXPECT_EQ(run_tool({"ops", "mm", "softmax"}).out, R"(matmul: matrix product
  rule       x[m k], w[k n] -> out[m n] | linear x w
  aliases    mm

  factor  meaning
  m       rows
  k       contracted
  n       columns

  example on mesh dp=2 x tp=2
  operand  given
  x        f32 [8, 16] [dp, tp]
  w        f32 [16, 4] [tp, -]

softmax
  rule       x[b i] -> out[b i] | whole i
  kernel     none: it can be checked, but not run

  attribute  type    default  meaning
  axis       int     -1       must be the last; also called dim
  mode       string  exact    one of exact, fast
)");
  EXPECT_EQ(run_tool({"ops", "-"}, "softmax\n").out, run_tool({"ops", "softmax"}).out);
}

TEST(Ops, writes_json) {
  EXPECT_EQ(parsed(run_tool({"ops", "softmax", "--json"})), json::parse(R"({"ops": [{
    "name": "softmax", "aliases": [], "summary": "", "rule": "x[b i] -> out[b i] | whole i", "rule_depends_on_call": false, "runs": false,
    "factors": {}, "examples": [],
    "attributes": [
      {"name": "axis", "type": "int", "default": -1, "required": false, "choices": [], "aliases": ["dim"], "doc": "must be the last"},
      {"name": "mode", "type": "string", "default": "exact", "required": false, "choices": ["exact", "fast"], "aliases": [], "doc": ""}]}]})"));
}

TEST(Ops, knows_no_other) {
  const Ran ran = run_tool({"ops", "sofmax"});
  EXPECT_EQ(ran.status, kFault);
  EXPECT_EQ(ran.err, "tessera: no operator is called 'sofmax'\n  hint       did you mean 'softmax'?\n");
}

TEST(Command, says_when_nothing_can_be_written) {
  std::istringstream in;
  std::ostringstream err;
  std::ostream out(nullptr);
  Console console{.in = in, .out = out, .err = err};
  EXPECT_EQ(run_command(std::vector<std::string>{"ops"}, console, small_ops::registry()), kUsage);
  EXPECT_EQ(err.str(), "tessera: cannot write to standard output\n");
}

}  // namespace
}  // namespace tessera::tools
