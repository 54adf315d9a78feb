// Layouts and meshes as corpora write them, and the replays of questions about them.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "layouts/json_reader.h"
#include "layouts/notation.h"
#include "support/text.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

std::int64_t integer(const Json& json, const std::string& key) {
  return read_integer(required(json, key, "/attrs"), "/attrs/" + key, "an integer");
}

const Json& attributes_of(const Json& test) {
  const Json& attributes = required(test, "attrs", "");
  if (!attributes.is_object()) fail_json_type(attributes, "/attrs", "an object");
  return attributes;
}

Layout first_layout(const Json& test, DeviceMesh mesh) {
  const Json& inputs = required(test, "inputs", "");
  if (!inputs.is_array() || inputs.empty()) fail_json_type(inputs, "/inputs", "a list with a layout");
  return read_case_layout(inputs[0], mesh);
}

Layout from_placements(Json placements, DeviceMesh mesh, int rank) {
  for (Json& placement : placements) {
    if (!placement.is_string()) continue;
    const auto& text = placement.get_ref<const std::string&>();
    if (text.starts_with("StridedShard")) placement = "_" + text;  // as PyTorch spells it
  }
  return layout_from_json(Json{{"placements", std::move(placements)}}, mesh, rank, "/placements");
}

bool has_layout(const Json& json) {
  return value_or_null(json, "alias").is_array() || value_or_null(json, "tensor_map").is_array() ||
         value_or_null(json, "placements").is_array();
}

// What the case expects, a layout in any notation or a number, as a text. Of a layout that keeps its dims only "partial" may be said.
std::string expected_text(const Json& expect, const Json& test, DeviceMesh mesh, int rank) {
  if (const Json& value = value_or_null(expect, "value"); value.is_number()) return value.dump();
  if (value_or_null(expect, "placements").is_array())
    return to_string(effective(from_placements(expect["placements"], mesh, rank)));
  if (has_layout(expect)) return to_string(effective(read_case_layout(expect, mesh)));
  Json layout = required(test, "inputs", "").at(0);
  layout["partial"] = required(expect, "partial", "/expect");
  return to_string(effective(read_case_layout(layout, mesh)));
}

struct Asked {
  Answer answer;
  int rank = 0;  // of the layout
};

Asked ask(const Json& test, const std::string& op, DeviceMesh mesh) {
  const Json& attributes = attributes_of(test);
  if (op == "placement_to_tensor_map") {
    const std::int64_t dims = integer(attributes, "tensor_ndim");
    if (dims < 0 || dims > static_cast<std::int64_t>(kMaxRank))
      fail("rank-too-large", fmt::format("a tensor has 0 to {} dims, not {}", kMaxRank, dims));
    const auto rank = static_cast<int>(dims);
    return {answer([&] {
              return to_string(effective(from_placements(required(attributes, "placements", "/attrs"), mesh, rank)));
            }),
            rank};
  }
  if (op == "tensor_map_to_placement") {
    const Json& source = has_layout(attributes) ? attributes : required(test, "inputs", "").at(0);
    const int rank = read_case_layout(source, mesh).rank();
    // There and back: what the placements say is the layout that they were made from.
    return {answer([&] {
              const std::vector<std::string> placements = to_placements(read_case_layout(source, mesh));
              return to_string(effective(layout_from_placements(mesh, rank, placements)));
            }),
            rank};
  }
  if (op == "get_dim_split_num" || op == "get_split_id") {
    const std::int64_t dim = integer(attributes, "tensor_dim");
    return {answer([&] {
      const Layout layout = first_layout(test, mesh);
      const std::int64_t counted = dim < 0 ? dim + layout.rank() : dim;
      const bool there = counted >= 0 && counted < layout.rank();  // nothing splits a dim that the tensor lacks
      if (op == "get_dim_split_num") return std::to_string(there ? split_count(layout, static_cast<int>(counted)) : 1);
      const Coordinate coordinate = mesh.coordinate_of(integer(attributes, "rank"));
      return std::to_string(there ? split_id(layout, static_cast<int>(counted), coordinate) : 0);
    })};
  }
  if (op == "set_partial_by_dev_axis") {
    const Json& inputs = required(test, "inputs", "");
    const int rank = first_layout(test, mesh).rank();
    return {answer([&] {
              Json marked = inputs[0];
              if (!marked.contains("partial")) marked["partial"] = Json::object();
              marked["partial"][read_text(required(attributes, "axis", "/attrs"), "/attrs/axis", "an axis")] =
                  required(attributes, "reduce_op", "/attrs");
              return to_string(effective(read_case_layout(marked, mesh)));
            }),
            rank};
  }
  throw Skip{fmt::format("there is no question '{}' about layouts", op)};
}

}  // namespace

const Json& value_or_null(const Json& json, const std::string& key) {
  static const Json null;
  const auto found = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && found != json.end() ? *found : null;
}

