// What the command shows while it works.
#include "tools/output.h"

#include <gtest/gtest.h>

#include <sstream>

namespace tessera::tools {
namespace {

TEST(ProgressBar, FillsAsWorkIsDone) {
  EXPECT_EQ(progress_bar(0, 8), "[------------------------] 0 of 8");
  EXPECT_EQ(progress_bar(3, 8), "[#########---------------] 3 of 8");
  EXPECT_EQ(progress_bar(8, 8), "[########################] 8 of 8");
  EXPECT_EQ(progress_bar(7, 56), "[###---------------------]  7 of 56");
  EXPECT_EQ(progress_bar(0, 0), "[########################] 0 of 0");
}

std::string shown(bool interactive, std::chrono::milliseconds patience) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  const Console console{.in = in, .out = out, .err = err, .interactive = interactive};
  {
    Progress progress(console, patience);
    progress(1, 2, "4 ranks: matmul");
  }
  EXPECT_EQ(out.str(), "");
  return err.str();
}

TEST(Progress, IsShownOnATerminalOnceItTakesLong) {
  EXPECT_EQ(shown(true, std::chrono::milliseconds(0)),
            "\r\033[K[############------------] 1 of 2  4 ranks: matmul\r\033[K");
  EXPECT_EQ(shown(true, std::chrono::hours(1)), "");
  EXPECT_EQ(shown(false, std::chrono::milliseconds(0)), "");
}

}  // namespace
}  // namespace tessera::tools
