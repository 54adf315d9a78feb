// Reductions over dims.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/dense.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

constexpr std::string_view kOp = "reduce";

// Which dims of x are reduced.
std::vector<bool> reduced_dims(const Tensor& x, std::span<const int> dims) {
  std::vector<bool> reduced(x.shape().size(), false);
  for (int dim : dims) {
    require_dim(kOp, "x", x, dim);
    if (reduced[static_cast<std::size_t>(dim)]) {
      fail({.code = "dim-twice",
            .message = fmt::format("dim {} is named twice", dim),
            .op = std::string(kOp),
            .operand = "x",
            .dim = dim,
            .hint = "name each dim once"});
    }
    reduced[static_cast<std::size_t>(dim)] = true;
  }
  return reduced;
}

// x seen as rows to fold, [rows, length].
struct Rows {
  Tensor elements;
  std::int64_t rows = 1;
  std::int64_t length = 1;
};

Rows rows_to_fold(const Tensor& x, const std::vector<bool>& reduced) {
  Rows result;
  std::vector<int> kept_then_reduced;
  for (bool pass : {false, true}) {
    for (int dim = 0; dim < x.rank(); ++dim) {
      if (reduced[static_cast<std::size_t>(dim)] != pass) continue;
      kept_then_reduced.push_back(dim);
      (pass ? result.length : result.rows) *= x.size(dim);
    }
  }
  result.elements = x.permute(kept_then_reduced);
  return result;
}

// f folded over each row from `start`, in T, from the first element to the last.
template <class T, class F>
Tensor fold(const Rows& rows, T start, F f) {
  const Tensor elements = rows.elements.to(kDTypeOf<T>);
  Tensor out = Tensor::uninitialized({rows.rows}, kDTypeOf<T>);
  const T* next = elements.template data<T>();
  for (T& result : out.template span<T>()) {
    result = start;
    for (std::int64_t i = 0; i < rows.length; ++i) result = f(result, *next++);
  }
  return out;
}

// Integers wrap, as everywhere.
std::int64_t wrapping_sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
std::int64_t wrapping_product(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

// A NaN wins over every number.
double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }
double smaller(double a, double b) { return std::isnan(a) || a < b ? a : b; }

// The range of an integer dtype.
struct Limits {
  std::int64_t lowest;
  std::int64_t highest;
};

Limits limits_of(DType dtype) {
  if (dtype == DType::kBool) return {0, 1};
  if (dtype == DType::kI32) return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
  return {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
}

// The reduction of each row, [rows].
Tensor reduce_rows(const Rows& rows, Reduce kind) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const DType dtype = rows.elements.dtype();
  const bool floats = is_floating(dtype);
  switch (kind) {
    case Reduce::kSum:
      if (!floats) return fold<std::int64_t>(rows, 0, wrapping_sum);
      return fold<double>(rows, 0, [](double a, double b) { return a + b; }).to(dtype);
    case Reduce::kProd:
      if (!floats) return fold<std::int64_t>(rows, 1, wrapping_product);
      return fold<double>(rows, 1, [](double a, double b) { return a * b; }).to(dtype);
    case Reduce::kMean: {
      const auto length = static_cast<double>(rows.length);
      const Tensor sums = fold<double>(rows, 0, [](double a, double b) { return a + b; });
      Tensor means = Tensor::uninitialized(sums.shape(), DType::kF64);
      for (std::size_t i = 0; i < sums.span<double>().size(); ++i)
        means.span<double>()[i] = sums.span<double>()[i] / length;
      return means.to(float_dtype(dtype));
    }
    case Reduce::kMax:
      if (floats) return fold<double>(rows, -kInfinity, larger).to(dtype);
      return fold<std::int64_t>(rows, limits_of(dtype).lowest, [](auto a, auto b) { return a > b ? a : b; }).to(dtype);
    case Reduce::kMin:
      if (floats) return fold<double>(rows, kInfinity, smaller).to(dtype);
      return fold<std::int64_t>(rows, limits_of(dtype).highest, [](auto a, auto b) { return a < b ? a : b; }).to(dtype);
    case Reduce::kAny: return fold<bool>(rows, false, [](bool a, bool b) { return a || b; });
    case Reduce::kAll: break;
  }
  return fold<bool>(rows, true, [](bool a, bool b) { return a && b; });
}

}  // namespace

Tensor reduce(const Tensor& x, std::span<const int> dims, Reduce kind, bool keep_dims) {
  const std::vector<bool> reduced = reduced_dims(x, dims);
  Shape shape;
  for (std::size_t dim = 0; dim < reduced.size(); ++dim) {
    if (!reduced[dim]) shape.push_back(x.shape()[dim]);
    if (reduced[dim] && keep_dims) shape.push_back(1);
  }
  return reduce_rows(rows_to_fold(x, reduced), kind).reshape(shape);
}

}  // namespace tessera::kernels
