#include "layouts/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <mutex>

#include "support/diagnostic.h"
#include "support/hash.h"
#include "support/text.h"

namespace tessera {
namespace {

constexpr std::array<std::string_view, 9> kPartialNames{"none", "sum", "avg", "max",    "min",
                                                        "prod", "any", "all", "softmax"};

}  // namespace

struct Layout::Distributions {
  std::array<Distribution, kMaxRank> of_dim;

  friend bool operator==(const Distributions&, const Distributions&) = default;
};

std::string_view to_string(Partial partial) { return kPartialNames.at(static_cast<std::size_t>(partial)); }

std::optional<Partial> parse_partial(std::string_view name) {
  for (std::size_t i = 1; i < kPartialNames.size(); ++i) {
    if (kPartialNames[i] == name) return static_cast<Partial>(i);
  }
  return std::nullopt;
}

std::span<const std::string> partial_names() {
  static const std::vector<std::string> names(kPartialNames.begin() + 1, kPartialNames.end());
  return names;
}

Layout::Layout(DeviceMesh mesh, std::span<const DimSplit> dims, PartialMap partials)
    : mesh_(mesh), partials_(partials), rank_(static_cast<std::int32_t>(dims.size())) {
  if (dims.size() > kMaxRank) {
    fail("rank-too-large", fmt::format("a tensor has at most {} dims, this layout is for {}", kMaxRank, dims.size()));
  }
  std::uint32_t used = 0;
  bool blocks_only = true;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const DimSplit& split = dims[i];
    counts_ |= static_cast<std::uint64_t>(split.axes.size()) << (4 * i);
    for (int k = 0; k < split.axes.size(); ++k) {
      const int axis = split.axes[k];
      if (axis >= mesh.axis_count()) {
        fail("unknown-axis", fmt::format("axis number {} is not on the mesh ({})", axis, to_string(mesh)));
      }
      if ((used >> axis & 1) != 0) {
        Diagnostic diagnostic{.code = "duplicate-axis",
                              .message = fmt::format("axis '{}' splits the tensor twice", mesh.name(axis))};
        diagnostic.dim = static_cast<int>(i);
        diagnostic.axes = {mesh.name(axis)};
        diagnostic.hint = "an axis splits one dim at most";
        fail(std::move(diagnostic));
      }
      used |= 1U << axis;
      axes_.push_back(axis);
    }
    blocks_only = blocks_only && split.distribution.is_block();
  }
  const AxisList pending = partials.axes();
  for (int k = 0; k < pending.size(); ++k) {
    const int axis = pending[k];
    if (axis >= mesh.axis_count()) {
      fail("unknown-axis", fmt::format("axis number {} is not on the mesh ({})", axis, to_string(mesh)));
    }
    if ((used >> axis & 1) != 0) {
      Diagnostic diagnostic{.code = "duplicate-axis",
                            .message = fmt::format("axis '{}' both splits the tensor and is partial", mesh.name(axis))};
      diagnostic.axes = {mesh.name(axis)};
      diagnostic.hint = "an axis either splits a dim or has a pending reduction";
      fail(std::move(diagnostic));
    }
  }
  if (blocks_only) return;

  // A dim that is not cut is dealt in one block, whatever was said: one form for one value.
  Distributions distributions;
  bool any = false;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const std::int64_t shards = mesh.size(dims[i].axes);
    const Distribution distribution = dims[i].distribution;
    if (distribution.kind() == Distribution::Kind::kIntervals &&
        static_cast<std::int64_t>(distribution.listed().size()) != shards) {
      Diagnostic diagnostic{.code = "distribution-intervals",
                            .message = fmt::format("dim {} lists intervals for {} shards, its axes make {}", i,
                                                   distribution.listed().size(), shards)};
      diagnostic.dim = static_cast<int>(i);
      diagnostic.axes = mesh.names_of(dims[i].axes);
      diagnostic.hint = "list one set of intervals for each shard";
      fail(std::move(diagnostic));
    }
    if (shards == 1) {
      // [[5, 9], [0, 5]] on one shard would be a new order of the indices, not a split.
      if (distribution.kind() == Distribution::Kind::kIntervals && distribution.listed()[0].size() > 1) {
        Diagnostic diagnostic{.code = "distribution-intervals",
                              .message = fmt::format("dim {} is not split, but lists its indices in another order", i)};
        diagnostic.dim = static_cast<int>(i);
        diagnostic.axes = mesh.names_of(dims[i].axes);
        diagnostic.hint = "leave the intervals out, or split the dim over an axis of more than one device";
        fail(std::move(diagnostic));
      }
      continue;
    }
    distributions.of_dim[i] = distribution;
    any = any || !distribution.is_block();
  }
  if (!any) return;
  static std::mutex mutex;
  static std::deque<Distributions> storage;
  const std::lock_guard lock(mutex);
  const auto found = std::find(storage.begin(), storage.end(), distributions);
  distributions_ = found != storage.end() ? &*found : &storage.emplace_back(distributions);
}

Layout Layout::replicated(DeviceMesh mesh, int rank) {
  const std::vector<DimSplit> dims(static_cast<std::size_t>(rank));
  return {mesh, dims};
}

