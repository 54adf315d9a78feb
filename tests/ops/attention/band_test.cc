#include "ops/attention/band.h"

#include <gtest/gtest.h>

#include "support/diagnostic.h"

namespace tessera {
namespace {

// By definition: query i of lq sees key j of lk iff the mode's inequality holds.
bool sees(std::int64_t mode, std::int64_t pre, std::int64_t next, std::int64_t lq, std::int64_t lk, std::int64_t i,
          std::int64_t j) {
  const std::int64_t shift = mode >= 3 ? lk - lq : 0;
  const std::int64_t distance = j - i - shift;
  switch (mode) {
    case 0:
    case 4: return distance >= -pre && distance <= next;
    case 1: return true;
    default: return distance <= 0;
  }
}

TEST(Band, OfEveryModeSeesWhatItsDefinitionSays) {
  for (std::int64_t mode = 0; mode <= 4; ++mode) {
    for (std::int64_t pre : {-2, 0, 1, 3, 100}) {
      for (std::int64_t next : {-2, 0, 1, 3, 100}) {
        for (std::int64_t lq = 0; lq <= 5; ++lq) {
          for (std::int64_t lk = 0; lk <= 5; ++lk) {
            const Band band = band_of(masking_of_mode(mode, pre, next), lq, lk);
            for (std::int64_t i = 0; i < lq; ++i) {
              const KeyRange range = visible_keys(band, i, lk);
              for (std::int64_t j = 0; j < lk; ++j) {
                EXPECT_EQ(j >= range.begin && j < range.end, sees(mode, pre, next, lq, lk, i, j))
                    << "mode " << mode << " pre " << pre << " next " << next << " lq " << lq << " lk " << lk << " i " << i
                    << " j " << j;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Band, OfUnlimitedTokensHasNoBoundsAndDoesNotOverflow) {
  EXPECT_EQ(band_of(masking_of_mode(0, Masking::kAll, Masking::kAll), 4, 4), Band{});
  EXPECT_EQ(band_of(masking_of_mode(4, Masking::kAll, 2), 4, 6), (Band{std::nullopt, 4}));
  EXPECT_EQ(visible_keys(band_of(masking_of_mode(0, std::numeric_limits<std::int64_t>::min(), 0), 4, 4), 3, 4).begin > 3,
            true);
}

TEST(Band, TranslatesWithTheOffsetsOfAShard) {
  const Band causal = band_of(masking_of_mode(2, 0, 0), 8, 8);
  EXPECT_EQ(translate(causal, 4, 0), (Band{std::nullopt, 4}));
  EXPECT_EQ(translate(causal, 4, 6), (Band{std::nullopt, -2}));
  EXPECT_EQ(translate(Band{-3, 1}, 2, 1), (Band{-2, 2}));
}

TEST(Masking, OfAWindowIsRightDownAndUnlimitedBelowZero) {
  EXPECT_EQ(masking_of_window(3, 0), (Masking{3, 0, true}));
  EXPECT_EQ(masking_of_window(-1, -1), (Masking{Masking::kAll, Masking::kAll, true}));
}

TEST(Masking, RefusesAModeThatIsNone) {
  try {
    masking_of_mode(5, 0, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "sparse_mode is 5, it takes 0 to 4\n"
                 "  hint       0 band, 1 explicit mask, 2 causal from the top left, 3 causal to the bottom right, 4 band "
                 "to the bottom right");
  }
}

}  // namespace
}  // namespace tessera
