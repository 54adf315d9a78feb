// Eigen's maps of tensors.
#include "core/tensor/eigen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace tessera {
namespace {

using testing::StrEq;
using testing::ThrowsMessage;

TEST(EigenTest, MapsAnyStrides) {
  const Tensor tensor = Tensor::of<float>({2, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  for (const Tensor& view :
       {tensor.select(0, 1), tensor.select(1, 2), tensor.select(2, 1), tensor.select(0, 1).permute({1, 0}),
        tensor.select(1, 0).slice(0, 0, 1).broadcast_to({3, 2}), tensor.select(0, 0).slice(0, 1, 1)}) {
    const ConstMatrixMap<float> map = matrix_map<float>(view);
    ASSERT_EQ(map.rows(), view.size(0));
    ASSERT_EQ(map.cols(), view.size(1));
    for (std::int64_t i = 0; i < view.size(0); ++i) {
      for (std::int64_t j = 0; j < view.size(1); ++j) EXPECT_EQ(map(i, j), view.at<float>({i, j}));
    }
  }
}

TEST(EigenTest, WritesThroughTheMap) {
  Tensor tensor = Tensor::zeros({3, 4}, DType::kF64);
  Tensor view = tensor.slice(1, 1, 3).permute({1, 0});
  matrix_map<double>(view) << 1, 2, 3,  //
      4, 5, 6;
  EXPECT_THAT(tensor.span<double>(), testing::ElementsAre(0, 1, 4, 0, 0, 2, 5, 0, 0, 3, 6, 0));
}

TEST(EigenTest, MultipliesMaps) {
  const Tensor a = Tensor::of<double>({2, 3}, {1, 2, 3, 4, 5, 6});
  const RowMajorMatrix<double> product = matrix_map<double>(a) * matrix_map<double>(std::as_const(a).permute({1, 0}));
  EXPECT_EQ(product, (RowMajorMatrix<double>(2, 2) << 14, 32, 32, 77).finished());
}

TEST(EigenTest, CopiesAnyDTypeToDoubles) {
  const Tensor tensor = Tensor::of<double>({2, 3}, {0, 1, 2, 3, 4, 5});
  const RowMajorMatrix<double> wanted = (RowMajorMatrix<double>(3, 2) << 0, 3, 1, 4, 2, 5).finished();
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32, DType::kI64}) {
    EXPECT_EQ(to_matrix(tensor.to(dtype).permute({1, 0})), wanted) << to_string(dtype);
  }
  EXPECT_EQ(to_matrix(tensor.to(DType::kBool)).sum(), 5);
  EXPECT_EQ(to_matrix(Tensor::zeros({0, 3}, DType::kF32)).cols(), 3);
}

TEST(EigenTest, RefusesOtherRanksAndDTypes) {
  const Tensor tensor = Tensor::zeros({2, 3}, DType::kF32);
  EXPECT_THAT([] { to_matrix(Tensor()); }, ThrowsMessage<Error>(StrEq("f32 [0] is no matrix: it has 1 dims\n"
                                                                      "  hint       select or reshape until it has 2")));
  EXPECT_THAT([&] { matrix_map<double>(tensor); },
              ThrowsMessage<Error>(StrEq("f32 [2, 3] cannot be seen as a matrix of f64\n"
                                         "  hint       convert it first")));
}

}  // namespace
}  // namespace tessera
