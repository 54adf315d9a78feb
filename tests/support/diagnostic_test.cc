// support/diagnostic.h: how a fault is told.
#include "support/diagnostic.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(DiagnosticText, OfAMessageAloneIsTheMessage) {
  EXPECT_EQ(to_string(Diagnostic{.code = "a-code", .message = "this is wrong"}), "this is wrong");
}

TEST(DiagnosticText, ShowsWhatWhereAndTheFix) {
  Diagnostic diagnostic{.code = "factor-not-whole",
                        .message = "factor n (query heads) must be whole, but query splits it over 'tp'",
                        .op = "sparse_flash_attention"};
  diagnostic.details = {{"rule", "query[b s n d], ... | whole t n d k c g", ""},
                        {"query", "[dp, cp, tp, -]", "/tensors/query/layout/2"}};
  diagnostic.hint = "reshard query to [dp, cp, -, -]";
  diagnostic.pointer = "/tensors/query/layout/2";
  EXPECT_EQ(to_string(diagnostic),
            "sparse_flash_attention: factor n (query heads) must be whole, but query splits it over 'tp'\n"
            "  rule       query[b s n d], ... | whole t n d k c g\n"
            "  query      [dp, cp, tp, -]   at /tensors/query/layout/2\n"
            "  hint       reshard query to [dp, cp, -, -]");
}

TEST(DiagnosticText, PutsAPointerThatNoDetailShowsOnALineOfItsOwn) {
  Diagnostic diagnostic{.code = "c", .message = "m"};
  diagnostic.pointer = "/mesh/shape/0";
  diagnostic.details = {{"text", "x", ""}};
  diagnostic.hint = "h";
  EXPECT_EQ(to_string(diagnostic), "m\n  text       x\n  at         /mesh/shape/0\n  hint       h");
}

TEST(DiagnosticText, KeepsTheLinesOfATextInTheirColumn) {
  Diagnostic diagnostic{.code = "c", .message = "m"};
  diagnostic.details = {{"text", "[dp, qp]\n     ^^", ""}};
  EXPECT_EQ(to_string(diagnostic), "m\n  text       [dp, qp]\n                  ^^");
}

TEST(DiagnosticText, WidensTheLabelsToTheLongest) {
  Diagnostic diagnostic{.code = "c", .message = "m"};
  diagnostic.details = {{"a", "1", ""}, {"sparse_indices", "2\n3", ""}};
  EXPECT_EQ(to_string(diagnostic), "m\n  a              1\n  sparse_indices 2\n                 3");
}

TEST(Fail, ThrowsAnErrorWithTheDiagnosticAndItsText) {
  const Diagnostic diagnostic{.code = "c", .message = "m", .op = "o"};
  try {
    fail(diagnostic);
  } catch (const Error& error) {
    EXPECT_EQ(error.diagnostic(), diagnostic);
    EXPECT_STREQ(error.what(), "o: m");
  }
  EXPECT_THROW(fail(diagnostic), std::exception);
}

TEST(Fail, TakesACodeAMessageAndAHint) {
  try {
    fail("a-code", "a message", "a hint");
  } catch (const Error& error) {
    EXPECT_EQ(error.diagnostic().code, "a-code");
    EXPECT_EQ(error.diagnostic().message, "a message");
    EXPECT_EQ(error.diagnostic().hint, "a hint");
    EXPECT_EQ(error.diagnostic().dim, -1);
    EXPECT_STREQ(error.what(), "a message\n  hint       a hint");
  }
  EXPECT_THROW(fail("a-code", "a message"), Error);
}

}  // namespace
}  // namespace tessera
