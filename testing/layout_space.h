// Every layout that a tensor can have on a small mesh: the spaces that properties are tried on.
#pragma once

#include <vector>

#include "layouts/layout.h"

namespace tessera {

/// What layouts are made of, beside the assignments of axes to dims.
struct LayoutSpace {
  /// Reductions that may be pending over an axis which splits nothing.
  std::vector<Partial> partials{};
  /// How a dim that is split may be dealt. Explicit intervals are used where they are for as many shards as the axes make.
  std::vector<Distribution> distributions{Distribution::block()};
};

/// All layouts of tensors of `rank` dims: every axis is unused, splits one of the dims, or is pending; axes of one dim in every order.
/// The replicated layout comes first.
///
/// On dp=2 x tp=2 a matrix has 11 layouts: [-, -], one axis on one dim (4), both on different dims (2), both on one dim (4).
/// ```cpp
/// for (const Layout& layout : all_layouts(mesh, 2, {.partials = {Partial::kSum}})) ...   // 18 layouts
/// ```
/// Their number grows with the factorial of the axes: 49 for a matrix on three axes, 6721 for four dims on five axes.
std::vector<Layout> all_layouts(DeviceMesh mesh, int rank, const LayoutSpace& space = {});

/// Those of them that a tensor of this shape can have: explicit intervals must be for as many indices.
std::vector<Layout> all_layouts(DeviceMesh mesh, const Shape& shape, const LayoutSpace& space = {});

/// All lists of axes of the mesh, in every order; the empty one first. On three axes: 16.
std::vector<AxisList> all_axis_lists(DeviceMesh mesh);

}  // namespace tessera
