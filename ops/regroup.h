// How a reshape deals dims to dims: the rule of one, and the shape it asks for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/rule/rule.h"
#include "support/shape.h"

namespace tessera {

/// The shape that `sizes` asks for, -1 replaced by what is left of x's elements: [32, 64] as [4, -1, 64] is [4, 8, 64].
/// @throws Error "reshape-size" (below -1, -1 twice, -1 that nothing tells), "element-count", "rank-too-large"
Shape target_shape(std::string_view op, const Shape& from, std::span<const std::int64_t> sizes);

/// The rule of x of shape `from` seen as shape `to`, with the finest factors that both have:
/// [32, 6, 10] as [4, 8, 60] is `x[(a b) c d] -> out[a b (c d)] | size a=4 b=8 c=6 d=10 | move x`.
/// Where borders of dims do not meet, what lies between them must be whole: [4, 6] as [6, 4] is
/// `x[(a b) c] -> out[(a d) e] | whole b c d e | size a=2 b=2 c=6 d=3 e=4 | move x`.
/// @pre both have as many elements
/// @throws Error "reshape-size" where x is empty and `to` has two dims of size 0
Rule regroup_rule(std::string_view op, const Shape& from, const Shape& to);

}  // namespace tessera
