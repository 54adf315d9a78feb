// Layouts as text: our own form, and those of the systems that users come from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layouts/layout.h"

namespace tessera {

/// "[dp, cp+tp, -] partial(tp: sum)": per dim its axes, outermost first, or "-". A distribution other than block stands behind a colon:
/// "[dp, cp:head_tail, -]", "[cp:cyclic(128)]", "[cp:intervals(0-5 9-12 | 5-9)]". A scalar is "[]". `parse_layout` reads it back.
std::string to_string(const Layout& layout);

/// Reads our own text, or Shardy's `<@mesh, [{"dp"}, {}]>` (also with `replicated={...}` and `unreduced={...}`, which is a pending sum;
/// open dims `?` and priorities are read and have no meaning here), whichever it is.
/// @throws Error "layout-syntax" with a caret under the fault, "unknown-axis", "duplicate-axis", "unknown-partial",
///   "distribution-..." ; sub-axes ("a":(1)2) are refused with the hint to split the mesh axis in two
Layout parse_layout(DeviceMesh mesh, std::string_view text);

/// Tensor map numbers, as MindSpore counts them: from the last mesh axis, -1 for a dim that is whole.
/// mesh (dp, cp, tp): "[dp, cp+tp, -]" is {{2}, {1, 0}, {-1}}.
std::vector<std::vector<std::int64_t>> to_tensor_map(const Layout& layout);
/// @throws Error "unknown-axis" (a number beyond the mesh), "duplicate-axis"; -1 beside other numbers is Error "layout-syntax"
Layout layout_from_tensor_map(DeviceMesh mesh, std::span<const std::vector<std::int64_t>> tensor_map,
                              PartialMap partials = {});

/// Axis names, a list for each dim: HyperParallel's alias tensor map, JAX's PartitionSpec. Empty for a dim that is whole.
std::vector<std::vector<std::string>> to_axis_names(const Layout& layout);

/// PyTorch DTensor's placements, one for each mesh axis: "Shard(0)", "Replicate", "Partial(sum)"; where the axes of a dim are not
/// in mesh order, "_StridedShard(dim, split_factor)", whose factor is the product of the sizes of those axes right of it on the mesh that
/// split the dim before it: mesh (dp=2, tp=4), "[tp+dp]" is ["_StridedShard(0, 4)", "Shard(0)"].
/// @throws Error "no-placement" for distributions other than block, which placements cannot say
std::vector<std::string> to_placements(const Layout& layout);
/// Reads placements in PyTorch's spellings: "Shard(0)", "Shard(dim=-1)", "S(0)", "Replicate", "Replicate()", "R", "Partial", "Partial(sum)", "P",
/// "_StridedShard(0, 2)", "_StridedShard(dim=0, sf=2)", "_StridedShard(dim=0, split_factor=2)". Negative dims count from the end.
/// @throws Error "placement-syntax", "placement-count" (one for each mesh axis), "placement-dim" (out of bounds), "placement-factor"
///   (no order of the axes has that split factor), "unknown-partial"
Layout layout_from_placements(DeviceMesh mesh, int rank, std::span<const std::string> placements);

/// Shardy's text: `<@mesh, [{"dp"}, {"cp", "tp"}, {}]>`, `, unreduced={"tp"}` for pending sums.
/// @throws Error "no-shardy" for distributions other than block and reductions other than sum
std::string to_shardy(const Layout& layout);

}  // namespace tessera
