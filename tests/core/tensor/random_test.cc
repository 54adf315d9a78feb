// Random tensors: the same for everyone, and random.
#include "core/tensor/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/tensor/convert.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::FloatEq;
using testing::StrEq;
using testing::ThrowsMessage;

double correlation(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum / static_cast<double>(a.size());
}

TEST(RandomNormalTest, DependsOnIndexNotOnShape) {
  const Tensor long_one = random_normal({101}, DType::kF64, 7, "query");
  for (const Shape& shape : {Shape{2, 3}, Shape{7}, Shape{1}, Shape{5, 5, 2}, Shape{}, Shape{0}}) {
    const Tensor tensor = random_normal(shape, DType::kF64, 7, "query");
    EXPECT_EQ(tensor.shape(), shape);
    EXPECT_THAT(tensor.span<double>(), ElementsAreArray(long_one.slice(0, 0, tensor.count()).span<double>()));
  }
}

TEST(RandomNormalTest, AllDTypesHoldTheSameNumbersRounded) {
  const Tensor exact = random_normal({1000}, DType::kF64, 7, "query");
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor tensor = random_normal({1000}, dtype, 7, "query");
    EXPECT_EQ(tensor.dtype(), dtype);
    visit_dtype(dtype, [&]<class T>(T) { EXPECT_TRUE(std::ranges::equal(tensor.span<T>(), exact.to(dtype).span<T>())); });
  }
}

TEST(RandomNormalTest, IsNormal) {
  constexpr std::int64_t kCount = 1 << 18;
  const Tensor tensor = random_normal({kCount}, DType::kF64, 1, "x");
  const std::span<const double> x = tensor.span<double>();
  double mean = 0, square = 0, cube = 0, fourth = 0;
  for (double v : x) {
    ASSERT_TRUE(std::isfinite(v));
    mean += v / kCount;
    square += v * v / kCount;
    cube += v * v * v / kCount;
    fourth += v * v * v * v / kCount;
  }
  // Five standard errors of each moment: sqrt(1, 2, 15, 96) / sqrt(count) = sqrt(.) / 512.
  EXPECT_NEAR(mean, 0, 5 * 1.0 / 512);
  EXPECT_NEAR(square, 1, 5 * std::sqrt(2.0) / 512);
  EXPECT_NEAR(cube, 0, 5 * std::sqrt(15.0) / 512);
  EXPECT_NEAR(fourth, 3, 5 * std::sqrt(96.0) / 512);
  for (const double limit : {-2.0, -1.0, -0.3, 0.0, 0.5, 1.5, 2.5}) {
    const auto below = std::count_if(x.begin(), x.end(), [&](double v) { return v < limit; });
    EXPECT_NEAR(static_cast<double>(below) / kCount, 0.5 * std::erfc(-limit / std::sqrt(2.0)), 5 * 0.5 / 512) << limit;
  }
  for (const std::size_t lag : {1u, 2u, 3u, 64u}) {
    EXPECT_NEAR(correlation(x.first(x.size() - lag), x.subspan(lag)), 0, 5 * 1.0 / 511) << lag;
  }
}

TEST(RandomNormalTest, OtherSeedsAndNamesAreIndependent) {
  constexpr std::int64_t kCount = 1 << 14;
  std::vector<Tensor> tensors;
  for (std::uint64_t seed : {0u, 1u, 2u}) {
    for (std::string_view name : {"", "a", "b", "ab", "ba"})
      tensors.push_back(random_normal({kCount}, DType::kF64, seed, name));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NEAR(correlation(tensors[i].span<double>(), tensors[j].span<double>()), 0, 5 * 1.0 / 128) << i << " " << j;
    }
  }
}

TEST(RandomNormalTest, StaysTheSameInEveryVersion) {
  const Tensor tensor = random_normal({4}, DType::kF32, 42, "query");
  EXPECT_THAT(tensor.span<float>(),
              ElementsAre(FloatEq(1.8291433f), FloatEq(-1.0036786f), FloatEq(0.6587720f), FloatEq(-0.46348957f)));
}

TEST(RandomNormalTest, RefusesIntegers) {
  EXPECT_THAT([] { random_normal({2}, DType::kI32, 0, "x"); },
              ThrowsMessage<Error>(StrEq("'x' of dtype i32 cannot hold normal numbers\n"
                                         "  hint       use f64, f32, f16 or bf16, or draw integers")));
}

