#include "layouts/mesh_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <mutex>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include "support/diagnostic.h"
#include "support/hash.h"

namespace tessera {
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

std::size_t hash_of(const Data& data) {
  std::size_t hash = data.axes.size();
  for (const MeshAxis& axis : data.axes) {
    hash = mix_hash(mix_hash(hash, std::hash<std::string>{}(axis.name)), static_cast<std::uint64_t>(axis.size));
  }
  hash = mix_hash(hash, static_cast<std::uint64_t>(data.first));
  for (std::int64_t stride : data.strides) hash = mix_hash(hash, static_cast<std::uint64_t>(stride));
  for (std::int64_t rank : data.ranks) hash = mix_hash(hash, static_cast<std::uint64_t>(rank));
  return hash;
}

}  // namespace

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

StaticVector<int, kMaxAxes> by_stride(const DeviceMesh::Data& data) {
  StaticVector<int, kMaxAxes> order;
  for (std::size_t i = 0; i < data.axes.size(); ++i) {
    if (data.axes[i].size > 1) order.push_back(static_cast<int>(i));
  }
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    return data.strides[static_cast<std::size_t>(a)] > data.strides[static_cast<std::size_t>(b)];
  });
  return order;
}

const DeviceMesh::Data* intern(DeviceMesh::Data data) {
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

DeviceMesh::Data regular_data(std::vector<MeshAxis> axes, std::int64_t first, std::vector<std::int64_t> strides) {
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

DeviceMesh::Data listed_data(std::vector<MeshAxis> axes, std::span<const std::int64_t> ranks) {
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

}  // namespace tessera
