// Eigen's view of tensors of two dims.
#pragma once

#include <fmt/core.h>

#include <Eigen/Core>

#include "core/tensor/tensor.h"
#include "support/diagnostic.h"

namespace tessera {

/// A dense matrix in row major order, as contiguous tensors are.
template <class T>
using RowMajorMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Eigen's map of a tensor [rows, columns] of any strides; it owns nothing.
template <class T>
using MatrixMap = Eigen::Map<RowMajorMatrix<T>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
template <class T>
using ConstMatrixMap = Eigen::Map<const RowMajorMatrix<T>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// Checks what `matrix_map` asks of a tensor. @throws Error "rank", "dtype"
inline void check_matrix(const Tensor& tensor, DType dtype) {
  if (tensor.rank() != 2) {
    fail("rank", fmt::format("{} is no matrix: it has {} dims", to_string(tensor), tensor.rank()),
         "select or reshape until it has 2");
  }
  if (tensor.dtype() != dtype) {
    fail("dtype", fmt::format("{} cannot be seen as a matrix of {}", to_string(tensor), to_string(dtype)),
         "convert it first");
  }
}

/// The tensor [rows, columns] as a matrix that shares its memory, valid as long as that. Writing through the map of a tensor
/// that repeats elements is not defined.
/// @throws Error "rank" where it has not two dims, "dtype" where its elements are no T
template <class T>
MatrixMap<T> matrix_map(Tensor& tensor) {
  check_matrix(tensor, kDTypeOf<T>);
  return {tensor.data<T>(), tensor.size(0), tensor.size(1), {tensor.strides()[0], tensor.strides()[1]}};
}
template <class T>
ConstMatrixMap<T> matrix_map(const Tensor& tensor) {
  check_matrix(tensor, kDTypeOf<T>);
  return {tensor.data<T>(), tensor.size(0), tensor.size(1), {tensor.strides()[0], tensor.strides()[1]}};
}

/// A copy of a tensor [rows, columns] of any dtype as a matrix of doubles. @throws Error "rank"
inline RowMajorMatrix<double> to_matrix(const Tensor& tensor) {
  check_matrix(tensor, tensor.dtype());
  const Tensor elements = tensor.to(DType::kF64);
  return Eigen::Map<const RowMajorMatrix<double>>(elements.data<double>(), elements.size(0), elements.size(1));
}

}  // namespace tessera
