#include "tools/rank_view.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "layouts/notation.h"
#include "support/text.h"

namespace tessera::tools {
namespace {

constexpr std::int64_t kMostIntervals = 64;

HeldIndices held_indices(const Layout& layout, const Shape& shape, int dim, const Coordinate& coordinate) {
  const Distribution distribution = layout.distribution(dim);
  const std::int64_t n = shape[static_cast<std::size_t>(dim)];
  const std::int64_t shards = split_count(layout, dim);
  const std::int64_t shard = split_id(layout, dim, coordinate);
  if (distribution.kind() == Distribution::Kind::kCyclic && shards > 1) {
    const std::int64_t block = distribution.cyclic_block();
    const std::int64_t held = owned_count(distribution, n, shards, shard);
    const std::int64_t count = held / block + (held % block == 0 ? 0 : 1);
    if (count > kMostIntervals) {  // held is more than 64 blocks, so none of these products is more than n
      return {{{shard * block, (shard + 1) * block}}, count, shards * block};
    }
  }
  HeldIndices held;
  held.intervals = owned_indices(distribution, n, shards, shard);
  held.count = static_cast<std::int64_t>(held.intervals.size());
  return held;
}

// "0:128", "0:128, 512:640", "0:128 every 512 (1000 blocks)", "none".
std::string to_string(const HeldIndices& held) {
  std::vector<std::string> parts;
  for (const Interval& interval : held.intervals) parts.push_back(fmt::format("{}:{}", interval.begin, interval.end));
  if (held.step > 0) return fmt::format("{} every {} ({} blocks)", parts[0], held.step, held.count);
  return parts.empty() ? "none" : join(parts, " + ");
}

std::string coordinate_text(const RankView& view) {
  std::vector<std::string> parts;
  for (int axis = 0; axis < view.mesh.axis_count(); ++axis) {
    parts.push_back(fmt::format("{}={}", view.mesh.name(axis), view.coordinate[static_cast<std::size_t>(axis)]));
  }
  return join(parts);
}

}  // namespace

RankView rank_view(DeviceMesh mesh, const std::map<std::string, TensorSpec>& tensors, std::int64_t rank) {
  RankView view{.rank = rank, .mesh = mesh, .coordinate = {}};
  if (!mesh.contains(rank)) return view;  // a config without a sound mesh has no sound tensors either
  view.coordinate = mesh.coordinate_of(rank);
  for (const auto& [name, spec] : tensors) {
    HeldTensor held{
        .tensor = name, .layout = spec.layout, .local_shape = local_shape(spec.layout, spec.shape, view.coordinate)};
    held.bytes = element_count(held.local_shape) * size_of(spec.dtype);
    for (int dim = 0; dim < spec.layout.rank(); ++dim)
      held.indices.push_back(held_indices(spec.layout, spec.shape, dim, view.coordinate));
    view.tensors.push_back(std::move(held));
  }
  return view;
}

void print_rank_view(const Console& console, const RankView& view) {
  console.out << '\n'
              << styled(console, Style::kStrong, fmt::format("rank {} at ({})", view.rank, coordinate_text(view))) << '\n';
  Table table({"tensor", "layout", "local shape", "bytes", "global indices"}, {3});
  for (const HeldTensor& held : view.tensors) {
    std::vector<std::string> dims;
    for (const HeldIndices& indices : held.indices) dims.push_back(to_string(indices));
    table.add({held.tensor, tessera::to_string(held.layout), tessera::to_string(held.local_shape), format_bytes(held.bytes),
               fmt::format("[{}]", join(dims))});
  }
  table.print(console);
}

nlohmann::json to_json(const RankView& view) {
  nlohmann::json coordinate = nlohmann::json::object();
  for (std::size_t i = 0; i < view.coordinate.size(); ++i)
    coordinate[view.mesh.name(static_cast<int>(i))] = view.coordinate[i];
  nlohmann::json tensors = nlohmann::json::array();
  for (const HeldTensor& held : view.tensors) {
    nlohmann::json dims = nlohmann::json::array();
    for (const HeldIndices& indices : held.indices) {
      nlohmann::json intervals = nlohmann::json::array();
      for (const Interval& interval : indices.intervals) intervals.push_back({interval.begin, interval.end});
      nlohmann::json dim{{"intervals", std::move(intervals)}, {"count", indices.count}};
      if (indices.step > 0) dim["step"] = indices.step;
      dims.push_back(std::move(dim));
    }
    nlohmann::json json = layout_json(held.layout);
    json["tensor"] = held.tensor;
    json["local_shape"] = std::vector<std::int64_t>(held.local_shape.begin(), held.local_shape.end());
    json["bytes"] = held.bytes;
    json["indices"] = std::move(dims);
    tensors.push_back(std::move(json));
  }
  return {{"rank", view.rank}, {"coordinate", std::move(coordinate)}, {"tensors", std::move(tensors)}};
}

}  // namespace tessera::tools
