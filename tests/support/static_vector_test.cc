// support/static_vector.h: held against std::vector.
#include "support/static_vector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

static_assert(std::is_trivially_copyable_v<StaticVector<int, 4>>);
static_assert(sizeof(StaticVector<std::uint8_t, 7>) == 8);
static_assert(StaticVector<int, 3>{1, 2}.size() == 2);
static_assert(StaticVector<int, 3>{1, 2} == StaticVector<int, 3>{1, 2});
static_assert(StaticVector<int, 3>::capacity() == 3);

TEST(StaticVector, IsMadeOfValuesARangeOrACopyOfOne) {
  const std::vector<int> values{4, 5, 6};
  EXPECT_THAT((StaticVector<int, 4>{1, 2}), ElementsAre(1, 2));
  EXPECT_THAT((StaticVector<int, 4>(values.begin(), values.end())), ElementsAre(4, 5, 6));
  EXPECT_THAT((StaticVector<std::int64_t, 4>(std::size_t{3}, 7)), ElementsAre(7, 7, 7));
  EXPECT_TRUE((StaticVector<int, 4>().empty()));
}

TEST(StaticVector, KnowsWhenItIsFull) {
  StaticVector<int, 2> vector{1};
  EXPECT_FALSE(vector.full());
  vector.push_back(2);
  EXPECT_TRUE(vector.full());
  vector.pop_back();
  EXPECT_THAT(vector, ElementsAre(1));
  vector.clear();
  EXPECT_TRUE(vector.empty());
}

TEST(StaticVector, HoldsMoreThan255) {
  StaticVector<int, 300> vector;
  for (int i = 0; i < 300; ++i) vector.push_back(i);
  EXPECT_EQ(vector.size(), 300U);
  EXPECT_EQ(vector.back(), 299);
}

TEST(StaticVector, InsertsAndErasesAsAVectorDoes) {
  for (std::size_t size = 0; size < 5; ++size) {
    for (std::size_t at = 0; at <= size; ++at) {
      StaticVector<int, 6> mine;
      std::vector<int> reference;
      for (std::size_t i = 0; i < size; ++i) {
        mine.push_back(static_cast<int>(i));
        reference.push_back(static_cast<int>(i));
      }
      mine.insert(at, 9);
      reference.insert(reference.begin() + static_cast<std::ptrdiff_t>(at), 9);
      EXPECT_THAT(mine, ElementsAreArray(reference));
      mine.erase(at / 2);
      reference.erase(reference.begin() + static_cast<std::ptrdiff_t>(at / 2));
      EXPECT_THAT(mine, ElementsAreArray(reference));
    }
  }
}

TEST(StaticVector, ComparesWhatIsInIt) {
  StaticVector<int, 4> longer{1, 2, 3};
  longer.pop_back();  // what was there does not count
  EXPECT_EQ(longer, (StaticVector<int, 4>{1, 2}));
  EXPECT_NE(longer, (StaticVector<int, 4>{1}));
  EXPECT_NE(longer, (StaticVector<int, 4>{1, 3}));
}

}  // namespace
}  // namespace tessera
