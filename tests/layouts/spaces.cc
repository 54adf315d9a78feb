// The spaces that the tests of layouts walk through.
#include "tests/layouts/spaces.h"

#include <algorithm>

namespace tessera {
namespace {

// Explicit intervals of the assignment index -> shard.
Distribution dealt(const std::vector<std::int64_t>& shard_of_index, std::int64_t shards, bool reversed) {
  std::vector<IndexSet> sets(static_cast<std::size_t>(shards));
  for (std::size_t i = 0; i < shard_of_index.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    sets[static_cast<std::size_t>(shard_of_index[i])].push_back({index, index + 1});
  }
  if (reversed) {
    for (IndexSet& set : sets) std::reverse(set.begin(), set.end());
  }
  return Distribution::intervals(std::move(sets));
}

void extend(DeviceMesh mesh, std::uint32_t used, AxisList axes, std::vector<AxisList>& lists) {
  lists.push_back(axes);
  for (int axis = 0; axis < mesh.axis_count(); ++axis) {
    if ((used >> axis & 1) != 0) continue;
    AxisList longer = axes;
    longer.push_back(axis);
    extend(mesh, used | 1U << axis, longer, lists);
  }
}

using Options = std::function<std::vector<Distribution>(int dim, std::int64_t shards)>;

void extend(DeviceMesh mesh, int rank, const Options& options, std::vector<DimSplit>& dims, std::uint32_t used,
            const std::function<void(const Layout&)>& check) {
  const int dim = static_cast<int>(dims.size());
  if (dim == rank) return check(Layout(mesh, dims));
  for (const AxisList axes : axis_lists(mesh, used)) {
    for (const Distribution distribution : options(dim, mesh.size(axes))) {
      dims.push_back({axes, distribution});
      extend(mesh, rank, options, dims, used | axes.mask(), check);
      dims.pop_back();
    }
  }
}

}  // namespace

Diagnostic fault_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.diagnostic();
  }
  return {.code = "none", .message = ""};
}

std::string fault_text(const std::function<void()>& call) {
  const Diagnostic fault = fault_of(call);
  return fault.code + ": " + to_string(fault);
}

std::vector<std::int64_t> listed_indices(const IndexSet& set) {
  std::vector<std::int64_t> indices;
  for (const Interval& interval : set) {
    for (std::int64_t i = interval.begin; i < interval.end; ++i) indices.push_back(i);
  }
  return indices;
}

std::vector<Distribution> distributions_of(std::int64_t n, std::int64_t shards) {
  std::vector<Distribution> all{Distribution::block(), Distribution::balanced(), Distribution::head_tail()};
  for (std::int64_t block = 1; block <= n + 1; ++block) all.push_back(Distribution::cyclic(block));
  std::int64_t assignments = 1;
  for (std::int64_t i = 0; i < n && assignments <= 243; ++i) assignments *= shards;
  if (assignments <= 243) {
    for (std::int64_t number = 0; number < assignments; ++number) {
      std::vector<std::int64_t> shard_of_index;
      for (std::int64_t i = 0, rest = number; i < n; ++i, rest /= shards) shard_of_index.push_back(rest % shards);
      for (bool reversed : {false, true}) all.push_back(dealt(shard_of_index, shards, reversed));
    }
  } else {
    for (std::int64_t seed = 1; seed <= 5; ++seed) {  // runs of some indices, dealt in some order
      std::vector<std::int64_t> shard_of_index;
      for (std::int64_t i = 0; i < n; ++i) shard_of_index.push_back((i / (1 + seed % 4) * seed + i / 5) % shards);
      for (bool reversed : {false, true}) all.push_back(dealt(shard_of_index, shards, reversed));
    }
  }
  return all;
}

std::vector<Coordinate> coordinates_of(DeviceMesh mesh) {
  std::vector<Coordinate> all{Coordinate()};
  for (const MeshAxis& axis : mesh.axes()) {
    std::vector<Coordinate> longer;
    for (const Coordinate& coordinate : all) {
      for (std::int64_t i = 0; i < axis.size; ++i) {
        longer.push_back(coordinate);
        longer.back().push_back(i);
      }
    }
    all = longer;
  }
  return all;
}

std::vector<AxisList> axis_lists(DeviceMesh mesh, std::uint32_t used) {
  std::vector<AxisList> lists;
  extend(mesh, used, {}, lists);
  return lists;
}

void for_each_layout(DeviceMesh mesh, int rank, const std::function<void(const Layout&)>& check) {
  std::vector<DimSplit> dims;
  extend(
      mesh, rank, [](int, std::int64_t) { return std::vector{Distribution::block()}; }, dims, 0, check);
}

void for_each_dealt_layout(DeviceMesh mesh, const Shape& shape, const std::function<void(const Layout&)>& check) {
  const Options options = [&](int dim, std::int64_t shards) {
    const std::int64_t n = shape[static_cast<std::size_t>(dim)];
    std::vector<std::int64_t> shard_of_index;
    for (std::int64_t i = 0; i < n; ++i) shard_of_index.push_back((i * i + 1) % shards);
    std::vector all{Distribution::block(),   Distribution::balanced(),  Distribution::cyclic(1),
                    Distribution::cyclic(2), Distribution::head_tail(), dealt(shard_of_index, shards, false)};
    if (shards > 1) all.push_back(dealt(shard_of_index, shards, true));  // one shard cannot be in another order
    return all;
  };
  std::vector<DimSplit> dims;
  extend(mesh, static_cast<int>(shape.size()), options, dims, 0, check);
}

void for_each_partial(const Layout& layout, const std::function<void(const Layout&)>& check) {
  std::vector<PartialMap> choices{PartialMap()};
  for (int axis = 0; axis < layout.mesh().axis_count(); ++axis) {
    if (layout.splitting_axes().contains(axis)) continue;
    const std::size_t count = choices.size();
    for (std::size_t i = 0; i < count; ++i) {
      for (const Partial partial : {Partial::kSum, Partial::kMax}) {
        choices.push_back(choices[i]);
        choices.back().set(axis, partial);
      }
    }
  }
  for (const PartialMap partials : choices) check(layout.with_partials(partials));
}

}  // namespace tessera
