// Conversion of elements: rounded once, saturating, NaN-safe.
#include "core/tensor/convert.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T>
T from_bits(unsigned bits) {
  return Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>(bits));
}
template <class T>
unsigned bits_of(T value) {
  return Eigen::numext::bit_cast<std::uint16_t>(value);
}

template <class T>
struct Small : testing::Test {};
using SmallFloats = testing::Types<BFloat16, Half>;
TYPED_TEST_SUITE(Small, SmallFloats, );

// Bits of +infinity: those below it are the finite numbers from 0 up, one after another.
template <class T>
constexpr unsigned kInfinityBits = 0x7c00;
template <>
constexpr unsigned kInfinityBits<BFloat16> = 0x7f80;

TYPED_TEST(Small, EveryValueSurvivesAWiderType) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto value = from_bits<TypeParam>(bits);
    if (std::isnan(static_cast<float>(value))) {
      EXPECT_TRUE(std::isnan(static_cast<float>(convert_to<TypeParam>(convert_to<double>(value))))) << bits;
      EXPECT_TRUE(std::isnan(static_cast<float>(convert_to<TypeParam>(convert_to<float>(value))))) << bits;
    } else {
      ASSERT_EQ(bits_of(convert_to<TypeParam>(convert_to<double>(value))), bits);
      ASSERT_EQ(bits_of(convert_to<TypeParam>(convert_to<float>(value))), bits);
    }
  }
}

// For every two neighbours: their middle goes to the even one, and the doubles next to the middle to the nearer one. The
// floats next to it are further away than the doubles, so a rounding by way of float fails here.
TYPED_TEST(Small, DoublesRoundOnceToNearestEven) {
  for (unsigned bits = 0; bits < kInfinityBits<TypeParam>; ++bits) {
    const double low = convert_to<double>(from_bits<TypeParam>(bits));
    // Past the largest finite number the grid goes on as if there were no infinity.
    const bool last = bits + 1 == kInfinityBits<TypeParam>;
    const double high = last ? 2 * low - convert_to<double>(from_bits<TypeParam>(bits - 1))
                             : convert_to<double>(from_bits<TypeParam>(bits + 1));
    const double middle = low + (high - low) / 2;
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    for (const double sign : {1.0, -1.0}) {
      const unsigned sign_bit = sign < 0 ? 0x8000 : 0;
      ASSERT_EQ(bits_of(convert_to<TypeParam>(sign * middle)), even | sign_bit) << middle;
      ASSERT_EQ(bits_of(convert_to<TypeParam>(sign * std::nextafter(middle, -1.0))), bits | sign_bit) << middle;
      ASSERT_EQ(bits_of(convert_to<TypeParam>(sign * std::nextafter(middle, kInfinity))), (bits + 1) | sign_bit) << middle;
      ASSERT_EQ(bits_of(convert_to<TypeParam>(static_cast<float>(sign * middle))), even | sign_bit) << middle;
    }
  }
}

TYPED_TEST(Small, InfinitiesAndNanStay) {
  EXPECT_EQ(convert_to<float>(convert_to<TypeParam>(kInfinity)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(convert_to<float>(convert_to<TypeParam>(-kInfinity)), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(convert_to<float>(convert_to<TypeParam>(1e300)), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(convert_to<float>(convert_to<TypeParam>(kNan))));
  EXPECT_TRUE(std::isnan(convert_to<float>(convert_to<TypeParam>(std::numeric_limits<float>::signaling_NaN()))));
  EXPECT_EQ(bits_of(convert_to<TypeParam>(-0.0)), 0x8000u);
  EXPECT_EQ(bits_of(convert_to<TypeParam>(1e-300)), 0u);
}

TEST(ConvertTest, HalfwayInFloatIsNotHalfwayInDouble) {
  const double above = 1 + 0x1p-8 + 0x1p-40;  // in bf16 between 1 and 1 + 2^-7
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(above)), 1 + 0x1p-7);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(static_cast<float>(above))), 1.0)
      << "by way of float it goes the other way";
  const double half_above = 1 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(convert_to<double>(convert_to<Half>(half_above)), 1 + 0x1p-10);
  EXPECT_EQ(convert_to<double>(convert_to<Half>(static_cast<float>(half_above))), 1.0);
}

