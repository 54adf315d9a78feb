// What each rank holds of a tensor that is known as a whole, with pending reductions taken apart at random.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/tensor.h"
#include "layouts/layout.h"

namespace tessera {

/// `count` tensors whose reduction is `tensor`, none of which tells it: 3 as a pending sum over two ranks may be 3.25 and -0.25.
/// Deterministic in the seed. Floats reduce to `tensor` but for the last bits of their dtype, integers and bools exactly.
/// @throws Error "comm-reduction" where the dtype lacks the reduction, "partial-softmax"
std::vector<Tensor> take_apart(const Tensor& tensor, Partial partial, std::int64_t count, std::uint64_t seed);

/// What each rank of the mesh (in its order) holds of a tensor: as `DTensor::distribute`, but where a reduction is pending the ranks
/// hold parts as `take_apart` makes them. Ranks that repeat each other hold the same.
/// @throws Error "layout-misfit", and as `take_apart`
std::vector<Tensor> distribute_parts(const Tensor& global, const Layout& layout, std::uint64_t seed = 1);

/// The coordinates of all ranks of a mesh, in its order.
std::vector<Coordinate> all_coordinates(DeviceMesh mesh);

}  // namespace tessera
