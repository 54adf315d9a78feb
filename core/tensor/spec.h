// What planning knows of a tensor: everything but its numbers.
#pragma once

#include <span>

#include "core/tensor/dtype.h"
#include "layouts/layout.h"
#include "support/shape.h"

namespace tessera {

struct TensorSpec {
  Shape shape;  ///< global
  DType dtype = DType::kF32;
  Layout layout;

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// The operands of a call, in the rule's order; null for an optional one that is absent.
using OperandSpecs = std::span<const TensorSpec* const>;

}  // namespace tessera
