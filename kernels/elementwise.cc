// Kernels that work element by element.
#include <algorithm>

#include "kernels/dense.h"
#include "kernels/operands.h"

namespace tessera::kernels {
namespace {

// x in f64, broadcast, its elements one after another.
Tensor expanded(const Tensor& x, const Shape& shape) { return x.to(DType::kF64).broadcast_to(shape).contiguous(); }

// bool < i32 < i64 < bf16, f16 < f32 < f64.
int order_of(DType dtype) {
  switch (dtype) {
    case DType::kBool: return 0;
    case DType::kI32: return 1;
    case DType::kI64: return 2;
    case DType::kBF16:
    case DType::kF16: return 3;
    case DType::kF32: return 4;
    case DType::kF64: return 5;
  }
  return 5;
}

}  // namespace

DType promote(DType a, DType b) {
  if (order_of(a) == order_of(b)) return a == b ? a : DType::kF32;
  return order_of(a) > order_of(b) ? a : b;
}

Tensor map(const Tensor& x, const std::function<double(double)>& f) {
  const Tensor input = x.to(DType::kF64);
  Tensor out = Tensor::uninitialized(x.shape(), DType::kF64);
  std::ranges::transform(input.span<double>(), out.span<double>().begin(), f);
  return out.to(float_dtype(x.dtype()));
}

Tensor zip(const Tensor& x, const Tensor& y, const std::function<double(double, double)>& f, std::optional<DType> result) {
  const Shape shape = broadcast_shape("zip", "x", x.shape(), "y", y.shape());
  const Tensor left = expanded(x, shape);
  const Tensor right = expanded(y, shape);
  Tensor out = Tensor::uninitialized(shape, DType::kF64);
  std::ranges::transform(left.span<double>(), right.span<double>(), out.span<double>().begin(), f);
  return out.to(result.value_or(promote(x.dtype(), y.dtype())));
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  const Shape shape = broadcast_shape("masked_fill", "x", x.shape(), "mask", mask.shape());
  const Tensor filled = mask.to(DType::kBool).broadcast_to(shape).contiguous();
  const Tensor filler = Tensor::of<double>({1}, {value}).to(x.dtype());
  Tensor out = x.broadcast_to(shape).clone();
  visit_dtype(x.dtype(), [&]<class T>(T) {
    const std::span<T> elements = out.span<T>();
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (filled.span<bool>()[i]) elements[i] = filler.at<T>({0});
    }
  });
  return out;
}

}  // namespace tessera::kernels
