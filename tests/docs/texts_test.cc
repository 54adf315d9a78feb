// What the README and the documents show is true: their C++ stands in an example, which is compiled and run; their commands print what is
// printed below them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "ops/catalogue.h"
#include "tools/command.h"

namespace tessera {
namespace {

using Lines = std::vector<std::string>;

Lines lines_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  Lines lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string trimmed(const std::string& line) {
  const std::size_t begin = line.find_first_not_of(' ');
  return begin == std::string::npos ? "" : line.substr(begin, line.find_last_not_of(' ') + 1 - begin);
}

// The fenced blocks of that kind.
std::vector<Lines> blocks_of(const Lines& text, const std::string& kind) {
  std::vector<Lines> blocks;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != "```" + kind) continue;
    blocks.emplace_back();
    while (++i < text.size() && text[i] != "```") blocks.back().push_back(text[i]);
  }
  return blocks;
}

std::vector<std::filesystem::path> texts() {
  std::vector<std::filesystem::path> paths{"README.md"};
  for (const auto& entry : std::filesystem::directory_iterator("docs")) {
    if (entry.path().extension() == ".md") paths.push_back(entry.path());
  }
  return paths;
}

bool stands_in(const Lines& block, const Lines& file) {
  Lines wanted;
  Lines there;
  for (const std::string& line : block) wanted.push_back(trimmed(line));
  for (const std::string& line : file) there.push_back(trimmed(line));
  return std::search(there.begin(), there.end(), wanted.begin(), wanted.end()) != there.end();
}

TEST(Texts, ShowCodeThatIsCompiledAndRun) {
  std::vector<Lines> examples;
  for (const auto& entry : std::filesystem::directory_iterator("examples")) examples.push_back(lines_of(entry.path()));
  std::size_t shown = 0;
  for (const auto& path : texts()) {
    for (const Lines& block : blocks_of(lines_of(path), "cpp")) {
      ++shown;
      const bool found =
          std::any_of(examples.begin(), examples.end(), [&](const Lines& file) { return stands_in(block, file); });
      EXPECT_TRUE(found) << path << ": no example has\n" << testing::PrintToString(block);
    }
  }
  EXPECT_GE(shown, 4U);
}

// Errors of roundings depend on the machine's instruction set; that they are within their tolerance, the command says.
std::string without_roundings(const std::string& text) {
  return std::regex_replace(text, std::regex(" +([0-9.]+e-[0-9]+|0)(?= )"), " #");
}

TEST(Texts, ShowWhatTheCommandPrints) {
  std::size_t run = 0;
  for (const auto& path : texts()) {
    for (const Lines& block : blocks_of(lines_of(path), "console")) {
      ASSERT_FALSE(block.empty());
      const std::string prompt = "$ tessera ";
      ASSERT_TRUE(block[0].starts_with(prompt)) << path << ": " << block[0];
      std::istringstream words(block[0].substr(prompt.size()));
      std::vector<std::string> arguments;
      for (std::string word; words >> word;) arguments.push_back(word);
      std::string expected;
      for (std::size_t i = 1; i < block.size(); ++i) expected += block[i] + "\n";
      std::istringstream in;
      std::ostringstream out;
      std::ostringstream err;
      tools::Console console{.in = in, .out = out, .err = err};
      tools::run_command(arguments, console, catalogue());
      EXPECT_EQ(without_roundings(out.str() + err.str()), without_roundings(expected)) << path << ": " << block[0];
      ++run;
    }
  }
  EXPECT_GE(run, 2U);
}

}  // namespace
}  // namespace tessera
