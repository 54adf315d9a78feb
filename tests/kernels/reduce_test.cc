// Reductions against plain loops.
#include <limits>

#include "kernels/dense.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr Reduce kKinds[] = {Reduce::kSum,  Reduce::kMean, Reduce::kMax, Reduce::kMin,
                             Reduce::kProd, Reduce::kAny,  Reduce::kAll};

double reduced(const std::vector<double>& numbers, Reduce kind) {
  double sum = 0, product = 1, max = -kInfinity, min = kInfinity;
  bool any = false, all = true;
  for (double v : numbers) {
    sum += v;
    product *= v;
    max = std::max(max, v);
    min = std::min(min, v);
    any = any || v != 0;
    all = all && v != 0;
  }
  switch (kind) {
    case Reduce::kSum: return sum;
    case Reduce::kMean: return sum / static_cast<double>(numbers.size());
    case Reduce::kMax: return max;
    case Reduce::kMin: return min;
    case Reduce::kProd: return product;
    case Reduce::kAny: return any ? 1 : 0;
    case Reduce::kAll: return all ? 1 : 0;
  }
  return kNan;
}

DType result_dtype(DType dtype, Reduce kind) {
  if (kind == Reduce::kAny || kind == Reduce::kAll) return DType::kBool;
  if (is_floating(dtype)) return dtype;
  if (kind == Reduce::kMean) return DType::kF32;
  return kind == Reduce::kSum || kind == Reduce::kProd ? DType::kI64 : dtype;
}

// Every set of dims of a tensor, kept or not, against a loop over all elements.
void expect_reductions(const Tensor& x, const Tensor& layout) {
  for (unsigned set = 0; set < 1u << x.rank(); ++set) {
    std::vector<int> dims;
    for (int dim = x.rank(); dim > 0; --dim) {  // in any order
      if ((set >> (dim - 1) & 1u) != 0) dims.push_back(dim - 1);
    }
    for (bool keep : {false, true}) {
      Shape shape;
      for (std::size_t dim = 0; dim < x.shape().size(); ++dim) {
        const bool gone = (set >> dim & 1u) != 0;
        if (!gone || keep) shape.push_back(gone ? 1 : x.shape()[dim]);
      }
      for (Reduce kind : kKinds) {
        SCOPED_TRACE(to_string(x) + ", set " + std::to_string(set) + ", kind " + std::to_string(static_cast<int>(kind)));
        expect_elements(reduce(layout, dims, kind, keep), shape, result_dtype(x.dtype(), kind), [&](const Index& i) {
          std::vector<double> numbers;
          for (const Index& from : all_indices(x.shape())) {
            bool here = true;
            std::size_t at = 0;
            for (std::size_t dim = 0; dim < from.size(); ++dim) {
              const bool gone = (set >> dim & 1u) != 0;
              if (!gone) here = here && from[dim] == i[at];
              if (!gone || keep) ++at;
            }
            if (here) numbers.push_back(number(x, from));
          }
          return reduced(numbers, kind);
        });
      }
    }
  }
}

TEST(Reduce, AgreesWithPlainLoopsForEverySetOfDims) {
  const Tensor floats = sample({2, 3, 2}, DType::kF64, 1);
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kBool}) {
    const Tensor x = map(floats, [](double v) { return v * 2; }).to(dtype);
    expect_reductions(x, x);
    expect_reductions(x, restrided(x));
  }
  expect_reductions(Tensor::of<float>({}, {3.0f}), Tensor::of<float>({}, {3.0f}));
}

