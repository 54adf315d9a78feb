// Reads a layout from JSON in any notation.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layouts/json.h"
#include "layouts/json_reader.h"
#include "layouts/notation.h"
#include "layouts/text_reader.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

void check_rank(int dims, int rank, const std::string& pointer) {
  if (dims == rank) return;
  Diagnostic diagnostic{.code = "layout-rank",
                        .message = fmt::format("the layout is for {} dims, the tensor has {}", dims, rank)};
  diagnostic.hint = "write one entry for each dim";
  diagnostic.pointer = pointer;
  fail(std::move(diagnostic));
}

IndexSet read_shard(const Json& json, const std::string& pointer) {
  if (!json.is_array()) fail_json_type(json, pointer, "the intervals of a shard, as [[0, 5], [9, 12]]");
  IndexSet intervals;
  for (const Json& entry : json) {
    const std::string at = child(pointer, intervals.size());
    const auto bounds = read_integers(entry, at, "an interval, as [0, 5]", "a bound of an interval");
    if (bounds.size() != 2) fail_json_type(entry, at, "an interval, as [0, 5]");
    intervals.push_back({bounds[0], bounds[1]});
  }
  return intervals;
}

Distribution read_distribution(const Json& json, const std::string& pointer) {
  static const std::vector<std::string> keys{"cyclic", "intervals"};
  if (json.is_string()) {
    TextReader reader(json.get_ref<const std::string&>(), "layout-syntax");
    const Distribution distribution = tessera::read_distribution(reader);
    if (!reader.at_end()) reader.fail_expected("the end");
    return distribution;
  }
  if (!json.is_object() || json.size() != 1) {
    if (json.is_object()) check_keys(json, keys, pointer);
    fail_json_type(json, pointer,
                   R"(a distribution, as "head_tail", {"cyclic": 128} or {"intervals": [[[0, 5]], [[5, 9]]]})");
  }
  check_keys(json, keys, pointer);
  const std::string at = child(pointer, json.begin().key());
  const Json& value = json.begin().value();
  return placed_at(at, [&] {
    if (json.begin().key() == "cyclic") return Distribution::cyclic(read_integer(value, at, "the size of a block"));
    if (!value.is_array()) fail_json_type(value, at, "a list of intervals for each shard");
    std::vector<IndexSet> shards;
    for (const Json& shard : value) shards.push_back(read_shard(shard, child(at, shards.size())));
    return Distribution::intervals(std::move(shards));
  });
}

// Axes of a dim: null, a name, or a list of names.
AxisList read_axes(const Json& json, AxisUses& uses, const std::string& pointer, const std::string& expected) {
  AxisList axes;
  if (json.is_null()) return axes;
  if (json.is_string()) {
    axes.push_back(placed_at(pointer, [&] { return uses.split(json.get_ref<const std::string&>()); }));
    return axes;
  }
  if (!json.is_array()) fail_json_type(json, pointer, expected);
  std::size_t i = 0;
  for (const Json& entry : json) {
    const std::string at = child(pointer, i++);
    const std::string& name = read_text(entry, at, "the name of an axis");
    axes.push_back(placed_at(at, [&] { return uses.split(name); }));
  }
  return axes;
}

DimSplit read_dim(const Json& json, DeviceMesh mesh, AxisUses& uses, const std::string& pointer) {
  static const std::vector<std::string> keys{"axes", "distribution"};
  static const std::string expected =
      R"(the axes of a dim, as null, "dp", ["dp", "cp"] or {"axes": ["cp"], "distribution": "head_tail"})";
  // HyperParallel's word for a dim that is whole, unless an axis is called so.
  if (json == "None" && !mesh.find_axis("None")) return {};
  if (!json.is_object()) return {read_axes(json, uses, pointer, expected), {}};
  check_keys(json, keys, pointer);
  DimSplit split;
  split.axes = read_axes(required(json, "axes", pointer), uses, child(pointer, "axes"), "a name or a list of names");
  if (const auto found = json.find("distribution"); found != json.end()) {
    const std::string at = child(pointer, "distribution");
    split.distribution = placed_at(at, [&] { return read_distribution(*found, at); });
  }
  return split;
}

PartialMap read_partials(const Json& json, AxisUses& uses, const std::string& pointer) {
  if (!json.is_object()) fail_json_type(json, pointer, R"(pending reductions, as {"tp": "sum"})");
  PartialMap partials;
  for (const auto& item : json.items()) {
    const std::string at = child(pointer, item.key());
    placed_at(at, [&] {
      const int axis = uses.reduce(item.key());
      partials.set(axis, partial_named(read_text(item.value(), at, "a reduction"), item.key()));
    });
  }
  return partials;
}

