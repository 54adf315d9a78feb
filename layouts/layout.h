// The layout: which rank holds which part of a tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layouts/distribution.h"
#include "layouts/mesh.h"
#include "support/shape.h"

namespace tessera {

/// A pending reduction: every rank along the axis holds a part, and the tensor is the reduction of the parts. kSoftmax parts are bundles of
/// running max, sum and weighted value that still have to be merged.
enum class Partial : std::uint8_t { kNone, kSum, kAvg, kMax, kMin, kProd, kAny, kAll, kSoftmax };

/// "sum", "avg", ...
std::string_view to_string(Partial partial);
std::optional<Partial> parse_partial(std::string_view name);
/// The names of all kinds, for messages.
std::span<const std::string> partial_names();

/// The axes that split one dim, outermost first, and how its indices are dealt to the shards they make.
struct DimSplit {
  AxisList axes;
  Distribution distribution;

  friend constexpr bool operator==(const DimSplit&, const DimSplit&) = default;
};

/// The pending reductions of a layout: a Partial for each axis of its mesh. One machine word.
class PartialMap {
 public:
  constexpr Partial operator[](int axis) const { return static_cast<Partial>(word_ >> (4 * axis) & 15); }
  constexpr void set(int axis, Partial partial) {
    word_ = (word_ & ~(std::uint64_t{15} << (4 * axis))) | static_cast<std::uint64_t>(partial) << (4 * axis);
  }
  [[nodiscard]] constexpr bool empty() const { return word_ == 0; }
  [[nodiscard]] constexpr std::uint64_t word() const { return word_; }
  /// The axes over which something is pending, from the left.
  [[nodiscard]] constexpr AxisList axes() const {
    AxisList list;
    for (int axis = 0; axis < static_cast<int>(kMaxAxes); ++axis) {
      if ((*this)[axis] != Partial::kNone) list.push_back(axis);
    }
    return list;
  }
  friend constexpr bool operator==(PartialMap, PartialMap) = default;

 private:
  std::uint64_t word_ = 0;
};

/// Mesh + tensor map + distributions + pending reductions: one immutable value of six machine words, compared and hashed in
/// nanoseconds, copied without allocation.
///
/// ```cpp
/// DeviceMesh mesh({{"dp", 2}, {"cp", 4}});
/// Layout layout = parse_layout(mesh, "[dp, cp, -]");     // notation.h
/// local_shape(layout, {4, 10, 8}, {1, 3});               // [2, 1, 8]: cp deals 10 rows as 3 3 3 1
/// ```
class Layout {
 public:
  /// A scalar on one device.
  Layout() = default;

  /// @throws Error "duplicate-axis" (an axis splits twice, or splits and is partial), "unknown-axis" (a number beyond the mesh),
  ///   "rank-too-large" for more than kMaxRank dims, "distribution-intervals" where explicit intervals are not for as many
  ///   shards as the axes make
  Layout(DeviceMesh mesh, std::span<const DimSplit> dims, PartialMap partials = {});

  /// Every rank holds all of a tensor of `rank` dims.
  static Layout replicated(DeviceMesh mesh, int rank);

  [[nodiscard]] DeviceMesh mesh() const { return mesh_; }
  /// How many dims the tensor has.
  [[nodiscard]] int rank() const { return rank_; }
  /// The axes that split `dim`, outermost first. @pre 0 <= dim < rank()
  [[nodiscard]] AxisList axes(int dim) const;
  [[nodiscard]] Distribution distribution(int dim) const;
  [[nodiscard]] DimSplit dim(int i) const { return {axes(i), distribution(i)}; }
  [[nodiscard]] PartialMap partials() const { return partials_; }
  [[nodiscard]] bool is_partial() const { return !partials_.empty(); }
  /// The axes that split any dim, in the order of the dims.
  [[nodiscard]] AxisList splitting_axes() const { return axes_; }
  [[nodiscard]] bool is_replicated() const { return axes_.empty() && partials_.empty(); }

  /// This layout with one part replaced. @throws as the constructor
  [[nodiscard]] Layout with_dim(int dim, const DimSplit& split) const;
  [[nodiscard]] Layout with_partials(PartialMap partials) const;

  [[nodiscard]] std::size_t hash() const;
  friend bool operator==(const Layout&, const Layout&) = default;

 private:
  struct Distributions;  // interned; absent where every dim is dealt in blocks

  DeviceMesh mesh_;
  AxisList axes_;             // of all dims, one dim after the other
  std::uint64_t counts_ = 0;  // 4 bits a dim: how many of these axes are its own
  PartialMap partials_;
  const Distributions* distributions_ = nullptr;
  std::int32_t rank_ = 0;
};

/// Into how many shards a dim is cut: the product of the sizes of its axes.
std::int64_t split_count(const Layout& layout, int dim);
/// Which of them a rank holds: its coordinate along the dim's axes, read as one mixed-radix number.
std::int64_t split_id(const Layout& layout, int dim, const Coordinate& coordinate);
/// How many ranks hold the same numbers: the product of the sizes of the axes that neither split nor are partial.
std::int64_t repeat_count(const Layout& layout);

/// What a rank holds of a tensor of that global shape. @pre layout.rank() == shape.size()
Shape local_shape(const Layout& layout, const Shape& shape, const Coordinate& coordinate);
/// The largest local shape of any rank, dim by dim.
Shape largest_local_shape(const Layout& layout, const Shape& shape);
/// The global shape of which every rank holds `local`. Only even splits can be told from local shapes.
Shape global_shape(const Layout& layout, const Shape& local);
/// Why the layout cannot be that of a tensor of this shape (number of dims, explicit intervals), or nothing where it can.
std::optional<std::string> misfit(const Layout& layout, const Shape& shape);

/// The shard map: for each dim the global indices that a rank owns.
/// @pre !misfit(layout, shape)
std::vector<IndexSet> shard_of(const Layout& layout, const Shape& shape, const Coordinate& coordinate);

/// Where an element lies: its owners' index along the axes of each dim, and its index in their local tensors.
struct Location {
  StaticVector<std::int64_t, kMaxRank> shard;  ///< split id, dim by dim
  StaticVector<std::int64_t, kMaxRank> local;  ///< local index, dim by dim
};
Location locate(const Layout& layout, const Shape& shape, std::span<const std::int64_t> index);
/// The other way: the global index of a rank's local element.
/// @pre local lies inside local_shape(layout, shape, coordinate)
StaticVector<std::int64_t, kMaxRank> global_index(const Layout& layout, const Shape& shape, const Coordinate& coordinate,
                                                  std::span<const std::int64_t> local);

}  // namespace tessera

template <>
struct std::hash<tessera::Layout> {
  std::size_t operator()(const tessera::Layout& layout) const noexcept { return layout.hash(); }
};
