// support/text.h: carets, the nearest name, lists, bytes.
#include "support/text.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using Names = std::vector<std::string>;

TEST(WithCaret, MarksTheFault) {
  EXPECT_EQ(with_caret("m k, k n -> m q", 14), "m k, k n -> m q\n              ^");
  EXPECT_EQ(with_caret("abc", 0, 3), "abc\n^^^");
  EXPECT_EQ(with_caret("abc", 3), "abc\n   ^");
  EXPECT_EQ(with_caret("abc", 1, 0), "abc\n ^");
  EXPECT_EQ(with_caret("", 0), "\n^");
}

TEST(Nearest, IsTheNameOfFewestEdits) {
  const Names names{"matmul", "softmax", "linear", "sdpa"};
  EXPECT_EQ(nearest("matmul", names), "matmul");
  EXPECT_EQ(nearest("mamtul", names), "matmul");   // two neighbours swapped
  EXPECT_EQ(nearest("matmu", names), "matmul");    // one missing
  EXPECT_EQ(nearest("mattmul", names), "matmul");  // one too many
  EXPECT_EQ(nearest("sofmaxx", names), "softmax");
  EXPECT_EQ(nearest("lenear", names), "linear");
}

TEST(Nearest, IsNothingWhereNoneIsNear) {
  const Names names{"matmul", "softmax"};
  EXPECT_EQ(nearest("conv", names), "");
  EXPECT_EQ(nearest("mxxxul", names), "");  // three of six letters
  EXPECT_EQ(nearest("matmul", {}), "");
  EXPECT_EQ(nearest(std::string(100'000, 'm'), names), "");
}

TEST(Nearest, OfATieIsTheFirst) {
  EXPECT_EQ(nearest("ep", Names{"dp", "tp"}), "dp");
  EXPECT_EQ(nearest("ep", Names{"tp", "dp"}), "tp");
}

TEST(DidYouMean, NamesTheNearestElseAShortList) {
  EXPECT_EQ(did_you_mean("mamtul", Names{"softmax", "matmul"}), "did you mean 'matmul'?");
  EXPECT_EQ(did_you_mean("conv", Names{"softmax", "matmul"}), "known: softmax, matmul");
  EXPECT_EQ(did_you_mean("conv", Names(12, "matmul")),
            "known: matmul, matmul, matmul, matmul, matmul, matmul, matmul, matmul, matmul, matmul, matmul, matmul");
  EXPECT_EQ(did_you_mean("conv", Names(13, "matmul")), "");
  EXPECT_EQ(did_you_mean("conv", {}), "");
}

TEST(Lists, AreJoined) {
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join(Names{"a"}), "a");
  EXPECT_EQ(join(Names{"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(join(Names{"a", "b"}, "+"), "a+b");
  EXPECT_EQ(enumerate({}), "");
  EXPECT_EQ(enumerate(Names{"a"}), "a");
  EXPECT_EQ(enumerate(Names{"a", "b"}), "a and b");
  EXPECT_EQ(enumerate(Names{"a", "b", "c"}), "a, b and c");
}

TEST(FormatBytes, ShowsAFewFigures) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(10 * 1024), "10 KiB");
  EXPECT_EQ(format_bytes(999 * 1024), "999 KiB");
  EXPECT_EQ(format_bytes(1000 * 1024), "1.0 MiB");
  EXPECT_EQ(format_bytes(4 << 20), "4.0 MiB");
  EXPECT_EQ(format_bytes(std::int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(format_bytes(std::int64_t{5} << 40), "5.0 TiB");
  EXPECT_EQ(format_bytes(std::int64_t{7} << 50), "7.0 PiB");
}

}  // namespace
}  // namespace tessera
