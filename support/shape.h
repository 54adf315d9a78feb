// Shapes: the sizes of a tensor's dims.
#pragma once

#include <cstdint>
#include <string>

#include "support/static_vector.h"

namespace tessera {

/// Dims that a tensor may have at most.
inline constexpr std::size_t kMaxRank = 12;

/// Sizes of a tensor's dims, outermost first; any may be 0.
using Shape = StaticVector<std::int64_t, kMaxRank>;

/// Elements a tensor of this shape has.
/// @throws Error "shape-too-large" where that is no int64_t, "shape-negative" where a size is below 0
std::int64_t element_count(const Shape& shape);

/// "[2, 4096, 64]".
std::string to_string(const Shape& shape);

}  // namespace tessera
