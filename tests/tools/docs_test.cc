// The configs of docs/config.md: each is checked, with the catalogue's operators.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "core/program/check.h"
#include "core/program/read_program.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

std::vector<std::string> configs_of(const std::string& path) {
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string begin = "```json\n";
  std::vector<std::string> configs;
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
    const std::size_t first = at + begin.size();
    configs.push_back(text.substr(first, text.find("```", first) - first));
  }
  return configs;
}

// Run from the project's root.
TEST(Docs, show_configs_that_hold) {
  const std::vector<std::string> configs = configs_of("docs/config.md");
  ASSERT_GE(configs.size(), 4U);
  for (const std::string& config : configs) {
    for (const Diagnostic& diagnostic : check(read_program(config, catalogue()), Policy::kStrict).diagnostics) {
      ADD_FAILURE() << config << to_string(diagnostic);
    }
  }
}

}  // namespace
}  // namespace tessera
