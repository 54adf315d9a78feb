// The device mesh: named axes over a list of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/static_vector.h"

namespace tessera {

/// Axes that a mesh may have at most.
inline constexpr std::size_t kMaxAxes = 15;

struct MeshAxis {
  std::string name;
  std::int64_t size = 1;

  friend bool operator==(const MeshAxis&, const MeshAxis&) = default;
};

/// A rank's position on the mesh: its index along every axis, from the left.
using Coordinate = StaticVector<std::int64_t, kMaxAxes>;

/// Axes of a mesh in an order that matters, outermost first; each at most once. One machine word.
class AxisList {
 public:
  constexpr AxisList() = default;
  constexpr AxisList(std::initializer_list<int> axes) {
    for (int axis : axes) push_back(axis);
  }

  [[nodiscard]] constexpr int size() const { return static_cast<int>(word_ & 15); }
  [[nodiscard]] constexpr bool empty() const { return word_ == 0; }
  constexpr int operator[](int i) const { return static_cast<int>(word_ >> (4 * i + 4) & 15); }
  /// @pre fewer than kMaxAxes axes are in the list
  constexpr void push_back(int axis) {
    word_ |= static_cast<std::uint64_t>(axis) << (4 * size() + 4);
    ++word_;
  }
  constexpr void append(AxisList other) {
    for (int i = 0; i < other.size(); ++i) push_back(other[i]);
  }
  /// `count` axes from the one at `begin` on.
  [[nodiscard]] constexpr AxisList sublist(int begin, int count) const {
    AxisList part;
    for (int i = begin; i < begin + count; ++i) part.push_back((*this)[i]);
    return part;
  }
  [[nodiscard]] constexpr bool contains(int axis) const { return (mask() >> axis & 1) != 0; }
  [[nodiscard]] constexpr bool starts_with(AxisList prefix) const {
    return prefix.size() <= size() && sublist(0, prefix.size()) == prefix;
  }
  /// Bit i is set where axis i is in the list.
  [[nodiscard]] constexpr std::uint32_t mask() const {
    std::uint32_t bits = 0;
    for (int i = 0; i < size(); ++i) bits |= 1U << (*this)[i];
    return bits;
  }
  [[nodiscard]] constexpr std::uint64_t word() const { return word_; }

  friend constexpr bool operator==(AxisList, AxisList) = default;

 private:
  std::uint64_t word_ = 0;  // the size in the low 4 bits, then 4 bits an axis
};

/// Named axes with sizes over a list of ranks, row major: the last axis is the fastest. An immutable value as small as a pointer;
/// equal meshes compare equal however they were made. Unless its ranks are an explicit list without a pattern, nothing in it grows
/// with their number: a mesh of a million devices costs what one of eight does.
///
/// ```cpp
/// DeviceMesh mesh({{"dp", 2}, {"cp", 4}});   // rank 6 is at coordinate (1, 2)
/// mesh.ranks_along(6, {1});                  // its cp group: 4 5 6 7
/// ```
class DeviceMesh {
 public:
  /// One device, rank 0, no axes.
  DeviceMesh();

  /// Ranks 0, 1, 2, ... row major.
  /// @throws Error "mesh-axis-size", "mesh-axis-name" (empty, used twice, or not an identifier), "mesh-too-many-axes", "mesh-too-large"
  explicit DeviceMesh(std::vector<MeshAxis> axes);

  /// The given ranks, row major, in any order. @throws also Error "mesh-devices" (their number, one twice, one below 0)
  DeviceMesh(std::vector<MeshAxis> axes, std::span<const std::int64_t> ranks);

  [[nodiscard]] int axis_count() const;
  [[nodiscard]] std::span<const MeshAxis> axes() const;
  [[nodiscard]] const std::string& name(int axis) const { return axes()[static_cast<std::size_t>(axis)].name; }
  [[nodiscard]] std::int64_t size(int axis) const { return axes()[static_cast<std::size_t>(axis)].size; }
  /// Product of the sizes of these axes.
  [[nodiscard]] std::int64_t size(AxisList axes) const;
  [[nodiscard]] std::int64_t device_count() const;
  [[nodiscard]] std::optional<int> find_axis(std::string_view name) const;
  /// @throws Error "unknown-axis" with the nearest name
  [[nodiscard]] int axis(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> axis_names() const;
  [[nodiscard]] std::vector<std::string> names_of(AxisList axes) const;

  [[nodiscard]] bool contains(std::int64_t rank) const;
  /// @pre one index per axis, each inside its axis
  [[nodiscard]] std::int64_t rank_at(const Coordinate& coordinate) const;
  /// @throws Error "unknown-rank" where the rank is not on the mesh
  [[nodiscard]] Coordinate coordinate_of(std::int64_t rank) const;
  /// All ranks, row major. Grows with the mesh: for printing and for running, not for planning.
  [[nodiscard]] std::vector<std::int64_t> ranks() const;
  /// The ranks that differ from `rank` only along these axes, row major in the order in which the axes are given.
  /// @throws Error "unknown-rank"
  [[nodiscard]] std::vector<std::int64_t> ranks_along(std::int64_t rank, AxisList axes) const;

  /// The mesh of these axes, in this order, that holds `rank`. @throws Error "unknown-rank", "unknown-axis", "duplicate-axis"
  [[nodiscard]] DeviceMesh submesh(std::span<const std::string> names, std::int64_t rank) const;
  /// The mesh in which these axes (in the order given, the first the outermost) are one axis called `name`, at the place of the first of
  /// them. @throws Error "unknown-axis", "duplicate-axis", "mesh-axis-name"
  [[nodiscard]] DeviceMesh flatten(std::span<const std::string> names, const std::string& name) const;
  /// Whether the ranks follow a pattern (a start and a stride an axis) and so take no memory of their own.
  [[nodiscard]] bool is_regular() const;

  [[nodiscard]] std::size_t hash() const;
  friend bool operator==(DeviceMesh a, DeviceMesh b) { return a.data_ == b.data_; }

  struct Data;  // interned: one for each value, kept for the life of the process

 private:
  explicit DeviceMesh(const Data* data) : data_(data) {}
  const Data* data_;
};

/// "dp=2 x cp=4", and the ranks where they are not 0, 1, 2, ...: "dp=2 x cp=2 over ranks [0, 2, 1, 3]".
std::string to_string(DeviceMesh mesh);

/// Index of a coordinate along several axes taken as one, the first the outermost (mixed radix):
/// on dp=2 x cp=4, axes [cp, dp] at coordinate (1, 2) give 2 * 2 + 1 = 5.
std::int64_t index_along(DeviceMesh mesh, AxisList axes, const Coordinate& coordinate);

}  // namespace tessera