AxisList Layout::axes(int dim) const {
  int begin = 0;
  for (int i = 0; i < dim; ++i) begin += static_cast<int>(counts_ >> (4 * i) & 15);
  return axes_.sublist(begin, static_cast<int>(counts_ >> (4 * dim) & 15));
}

Distribution Layout::distribution(int dim) const {
  return distributions_ == nullptr ? Distribution::block() : distributions_->of_dim[static_cast<std::size_t>(dim)];
}

Layout Layout::with_dim(int dim, const DimSplit& split) const {
  StaticVector<DimSplit, kMaxRank> dims;
  for (int i = 0; i < rank_; ++i) dims.push_back(i == dim ? split : this->dim(i));
  return {mesh_, dims, partials_};
}

Layout Layout::with_partials(PartialMap partials) const {
  StaticVector<DimSplit, kMaxRank> dims;
  for (int i = 0; i < rank_; ++i) dims.push_back(dim(i));
  return {mesh_, dims, partials};
}

std::size_t Layout::hash() const {
  std::uint64_t h = mix_hash(mesh_.hash(), axes_.word());
  h = mix_hash(h, counts_ + static_cast<std::uint64_t>(rank_) * 0x9e3779b97f4a7c15U);
  h = mix_hash(h, partials_.word());
  return mix_hash(h, reinterpret_cast<std::uintptr_t>(distributions_));
}

std::int64_t split_count(const Layout& layout, int dim) { return layout.mesh().size(layout.axes(dim)); }

std::int64_t split_id(const Layout& layout, int dim, const Coordinate& coordinate) {
  return index_along(layout.mesh(), layout.axes(dim), coordinate);
}

std::int64_t repeat_count(const Layout& layout) {
  const std::uint32_t used = layout.splitting_axes().mask() | layout.partials().axes().mask();
  std::int64_t count = 1;
  for (int axis = 0; axis < layout.mesh().axis_count(); ++axis) {
    if ((used >> axis & 1) == 0) count *= layout.mesh().size(axis);
  }
  return count;
}

Shape local_shape(const Layout& layout, const Shape& shape, const Coordinate& coordinate) {
  Shape local = shape;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const auto i = static_cast<std::size_t>(dim);
    local[i] = owned_count(layout.distribution(dim), shape[i], split_count(layout, dim), split_id(layout, dim, coordinate));
  }
  return local;
}

Shape largest_local_shape(const Layout& layout, const Shape& shape) {
  Shape local = shape;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const auto i = static_cast<std::size_t>(dim);
    local[i] = largest_count(layout.distribution(dim), shape[i], split_count(layout, dim));
  }
  return local;
}

Shape global_shape(const Layout& layout, const Shape& local) {
  Shape shape = local;
  for (int dim = 0; dim < layout.rank(); ++dim) shape[static_cast<std::size_t>(dim)] *= split_count(layout, dim);
  return shape;
}

std::optional<std::string> misfit(const Layout& layout, const Shape& shape) {
  if (static_cast<std::size_t>(layout.rank()) != shape.size()) {
    return fmt::format("the layout is for {} dims, the shape {} has {}", layout.rank(), to_string(shape), shape.size());
  }
  for (int dim = 0; dim < layout.rank(); ++dim) {
    if (auto why = misfit(layout.distribution(dim), shape[static_cast<std::size_t>(dim)], split_count(layout, dim))) {
      return fmt::format("dim {}: {}", dim, *why);
    }
  }
  return std::nullopt;
}

std::vector<IndexSet> shard_of(const Layout& layout, const Shape& shape, const Coordinate& coordinate) {
  std::vector<IndexSet> owned;
  owned.reserve(static_cast<std::size_t>(layout.rank()));
  for (int dim = 0; dim < layout.rank(); ++dim) {
    owned.push_back(owned_indices(layout.distribution(dim), shape[static_cast<std::size_t>(dim)], split_count(layout, dim),
                                  split_id(layout, dim, coordinate)));
  }
  return owned;
}

Location locate(const Layout& layout, const Shape& shape, std::span<const std::int64_t> index) {
  Location location;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const auto i = static_cast<std::size_t>(dim);
    const Owner owner = owner_of(layout.distribution(dim), shape[i], split_count(layout, dim), index[i]);
    location.shard.push_back(owner.shard);
    location.local.push_back(owner.local);
  }
  return location;
}

StaticVector<std::int64_t, kMaxRank> global_index(const Layout& layout, const Shape& shape, const Coordinate& coordinate,
                                                  std::span<const std::int64_t> local) {
  StaticVector<std::int64_t, kMaxRank> index;
  const std::vector<IndexSet> owned = shard_of(layout, shape, coordinate);
  for (std::size_t i = 0; i < owned.size(); ++i) {
    std::int64_t rest = local[i];
    for (const Interval& interval : owned[i]) {
      if (rest < interval.size()) {
        index.push_back(interval.begin + rest);
        break;
      }
      rest -= interval.size();
    }
  }
  return index;
}

}  // namespace tessera
