// Softmax, its logarithm, and normalisation by the root mean square.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/dense.h"
#include "kernels/operands.h"
#include "kernels/reference/softmax_statistics.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

// A tensor's dims with `dim` moved to the end, and the way back.
struct DimLast {
  std::vector<int> order;
  std::vector<int> inverse;
};

DimLast dim_last(int rank, int dim) {
  DimLast result;
  for (int i = 0; i < rank; ++i) {
    if (i != dim) result.order.push_back(i);
    result.inverse.push_back(i < dim ? i : i - 1);
  }
  result.order.push_back(dim);
  result.inverse[static_cast<std::size_t>(dim)] = rank - 1;
  return result;
}

// f(score, statistics of its row) for every element of x, rows along `dim`.
template <class F>
Tensor map_rows(std::string_view op, const Tensor& x, int dim, F f) {
  require_dim(op, "x", x, dim);
  const DimLast dims = dim_last(x.rank(), dim);
  const Tensor rows = x.permute(dims.order).to(DType::kF64);
  Tensor out = Tensor::uninitialized(rows.shape(), DType::kF64);
  const auto length = static_cast<std::size_t>(x.size(dim));
  for (std::size_t begin = 0; begin < rows.span<double>().size(); begin += length) {
    const std::span<const double> row = rows.span<double>().subspan(begin, length);
    const SoftmaxStatistics statistics = softmax_statistics(row);
    for (std::size_t j = 0; j < length; ++j) out.span<double>()[begin + j] = f(row[j], statistics);
  }
  return out.permute(dims.inverse).to(float_dtype(x.dtype()));
}

}  // namespace

Tensor softmax(const Tensor& x, int dim) { return map_rows("softmax", x, dim, softmax_weight); }

Tensor log_softmax(const Tensor& x, int dim) {
  return map_rows("log_softmax", x, dim, [](double score, const SoftmaxStatistics& statistics) {
    if (statistics.sum == 0) return -std::numeric_limits<double>::infinity();
    return score - statistics.max - std::log(statistics.sum);
  });
}

RmsNormResult rms_norm(const Tensor& x, const Tensor& gamma, double epsilon) {
  constexpr std::string_view kOp = "rms_norm";
  require_float(kOp, "x", x);
  if (gamma.rank() > x.rank()) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("gamma {} has more dims than x {}", to_string(gamma.shape()), to_string(x.shape())),
          .op = std::string(kOp),
          .operand = "gamma",
          .hint = "give gamma the last dims of x"});
  }
  const int kept = x.rank() - gamma.rank();
  Shape rstd_shape(x.shape().begin(), x.shape().begin() + kept);
  for (int dim = 0; dim < gamma.rank(); ++dim) {
    if (gamma.size(dim) != x.size(kept + dim)) {
      fail({.code = "shape-mismatch",
            .message = fmt::format("gamma has size {} in dim {}, but x has size {} in its dim {}", gamma.size(dim), dim,
                                   x.size(kept + dim), kept + dim),
            .op = std::string(kOp),
            .operand = "gamma",
            .dim = dim,
            .hint = "give gamma the last dims of x"});
    }
    rstd_shape.push_back(1);
  }
  const Tensor input = x.to(DType::kF64);
  const Tensor factors = gamma.to(DType::kF64);
  Tensor out = Tensor::uninitialized(x.shape(), DType::kF64);
  Tensor rstd = Tensor::uninitialized(rstd_shape, DType::kF64);
  const auto length = static_cast<std::size_t>(gamma.count());
  for (std::size_t i = 0; i < rstd.span<double>().size(); ++i) {
    const std::span<const double> row = input.span<double>().subspan(i * length, length);
    double squares = 0;
    for (double element : row) squares += element * element;
    const double reciprocal = 1 / std::sqrt(squares / static_cast<double>(length) + epsilon);
    rstd.span<double>()[i] = reciprocal;
    for (std::size_t j = 0; j < length; ++j) {
      out.span<double>()[i * length + j] = row[j] * reciprocal * factors.span<double>()[j];
    }
  }
  return {out.to(x.dtype()), rstd.to(statistics_dtype(x.dtype()))};
}

}  // namespace tessera::kernels
