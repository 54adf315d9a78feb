// Attributes that name dims, and rules whose letters are dims: shared by the families of the catalogue.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/op/op.h"

namespace tessera {

/// The dim that an attribute names, counted from 0: -1 is the last of `rank` dims.
/// @throws Error "dim-out-of-range"
int dim_attribute(std::string_view op, std::string_view attribute, std::int64_t dim, int rank);

/// The dims that an attribute names, counted from 0, in its order.
/// @throws Error "dim-out-of-range", "dim-twice"
std::vector<int> dims_attribute(std::string_view op, std::string_view attribute, std::span<const std::int64_t> dims,
                                int rank);

/// What the letters d0, d1, ... of a rule mean: "dim 0", "dim 1", ...
std::vector<FactorMeaning> dim_meanings();

/// The letter of a dim: "d2".
std::string dim_letter(int dim);
/// The letters of these dims: "d0 d2".
std::string dim_letters(std::span<const int> dims);
/// The letters of all of `rank` dims: "d0 d1 d2".
std::string dim_letters(int rank);

/// How many dims an operand has.
inline int rank_of(const CallSpec& call, std::size_t operand) { return static_cast<int>(call.shape(operand).size()); }

}  // namespace tessera
