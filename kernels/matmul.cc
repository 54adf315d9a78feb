// Matrix products, batched and broadcast.
#include <fmt/format.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/eigen.h"
#include "kernels/dense.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr std::string_view kOp = "matmul";

// x as [..., rows, cols] with its last two dims swapped if `transpose`.
Tensor oriented(const Tensor& x, std::string_view name, bool transpose) {
  if (x.rank() < 2) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("{} {} has {} dims, but must have 2 or more", name, to_string(x.shape()), x.rank()),
          .op = std::string(kOp),
          .operand = std::string(name),
          .hint = fmt::format("reshape {} to a matrix", name)});
  }
  if (!transpose) return x;
  std::vector<int> order(x.shape().size());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 2], order[order.size() - 1]);
  return x.permute(order);
}

// out += x w for [..., m, k], [..., k, n] and [..., m, n] with the same leading dims, whose matrices are row major. Scalar
// is what the numbers of 8 bytes are taken for.
template <class Scalar>
void multiply(Tensor out, const Tensor& x, const Tensor& w) {
  if (out.rank() > 2) {
    for (std::int64_t i = 0; i < out.size(0); ++i) multiply<Scalar>(out.select(0, i), x.select(0, i), w.select(0, i));
    return;
  }
  using Matrix = RowMajorMatrix<Scalar>;
  const Eigen::Map<const Matrix> left(x.data<Scalar>(), x.size(0), x.size(1));
  const Eigen::Map<const Matrix> right(w.data<Scalar>(), w.size(0), w.size(1));
  Eigen::Map<Matrix>(out.data<Scalar>(), out.size(0), out.size(1)).noalias() += left * right;
}

Shape with_matrix(Shape batch, std::int64_t rows, std::int64_t cols) {
  batch.push_back(rows);
  batch.push_back(cols);
  return batch;
}

Shape batch_of(const Tensor& x) { return Shape(x.shape().begin(), x.shape().end() - 2); }

}  // namespace

Tensor matmul(const Tensor& x, const Tensor& w, bool transpose_x, bool transpose_w) {
  const Tensor left = oriented(x, "x", transpose_x);
  const Tensor right = oriented(w, "w", transpose_w);
  const std::int64_t m = left.size(left.rank() - 2);
  const std::int64_t k = left.size(left.rank() - 1);
  const std::int64_t n = right.size(right.rank() - 1);
  if (right.size(right.rank() - 2) != k) {
    const int x_dim = x.rank() - (transpose_x ? 2 : 1);
    const int w_dim = w.rank() - (transpose_w ? 1 : 2);
    fail({.code = "shape-mismatch",
          .message =
              fmt::format("w has size {} in dim {} (k), but x has size {} in its dim {}", w.size(w_dim), w_dim, k, x_dim),
          .op = std::string(kOp),
          .operand = "w",
          .dim = w_dim,
          .hint = fmt::format("x is [..., {}] and w is [..., {}]: give both the same k", transpose_x ? "k, m" : "m, k",
                              transpose_w ? "n, k" : "k, n")});
  }
  const Shape batch = broadcast_shape(kOp, "x", batch_of(left), "w", batch_of(right));
  const DType result = promote(x.dtype(), w.dtype());
  const DType computed = is_floating(result) ? DType::kF64 : DType::kI64;
  const Tensor a = left.to(computed).broadcast_to(with_matrix(batch, m, k));
  const Tensor b = right.to(computed).broadcast_to(with_matrix(batch, k, n));
  const Tensor out = Tensor::zeros(with_matrix(batch, m, n), computed);
  if (computed == DType::kF64) {
    multiply<double>(out, a, b);
  } else {
    multiply<std::uint64_t>(out, a, b);  // the bits of int64 that wraps
  }
  return out.to(result);
}

}  // namespace tessera::kernels
