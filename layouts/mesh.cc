#include "layouts/mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <mutex>
#include <numeric>
#include <unordered_map>

#include "support/diagnostic.h"
#include "support/text.h"

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

namespace {

using Data = DeviceMesh::Data;

bool is_identifier(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_word = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); };
  return !name.empty() && is_letter(name.front()) && std::all_of(name.begin(), name.end(), is_word);
}

[[noreturn]] void fail_axis(std::string code, const std::string& name, std::string message, std::string hint) {
  Diagnostic diagnostic{.code = std::move(code), .message = std::move(message)};
  diagnostic.axes = {name};
  diagnostic.hint = std::move(hint);
  fail(std::move(diagnostic));
}

std::int64_t checked_device_count(const std::vector<MeshAxis>& axes) {
  if (axes.size() > kMaxAxes) {
    fail("mesh-too-many-axes", fmt::format("a mesh has at most {} axes, this one has {}", kMaxAxes, axes.size()));
  }
  std::int64_t count = 1;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::string& name = axes[i].name;
    const std::int64_t size = axes[i].size;
    if (!is_identifier(name)) {
      fail_axis("mesh-axis-name", name, fmt::format("mesh axis {} is called '{}', which is no name", i, name),
                "a name is letters, digits and '_', and does not begin with a digit");
    }
    if (std::any_of(axes.begin(), axes.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const auto& a) { return a.name == name; })) {
      fail_axis("mesh-axis-name", name, fmt::format("two mesh axes are called '{}'", name), "give each axis its own name");
    }
    if (size < 1) {
      fail_axis("mesh-axis-size", name, fmt::format("mesh axis '{}' has size {}, it needs at least 1", name, size), "");
    }
    if (count > std::numeric_limits<std::int64_t>::max() / size)
      fail("mesh-too-large", "the mesh has more than 2^63-1 devices");
    count *= size;
  }
  return count;
}

std::vector<std::int64_t> row_major_strides(const std::vector<MeshAxis>& axes) {
  std::vector<std::int64_t> strides(axes.size(), 1);
  for (std::size_t i = axes.size(); i-- > 1;) strides[i - 1] = strides[i] * axes[i].size;
  return strides;
}

// Axes by falling stride, those of size 1 left out.
StaticVector<int, kMaxAxes> by_stride(const Data& data) {
  StaticVector<int, kMaxAxes> order;
  for (std::size_t i = 0; i < data.axes.size(); ++i) {
    if (data.axes[i].size > 1) order.push_back(static_cast<int>(i));
  }
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    return data.strides[static_cast<std::size_t>(a)] > data.strides[static_cast<std::size_t>(b)];
  });
  return order;
}

// Whether every rank has one coordinate only, found by division: each stride exceeds what all smaller ones can add up to. (And the
// last rank is a number: explicit ranks may be any.)
bool strides_nest(const Data& data) {
  const auto order = by_stride(data);
  std::int64_t reach = 0;
  const std::int64_t limit = std::numeric_limits<std::int64_t>::max() - data.first;
  for (std::size_t i = order.size(); i-- > 0;) {
    const auto axis = static_cast<std::size_t>(order[i]);
    if (data.strides[axis] <= reach || data.strides[axis] > (limit - reach) / (data.axes[axis].size - 1)) return false;
    reach += data.strides[axis] * (data.axes[axis].size - 1);
  }
  return true;
}

// Turns a list of ranks into first and strides where it follows a pattern whose coordinates can be found by division.
void find_pattern(Data& data) {
  const std::vector<std::int64_t> steps = row_major_strides(data.axes);
  Data regular = data;
  regular.first = data.ranks.front();
  regular.strides.assign(data.axes.size(), 0);
  for (std::size_t i = 0; i < data.axes.size(); ++i) {
    if (data.axes[i].size > 1) regular.strides[i] = data.ranks[static_cast<std::size_t>(steps[i])] - regular.first;
  }
  if (!strides_nest(regular)) return;
  for (std::size_t position = 0; position < data.ranks.size(); ++position) {
    std::int64_t rank = regular.first;
    for (std::size_t i = 0; i < data.axes.size(); ++i) {
      rank += regular.strides[i] * (static_cast<std::int64_t>(position) / steps[i] % data.axes[i].size);
    }
    if (rank != data.ranks[position]) return;
  }
  regular.ranks.clear();
  data = std::move(regular);
}

std::size_t combine(std::size_t seed, std::size_t value) {
  return seed ^ (value + 0x9e3779b97f4a7c15U + (seed << 6) + (seed >> 2));
}

std::size_t hash_of(const Data& data) {
  std::size_t hash = data.axes.size();
  for (const MeshAxis& axis : data.axes) {
    hash = combine(combine(hash, std::hash<std::string>{}(axis.name)), static_cast<std::size_t>(axis.size));
  }
  hash = combine(hash, static_cast<std::size_t>(data.first));
  for (std::int64_t stride : data.strides) hash = combine(hash, static_cast<std::size_t>(stride));
  for (std::int64_t rank : data.ranks) hash = combine(hash, static_cast<std::size_t>(rank));
  return hash;
}

// The one Data of each value. Meshes are few and live as long as the process.
const Data* intern(Data data) {
  static std::mutex mutex;
  static std::unordered_multimap<std::size_t, const Data*> known;
  static std::deque<Data> storage;
  data.hash = hash_of(data);
  const std::lock_guard lock(mutex);
  const auto [begin, end] = known.equal_range(data.hash);
  for (auto it = begin; it != end; ++it) {
    if (it->second->same_value(data)) return it->second;
  }
  storage.push_back(std::move(data));
  known.emplace(storage.back().hash, &storage.back());
  return &storage.back();
}

Data regular_data(std::vector<MeshAxis> axes, std::int64_t first, std::vector<std::int64_t> strides) {
  Data data;
  data.device_count = checked_device_count(axes);
  // The stride of an axis of size 1 never matters: one form for one value.
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i].size == 1) strides[i] = 0;
  }
  data.axes = std::move(axes);
  data.first = first;
  data.strides = std::move(strides);
  return data;
}

Data listed_data(std::vector<MeshAxis> axes, std::span<const std::int64_t> ranks) {
  Data data;
  data.device_count = checked_device_count(axes);
  data.axes = std::move(axes);
  if (static_cast<std::int64_t>(ranks.size()) != data.device_count) {
    fail("mesh-devices", fmt::format("the mesh has {} places but {} devices", data.device_count, ranks.size()),
         "list one rank for each place, row major");
  }
  data.ranks.assign(ranks.begin(), ranks.end());
  data.sorted.resize(ranks.size());
  std::iota(data.sorted.begin(), data.sorted.end(), std::int64_t{0});
  const auto rank_of = [&](std::int64_t position) { return ranks[static_cast<std::size_t>(position)]; };
  std::sort(data.sorted.begin(), data.sorted.end(), [&](auto a, auto b) { return rank_of(a) < rank_of(b); });
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const std::int64_t rank = rank_of(data.sorted[i]);
    if (rank < 0) fail("mesh-devices", fmt::format("the mesh lists device {}, ranks begin at 0", rank));
    if (i > 0 && rank == rank_of(data.sorted[i - 1])) {
      fail("mesh-devices", fmt::format("the mesh lists device {} twice", rank), "each rank has one place");
    }
  }
  find_pattern(data);
  if (data.ranks.empty()) return regular_data(std::move(data.axes), data.first, std::move(data.strides));
  return data;
}

}  // namespace

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
