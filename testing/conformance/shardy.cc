// Replays what Shardy refuses: shardings, and rules.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/rule/shardy_rule.h"
#include "layouts/json_reader.h"
#include "layouts/notation.h"
#include "layouts/text_reader.h"
#include "support/text.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

// An axis or a part of one as the corpus writes it: "a", or "a:(m)k", the part of size k behind parts of m together.
struct AxisPart {
  std::string text;
  std::string axis;
  std::int64_t before = 1;
  std::int64_t size = 1;
  bool whole = true;
};

struct Axes {
  std::vector<std::pair<std::string, std::int64_t>> list;

  // @throws Error "unknown-axis", "layout-syntax"
  [[nodiscard]] AxisPart read(const std::string& text) const {
    TextReader reader(text, "layout-syntax");
    const std::string name(reader.accept_word());
    const auto found = std::find_if(list.begin(), list.end(), [&](const auto& axis) { return axis.first == name; });
    if (found == list.end()) {
      std::vector<std::string> known;
      for (const auto& axis : list) known.push_back(axis.first);
      fail("unknown-axis", fmt::format("the mesh has no axis '{}'", name), did_you_mean(name, known));
    }
    AxisPart part{.text = text, .axis = name, .size = found->second};
    if (reader.at_end()) return part;
    part.whole = false;
    reader.expect(":", "':' or the end");
    reader.expect("(", "'('");
    part.before = reader.integer("the size before the part");
    reader.expect(")", "')'");
    part.size = reader.integer("the size of the part");
    if (!reader.at_end()) reader.fail_expected("the end");
    return part;
  }

  [[nodiscard]] std::size_t place(const AxisPart& part) const {
    return static_cast<std::size_t>(
        std::find_if(list.begin(), list.end(), [&](const auto& axis) { return axis.first == part.axis; }) - list.begin());
  }
};

// A sharding with its axes read.
struct Sharding {
  std::vector<std::vector<AxisPart>> dims;
  std::vector<AxisPart> replicated;
  std::vector<AxisPart> unreduced;
};

std::vector<AxisPart> read_parts(const Json& json, const Axes& axes, const std::string& pointer) {
  std::vector<AxisPart> parts;
  if (json.is_null()) return parts;
  for (const std::string& text : read_texts(json, pointer, "a list of axes", "an axis")) {
    if (text != "?") parts.push_back(axes.read(text));  // an open dim: it could be split further
  }
  return parts;
}

// Two parts that follow one another are one part: "a:(1)2", "a:(2)2" is "a:(1)4".
void check_merged(const std::vector<AxisPart>& parts) {
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const AxisPart& first = parts[i - 1];
    if (first.axis != parts[i].axis || first.whole || first.before * first.size != parts[i].before) continue;
    fail("sub-axis-merge",
         fmt::format("'{}' and '{}' stand together and are one part of axis '{}'", first.text, parts[i].text, first.axis),
         "write them as one");
  }
}

void check_sizes(const std::vector<AxisPart>& parts, const Axes& axes) {
  for (const AxisPart& part : parts) {
    const std::int64_t size = axes.list[axes.place(part)].second;
    std::int64_t next = 0;
    if (part.whole ||
        (part.before >= 1 && part.size >= 2 && !__builtin_mul_overflow(part.before, part.size, &next) && size % next == 0))
      continue;
    fail("sub-axis-size",
         fmt::format("axis '{}' of size {} has no part of {} behind {}", part.axis, size, part.size, part.before),
         "the product of both divides the size of the axis");
  }
}

// A priority says when the splits of a dim are propagated: a dim that is whole and stays so has none.
void check_priorities(const Json& priorities, const Json& dims) {
  for (std::size_t dim = 0; priorities.is_array() && dim < priorities.size(); ++dim) {
    if (priorities[dim].is_null()) continue;
    if (dim < dims.size() && !dims[dim].empty()) continue;
    fail("dim-priority", fmt::format("dim {} has a priority, but nothing splits it or may split it", dim),
         "leave the priority out");
  }
}

// Axes that split nothing have no order of their own: they stand in that of the mesh.
void check_order(const std::vector<AxisPart>& parts, const Axes& axes, std::string_view what) {
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::pair before{axes.place(parts[i - 1]), parts[i - 1].before};
    const std::pair after{axes.place(parts[i]), parts[i].before};
    if (before <= after) continue;
    fail("axis-order",
         fmt::format("{} axis '{}' stands behind '{}', on the mesh before it", what, parts[i].text, parts[i - 1].text),
         "name them in the order of the mesh");
  }
}

// The axes of the mesh cut where any part begins or ends: on it every part is a list of whole axes.
class RefinedMesh {
 public:
  RefinedMesh(const Axes& axes, const Sharding& sharding) {
    std::map<std::string, std::set<std::int64_t>> cuts;
    const auto add = [&](const std::vector<AxisPart>& parts) {
      for (const AxisPart& part : parts) {
        if (!part.whole) cuts[part.axis].insert({part.before, part.before * part.size});
      }
    };
    for (const auto& dim : sharding.dims) add(dim);
    add(sharding.replicated);
    add(sharding.unreduced);
    std::vector<MeshAxis> refined;
    for (const auto& [name, size] : axes.list) {
      std::set<std::int64_t> borders = cuts[name];
      borders.insert({1, size});
      std::int64_t begin = 1;
      for (std::int64_t border : borders) {
        if (border % begin != 0) {
          fail("sub-axis-overlap",
               fmt::format("axis '{}' is cut at {} and at {}: these parts overlap", name, begin, border));
        }
        // A whole axis keeps its name.
        if (border > begin || size == 1) {
          refined.push_back(
              {borders.size() <= 2 ? name : fmt::format("{}_{}_{}", name, begin, border / begin), border / begin});
          pieces_[name].push_back({refined.back().name, begin, border});
        }
        begin = border;
        if (size == 1) break;
      }
    }
    mesh_ = DeviceMesh(refined);
  }

