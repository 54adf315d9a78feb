#include "layouts/mesh.h"

#include <fmt/format.h>

#include <algorithm>

#include "layouts/mesh_data.h"
#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {

DeviceMesh::DeviceMesh() {
  static const Data* const trivial = intern(regular_data({}, 0, {}));
  data_ = trivial;
}

DeviceMesh::DeviceMesh(std::vector<MeshAxis> axes) {
  checked_device_count(axes);
  std::vector<std::int64_t> strides = row_major_strides(axes);
  data_ = intern(regular_data(std::move(axes), 0, std::move(strides)));
}

DeviceMesh::DeviceMesh(std::vector<MeshAxis> axes, std::span<const std::int64_t> ranks)
    : data_(intern(listed_data(std::move(axes), ranks))) {}

int DeviceMesh::axis_count() const { return static_cast<int>(data_->axes.size()); }
std::span<const MeshAxis> DeviceMesh::axes() const { return data_->axes; }
std::int64_t DeviceMesh::device_count() const { return data_->device_count; }
bool DeviceMesh::is_regular() const { return data_->ranks.empty(); }
std::size_t DeviceMesh::hash() const { return data_->hash; }

std::int64_t DeviceMesh::size(AxisList axes) const {
  std::int64_t product = 1;
  for (int i = 0; i < axes.size(); ++i) product *= size(axes[i]);
  return product;
}

std::optional<int> DeviceMesh::find_axis(std::string_view name) const {
  for (std::size_t i = 0; i < data_->axes.size(); ++i) {
    if (data_->axes[i].name == name) return static_cast<int>(i);
  }
  return std::nullopt;
}

int DeviceMesh::axis(std::string_view name) const {
  if (const auto found = find_axis(name)) return *found;
  Diagnostic diagnostic{.code = "unknown-axis",
                        .message = fmt::format("the mesh ({}) has no axis '{}'", to_string(*this), name)};
  diagnostic.axes = {std::string(name)};
  diagnostic.hint = did_you_mean(name, axis_names());
  fail(std::move(diagnostic));
}

std::vector<std::string> DeviceMesh::axis_names() const {
  std::vector<std::string> names;
  for (const MeshAxis& axis : data_->axes) names.push_back(axis.name);
  return names;
}

std::vector<std::string> DeviceMesh::names_of(AxisList axes) const {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(axes.size()));
  for (int i = 0; i < axes.size(); ++i) names.push_back(name(axes[i]));
  return names;
}

bool DeviceMesh::contains(std::int64_t rank) const {
  if (!is_regular()) {
    const auto rank_of = [&](std::int64_t position) { return data_->ranks[static_cast<std::size_t>(position)]; };
    const auto it = std::lower_bound(data_->sorted.begin(), data_->sorted.end(), rank,
                                     [&](std::int64_t position, std::int64_t value) { return rank_of(position) < value; });
    return it != data_->sorted.end() && rank_of(*it) == rank;
  }
  if (rank < data_->first) return false;
  std::int64_t rest = rank - data_->first;
  for (int axis : by_stride(*data_)) {
    const auto i = static_cast<std::size_t>(axis);
    rest -= data_->strides[i] * std::min(rest / data_->strides[i], data_->axes[i].size - 1);
  }
  return rest == 0;
}

std::int64_t DeviceMesh::rank_at(const Coordinate& coordinate) const {
  if (is_regular()) {
    std::int64_t rank = data_->first;
    for (std::size_t i = 0; i < data_->strides.size(); ++i) rank += data_->strides[i] * coordinate[i];
    return rank;
  }
  std::int64_t position = 0;
  for (std::size_t i = 0; i < data_->axes.size(); ++i) position = position * data_->axes[i].size + coordinate[i];
  return data_->ranks[static_cast<std::size_t>(position)];
}

Coordinate DeviceMesh::coordinate_of(std::int64_t rank) const {
  if (!contains(rank)) {
    fail("unknown-rank",
         fmt::format("rank {} is not on the mesh ({}, {} devices)", rank, to_string(*this), device_count()));
  }
  Coordinate coordinate(data_->axes.size(), 0);
  if (is_regular()) {
    std::int64_t rest = rank - data_->first;
    for (int axis : by_stride(*data_)) {
      const auto i = static_cast<std::size_t>(axis);
      coordinate[i] = rest / data_->strides[i];
      rest %= data_->strides[i];
    }
    return coordinate;
  }
  const auto rank_of = [&](std::int64_t position) { return data_->ranks[static_cast<std::size_t>(position)]; };
  std::int64_t position = *std::lower_bound(data_->sorted.begin(), data_->sorted.end(), rank,
                                            [&](std::int64_t p, std::int64_t value) { return rank_of(p) < value; });
  for (std::size_t i = data_->axes.size(); i-- > 0;) {
    coordinate[i] = position % data_->axes[i].size;
    position /= data_->axes[i].size;
  }
  return coordinate;
}

