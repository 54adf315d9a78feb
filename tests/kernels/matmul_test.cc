// Matrix products against plain loops.
#include <limits>

#include "kernels/dense.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

// The element of an operand that broadcasts: leading dims that it lacks, or that have size 1, repeat.
double broadcast_number(const Tensor& tensor, Index batch, std::int64_t row, std::int64_t col) {
  Index index(batch.end() - (tensor.rank() - 2), batch.end());
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = tensor.shape()[i] == 1 ? 0 : index[i];
  index.push_back(row);
  index.push_back(col);
  return number(tensor, index);
}

void expect_product(const Tensor& x, const Tensor& w, bool transpose_x, bool transpose_w, const Shape& shape, DType dtype) {
  const std::int64_t k = x.size(x.rank() - (transpose_x ? 2 : 1));
  expect_elements(matmul(x, w, transpose_x, transpose_w), shape, dtype, [&](const Index& i) {
    const Index batch(i.begin(), i.end() - 2);
    const std::int64_t m = i[i.size() - 2];
    const std::int64_t n = i[i.size() - 1];
    double sum = 0;
    for (std::int64_t j = 0; j < k; ++j) {
      sum += (transpose_x ? broadcast_number(x, batch, j, m) : broadcast_number(x, batch, m, j)) *
             (transpose_w ? broadcast_number(w, batch, n, j) : broadcast_number(w, batch, j, n));
    }
    return sum;
  });
}

TEST(Matmul, AgreesWithPlainLoopsForEveryTransposition) {
  for (bool transpose_x : {false, true}) {
    for (bool transpose_w : {false, true}) {
      for (const auto& [m, k, n] : {std::tuple(1, 1, 1), std::tuple(3, 4, 5), std::tuple(1, 7, 2), std::tuple(17, 33, 9)}) {
        const Tensor x = sample(transpose_x ? Shape{k, m} : Shape{m, k}, DType::kF64, 1);
        const Tensor w = sample(transpose_w ? Shape{n, k} : Shape{k, n}, DType::kF64, 2);
        SCOPED_TRACE(to_string(x) + " times " + to_string(w));
        expect_product(x, w, transpose_x, transpose_w, {m, n}, DType::kF64);
        expect_product(restrided(x), restrided(w), transpose_x, transpose_w, {m, n}, DType::kF64);
      }
    }
  }
}

TEST(Matmul, BroadcastsLeadingDims) {
  struct Case {
    Shape x, w, out;
  };
  for (const Case& c : {Case{{2, 3, 4}, {4, 5}, {2, 3, 5}}, Case{{3, 4}, {2, 4, 5}, {2, 3, 5}},
                        Case{{2, 1, 3, 4}, {6, 4, 5}, {2, 6, 3, 5}}, Case{{1, 2, 3, 4}, {7, 1, 4, 1}, {7, 2, 3, 1}}}) {
    SCOPED_TRACE(to_string(c.out));
    expect_product(sample(c.x, DType::kF64, 1), sample(c.w, DType::kF64, 2), false, false, c.out, DType::kF64);
    expect_product(restrided(sample(c.x, DType::kF64, 1)), sample(c.w, DType::kF64, 2), false, false, c.out, DType::kF64);
  }
}

TEST(Matmul, RoundsOnceToThePromotedDtype) {
  for (DType x : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    for (DType w : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(std::string(to_string(x)) + " with " + std::string(to_string(w)));
      expect_product(sample({4, 16}, x, 1), sample({16, 3}, w, 2), false, false, {4, 3}, promote(x, w));
    }
  }
}

TEST(Matmul, IntegersAreExactAndWrap) {
  const std::int64_t odd = (std::int64_t{1} << 53) + 1;  // no double
  const Tensor x = Tensor::of<std::int64_t>({1, 2}, {odd, 1});
  EXPECT_EQ(matmul(x, Tensor::of<std::int64_t>({2, 1}, {1, 1})).at<std::int64_t>({0, 0}), odd + 1);
  EXPECT_EQ(matmul(x, Tensor::of<std::int64_t>({2, 1}, {-1, 0})).at<std::int64_t>({0, 0}), -odd);
  const Tensor largest = Tensor::of<std::int64_t>({1, 2}, {std::numeric_limits<std::int64_t>::max(), 1});
  EXPECT_EQ(matmul(largest, Tensor::of<std::int32_t>({2, 1}, {1, 1})).at<std::int64_t>({0, 0}),
            std::numeric_limits<std::int64_t>::min());
  const Tensor bools = Tensor::of<bool>({2, 2}, {true, true, false, true});
  EXPECT_TRUE(same_bits(matmul(bools, bools), Tensor::of<bool>({2, 2}, {true, true, false, true})));
  EXPECT_EQ(matmul(Tensor::of<std::int32_t>({1, 1}, {3}), Tensor::of<float>({1, 1}, {0.5f})).at<float>({0, 0}), 1.5f);
}

TEST(Matmul, AnyDimMayBeEmpty) {
  for (const auto& [m, k, n] : {std::tuple(0, 2, 3), std::tuple(2, 0, 3), std::tuple(2, 3, 0), std::tuple(0, 0, 0)}) {
    const Tensor out = matmul(sample({m, k}, DType::kF32, 1), sample({k, n}, DType::kF32, 2));
    EXPECT_TRUE(same_bits(out, Tensor::zeros({m, n}, DType::kF32)));
  }
  EXPECT_EQ(matmul(sample({0, 2, 3}, DType::kF32, 1), sample({3, 4}, DType::kF32, 2)).shape(), Shape({0, 2, 4}));
}

TEST(Matmul, ErrorsNameOperandsDimsAndSizes) {
  const auto run = [](const Shape& x, const Shape& w, bool transpose_x = false, bool transpose_w = false) {
    return [=] { matmul(Tensor::zeros(x, DType::kF32), Tensor::zeros(w, DType::kF32), transpose_x, transpose_w); };
  };
  expect_error(run({2, 3}, {4, 5}), "shape-mismatch",
               "matmul: w has size 4 in dim 0 (k), but x has size 3 in its dim 1\n"
               "  hint       x is [..., m, k] and w is [..., k, n]: give both the same k");
  expect_error(run({7, 2, 3}, {4, 5}, true, true), "shape-mismatch",
               "matmul: w has size 5 in dim 1 (k), but x has size 2 in its dim 1\n"
               "  hint       x is [..., k, m] and w is [..., n, k]: give both the same k");
  expect_error(run({3}, {3, 5}), "shape-mismatch",
               "matmul: x [3] has 1 dims, but must have 2 or more\n"
               "  hint       reshape x to a matrix");
  expect_error(run({2, 3, 2, 3}, {4, 3, 5}), "broadcast",
               "matmul: x has size 3 in dim 1, but w has size 4 in its dim 0, and neither is 1\n"
               "  hint       make the two sizes equal, or one of them 1");
}

}  // namespace
}  // namespace tessera::kernels
