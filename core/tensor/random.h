// Random tensors that are the same on every rank and in every run.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/tensor/tensor.h"

namespace tessera {

/// A tensor of independent normal numbers of mean 0 and variance 1. An element depends only on `seed`, `name` and its row-major
/// index, not on the shape: [2, 3] holds the first 6 elements of [100]; and all dtypes hold the same numbers, each rounded once.
/// @throws Error "dtype" where `dtype` is no float
Tensor random_normal(const Shape& shape, DType dtype, std::uint64_t seed, std::string_view name);

/// A tensor of independent integers, each of low, ..., high - 1 equally likely. An element depends only on `low`, `high`, `seed`,
/// `name` and its row-major index. Any dtype that holds all these integers exactly will do: bool for [0, 2), bf16 up to 256.
/// @throws Error "range" where low >= high or the dtype does not hold them all
Tensor random_integers(const Shape& shape, DType dtype, std::int64_t low, std::int64_t high, std::uint64_t seed,
                       std::string_view name);

}  // namespace tessera