  [[nodiscard]] DeviceMesh mesh() const { return mesh_; }
  // "a_1_2", "a_2_2" in quotes
  [[nodiscard]] std::string text(const std::vector<AxisPart>& parts) const {
    std::vector<std::string> names;
    for (const AxisPart& part : parts) {
      for (const Piece& piece : pieces_.at(part.axis)) {
        const bool inside = piece.begin >= part.before && piece.end <= part.before * part.size;
        if (part.whole || inside) names.push_back(fmt::format("\"{}\"", piece.name));
      }
    }
    return fmt::format("{{{}}}", join(names));
  }

 private:
  struct Piece {
    std::string name;
    std::int64_t begin = 1;
    std::int64_t end = 1;
  };
  DeviceMesh mesh_;
  std::map<std::string, std::vector<Piece>> pieces_;
};

Layout read_sharding(const Json& test, const Axes& axes, const Shape& shape) {
  const Json& json = required(test, "sharding", "");
  const Json& dims = required(json, "dims", "/sharding");
  if (!dims.is_array()) fail_json_type(dims, "/sharding/dims", "a list of lists of axes");
  Sharding sharding;
  for (const Json& dim : dims) sharding.dims.push_back(read_parts(dim, axes, "/sharding/dims"));
  sharding.replicated = read_parts(value_or_null(json, "replicated"), axes, "/sharding/replicated");
  sharding.unreduced = read_parts(value_or_null(json, "unreduced"), axes, "/sharding/unreduced");
  check_priorities(value_or_null(json, "priorities"), dims);
  for (const auto& dim : sharding.dims) check_merged(dim);
  check_merged(sharding.replicated);
  check_merged(sharding.unreduced);
  for (const auto& dim : sharding.dims) check_sizes(dim, axes);
  check_sizes(sharding.replicated, axes);
  check_sizes(sharding.unreduced, axes);
  check_order(sharding.replicated, axes, "replicated");
  check_order(sharding.unreduced, axes, "unreduced");
  const RefinedMesh refined(axes, sharding);
  std::vector<std::string> texts;
  for (const auto& dim : sharding.dims) texts.push_back(refined.text(dim));
  std::string text = fmt::format("<@mesh, [{}]", join(texts));
  if (!sharding.replicated.empty()) text += ", replicated=" + refined.text(sharding.replicated);
  if (!sharding.unreduced.empty()) text += ", unreduced=" + refined.text(sharding.unreduced);
  const Layout layout = parse_layout(refined.mesh(), text + ">");
  if (const auto why = misfit(layout, shape)) fail("layout-misfit", *why);
  return layout;
}

Shape read_shape(const Json& json, const std::string& pointer) {
  const std::vector<std::int64_t> sizes = read_integers(json, pointer, "a shape", "a size");
  if (sizes.size() > kMaxRank)
    fail("rank-too-large", fmt::format("a shape has {} dims, a tensor has at most {}", sizes.size(), kMaxRank));
  return {sizes.begin(), sizes.end()};
}

std::vector<Shape> read_shapes(const Json& test, const std::string& key) {
  const Json& json = required(test, key, "");
  if (!json.is_array()) fail_json_type(json, "/" + key, "a list of shapes");
  std::vector<Shape> shapes;
  for (const Json& shape : json) shapes.push_back(read_shape(shape, "/" + key));
  return shapes;
}

Outcome refused(const Json& test, Answer got) {
  const Json& error = value_or_null(test, "error");
  return expect_refusal(error.is_string() ? Json{{"message_contains", error}} : Json::object(), std::move(got));
}

}  // namespace

Outcome replay_reject_sharding(const Json& test) {
  const Json& listed = required(required(test, "mesh", ""), "axes", "/mesh");
  if (!listed.is_array()) fail_json_type(listed, "/mesh/axes", R"(a list of axes, as ["a", 2])");
  Axes axes;
  for (const Json& axis : listed) {
    if (!axis.is_array() || axis.size() != 2) fail_json_type(axis, "/mesh/axes", R"(an axis, as ["a", 2])");
    axes.list.emplace_back(read_text(axis[0], "/mesh/axes", "a name"), read_integer(axis[1], "/mesh/axes", "a size"));
  }
  const Shape shape = read_shape(required(test, "shape", ""), "/shape");
  return refused(test, answer([&] { return to_string(read_sharding(test, axes, shape)); }));
}

Outcome replay_reject_rule(const Json& test) {
  const std::vector<Shape> operands = read_shapes(test, "operand_shapes");
  const std::vector<Shape> results = read_shapes(test, "result_shapes");
  const std::string& text = read_text(required(test, "rule", ""), "/rule", "a rule");
  return refused(test, answer([&] {
                   const ShardyRule rule = parse_shardy_rule(text);
                   check_shapes(rule, operands, results);
                   return to_string(to_rule(rule));
                 }));
}

Outcome replay_reject_rule_text(const Json& test) {
  const std::string& text = read_text(required(test, "rule", ""), "/rule", "a rule");
  return refused(test, answer([&] { return to_string(rule_from_shardy(text)); }));
}

}  // namespace tessera::conformance