TEST(ConvertTest, IntegersRoundOnceToo) {
  // 2^62 + 2^54 is the middle of the bf16 neighbours 2^62 and 2^62 + 2^55; one more is beyond a double's 53 bits.
  constexpr std::int64_t kMiddle = (std::int64_t{1} << 62) + (std::int64_t{1} << 54);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(kMiddle - 1)), 0x1p62);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(kMiddle)), 0x1p62);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(kMiddle + 1)), 0x1p62 + 0x1p55);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(-kMiddle - 1)), -0x1p62 - 0x1p55);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(std::numeric_limits<std::int64_t>::min())), -0x1p63);
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(std::numeric_limits<std::int64_t>::max())), 0x1p63);
  // 2^30 + 2^22 likewise for i32; one more is beyond a float's 24 bits.
  EXPECT_EQ(convert_to<double>(convert_to<BFloat16>(std::int32_t{(1 << 30) + (1 << 22) + 1})), 0x1p30 + 0x1p23);
  EXPECT_EQ(convert_to<double>(convert_to<Half>(std::int32_t{2049})), 2048.0);
  EXPECT_EQ(convert_to<double>(convert_to<Half>(std::int64_t{2051})), 2052.0);
  EXPECT_EQ(convert_to<float>(convert_to<Half>(std::int64_t{70000})), std::numeric_limits<float>::infinity());
}

template <class To>
void check_integers() {
  constexpr To kMost = std::numeric_limits<To>::max(), kLeast = std::numeric_limits<To>::min();
  EXPECT_EQ(convert_to<To>(2.9), 2);
  EXPECT_EQ(convert_to<To>(-2.9), -2);
  EXPECT_EQ(convert_to<To>(-2.9f), -2);
  EXPECT_EQ(convert_to<To>(BFloat16(-2.5f)), -2);
  EXPECT_EQ(convert_to<To>(Half(2.5f)), 2);
  EXPECT_EQ(convert_to<To>(1e30), kMost);
  EXPECT_EQ(convert_to<To>(-1e30f), kLeast);
  EXPECT_EQ(convert_to<To>(kInfinity), kMost);
  EXPECT_EQ(convert_to<To>(-kInfinity), kLeast);
  EXPECT_EQ(convert_to<To>(kNan), 0);
  EXPECT_EQ(convert_to<To>(true), 1);
  const double end = -static_cast<double>(kLeast);
  EXPECT_EQ(convert_to<To>(end), kMost);
  EXPECT_EQ(convert_to<To>(-end), kLeast);
  EXPECT_EQ(convert_to<To>(std::nextafter(-end, -kInfinity)), kLeast);
}

TEST(ConvertTest, FloatsToIntegersTowardsZeroSaturating) {
  check_integers<std::int32_t>();
  check_integers<std::int64_t>();
  EXPECT_EQ(convert_to<std::int32_t>(2147483647.5), 2147483647);
  EXPECT_EQ(convert_to<std::int32_t>(-2147483648.5), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(convert_to<std::int64_t>(0x1p63 - 1024), 9223372036854774784);
}

TEST(ConvertTest, IntegersSaturate) {
  EXPECT_EQ(convert_to<std::int32_t>(std::int64_t{1} << 31), 2147483647);
  EXPECT_EQ(convert_to<std::int32_t>(-(std::int64_t{1} << 31) - 1), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(convert_to<std::int32_t>(std::int64_t{-7}), -7);
  EXPECT_EQ(convert_to<std::int64_t>(std::int32_t{-7}), -7);
}

TEST(ConvertTest, ToBoolIsNotZero) {
  EXPECT_FALSE(convert_to<bool>(-0.0));
  EXPECT_FALSE(convert_to<bool>(Half(0.0f)));
  EXPECT_FALSE(convert_to<bool>(std::int64_t{0}));
  EXPECT_TRUE(convert_to<bool>(1e-320));
  EXPECT_TRUE(convert_to<bool>(kNan));
  EXPECT_TRUE(convert_to<bool>(BFloat16(-0.5f)));
  EXPECT_TRUE(convert_to<bool>(std::int64_t{1} << 40));
}

TEST(ConvertTest, FromBoolIsOne) {
  EXPECT_EQ(convert_to<double>(true), 1.0);
  EXPECT_EQ(convert_to<float>(false), 0.0f);
  EXPECT_EQ(convert_to<float>(convert_to<BFloat16>(true)), 1.0f);
  EXPECT_EQ(convert_to<float>(convert_to<Half>(true)), 1.0f);
}

}  // namespace
}  // namespace tessera
