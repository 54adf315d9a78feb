#include "kernels/cpu/key_gradients.h"

#include <algorithm>

#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {

GradientCuts cut_gradients(const GradientWork& work) {
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 26;  // 256 MiB
  constexpr std::int64_t kBlocksOfPart = 16;                    // else adding up parts costs more than they gain
  constexpr std::int64_t kPlacesOfPiece = 1024;                 // else taking in the queries again does
  constexpr std::int64_t kFewTasks = 4;                         // keys are cut only where heads alone are fewer
  const auto cuts = [&](std::int64_t tasks, std::int64_t sensible, std::int64_t numbers) {
    const std::int64_t wanted = tasks / std::max<std::int64_t>(work.heads, 1);
    const std::int64_t affordable = kMostNumbers / std::max<std::int64_t>(numbers, 1);
    return std::max<std::int64_t>(1, std::min({wanted, affordable, sensible}));
  };
  if (0 < work.query_numbers && work.query_numbers < work.key_numbers)
    return {.pieces = cuts(kFewTasks, work.places / kPlacesOfPiece, work.query_numbers)};
  return {.parts = cuts(kTasks, work.blocks / kBlocksOfPart, work.key_numbers)};
}

GradientTask gradient_task(std::int64_t index, const GradientCuts& cuts, std::int64_t key_heads, std::int64_t rows) {
  const std::int64_t piece = index % cuts.pieces;
  const std::int64_t size = rounded_up(rows, cuts.pieces * kKeyBlock) / cuts.pieces;
  index /= cuts.pieces;
  return {.batch = index / cuts.parts / key_heads,
          .key_head = index / cuts.parts % key_heads,
          .part = index % cuts.parts,
          .piece = piece,
          .first = std::min(piece * size, rows),
          .last = std::min((piece + 1) * size, rows)};
}

Tensor added_up(Tensor sums, std::int64_t width, DType dtype) {
  const Shape& shape = sums.shape();
  const std::int64_t stride = shape.back();
  const Tensor first = sums.select(0, 0);
  const std::int64_t count = first.count();
  const std::int64_t rows = stride == 0 ? 0 : count / stride;
  Shape result_shape(shape.begin() + 1, shape.end());
  result_shape.back() = width;
  Tensor result = Tensor::uninitialized(result_shape, dtype);
  const std::int64_t row_bytes = width * size_of(dtype);
  constexpr std::int64_t kNumbers = 16384;  // of a task
  const std::int64_t rows_of_task = std::max<std::int64_t>(kNumbers / std::max<std::int64_t>(stride, 1), 1);
  auto* numbers = sums.data<float>();
  parallel_for(rounded_up(rows, rows_of_task) / rows_of_task, [&](std::int64_t task) {
    const std::int64_t from = task * rows_of_task;
    const std::int64_t to = std::min(from + rows_of_task, rows);
    for (std::int64_t n = 1; n < shape[0]; ++n) {
      const float* other = numbers + n * count;
      for (std::int64_t i = from * stride; i < to * stride; ++i) numbers[i] += other[i];
    }
    for (std::int64_t row = from; row < to; ++row)
      leaves().narrow(dtype, numbers + row * stride, result.bytes_begin() + row * row_bytes, 1, width);
  });
  return result;
}

KeyGradients::KeyGradients(const GradientCuts& cuts, std::int64_t batch, std::int64_t heads, std::int64_t rows,
                           std::int64_t width, DType dtype)
    : width_(width), dtype_(dtype) {
  if (cuts.parts == 1) result_ = Tensor::uninitialized({batch, rows, heads, width}, dtype);
  else parts_ = Tensor::uninitialized({cuts.parts, batch, rows, heads, rounded_up(width, kWidestVector)}, DType::kF32);
}

KeyGradients::Sums KeyGradients::begin(const GradientTask& task) {
  const std::int64_t padded = rounded_up(width_, kWidestVector);
  Sums sums;
  const auto in = [&](Tensor& tensor) {  // [b, t, k, padded], f32
    const Shape& strides = tensor.strides();
    sums.rows = {tensor.data<float>() + task.batch * strides[0] + task.first * strides[1] + task.key_head * strides[2],
                 task.first, strides[1]};
  };
  if (parts_) {
    Tensor part = parts_->select(0, task.part);
    in(part);
  } else if (dtype_ == DType::kF32 && padded == width_) {
    in(*result_);
  } else {
    sums.buffer = Tensor::uninitialized({std::max<std::int64_t>(task.last - task.first, 1), padded}, DType::kF32);
    sums.rows = {sums.buffer->data<float>(), task.first, padded};
  }
  for (std::int64_t row = task.first; row < task.last; ++row) std::fill_n(sums.rows.row(row), padded, 0.0f);
  return sums;
}

void KeyGradients::end(const GradientTask& task, const Sums& sums) {
  if (!sums.buffer) return;
  for (std::int64_t row = task.first; row < task.last; ++row)
    leaves().narrow(dtype_, sums.rows.row(row), element(*result_, task.batch, row, task.key_head), 1, width_);
}

Tensor KeyGradients::result() { return parts_ ? added_up(*std::move(parts_), width_, dtype_) : *std::move(result_); }

}  // namespace tessera::kernels::cpu