TEST(Reduce, OfNothingIsTheIdentity) {
  const auto of_nothing = [](DType dtype, Reduce kind) {
    const Tensor result = reduce(Tensor::zeros({2, 0}, dtype), std::vector<int>{1}, kind, false);
    EXPECT_EQ(result.shape(), Shape({2}));
    EXPECT_EQ(result.dtype(), result_dtype(dtype, kind));
    return number(result, {1});
  };
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kBool}) {
    EXPECT_EQ(of_nothing(dtype, Reduce::kSum), 0);
    EXPECT_EQ(of_nothing(dtype, Reduce::kProd), 1);
    EXPECT_TRUE(std::isnan(of_nothing(dtype, Reduce::kMean)));
    EXPECT_EQ(of_nothing(dtype, Reduce::kAny), 0);
    EXPECT_EQ(of_nothing(dtype, Reduce::kAll), 1);
    if (!is_floating(dtype)) continue;
    EXPECT_EQ(of_nothing(dtype, Reduce::kMax), -kInfinity);
    EXPECT_EQ(of_nothing(dtype, Reduce::kMin), kInfinity);
  }
  EXPECT_EQ(of_nothing(DType::kI32, Reduce::kMax), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(of_nothing(DType::kI32, Reduce::kMin), std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(of_nothing(DType::kI64, Reduce::kMax), static_cast<double>(std::numeric_limits<std::int64_t>::min()));
  EXPECT_EQ(of_nothing(DType::kI64, Reduce::kMin), static_cast<double>(std::numeric_limits<std::int64_t>::max()));
  EXPECT_EQ(of_nothing(DType::kBool, Reduce::kMax), 0);
  EXPECT_EQ(of_nothing(DType::kBool, Reduce::kMin), 1);
}

TEST(Reduce, OfNoRowsIsEmpty) {
  for (Reduce kind : kKinds) {
    EXPECT_EQ(reduce(Tensor::zeros({0, 3}, DType::kF32), std::vector<int>{1}, kind, false).shape(), Shape({0}));
    EXPECT_EQ(reduce(Tensor::zeros({0, 3}, DType::kF32), std::vector<int>{1}, kind, true).shape(), Shape({0, 1}));
  }
}

TEST(Reduce, IntegersAreExactAndWrap) {
  const std::int64_t odd = (std::int64_t{1} << 53) + 1;  // no double
  const std::vector<int> dims = {0};
  EXPECT_EQ(reduce(Tensor::of<std::int64_t>({2}, {odd, 1}), dims, Reduce::kSum, false).at<std::int64_t>({}), odd + 1);
  EXPECT_EQ(reduce(Tensor::of<std::int64_t>({2}, {odd, odd - 1}), dims, Reduce::kMax, false).at<std::int64_t>({}), odd);
  EXPECT_EQ(reduce(Tensor::of<std::int64_t>({2}, {odd, 3}), dims, Reduce::kProd, false).at<std::int64_t>({}), 3 * odd);
  const Tensor largest = Tensor::of<std::int64_t>({2}, {std::numeric_limits<std::int64_t>::max(), 1});
  EXPECT_EQ(reduce(largest, dims, Reduce::kSum, false).at<std::int64_t>({}), std::numeric_limits<std::int64_t>::min());
  const Tensor many = Tensor::of<std::int32_t>({2}, {std::numeric_limits<std::int32_t>::max(), 1});
  EXPECT_EQ(reduce(many, dims, Reduce::kSum, false).at<std::int64_t>({}), std::int64_t{1} << 31);  // i32 would wrap
}

TEST(Reduce, ANanIsNotSwallowed) {
  for (const Tensor& x : {Tensor::of<float>({3}, {1, static_cast<float>(kNan), 2}),
                          Tensor::of<float>({3}, {static_cast<float>(kNan), 1, 2})}) {
    for (Reduce kind : {Reduce::kSum, Reduce::kMean, Reduce::kMax, Reduce::kMin, Reduce::kProd}) {
      EXPECT_TRUE(std::isnan(number(reduce(x, std::vector<int>{0}, kind, false), {})));
    }
    EXPECT_TRUE(reduce(x, std::vector<int>{0}, Reduce::kAll, false).at<bool>({}));  // NaN is not zero
  }
}

TEST(Reduce, ErrorsNameDims) {
  const Tensor x = Tensor::zeros({2, 3}, DType::kF32);
  expect_error(
      [&] {
        reduce(x, std::vector<int>{0, 2}, Reduce::kSum, false);
      },
      "dim-out-of-range",
      "reduce: x [2, 3] has no dim 2\n"
      "  hint       name a dim from 0 to 1");
  expect_error(
      [&] {
        reduce(x, std::vector<int>{1, 0, 1}, Reduce::kSum, false);
      },
      "dim-twice",
      "reduce: dim 1 is named twice\n"
      "  hint       name each dim once");
}

}  // namespace
}  // namespace tessera::kernels
