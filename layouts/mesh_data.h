// What a mesh is made of, and the table that holds each value once. Private to layouts/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layouts/mesh.h"

namespace tessera {

struct DeviceMesh::Data {
  std::vector<MeshAxis> axes;
  std::int64_t device_count = 1;
  // Where the ranks follow a pattern, the rank at a coordinate is first + sum of strides[i] * coordinate[i]. Otherwise `ranks` lists
  // them, and `sorted` holds their positions in that list, by rank.
  std::int64_t first = 0;
  std::vector<std::int64_t> strides;
  std::vector<std::int64_t> ranks;
  std::vector<std::int64_t> sorted;
  std::size_t hash = 0;

  [[nodiscard]] bool same_value(const Data& other) const {
    return axes == other.axes && first == other.first && strides == other.strides && ranks == other.ranks;
  }
};

/// @throws Error as the mesh's constructor
std::int64_t checked_device_count(const std::vector<MeshAxis>& axes);
std::vector<std::int64_t> row_major_strides(const std::vector<MeshAxis>& axes);
/// Axes by falling stride, those of size 1 left out.
StaticVector<int, kMaxAxes> by_stride(const DeviceMesh::Data& data);

/// The one Data of each value. Meshes are few and live as long as the process.
const DeviceMesh::Data* intern(DeviceMesh::Data data);
/// Ranks that follow a pattern: a start, and a stride for each axis.
DeviceMesh::Data regular_data(std::vector<MeshAxis> axes, std::int64_t first, std::vector<std::int64_t> strides);
/// Ranks that are listed, as a pattern where they follow one.
DeviceMesh::Data listed_data(std::vector<MeshAxis> axes, std::span<const std::int64_t> ranks);

}  // namespace tessera