std::vector<std::int64_t> DeviceMesh::ranks() const {
  if (!is_regular()) return data_->ranks;
  std::vector<std::int64_t> all;
  all.reserve(static_cast<std::size_t>(device_count()));
  Coordinate coordinate(data_->axes.size(), 0);
  for (std::int64_t n = 0; n < device_count(); ++n) {
    all.push_back(rank_at(coordinate));
    for (std::size_t i = data_->axes.size(); i-- > 0;) {
      if (++coordinate[i] < data_->axes[i].size) break;
      coordinate[i] = 0;
    }
  }
  return all;
}

std::vector<std::int64_t> DeviceMesh::ranks_along(std::int64_t rank, AxisList axes) const {
  Coordinate coordinate = coordinate_of(rank);
  std::vector<std::int64_t> group;
  const std::int64_t count = size(axes);
  group.reserve(static_cast<std::size_t>(count));
  for (std::int64_t n = 0; n < count; ++n) {
    std::int64_t rest = n;
    for (int i = axes.size(); i-- > 0;) {
      coordinate[static_cast<std::size_t>(axes[i])] = rest % size(axes[i]);
      rest /= size(axes[i]);
    }
    group.push_back(rank_at(coordinate));
  }
  return group;
}

namespace {

AxisList axes_named(DeviceMesh mesh, std::span<const std::string> names) {
  AxisList axes;
  for (const std::string& name : names) {
    const int axis = mesh.axis(name);
    if (axes.contains(axis)) fail("duplicate-axis", fmt::format("axis '{}' is named twice", name), "name each axis once");
    axes.push_back(axis);
  }
  return axes;
}

}  // namespace

DeviceMesh DeviceMesh::submesh(std::span<const std::string> names, std::int64_t rank) const {
  const AxisList chosen = axes_named(*this, names);
  std::vector<MeshAxis> axes;
  axes.reserve(static_cast<std::size_t>(chosen.size()));
  for (int i = 0; i < chosen.size(); ++i) axes.push_back(this->axes()[static_cast<std::size_t>(chosen[i])]);
  if (!is_regular()) return {std::move(axes), ranks_along(rank, chosen)};
  Coordinate start = coordinate_of(rank);
  std::vector<std::int64_t> strides;
  for (int i = 0; i < chosen.size(); ++i) {
    start[static_cast<std::size_t>(chosen[i])] = 0;
    strides.push_back(data_->strides[static_cast<std::size_t>(chosen[i])]);
  }
  return DeviceMesh(intern(regular_data(std::move(axes), rank_at(start), std::move(strides))));
}

DeviceMesh DeviceMesh::flatten(std::span<const std::string> names, const std::string& name) const {
  const AxisList joined = axes_named(*this, names);
  if (joined.empty()) fail("unknown-axis", "flatten needs at least one axis");
  // The axes in their new order, and for each the old axes that it stands for.
  std::vector<MeshAxis> axes;
  std::vector<AxisList> sources;
  for (int i = 0; i < axis_count(); ++i) {
    if (i == joined[0]) {
      axes.push_back({name, size(joined)});
      sources.push_back(joined);
    } else if (!joined.contains(i)) {
      axes.push_back(this->axes()[static_cast<std::size_t>(i)]);
      sources.push_back({i});
    }
  }
  if (is_regular()) {
    // A joined axis has a stride of its own where each old one's stride is the next one's times its size.
    std::vector<std::int64_t> strides;
    for (const AxisList& source : sources) {
      std::int64_t stride = 0;
      std::int64_t expected = 0;
      bool even = true;
      for (int i = source.size(); i-- > 0;) {
        const auto axis = static_cast<std::size_t>(source[i]);
        if (data_->axes[axis].size == 1) continue;
        if (stride == 0) stride = expected = data_->strides[axis];
        even = even && data_->strides[axis] == expected;
        expected *= data_->axes[axis].size;
      }
      if (!even) break;
      strides.push_back(stride);
    }
    if (strides.size() == sources.size()) {
      return DeviceMesh(intern(regular_data(std::move(axes), data_->first, std::move(strides))));
    }
  }
  AxisList order;
  for (const AxisList& source : sources) order.append(source);
  const std::int64_t any_rank = rank_at(Coordinate(data_->axes.size(), 0));
  return {std::move(axes), ranks_along(any_rank, order)};
}

std::string to_string(DeviceMesh mesh) {
  if (mesh.axis_count() == 0 && mesh.rank_at({}) == 0) return "one device";
  std::vector<std::string> parts;
  for (const MeshAxis& axis : mesh.axes()) parts.push_back(fmt::format("{}={}", axis.name, axis.size));
  std::string text = parts.empty() ? "one device" : join(parts, " x ");
  if (mesh == DeviceMesh({mesh.axes().begin(), mesh.axes().end()})) return text;
  constexpr std::int64_t kShown = 16;
  if (mesh.device_count() > kShown) return text + fmt::format(" over {} ranks", mesh.device_count());
  return text + fmt::format(" over ranks [{}]", fmt::join(mesh.ranks(), ", "));
}

std::int64_t index_along(DeviceMesh mesh, AxisList axes, const Coordinate& coordinate) {
  std::int64_t index = 0;
  for (int i = 0; i < axes.size(); ++i) {
    index = index * mesh.size(axes[i]) + coordinate[static_cast<std::size_t>(axes[i])];
  }
  return index;
}

}  // namespace tessera
