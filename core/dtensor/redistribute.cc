#include <fmt/format.h>

#include <algorithm>

#include "core/dtensor/dtensor.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

Group group_along(DeviceMesh mesh, std::int64_t rank, AxisList axes) {
  Group group;
  for (std::int64_t member : mesh.ranks_along(rank, axes)) group.push_back(static_cast<int>(member));
  return group;
}

// Of the indices in `owned`, those also in `wanted`, as positions inside `owned` (its intervals laid end to end).
IndexSet positions_in(const IndexSet& owned, const IndexSet& wanted) {
  IndexSet positions;
  std::int64_t base = 0;
  for (const Interval& mine : owned) {
    IndexSet here;
    for (const Interval& theirs : wanted) {
      const Interval common{std::max(mine.begin, theirs.begin), std::min(mine.end, theirs.end)};
      if (common.begin < common.end) here.push_back({base + common.begin - mine.begin, base + common.end - mine.begin});
    }
    std::sort(here.begin(), here.end(), [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
    positions.insert(positions.end(), here.begin(), here.end());
    base += mine.size();
  }
  return positions;
}

// The part that both own, in the order of global indices, so that sender and receiver mean the same order.
IndexSet common_indices(const IndexSet& a, const IndexSet& b) {
  IndexSet common;
  for (const Interval& x : a) {
    for (const Interval& y : b) {
      const Interval both{std::max(x.begin, y.begin), std::min(x.end, y.end)};
      if (both.begin < both.end) common.push_back(both);
    }
  }
  std::sort(common.begin(), common.end(), [](const Interval& x, const Interval& y) { return x.begin < y.begin; });
  return common;
}

// Positions in `owned` of each of the `common` intervals, in their order.
std::vector<IndexSet> positions_of(std::span<const IndexSet> owned, std::span<const IndexSet> common) {
  std::vector<IndexSet> positions;
  for (std::size_t dim = 0; dim < owned.size(); ++dim) {
    IndexSet& of_dim = positions.emplace_back();
    for (const Interval& interval : common[dim]) {
      for (const Interval& part : positions_in(owned[dim], {interval})) of_dim.push_back(part);
    }
  }
  return positions;
}

std::vector<IndexSet> common_box(std::span<const IndexSet> a, std::span<const IndexSet> b) {
  std::vector<IndexSet> common;
  for (std::size_t dim = 0; dim < a.size(); ++dim) common.push_back(common_indices(a[dim], b[dim]));
  return common;
}

bool same_splits(const Layout& a, const Layout& b) {
  for (int dim = 0; dim < a.rank(); ++dim) {
    if (a.dim(dim) != b.dim(dim)) return false;
  }
  return true;
}

// Moves elements so that they lie as `layout` splits them. Every rank that needs an element gets it from the one owner that shares its place
// along the axes which the old layout does not use: from itself where it can.
Tensor exchange(const Tensor& local, const Shape& shape, const Layout& from, const Layout& to, Communicator& comm) {
  const DeviceMesh mesh = from.mesh();
  AxisList axes = from.splitting_axes();
  for (int k = 0; k < to.splitting_axes().size(); ++k) {
    if (!axes.contains(to.splitting_axes()[k])) axes.push_back(to.splitting_axes()[k]);
  }
  const Group group = group_along(mesh, comm.rank(), axes);
  const Coordinate mine = mesh.coordinate_of(comm.rank());
  const std::vector<IndexSet> old_shard = shard_of(from, shape, mine);
  const std::vector<IndexSet> new_shard = shard_of(to, shape, mine);

  const auto agrees_off_split = [&](const Coordinate& a, const Coordinate& b) {
    for (int axis = 0; axis < mesh.axis_count(); ++axis) {
      const auto i = static_cast<std::size_t>(axis);
      if (a[i] != b[i] && !from.splitting_axes().contains(axis)) return false;
    }
    return true;
  };
  std::vector<Tensor> pieces;
  for (int member : group) {
    const Coordinate theirs = mesh.coordinate_of(member);
    if (!agrees_off_split(mine, theirs)) {
      pieces.push_back(Tensor::zeros({0}, local.dtype()));
      continue;
    }
    const std::vector<IndexSet> common = common_box(old_shard, shard_of(to, shape, theirs));
    pieces.push_back(gather_indices(local, positions_of(old_shard, common)));
  }
  const std::vector<Tensor> received = comm.all_to_all(pieces, group);

  Tensor result = Tensor::uninitialized(local_shape(to, shape, mine), local.dtype());
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Coordinate theirs = mesh.coordinate_of(group[i]);
    if (!agrees_off_split(mine, theirs)) continue;
    const std::vector<IndexSet> common = common_box(shard_of(from, shape, theirs), new_shard);
    scatter_indices(received[i], result, positions_of(new_shard, common));
  }
  return result;
}

}  // namespace

DTensor redistribute(const DTensor& tensor, const Layout& layout, Communicator& comm) {
  const Layout& from = tensor.layout();
  if (from.mesh() != layout.mesh()) {
    fail("mesh-mismatch", fmt::format("cannot redistribute from the mesh ({}) to another ({})", to_string(from.mesh()),
                                      to_string(layout.mesh())));
  }
  if (const auto why = misfit(layout, tensor.shape())) {
    fail("layout-misfit",
         fmt::format("a tensor of shape {} cannot have layout {}: {}", to_string(tensor.shape()), to_string(layout), *why));
  }
  const DeviceMesh mesh = layout.mesh();
  const Coordinate mine = mesh.coordinate_of(comm.rank());
  Tensor local = tensor.to_local();
  for (int axis = 0; axis < mesh.axis_count(); ++axis) {
    const Partial pending = from.partials()[axis];
    if (pending == Partial::kNone || pending == layout.partials()[axis]) continue;
    local = comm.all_reduce(local, reduction_of(pending), group_along(mesh, comm.rank(), {axis}));
  }
  if (!same_splits(from, layout)) local = exchange(local, tensor.shape(), from, layout, comm);
  for (int axis = 0; axis < mesh.axis_count(); ++axis) {
    const Partial pending = layout.partials()[axis];
    if (pending == Partial::kNone || pending == from.partials()[axis]) continue;
    reduction_of(pending);  // throws for softmax
    if (mine[static_cast<std::size_t>(axis)] != 0 && (pending == Partial::kSum || pending == Partial::kProd)) {
      local = identity_tensor(pending, local.shape(), local.dtype());
    }
  }
  return DTensor::from_local(std::move(local), layout, tensor.shape(), comm.rank());
}

}  // namespace tessera
