// Element-wise kernels.
#include <limits>

#include "kernels/dense.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr DType kAll[] = {DType::kBool, DType::kI32, DType::kI64, DType::kBF16, DType::kF16, DType::kF32, DType::kF64};

TEST(Promote, OrdersAllDtypes) {
  for (DType a : kAll) {
    EXPECT_EQ(promote(a, a), a);
    for (DType b : kAll) {
      EXPECT_EQ(promote(a, b), promote(b, a));
      if (is_floating(a) && !is_floating(b)) {
        EXPECT_EQ(promote(a, b), a);
      }
    }
    EXPECT_EQ(promote(a, DType::kF64), DType::kF64);
    EXPECT_EQ(promote(a, DType::kBool), a);
  }
  EXPECT_EQ(promote(DType::kI32, DType::kI64), DType::kI64);
  EXPECT_EQ(promote(DType::kBF16, DType::kF32), DType::kF32);
  EXPECT_EQ(promote(DType::kBF16, DType::kF16), DType::kF32);
}

TEST(Map, KeepsFloatsAndTurnsIntegersIntoF32) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    const Tensor x = sample({2, 3, 4}, dtype, 1);
    for (const Tensor& layout : {x, restrided(x), x.permute({2, 0, 1}).clone().permute({1, 2, 0})}) {
      expect_elements(map(layout, [](double v) { return std::exp(v); }), {2, 3, 4}, dtype,
                      [&](const Index& i) { return std::exp(number(x, i)); });
    }
  }
  expect_elements(map(Tensor::of<std::int32_t>({2}, {1, 3}), [](double v) { return v / 2; }), {2}, DType::kF32,
                  [](const Index& i) { return i[0] == 0 ? 0.5 : 1.5; });
  EXPECT_TRUE(
      same_bits(map(Tensor::of<bool>({2}, {true, false}), [](double v) { return v + 1; }), Tensor::of<float>({2}, {2, 1})));
  EXPECT_EQ(map(Tensor::zeros({0, 3}, DType::kF16), [](double v) { return v; }).shape(), Shape({0, 3}));
  EXPECT_EQ(map(Tensor::of<float>({}, {4.0f}), [](double v) { return std::sqrt(v); }).at<float>({}), 2.0f);
}

// The index into a tensor that broadcasts to `index`.
Index reduced_index(const Tensor& tensor, const Index& index) {
  Index result(index.end() - tensor.rank(), index.end());
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = tensor.shape()[i] == 1 ? 0 : result[i];
  return result;
}

TEST(Zip, Broadcasts) {
  struct Case {
    Shape x, y, out;
  };
  for (const Case& c : {Case{{2, 3}, {2, 3}, {2, 3}}, Case{{2, 1, 3}, {4, 3}, {2, 4, 3}}, Case{{}, {2, 2}, {2, 2}},
                        Case{{3}, {4, 1}, {4, 3}}, Case{{0, 1}, {1, 5}, {0, 5}}, Case{{1}, {0}, {0}}, Case{{}, {}, {}}}) {
    SCOPED_TRACE(to_string(c.x) + " with " + to_string(c.y));
    const Tensor x = sample(c.x, DType::kF32, 1);
    const Tensor y = sample(c.y, DType::kBF16, 2);
    const auto f = [](double a, double b) { return a - 2 * b; };
    const auto expected = [&](const Index& i) { return f(number(x, reduced_index(x, i)), number(y, reduced_index(y, i))); };
    expect_elements(zip(x, y, f), c.out, DType::kF32, expected);
    expect_elements(zip(restrided(x), restrided(y), f, DType::kF64), c.out, DType::kF64, expected);
  }
}

TEST(Zip, ResultHasThePromotedOrTheNamedDtype) {
  const auto greater = [](double a, double b) { return a > b ? 1.0 : 0.0; };
  for (DType a : kAll) {
    for (DType b : kAll) {
      const Tensor x = Tensor::of<float>({2}, {1, 0}).to(a);
      const Tensor y = Tensor::of<float>({2}, {0, 1}).to(b);
      EXPECT_TRUE(same_bits(zip(x, y, greater), Tensor::of<float>({2}, {1, 0}).to(promote(a, b))));
      EXPECT_TRUE(same_bits(zip(x, y, greater, DType::kBool), Tensor::of<bool>({2}, {true, false})));
    }
  }
}

TEST(Zip, ErrorsNameDimsAndSizes) {
  const auto add = [](double a, double b) { return a + b; };
  expect_error(
      [&] {
        zip(Tensor::zeros({2, 3}, DType::kF32), Tensor::zeros({4}, DType::kF32), add);
      },
      "broadcast",
      "zip: x has size 3 in dim 1, but y has size 4 in its dim 0, and neither is 1\n"
      "  hint       make the two sizes equal, or one of them 1");
  expect_error(
      [&] {
        masked_fill(Tensor::zeros({0}, DType::kF32), Tensor::zeros({5, 2}, DType::kBool), 0);
      },
      "broadcast",
      "masked_fill: x has size 0 in dim 0, but mask has size 2 in its dim 1, and neither is 1\n"
      "  hint       make the two sizes equal, or one of them 1");
}

TEST(MaskedFill, FillsWhereTheMaskIsTrue) {
  const Tensor x = sample({2, 1, 3}, DType::kBF16, 1);
  const Tensor mask = Tensor::of<bool>({2, 1}, {true, false});
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Tensor& layout : {x, restrided(x)}) {
    expect_elements(masked_fill(layout, mask, -infinity), {2, 2, 3}, DType::kBF16, [&](const Index& i) {
      return i[1] == 0 ? -infinity : number(x, {i[0], 0, i[2]});
    });
  }
}

TEST(MaskedFill, KeepsEveryDtypeExactly) {
  const std::int64_t odd = (std::int64_t{1} << 53) + 1;  // no double
  const Tensor mask = Tensor::of<std::int32_t>({2}, {0, 7});
  EXPECT_TRUE(
      same_bits(masked_fill(Tensor::of<std::int64_t>({2}, {odd, 1}), mask, 3), Tensor::of<std::int64_t>({2}, {odd, 3})));
  EXPECT_TRUE(same_bits(masked_fill(Tensor::of<bool>({2}, {true, true}), mask, 0), Tensor::of<bool>({2}, {true, false})));
  const Tensor x = Tensor::of<float>({2}, {1.0f, 2.0f});
  EXPECT_TRUE(same_bits(masked_fill(x, mask, 5), Tensor::of<float>({2}, {1.0f, 5.0f})));
  EXPECT_EQ(x.at<float>({1}), 2.0f);  // the input stays as it was
  EXPECT_EQ(masked_fill(Tensor::zeros({0}, DType::kF32), Tensor::zeros({2, 1}, DType::kBool), 1).shape(), Shape({2, 0}));
}

}  // namespace
}  // namespace tessera::kernels
