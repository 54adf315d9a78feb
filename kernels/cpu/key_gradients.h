// Gradients of keys and values, which many blocks of queries add to: kept in f32, apart for each part of the work. Private
// to kernels/cpu/.
#pragma once

#include <cstdint>

#include "core/tensor/tensor.h"
#include "kernels/cpu/leaves.h"

namespace tessera::kernels::cpu {

/// Parts that the queries of one batch entry and key head are cut into, each with sums of its own, added up in order at the
/// end: so the numbers depend on shapes alone, not on threads.
///
/// @param heads batch entries times key heads, which are apart anyway
/// @param blocks blocks of queries
/// @param numbers floats that one part of all heads takes
std::int64_t gradient_parts(std::int64_t heads, std::int64_t blocks, std::int64_t numbers);

/// Sums of one operand: [parts, b, t, k, width rounded up to whole vectors], zeros at first.
class KeyGradients {
 public:
  KeyGradients() = default;
  KeyGradients(std::int64_t parts, std::int64_t batch, std::int64_t heads, std::int64_t rows, std::int64_t width);

  [[nodiscard]] GradientRows rows(std::int64_t part, std::int64_t batch, std::int64_t head);
  /// The sum of all parts, as [b, t, k, width].
  [[nodiscard]] Tensor total(DType dtype) const;

 private:
  Tensor sums_;
  std::int64_t width_ = 0;
};

}  // namespace tessera::kernels::cpu
