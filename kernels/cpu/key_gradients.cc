#include "kernels/cpu/key_gradients.h"

#include <algorithm>

#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {
namespace {

constexpr std::int64_t kWidestVector = 16;

}  // namespace

std::int64_t gradient_parts(std::int64_t heads, std::int64_t blocks, std::int64_t numbers) {
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 26;  // 256 MiB
  constexpr std::int64_t kBlocksOfPart = 16;                    // else adding up parts costs more than they gain
  const std::int64_t wanted = kTasks / std::max<std::int64_t>(heads, 1);
  const std::int64_t affordable = kMostNumbers / std::max<std::int64_t>(numbers, 1);
  return std::max<std::int64_t>(1, std::min({wanted, affordable, blocks / kBlocksOfPart}));
}

KeyGradients::KeyGradients(std::int64_t parts, std::int64_t batch, std::int64_t heads, std::int64_t rows,
                           std::int64_t width)
    : sums_(Tensor::zeros({parts, batch, rows, heads, rounded_up(width, kWidestVector)}, DType::kF32)), width_(width) {}

GradientRows KeyGradients::rows(std::int64_t part, std::int64_t batch, std::int64_t head) {
  const Shape& strides = sums_.strides();
  return {sums_.data<float>() + part * strides[0] + batch * strides[1] + head * strides[3], strides[2]};
}

Tensor KeyGradients::total(DType dtype) const {
  Tensor first = sums_.select(0, 0);
  const std::int64_t parts = sums_.size(0);
  const std::int64_t count = first.count();
  constexpr std::int64_t kCount = 16384;  // of a task
  if (parts > 1) {
    parallel_for(rounded_up(count, kCount) / kCount, [&](std::int64_t task) {
      const std::int64_t begin = task * kCount;
      const std::int64_t end = std::min(begin + kCount, count);
      float* sum = first.data<float>();
      for (std::int64_t part = 1; part < parts; ++part) {
        const float* other = sum + part * count;
        for (std::int64_t i = begin; i < end; ++i) sum[i] += other[i];
      }
    });
  }
  return first.slice(3, 0, width_).to(dtype);
}

}  // namespace tessera::kernels::cpu
