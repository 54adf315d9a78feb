// `tessera conformance`: its output and exit statuses.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "ops/catalogue.h"
#include "tools/command.h"

namespace tessera::tools {
namespace {

struct Result {
  int status = 0;
  std::string out;
  std::string err;
};

Result conformance(std::vector<std::string> arguments, const std::string& in = {}) {
  std::istringstream input(in);
  std::ostringstream out;
  std::ostringstream err;
  Console console{.in = input, .out = out, .err = err};
  arguments.insert(arguments.begin(), "conformance");
  const int status = run_command(arguments, console, catalogue());
  return {status, out.str(), err.str()};
}

constexpr char kRight[] =
    R"({"cases": [{"id": "a", "op": "relu", "mesh_shape": [2], "mesh_dim_names": ["dp"], "inputs": [{"alias": ["dp"]}], "expect": {"outputs": [{"alias": ["dp"]}]}}]})";
constexpr char kWrong[] =
    R"({"cases": [{"id": "a", "op": "relu", "mesh_shape": [2], "mesh_dim_names": ["dp"], "inputs": [{"alias": ["dp"]}], "expect": {"outputs": [{"alias": ["None"]}]}}]})";

TEST(Conformance, CountsAndShowsDifferences) {
  const Result right = conformance({"-"}, kRight);
  EXPECT_EQ(right.status, kFine);
  EXPECT_EQ(right.out, "1 passed, 0 failed, 0 skipped\n");
  const Result wrong = conformance({"-"}, kWrong);
  EXPECT_EQ(wrong.status, kFault);
  EXPECT_EQ(wrong.out, "failed a\n  expected   [-]\n  got        [dp]\n0 passed, 1 failed, 0 skipped\n");
}

TEST(Conformance, TakesDeviations) {
  const Result result =
      conformance({"tests/conformance/hyperparallel.json", "--deviations", "tests/conformance/deviations.json", "--json"});
  EXPECT_EQ(result.status, kFine);
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["failed"], 0);
  EXPECT_EQ(json["passed"].get<int>() + json["skipped"].get<int>() + json["deviations"].get<int>(), 317);
  EXPECT_TRUE(json["failures"].empty());
}

TEST(Conformance, WritesFailuresAsJson) {
  const Result result = conformance({"--json", "-"}, kWrong);
  EXPECT_EQ(result.status, kFault);
  EXPECT_EQ(nlohmann::json::parse(result.out),
            nlohmann::json::parse(R"({"passed": 0, "failed": 1, "skipped": 0, "deviations": 0, "diagnostics": [],
                                      "failures": [{"id": "a", "expected": "[-]", "got": "[dp]"}]})"));
}

TEST(Conformance, SaysWhyCasesAreSkipped) {
  const Result result = conformance({"--skipped", "-"}, R"({"cases": [{"kind": "dance"}, {"kind": "dance"}]})");
  EXPECT_EQ(result.status, kFine);
  EXPECT_EQ(result.out, "skipped 2 cases: cases of kind 'dance' are not replayed\n0 passed, 0 failed, 2 skipped\n");
}

TEST(Conformance, BrokenFilesAreFaultsAndMissingOnesUsage) {
  const Result broken = conformance({"-"}, "{}");
  EXPECT_EQ(broken.status, kFault);
  EXPECT_EQ(broken.err, "tessera: -: key 'cases' is missing\n");
  const Result missing = conformance({"no_such_file.json", "-"}, kRight);
  EXPECT_EQ(missing.status, kUsage);
  EXPECT_EQ(missing.out, "1 passed, 0 failed, 0 skipped\n");
  EXPECT_EQ(missing.err, "tessera: no_such_file.json: cannot read no_such_file.json: No such file or directory\n");
  EXPECT_EQ(conformance({"-", "--deviations", "no_such_file.json"}, kRight).status, kUsage);
  EXPECT_EQ(conformance({}).status, kUsage);
}

}  // namespace
}  // namespace tessera::tools
