// Meshes in JSON, layouts to JSON, and what the readers of JSON share.
#include "layouts/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "layouts/json_reader.h"
#include "support/text.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

// What stands there, short: a document may be as deep and as long as it likes.
std::string described(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return json.empty() ? "an empty list" : "a list";
  if (json.is_null()) return "null";
  constexpr std::size_t kShown = 40;
  const auto dumped = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  if (!json.is_string()) return dumped(json);
  const auto& text = json.get_ref<const std::string&>();
  return dumped(text.substr(0, kShown)) + (text.size() > kShown ? "..." : "");
}

// Where among `names` the fault's axis stands last.
std::string place_of(const Diagnostic& fault, const std::vector<std::string>& names, const std::string& pointer) {
  for (std::size_t i = names.size(); i-- > 0;) {
    if (!fault.axes.empty() && names[i] == fault.axes.front()) return child(pointer, i);
  }
  return pointer;
}

}  // namespace

std::string child(const std::string& pointer, const std::string& key) { return pointer + "/" + escape_pointer(key); }
std::string child(const std::string& pointer, std::size_t index) { return fmt::format("{}/{}", pointer, index); }

std::int64_t read_integer(const Json& json, const std::string& pointer, const std::string& expected) {
  if (!json.is_number_integer()) fail_json_type(json, pointer, expected);
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    fail_json_type(json, pointer, expected + " below 2^63");
  }
  return json.get<std::int64_t>();
}

std::vector<std::int64_t> read_integers(const Json& json, const std::string& pointer, const std::string& expected,
                                        const std::string& each) {
  if (!json.is_array()) fail_json_type(json, pointer, expected);
  std::vector<std::int64_t> numbers;
  for (const Json& entry : json) numbers.push_back(read_integer(entry, child(pointer, numbers.size()), each));
  return numbers;
}

const std::string& read_text(const Json& json, const std::string& pointer, const std::string& expected) {
  if (!json.is_string()) fail_json_type(json, pointer, expected);
  return json.get_ref<const std::string&>();
}

std::vector<std::string> read_texts(const Json& json, const std::string& pointer, const std::string& expected,
                                    const std::string& each) {
  if (!json.is_array()) fail_json_type(json, pointer, expected);
  std::vector<std::string> texts;
  for (const Json& entry : json) texts.push_back(read_text(entry, child(pointer, texts.size()), each));
  return texts;
}

const Json& required(const Json& json, const std::string& key, const std::string& pointer) {
  const auto found = json.find(key);
  if (found != json.end()) return *found;
  Diagnostic diagnostic{.code = "json-missing", .message = fmt::format("key '{}' is missing", key)};
  diagnostic.pointer = pointer;
  fail(std::move(diagnostic));
}

void fail_json_type(const Json& json, const std::string& pointer, const std::string& expected) {
  Diagnostic diagnostic{.code = "json-type", .message = fmt::format("expected {}, found {}", expected, described(json))};
  diagnostic.pointer = pointer;
  fail(std::move(diagnostic));
}

void check_keys(const Json& json, std::span<const std::string> known, const std::string& pointer) {
  if (!json.is_object()) fail_json_type(json, pointer, "an object");
  for (const auto& [key, value] : json.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    Diagnostic diagnostic{.code = "json-unknown-key", .message = fmt::format("unknown key '{}'", key)};
    diagnostic.hint = did_you_mean(key, known);
    diagnostic.pointer = child(pointer, key);
    fail(std::move(diagnostic));
  }
}

std::string escape_pointer(const std::string& key) {
  std::string escaped;
  for (const char c : key) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

DeviceMesh mesh_from_json(const Json& json, const std::string& pointer) {
  static const std::vector<std::string> keys{"shape", "names", "devices", "links"};
  if (!json.is_object()) fail_json_type(json, pointer, R"(a mesh, as {"shape": [2, 4], "names": ["dp", "cp"]})");
  check_keys(json, keys, pointer);
  const auto sizes = read_integers(required(json, "shape", pointer), child(pointer, "shape"),
                                   "a list of sizes, one for each axis", "the size of an axis");
  const auto names = read_texts(required(json, "names", pointer), child(pointer, "names"),
                                "a list of names, one for each axis", "the name of an axis");
  if (sizes.size() != names.size()) {
    Diagnostic diagnostic{.code = "mesh-axis-name",
                          .message = fmt::format("the mesh has {} axes but {} names", sizes.size(), names.size())};
    diagnostic.hint = "name each axis";
    diagnostic.pointer = child(pointer, "names");
    fail(std::move(diagnostic));
  }
  std::vector<MeshAxis> axes;
  for (std::size_t i = 0; i < names.size(); ++i) axes.push_back({names[i], sizes[i]});
  return placed(
      [&]() -> DeviceMesh {
        const auto devices = json.find("devices");
        if (devices == json.end()) return DeviceMesh(std::move(axes));
        return {std::move(axes),
                read_integers(*devices, child(pointer, "devices"), "a list of ranks, row major", "a rank")};
      },
      [&](const Diagnostic& fault) {
        if (fault.code == "mesh-axis-name") return place_of(fault, names, child(pointer, "names"));
        if (fault.code == "mesh-axis-size") return place_of(fault, names, child(pointer, "shape"));
        return child(pointer, fault.code == "mesh-devices" ? "devices" : "shape");
      });
}

Json to_json(DeviceMesh mesh) {
  Json shape = Json::array();
  for (const MeshAxis& axis : mesh.axes()) shape.push_back(axis.size);
  Json json{{"shape", std::move(shape)}, {"names", mesh.axis_names()}};
  if (mesh != DeviceMesh({mesh.axes().begin(), mesh.axes().end()})) json["devices"] = mesh.ranks();
  return json;
}

Json to_json(const Layout& layout) {
  Json dims = Json::array();
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const std::vector<std::string> names = layout.mesh().names_of(layout.axes(dim));
    if (!layout.distribution(dim).is_block()) {
      dims.push_back({{"axes", names}, {"distribution", to_json(layout.distribution(dim))}});
    } else if (names.size() == 1) {
      dims.push_back(names.front());
    } else {
      dims.push_back(names.empty() ? Json(nullptr) : Json(names));
    }
  }
  if (!layout.is_partial()) return dims;
  Json partial = Json::object();
  const AxisList pending = layout.partials().axes();
  for (int i = 0; i < pending.size(); ++i)
    partial[layout.mesh().name(pending[i])] = to_string(layout.partials()[pending[i]]);
  return {{"dims", std::move(dims)}, {"partial", std::move(partial)}};
}

Json to_json(Distribution distribution) {
  if (distribution.kind() == Distribution::Kind::kCyclic) return {{"cyclic", distribution.cyclic_block()}};
  if (distribution.kind() != Distribution::Kind::kIntervals) return to_string(distribution);
  Json shards = Json::array();
  for (const IndexSet& shard : distribution.listed()) {
    Json intervals = Json::array();
    for (const Interval& interval : shard) intervals.push_back(Json::array({interval.begin, interval.end}));
    shards.push_back(std::move(intervals));
  }
  return {{"intervals", std::move(shards)}};
}

}  // namespace tessera