// The list form at `pointer`, and the value of "partial" at `partial_pointer` if there is one.
Layout read_dims(const Json& json, const Json* partial, DeviceMesh mesh, int rank, const std::string& pointer,
                 const std::string& partial_pointer) {
  if (!json.is_array()) fail_json_type(json, pointer, "a list, one entry a dim");
  check_rank(static_cast<int>(json.size()), rank, pointer);
  AxisUses uses(mesh);
  std::vector<DimSplit> dims;
  for (const Json& entry : json) {
    const std::string at = child(pointer, dims.size());
    dims.push_back(placed_in_dim(static_cast<int>(dims.size()), at, [&] { return read_dim(entry, mesh, uses, at); }));
  }
  PartialMap partials;
  if (partial != nullptr) partials = read_partials(*partial, uses, partial_pointer);
  return placed([&] { return Layout(mesh, dims, partials); },
                [&](const Diagnostic& fault) {
                  return fault.dim < 0 ? pointer : child(pointer, static_cast<std::size_t>(fault.dim));
                });
}

Layout read_placements(const Json& json, DeviceMesh mesh, int rank, const std::string& pointer) {
  const auto placements = read_texts(json, pointer, R"-(a list, one placement a mesh axis, as ["Shard(0)", "Replicate"])-",
                                     R"-(a placement, as "Shard(0)")-");
  return placed([&] { return layout_from_placements(mesh, rank, placements); },
                [&](const Diagnostic& fault) {
                  if (fault.axes.empty()) return pointer;
                  return child(pointer, static_cast<std::size_t>(mesh.axis(fault.axes.front())));
                });
}

Layout read_tensor_map(const Json& json, const Json* partial, DeviceMesh mesh, int rank, const std::string& pointer,
                       const std::string& partial_pointer) {
  static const std::string expected = "the number of an axis, counted from the last, or -1";
  if (!json.is_array()) fail_json_type(json, pointer, "a list, one entry a dim, as [1, -1, [2, 0]]");
  check_rank(static_cast<int>(json.size()), rank, pointer);
  std::vector<std::vector<std::int64_t>> map;
  for (const Json& entry : json) {
    const std::string at = child(pointer, map.size());
    map.push_back(placed_in_dim(static_cast<int>(map.size()), at, [&]() -> std::vector<std::int64_t> {
      if (entry.is_array()) return read_integers(entry, at, expected, expected);
      return {read_integer(entry, at, expected)};
    }));
  }
  AxisUses uses(mesh);
  const PartialMap partials = partial == nullptr ? PartialMap{} : read_partials(*partial, uses, partial_pointer);
  return placed([&] { return layout_from_tensor_map(mesh, map, partials); },
                [&](const Diagnostic& fault) {
                  if (fault.dim >= 0) return child(pointer, static_cast<std::size_t>(fault.dim));
                  return fault.axes.empty() ? pointer : child(partial_pointer, fault.axes.front());
                });
}

}  // namespace

Layout layout_from_json(const Json& json, DeviceMesh mesh, int rank, const std::string& pointer) {
  static const std::vector<std::string> keys{"dims", "partial", "placements", "tensor_map"};
  if (json.is_string()) {
    const Layout layout = placed_at(pointer, [&] { return parse_layout(mesh, json.get_ref<const std::string&>()); });
    check_rank(layout.rank(), rank, pointer);
    return layout;
  }
  if (json.is_array()) return read_dims(json, nullptr, mesh, rank, pointer, "");
  if (!json.is_object()) fail_json_type(json, pointer, R"(a layout, as ["dp", null], {"dims": ["dp", null]} or "[dp, -]")");
  check_keys(json, keys, pointer);
  // The value of `form`, beside which no other key than `beside` may stand.
  const auto value_of = [&](const std::string& form, const std::string& beside) -> const Json* {
    if (!json.contains(form)) return nullptr;
    for (const auto& [key, value] : json.items()) {
      if (key == form || key == beside) continue;
      Diagnostic diagnostic{.code = "json-unknown-key",
                            .message = fmt::format("key '{}' does not go with '{}'", key, form)};
      diagnostic.pointer = child(pointer, key);
      fail(std::move(diagnostic));
    }
    return &json[form];
  };
  const Json* const partial = json.contains("partial") ? &json["partial"] : nullptr;
  const std::string partial_pointer = child(pointer, "partial");
  if (const Json* dims = value_of("dims", "partial")) {
    return read_dims(*dims, partial, mesh, rank, child(pointer, "dims"), partial_pointer);
  }
  if (const Json* placements = value_of("placements", "")) {
    return read_placements(*placements, mesh, rank, child(pointer, "placements"));
  }
  if (const Json* map = value_of("tensor_map", "partial")) {
    return read_tensor_map(*map, partial, mesh, rank, child(pointer, "tensor_map"), partial_pointer);
  }
  Diagnostic diagnostic{.code = "json-missing", .message = "key 'dims', 'placements' or 'tensor_map' is missing"};
  diagnostic.pointer = pointer;
  fail(std::move(diagnostic));
}

}  // namespace tessera
