// The counter-based generator of dropout against published words.
#include "kernels/dropout.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tessera::kernels {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers of Random123, the authors' implementation.
TEST(Philox, GivesThePublishedWords) {
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, 0xffffffffffffffff),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, IsKnownToTheCompiler) {
  constexpr Words kFirst = philox({0, 0, 0, 0}, 0);
  static_assert(kFirst[0] == 0x6627e8d5);
  EXPECT_EQ(kFirst, philox({0, 0, 0, 0}, 0));
}

TEST(DropoutThreshold, IsTheShareOfAllWords) {
  EXPECT_EQ(dropout_threshold(0), 0U);
  EXPECT_EQ(dropout_threshold(0.25), 1U << 30);
  EXPECT_EQ(dropout_threshold(0.5), 1U << 31);
  EXPECT_EQ(dropout_threshold(std::nextafter(1.0, 0.0)), 0xffffffffU);
}

// Words of neighbouring counters fall below the threshold as often as they should, within four standard deviations.
TEST(DropoutThreshold, DropsItsShareOfTheWords) {
  for (double probability : {0.1, 0.5, 0.9}) {
    double dropped = 0;
    for (std::uint32_t block = 0; block < 10000; ++block) {
      for (std::uint32_t word : philox({block, 3, 1, 0}, 42)) dropped += word < dropout_threshold(probability) ? 1 : 0;
    }
    EXPECT_NEAR(dropped / 40000, probability, 4 * std::sqrt(probability * (1 - probability) / 40000));
  }
}

}  // namespace
}  // namespace tessera::kernels