DeviceMesh read_case_mesh(const Json& json) {
  const std::vector<std::int64_t> sizes =
      read_integers(required(json, "mesh_shape", ""), "/mesh_shape", "the sizes of the axes", "the size of an axis");
  std::vector<std::string> names;
  if (json.contains("mesh_dim_names"))
    names = read_texts(json["mesh_dim_names"], "/mesh_dim_names", "the names of the axes", "the name of an axis");
  for (std::size_t i = names.size(); i < sizes.size(); ++i) names.push_back(fmt::format("axis_{}", i));
  if (names.size() != sizes.size())
    fail("json-type", fmt::format("the mesh has {} sizes but {} names", sizes.size(), names.size()));
  std::vector<MeshAxis> axes;
  for (std::size_t i = 0; i < sizes.size(); ++i) axes.push_back({names[i], sizes[i]});
  const Json& own = value_or_null(json, "rank_list");
  const Json& ranks = own.is_null() ? value_or_null(value_or_null(json, "attrs"), "rank_list") : own;
  if (ranks.is_null()) return DeviceMesh(axes);
  return {axes, read_integers(ranks, "/rank_list", "the ranks of the mesh", "a rank")};
}

Layout read_case_layout(const Json& json, DeviceMesh mesh) {
  if (!json.is_object()) fail_json_type(json, "", "a layout");
  Json layout = Json::object();
  int rank = 0;
  if (const Json& alias = value_or_null(json, "alias"); alias.is_array()) {
    Json dims = Json::array();
    for (const Json& entry : alias) {
      Json& dim = dims.emplace_back(entry);
      if (dim.is_array()) dim.erase(std::remove(dim.begin(), dim.end(), Json("None")), dim.end());
    }
    rank = static_cast<int>(dims.size());
    layout["dims"] = std::move(dims);
  } else if (const Json& map = value_or_null(json, "tensor_map"); map.is_array()) {
    rank = static_cast<int>(map.size());
    layout["tensor_map"] = map;
  } else {
    const Json& shape = value_or_null(json, "shape");
    return from_placements(required(json, "placements", ""), mesh, static_cast<int>(shape.size()));
  }
  if (const Json& partial = value_or_null(json, "partial"); !partial.is_null()) layout["partial"] = partial;
  return layout_from_json(layout, mesh, rank, "");
}

Layout effective(const Layout& layout) {
  const DeviceMesh mesh = layout.mesh();
  std::vector<DimSplit> dims;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    DimSplit& split = dims.emplace_back();
    const AxisList axes = layout.axes(dim);
    for (int i = 0; i < axes.size(); ++i) {
      if (mesh.size(axes[i]) > 1) split.axes.push_back(axes[i]);
    }
    if (!split.axes.empty()) split.distribution = layout.distribution(dim);
  }
  PartialMap partials = layout.partials();
  const AxisList pending = partials.axes();
  for (int i = 0; i < pending.size(); ++i) {
    if (mesh.size(pending[i]) == 1) partials.set(pending[i], Partial::kNone);
  }
  return {mesh, dims, partials};
}

Outcome replay_layout(const Json& test) {
  const DeviceMesh mesh = read_case_mesh(test);
  const Asked asked = ask(test, read_text(required(test, "op", ""), "/op", "a name"), mesh);
  const Json& expect = required(test, "expect", "");
  if (expects_refusal(expect)) return expect_refusal(expect, asked.answer);
  return compare(expected_text(expect, test, mesh, asked.rank), asked.answer);
}

Outcome replay_mesh(const Json& test) {
  const std::string& op = read_text(required(test, "op", ""), "/op", "a name");
  if (op != "get_devices_along_dim") throw Skip{fmt::format("there is no question '{}' about meshes", op)};
  const DeviceMesh mesh = read_case_mesh(test);
  const Json& attributes = attributes_of(test);
  const Json& expect = required(test, "expect", "");
  const bool sorted = expect.contains("ranks_sorted");
  const Answer got = answer([&] {
    AxisList axes;
    const auto add = [&](const Json& dim) {  // its number or its name
      const std::int64_t axis =
          dim.is_string() ? mesh.axis(dim.get_ref<const std::string&>()) : read_integer(dim, "/attrs/mesh_dim", "an axis");
      if (axis < 0 || axis >= mesh.axis_count())
        fail("unknown-axis", fmt::format("the mesh ({}) has no axis {}", to_string(mesh), axis));
      if (axes.contains(static_cast<int>(axis)))
        fail("duplicate-axis", fmt::format("axis '{}' is named twice", mesh.name(static_cast<int>(axis))));
      axes.push_back(static_cast<int>(axis));
    };
    const Json& dims = value_or_null(attributes, "mesh_dims");
    const Json& dim = value_or_null(attributes, "mesh_dim");
    if (dims.is_array() || dim.is_array()) {
      for (const Json& entry : dims.is_array() ? dims : dim) add(entry);
    } else {
      add(required(attributes, "mesh_dim", "/attrs"));
    }
    std::vector<std::int64_t> ranks = mesh.ranks_along(integer(attributes, "rank"), axes);
    if (sorted) std::sort(ranks.begin(), ranks.end());
    return fmt::format("[{}]", fmt::join(ranks, ", "));
  });
  if (expects_refusal(expect)) return expect_refusal(expect, got);
  const std::string key = sorted ? "ranks_sorted" : "ranks";
  return compare(
      fmt::format("[{}]",
                  fmt::join(read_integers(required(expect, key, "/expect"), "/expect/" + key, "ranks", "a rank"), ", ")),
      got);
}

}  // namespace tessera::conformance
