// The configs of configs/: those in invalid/ are refused with the text that lies beside them, the others check, and the small ones run.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/program/check.h"
#include "core/program/read_program.h"
#include "core/program/run.h"
#include "ops/catalogue.h"
#include "tools/command.h"

namespace tessera::tools {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The files of a folder with this ending, by name; run from the project's root.
std::vector<std::string> files(const std::string& folder, const std::string& ending) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(ending))
      paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string joined(const std::vector<Diagnostic>& diagnostics) {
  std::string said;
  for (const Diagnostic& diagnostic : diagnostics) said += (said.empty() ? "" : "\n\n") + to_string(diagnostic);
  return said;
}

// All that is said of a config, an empty line between two diagnostics and a line end behind the last.
TEST(InvalidConfigs, are_refused_in_these_words) {
  const std::vector<std::string> configs = files("configs/invalid", ".json");
  ASSERT_GE(configs.size(), 18U);
  for (const std::string& config : configs) {
    const std::string expected = text_of(std::filesystem::path(config).replace_extension(".txt"));
    ASSERT_NE(expected, "") << config << " has no .txt";
    EXPECT_EQ(joined(check(read_program(text_of(config), catalogue()), Policy::kStrict).diagnostics) + "\n", expected)
        << config;
    EXPECT_TRUE(text_of(config).starts_with("// ")) << config << " does not begin with a comment that says what is wrong";
  }
  EXPECT_EQ(files("configs/invalid", ".txt").size(), configs.size());
}

TEST(InvalidConfigs, are_refused_by_the_command_with_status_1) {
  for (const std::string& config : files("configs/invalid", ".json")) {
    for (const std::string command : {"check", "run"}) {
      std::istringstream in;
      std::ostringstream out;
      std::ostringstream err;
      Console console{.in = in, .out = out, .err = err};
      EXPECT_EQ(run_command(std::vector<std::string>{command, config}, console, catalogue()), kFault)
          << command << ' ' << config;
      const std::string expected = text_of(std::filesystem::path(config).replace_extension(".txt"));
      EXPECT_THAT(out.str(), testing::HasSubstr(expected)) << command << ' ' << config;
      EXPECT_EQ(err.str(), "") << command << ' ' << config;
    }
  }
}

TEST(Configs, check_without_a_diagnostic) {
  const std::vector<std::string> configs = files("configs", ".json");
  ASSERT_FALSE(configs.empty());
  for (const std::string& config : configs) {
    EXPECT_EQ(joined(check(read_program(text_of(config), catalogue()), Policy::kStrict).diagnostics), "") << config;
  }
}

TEST(Configs, that_are_small_run) {
  const std::vector<std::string> configs = files("configs", "_small.json");
  ASSERT_FALSE(configs.empty());
  for (const std::string& config : configs) {
    const RunReport report = run(read_program(text_of(config), catalogue()), {});
    EXPECT_EQ(joined(report.diagnostics), "") << config;
    EXPECT_FALSE(report.outputs.empty()) << config;
    for (const RunOutput& output : report.outputs) {
      EXPECT_TRUE(output.ok()) << config << ' ' << output.tensor << ": " << output.max_rel_error << ", tolerance "
                               << output.tolerance;
    }
  }
}

}  // namespace
}  // namespace tessera::tools
