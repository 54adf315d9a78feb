// Softmax and normalisation against plain loops.
#include <limits>

#include "kernels/dense.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr DType kFloats[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16};

// log(sum of exp) of the row that an index lies in.
double log_sum(const Tensor& x, Index index, int dim) {
  double sum = 0;
  for (std::int64_t j = 0; j < x.size(dim); ++j) {
    index[static_cast<std::size_t>(dim)] = j;
    sum += std::exp(number(x, index));
  }
  return std::log(sum);
}

TEST(Softmax, AgreesWithPlainLoopsAlongEveryDim) {
  for (DType dtype : kFloats) {
    const Tensor x = sample({2, 3, 4}, dtype, 1);
    for (int dim = 0; dim < 3; ++dim) {
      for (const Tensor& layout : {x, restrided(x)}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", dim " + std::to_string(dim));
        expect_elements(softmax(layout, dim), {2, 3, 4}, dtype,
                        [&](const Index& i) { return std::exp(number(x, i) - log_sum(x, i, dim)); });
        expect_elements(log_softmax(layout, dim), {2, 3, 4}, dtype,
                        [&](const Index& i) { return number(x, i) - log_sum(x, i, dim); });
      }
    }
  }
}

TEST(Softmax, HiddenElementsWeighNothing) {
  const Tensor x = Tensor::of<double>({2, 2}, {-kInfinity, 3.0, -kInfinity, -kInfinity});
  EXPECT_TRUE(same_bits(softmax(x, 1), Tensor::of<double>({2, 2}, {0.0, 1.0, 0.0, 0.0})));
  EXPECT_TRUE(same_bits(log_softmax(x, 1), Tensor::of<double>({2, 2}, {-kInfinity, 0.0, -kInfinity, -kInfinity})));
}

TEST(Softmax, LargeNumbersDoNotOverflow) {
  const Tensor x = Tensor::of<float>({3}, {10000.0f, 10000.0f, -10000.0f});
  EXPECT_TRUE(same_bits(softmax(x, 0), Tensor::of<float>({3}, {0.5f, 0.5f, 0.0f})));
  expect_elements(log_softmax(x, 0), {3}, DType::kF32,
                  [](const Index& i) { return (i[0] < 2 ? 0 : -20000) - std::log(2.0); });
}

TEST(Softmax, ANanIsNotSwallowed) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Tensor& x : {Tensor::of<double>({2}, {nan, 1.0}), Tensor::of<double>({2}, {1.0, nan})}) {
    EXPECT_TRUE(std::isnan(number(softmax(x, 0), {0})) && std::isnan(number(softmax(x, 0), {1})));
  }
}

TEST(Softmax, TakesIntegersAndEmptyDims) {
  EXPECT_TRUE(same_bits(softmax(Tensor::of<std::int64_t>({2, 1}, {7, 9}), 1), Tensor::of<float>({2, 1}, {1.0f, 1.0f})));
  for (int dim : {0, 1}) {
    for (const Shape& shape : {Shape{0, 3}, Shape{3, 0}, Shape{0, 0}}) {
      EXPECT_EQ(softmax(Tensor::zeros(shape, DType::kF32), dim).shape(), shape);
      EXPECT_EQ(log_softmax(Tensor::zeros(shape, DType::kF32), dim).shape(), shape);
    }
  }
}

TEST(Softmax, RefusesADimThatIsNone) {
  expect_error(
      [] {
        softmax(Tensor::zeros({2, 3}, DType::kF32), 2);
      },
      "dim-out-of-range",
      "softmax: x [2, 3] has no dim 2\n"
      "  hint       name a dim from 0 to 1");
  expect_error(
      [] {
        log_softmax(Tensor::zeros({2, 3}, DType::kF32), -1);
      },
      "dim-out-of-range",
      "log_softmax: x [2, 3] has no dim -1\n"
      "  hint       name a dim from 0 to 1");
  expect_error([] { softmax(Tensor::zeros({}, DType::kF32), 0); }, "dim-out-of-range",
               "softmax: x [] has no dim 0\n"
               "  hint       a tensor without dims has none to name");
}

TEST(RmsNorm, AgreesWithPlainLoops) {
  const double epsilon = 1e-3;
  for (DType dtype : kFloats) {
    const DType statistics = dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    const Tensor x = sample({2, 3, 4}, dtype, 1);
    for (int dims = 0; dims <= 3; ++dims) {
      SCOPED_TRACE(std::string(to_string(dtype)) + ", dims " + std::to_string(dims));
      const Shape normalised(x.shape().end() - dims, x.shape().end());
      const Tensor gamma = sample(normalised, DType::kF32, 2);
      const auto inner = [&](const Index& i) { return Index(i.end() - dims, i.end()); };
      const auto root = [&](const Index& i) {
        double squares = 0;
        for (const Index& last : all_indices(normalised)) {
          Index index(i.begin(), i.end() - dims);
          index.insert(index.end(), last.begin(), last.end());
          squares += number(x, index) * number(x, index);
        }
        return std::sqrt(squares / static_cast<double>(gamma.count()) + epsilon);
      };
      Shape rows = x.shape();
      for (int back = 0; back < dims; ++back) rows[static_cast<std::size_t>(2 - back)] = 1;
      for (const Tensor& layout : {x, restrided(x)}) {
        const RmsNormResult result = rms_norm(layout, restrided(gamma), epsilon);
        expect_elements(result.out, {2, 3, 4}, dtype,
                        [&](const Index& i) { return number(x, i) / root(i) * number(gamma, inner(i)); });
        expect_elements(result.rstd, rows, statistics, [&](const Index& i) { return 1 / root(i); });
      }
    }
  }
}

TEST(RmsNorm, DimsMayBeEmpty) {
  const RmsNormResult no_rows = rms_norm(Tensor::zeros({0, 3}, DType::kF32), Tensor::zeros({3}, DType::kF32), 1e-6);
  EXPECT_EQ(no_rows.out.shape(), Shape({0, 3}));
  EXPECT_EQ(no_rows.rstd.shape(), Shape({0, 1}));
  const RmsNormResult no_width = rms_norm(Tensor::zeros({2, 0}, DType::kF32), Tensor::zeros({0}, DType::kF32), 1e-6);
  EXPECT_EQ(no_width.out.shape(), Shape({2, 0}));
  EXPECT_TRUE(std::isnan(number(no_width.rstd, {1, 0})));  // a mean of nothing
}

TEST(RmsNorm, ErrorsNameDimsAndSizes) {
  const auto run = [](const Shape& x, const Shape& gamma, DType dtype = DType::kF32) {
    return [=] { rms_norm(Tensor::zeros(x, dtype), Tensor::zeros(gamma, DType::kF32), 1e-6); };
  };
  expect_error(run({2, 3, 4}, {3, 5}), "shape-mismatch",
               "rms_norm: gamma has size 5 in dim 1, but x has size 4 in its dim 2\n"
               "  hint       give gamma the last dims of x");
  expect_error(run({4}, {2, 4}), "shape-mismatch",
               "rms_norm: gamma [2, 4] has more dims than x [4]\n"
               "  hint       give gamma the last dims of x");
  expect_error(run({4}, {4}, DType::kI32), "dtype",
               "rms_norm: x is i32, but must hold floats\n"
               "  hint       convert x to f32");
}

}  // namespace
}  // namespace tessera::kernels