TEST(RandomIntegersTest, DependsOnIndexNotOnShapeOrDType) {
  const Tensor long_one = random_integers({100}, DType::kI64, -5, 17, 3, "ids");
  for (DType dtype : {DType::kI64, DType::kI32, DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    const Tensor tensor = random_integers({3, 5}, dtype, -5, 17, 3, "ids");
    EXPECT_EQ(tensor.dtype(), dtype);
    EXPECT_THAT(tensor.to(DType::kI64).span<std::int64_t>(),
                ElementsAreArray(long_one.slice(0, 0, 15).span<std::int64_t>()));
  }
}

TEST(RandomIntegersTest, AreEquallyLikely) {
  constexpr std::int64_t kCount = 70000;
  const Tensor tensor = random_integers({kCount}, DType::kI32, -3, 4, 0, "x");
  std::vector<int> histogram(7, 0);
  for (std::int32_t v : tensor.span<std::int32_t>()) ++histogram.at(static_cast<std::size_t>(v) + 3);
  for (int n : histogram) EXPECT_NEAR(n, 10000, 5 * std::sqrt(10000 * 6.0 / 7));
}

TEST(RandomIntegersTest, CoversWideRangesEvenly) {
  // 3 * 2^62 numbers: a third of them in each part, which a plain remainder of 64 bits would give as 1/2, 1/4, 1/4.
  constexpr std::int64_t kPart = std::int64_t{1} << 62;
  const Tensor tensor = random_integers({30000}, DType::kI64, -2 * kPart, kPart, 0, "x");
  std::vector<int> histogram(3, 0);
  for (std::int64_t v : tensor.span<std::int64_t>()) {
    ASSERT_LT(v, kPart);
    ++histogram.at(v < -kPart ? 0 : v < 0 ? 1 : 2);
  }
  for (int n : histogram) EXPECT_NEAR(n, 10000, 5 * std::sqrt(30000 * 2.0 / 9));
}

TEST(RandomIntegersTest, FillsWholeDTypes) {
  const Tensor bools = random_integers({64}, DType::kBool, 0, 2, 0, "mask");
  EXPECT_THAT(bools.span<bool>(), testing::AllOf(testing::Contains(true), testing::Contains(false)));
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  EXPECT_EQ(random_integers({2}, DType::kI64, kLeast, kLeast + 1, 0, "x").span<std::int64_t>()[1], kLeast);
  EXPECT_EQ(random_integers({2}, DType::kI32, 2147483647, 2147483648, 0, "x").span<std::int32_t>()[1], 2147483647);
  EXPECT_EQ(convert_to<float>(random_integers({1}, DType::kBF16, 256, 257, 0, "x").span<BFloat16>()[0]), 256);
  EXPECT_EQ(convert_to<float>(random_integers({1}, DType::kF16, -2048, -2047, 0, "x").span<Half>()[0]), -2048);
}

TEST(RandomIntegersTest, StaysTheSameInEveryVersion) {
  const Tensor tensor = random_integers({6}, DType::kI32, 0, 1000, 42, "ids");
  EXPECT_THAT(tensor.span<std::int32_t>(), ElementsAre(358, 26, 848, 359, 720, 649));
}

TEST(RandomIntegersTest, RefusesEmptyAndInexactRanges) {
  EXPECT_THAT([] { random_integers({2}, DType::kI32, 5, 5, 0, "ids"); },
              ThrowsMessage<Error>(StrEq("'ids' cannot be drawn from [5, 5), which is empty\n"
                                         "  hint       low must be below high")));
  EXPECT_THAT([] { random_integers({2}, DType::kBF16, 0, 258, 0, "ids"); },
              ThrowsMessage<Error>(StrEq("'ids' of dtype bf16 cannot hold all integers of [0, 258)\n"
                                         "  hint       its integers are exact from -256 to 256")));
  EXPECT_THAT([] { random_integers({2}, DType::kBool, -1, 1, 0, "ids"); },
              ThrowsMessage<Error>(StrEq("'ids' of dtype bool cannot hold all integers of [-1, 1)\n"
                                         "  hint       its integers are exact from 0 to 1")));
  EXPECT_THAT([] { random_integers({2}, DType::kI32, -2147483649, 1, 0, "ids"); },
              ThrowsMessage<Error>(StrEq("'ids' of dtype i32 cannot hold all integers of [-2147483649, 1)\n"
                                         "  hint       its integers are exact from -2147483648 to 2147483647")));
}

}  // namespace
}  // namespace tessera
