// Tests of core/comm/reduce.h.
#include "core/comm/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/core/comm/comm_cases.h"

namespace tessera {
namespace {

using namespace comm_cases;

template <class T>
std::vector<T> elements(const Tensor& tensor) {
  return std::vector<T>(tensor.data<T>(), tensor.data<T>() + tensor.count());
}

template <class T>
std::vector<T> reduced(std::vector<std::vector<T>> terms, Reduction reduction) {
  std::vector<Tensor> tensors;
  tensors.reserve(terms.size());
  for (const std::vector<T>& term : terms) {
    tensors.push_back(Tensor::of<T>({static_cast<std::int64_t>(term.size())}, std::span<const T>(term)));
  }
  return elements<T>(reduce(tensors, reduction));
}

TEST(Reduction, HasNames) {
  std::vector<std::string_view> names;
  names.reserve(kReductions.size());
  for (Reduction reduction : kReductions) names.push_back(to_string(reduction));
  EXPECT_EQ(names, (std::vector<std::string_view>{"sum", "avg", "max", "min", "prod", "any", "all"}));
}

TEST(Reduce, Floats) {
  const std::vector<std::vector<float>> terms{{1, -5, 0.5F}, {3, 2, 0.25F}, {-1, 0, 4}};
  EXPECT_EQ(reduced(terms, Reduction::kSum), (std::vector<float>{3, -3, 4.75F}));
  EXPECT_EQ(reduced(terms, Reduction::kAvg), (std::vector<float>{1, -1, 4.75F / 3}));
  EXPECT_EQ(reduced(terms, Reduction::kMax), (std::vector<float>{3, 2, 4}));
  EXPECT_EQ(reduced(terms, Reduction::kMin), (std::vector<float>{-1, -5, 0.25F}));
  EXPECT_EQ(reduced(terms, Reduction::kProd), (std::vector<float>{-3, 0, 0.5F}));
}

TEST(Reduce, TermsInTheirOrder) {
  const float big = 16777216;  // 2^24: adding 1 is lost, adding 2 is not
  EXPECT_EQ(reduced<float>({{big}, {1}, {1}}, Reduction::kSum), std::vector<float>{big});
  EXPECT_EQ(reduced<float>({{1}, {1}, {big}}, Reduction::kSum), std::vector<float>{big + 2});
  EXPECT_EQ(reduced<double>({{big}, {1}, {1}}, Reduction::kSum), std::vector<double>{16777218});
}

TEST(Reduce, HalvesRoundOnce) {
  // 2048 + 1 is 2048 in f16 and 256 + 1 is 256 in bf16, each time; in f32 the ones add up.
  const auto h = [](float value) { return std::vector<Half>{static_cast<Half>(value)}; };
  EXPECT_EQ(reduced<Half>({h(2048), h(1), h(1)}, Reduction::kSum), h(2050));
  const auto b = [](float value) { return std::vector<BFloat16>{static_cast<BFloat16>(value)}; };
  EXPECT_EQ(reduced<BFloat16>({b(256), b(1), b(1)}, Reduction::kSum), b(258));
  // 60000 + 60000 is infinite in f16, the average is not.
  EXPECT_EQ(reduced<Half>({h(60000), h(60000)}, Reduction::kAvg), h(60000));
  EXPECT_EQ(reduced<Half>({h(60000), h(60000)}, Reduction::kSum), h(std::numeric_limits<float>::infinity()));
  EXPECT_EQ(reduced<Half>({h(300), h(300), h(0.125F)}, Reduction::kProd), h(11250));
}

TEST(Reduce, NanInAnyTermGivesNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (Reduction reduction : {Reduction::kSum, Reduction::kAvg, Reduction::kMax, Reduction::kMin, Reduction::kProd}) {
    for (std::size_t at = 0; at < 3; ++at) {
      for (float other : {0.0F, 1.0F, inf, -inf}) {
        for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
          std::vector<Tensor> terms(3, Tensor::of<float>({1}, {other}).to(dtype));
          terms[at] = Tensor::of<float>({1}, {nan}).to(dtype);
          EXPECT_TRUE(std::isnan(reduce(terms, reduction).to(DType::kF32).at<float>({0})))
              << to_string(reduction) << ' ' << to_string(dtype) << " nan at " << at << ", others " << other;
        }
      }
    }
  }
}

TEST(Reduce, IntegersWrapAndAreExact) {
  constexpr std::int64_t kMax64 = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kMin64 = std::numeric_limits<std::int64_t>::min();
  constexpr std::int32_t kMax32 = std::numeric_limits<std::int32_t>::max();
  constexpr std::int32_t kMin32 = std::numeric_limits<std::int32_t>::min();
  using I64 = std::vector<std::vector<std::int64_t>>;
  using I32 = std::vector<std::vector<std::int32_t>>;
  EXPECT_EQ(reduced(I64{{kMax64, kMin64}, {1, -1}}, Reduction::kSum), (std::vector<std::int64_t>{kMin64, kMax64}));
  EXPECT_EQ(reduced(I64{{kMax64, -3}, {2, 5}}, Reduction::kProd), (std::vector<std::int64_t>{-2, -15}));
  EXPECT_EQ(reduced(I64{{kMax64, 7}, {kMin64, 9}}, Reduction::kMin), (std::vector<std::int64_t>{kMin64, 7}));
  EXPECT_EQ(reduced(I64{{kMax64, 7}, {kMin64, 9}}, Reduction::kMax), (std::vector<std::int64_t>{kMax64, 9}));
  EXPECT_EQ(reduced(I32{{kMax32, kMin32}, {1, -1}}, Reduction::kSum), (std::vector<std::int32_t>{kMin32, kMax32}));
  EXPECT_EQ(reduced(I32{{kMax32, -1}, {2, 1}, {-1, 0}}, Reduction::kSum), (std::vector<std::int32_t>{kMin32, 0}));
  EXPECT_EQ(reduced(I32{{kMax32, -3}, {2, 5}}, Reduction::kProd), (std::vector<std::int32_t>{-2, -15}));
  EXPECT_EQ(reduced(I32{{-7, 3}, {2, 5}}, Reduction::kMax), (std::vector<std::int32_t>{2, 5}));
}

TEST(Reduce, Bools) {
  const Tensor a = Tensor::of<bool>({4}, {false, false, true, true});
  const Tensor b = Tensor::of<bool>({4}, {false, true, false, true});
  const std::vector<Tensor> terms{a, b};
  for (Reduction either : {Reduction::kAny, Reduction::kMax}) {
    EXPECT_EQ(elements<bool>(reduce(terms, either)), (std::vector<bool>{false, true, true, true}));
  }
  for (Reduction both : {Reduction::kAll, Reduction::kMin}) {
    EXPECT_EQ(elements<bool>(reduce(terms, both)), (std::vector<bool>{false, false, false, true}));
  }
}

TEST(Reduce, StridedTermsEmptyTermsAndManyElements) {
  const Tensor matrix = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const std::vector<Tensor> columns{matrix.slice(1, 0, 1), matrix.slice(1, 2, 3)};
  EXPECT_TRUE(same(reduce(columns, Reduction::kSum), Tensor::of<float>({2, 1}, {4, 10})));

  const std::vector<Tensor> nothing{Tensor::zeros({0, 3}, DType::kI32), Tensor::zeros({0, 3}, DType::kI32)};
  EXPECT_TRUE(same(reduce(nothing, Reduction::kMax), Tensor::zeros({0, 3}, DType::kI32)));

  for (std::int64_t size : {2047, 2048, 2049, 5000}) {  // around the block in which it works
    const auto ramp = [&](double factor) {
      return filled({size}, DType::kF32, [&](const Shape& index) { return factor * static_cast<double>(index[0]); });
    };
    const std::vector<Tensor> ramps{ramp(1), ramp(2), ramp(4)};
    EXPECT_TRUE(same(reduce(ramps, Reduction::kSum), ramp(7))) << size;
  }
}

TEST(Reduce, SharesNoMemoryWithItsTerms) {
  const std::vector<Tensor> one{Tensor::of<float>({2}, {1, 2})};
  Tensor result = reduce(one, Reduction::kSum);
  result.at<float>({0}) = 9;
  EXPECT_TRUE(same(one[0], Tensor::of<float>({2}, {1, 2})));
}

TEST(Reduce, RefusesWhatTheDtypeLacks) {
  for (DType dtype : kDTypes) {
    for (Reduction reduction : kReductions) {
      const std::string error = error_of([&] { check_reduction(reduction, dtype); });
      EXPECT_EQ(error == "no error", has(dtype, reduction)) << to_string(reduction) << ' ' << to_string(dtype);
    }
  }
  EXPECT_EQ(error_of([] { check_reduction(Reduction::kAvg, DType::kI64); }),
            "comm-reduction: avg is not defined for i64\n"
            "  hint       reduce with sum, or convert the tensor to f64: an average of integers is seldom whole");
  EXPECT_EQ(error_of([] { check_reduction(Reduction::kSum, DType::kBool); }),
            "comm-reduction: sum is not defined for bool\n"
            "  hint       reduce bools with any or all, or convert them to i64");
  EXPECT_EQ(error_of([] { check_reduction(Reduction::kAny, DType::kF32); }),
            "comm-reduction: any is not defined for f32\n"
            "  hint       convert the tensor to bool, or reduce it with max or min");
}

}  // namespace
}  // namespace tessera
