// Small exhaustive spaces for the properties of meshes, distributions and layouts, and what a fault says.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layouts/layout.h"
#include "support/diagnostic.h"

namespace tessera {

/// The diagnostic of the Error that `call()` throws; one with the code "none" where it throws none.
Diagnostic fault_of(const std::function<void()>& call);
/// Its code and whole text: "unknown-axis: the mesh (...) has no axis 'x'".
std::string fault_text(const std::function<void()>& call);

/// The numbers of all intervals, one after the other: what a shard holds, in the order of its memory.
std::vector<std::int64_t> listed_indices(const IndexSet& set);

/// All distributions of every kind that say something else of n indices over so many shards: every cyclic block up to n + 1, explicit
/// intervals for every assignment of the indices where these are few, else for some, in order and in reverse.
std::vector<Distribution> distributions_of(std::int64_t n, std::int64_t shards);

/// Every coordinate of a mesh, row major.
std::vector<Coordinate> coordinates_of(DeviceMesh mesh);

/// All lists of axes of the mesh in any order that use none of `used` (a mask), the empty one too.
std::vector<AxisList> axis_lists(DeviceMesh mesh, std::uint32_t used = 0);

/// Calls `check` with every layout of `rank` dims: all axes in all orders on all dims.
void for_each_layout(DeviceMesh mesh, int rank, const std::function<void(const Layout&)>& check);
/// The same with every kind of distribution on every dim (explicit intervals for dims of these sizes).
void for_each_dealt_layout(DeviceMesh mesh, const Shape& shape, const std::function<void(const Layout&)>& check);
/// The same with every choice of pending reductions (nothing, sum or max) over the axes that split nothing.
void for_each_partial(const Layout& layout, const std::function<void(const Layout&)>& check);

}  // namespace tessera
