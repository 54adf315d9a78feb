// Reads the entries of "tensors" and "expect", and what all readers need.
#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "core/program/reading.h"
#include "layouts/json.h"
#include "layouts/notation.h"
#include "support/text.h"

namespace tessera::reading {
namespace {

using Json = nlohmann::json;

Shape read_shape(const Json& json, const std::string& pointer) {
  if (!json.is_array()) fail_json_type(json, pointer, "a list of sizes, as [2, 4096]");
  if (json.size() > kMaxRank) {
    fail(fault_at(pointer, "rank-too-large",
                  fmt::format("the shape has {} dims, a tensor has {} at most", json.size(), kMaxRank)));
  }
  Shape shape;
  for (const Json& entry : json) {
    const std::string at = child(pointer, shape.size());
    const std::int64_t size = read_integer(entry, at, "the size of a dim, an integer");
    if (size < 0) fail(fault_at(at, "shape-negative", fmt::format("dim {} has the negative size {}", shape.size(), size)));
    shape.push_back(size);
  }
  placed_at(pointer, [&] { return element_count(shape); });
  return shape;
}

DType read_dtype(const Json& json, const std::string& pointer) {
  static const std::vector<std::string> names{"f32", "f64", "bf16", "f16", "i32", "i64", "bool"};
  const std::string name = read_text(json, pointer, R"(an element type, as "f32")");
  if (const auto dtype = parse_dtype(name)) return *dtype;
  std::string hint = nearest(name, names);
  hint = hint.empty() ? "known: " + join(names) : fmt::format("did you mean '{}'?", hint);
  fail(fault_at(pointer, "unknown-dtype", fmt::format("no element type is called '{}'", name), std::move(hint)));
}

// The dims that a layout is for as far as its notation tells; nothing for placements.
std::optional<int> rank_told(const Json& json, DeviceMesh mesh) {
  if (json.is_string()) {
    try {
      return parse_layout(mesh, json.get_ref<const std::string&>()).rank();
    } catch (const Error&) {
      return 0;  // reading it fails in the same way, and says where
    }
  }
  if (json.is_object()) {
    for (const char* form : {"dims", "tensor_map"}) {
      if (json.contains(form)) return json[form].is_array() ? static_cast<int>(json[form].size()) : 0;
    }
    if (json.contains("placements")) return std::nullopt;
  }
  return json.is_array() ? static_cast<int>(json.size()) : 0;
}

LayoutPlace place_of(const Json& json, const std::string& pointer) {
  if (json.is_array()) return {pointer, pointer};
  for (const char* form : {"dims", "tensor_map"}) {
    if (json.is_object() && json.contains(form)) return {pointer, child(pointer, form)};
  }
  return {pointer, ""};
}

void read_layout(const Json& json, DeviceMesh mesh, const std::string& pointer, Claim& claim) {
  claim.layout_place = place_of(json, pointer);
  const std::optional<int> rank = claim.shape ? static_cast<int>(claim.shape->size()) : rank_told(json, mesh);
  if (!rank) {
    layout_from_json(json, mesh, static_cast<int>(kMaxRank), pointer);  // throws where no number of dims makes it right
    claim.placements = json["placements"].get<std::vector<std::string>>();
    return;
  }
  const Layout layout = layout_from_json(json, mesh, *rank, pointer);
  if (claim.shape) {
    if (const auto why = misfit(layout, *claim.shape)) {
      fail(fault_at(pointer, "layout-misfit",
                    fmt::format("{} of shape {} cannot have layout {}: {}", claim.tensor, to_string(*claim.shape),
                                to_string(layout), *why)));
    }
  }
  claim.layout = layout;
}

}  // namespace

std::string child(const std::string& pointer, const std::string& key) { return pointer + "/" + escape_pointer(key); }
std::string child(const std::string& pointer, std::size_t index) { return fmt::format("{}/{}", pointer, index); }

Diagnostic fault_at(const std::string& pointer, std::string_view code, std::string message, std::string hint) {
  Diagnostic diagnostic{.code = std::string(code), .message = std::move(message)};
  diagnostic.hint = std::move(hint);
  diagnostic.pointer = pointer;
  return diagnostic;
}

void collect_keys(const Json& json, std::span<const std::string> known, const std::string& pointer,
                  const std::string& expected, Faults& faults) {
  if (!json.is_object()) fail_json_type(json, pointer, expected);
  for (const auto& item : json.items()) {
    faults.collect([&] { check_keys(Json{{item.key(), nullptr}}, known, pointer); });
  }
}

std::int64_t read_integer(const Json& json, const std::string& pointer, const std::string& expected) {
  if (!json.is_number_integer()) fail_json_type(json, pointer, expected);
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    fail_json_type(json, pointer, expected + " below 2^63");
  }
  return json.get<std::int64_t>();
}

std::string read_text(const Json& json, const std::string& pointer, const std::string& expected) {
  if (!json.is_string()) fail_json_type(json, pointer, expected);
  return json.get<std::string>();
}

ReadClaim read_claim(const Json& json, const std::string& tensor, const std::string& pointer,
                     const std::optional<DeviceMesh>& mesh, Faults& faults) {
  static const std::vector<std::string> keys{"shape", "dtype", "layout"};
  ReadClaim read{.claim = {.tensor = tensor, .pointer = pointer}};
  const std::size_t before = faults.count();
  faults.collect([&] {
    collect_keys(json, keys, pointer, R"(a tensor, as {"shape": [8, 16], "dtype": "f32", "layout": ["dp", null]})", faults);
    const auto at = [&](const char* key) { return child(pointer, std::string(key)); };
    if (json.contains("shape")) faults.collect([&] { read.claim.shape = read_shape(json["shape"], at("shape")); });
    if (json.contains("dtype")) faults.collect([&] { read.claim.dtype = read_dtype(json["dtype"], at("dtype")); });
    if (read.claim.shape && element_count(*read.claim.shape) > std::numeric_limits<std::int64_t>::max() /
                                                                   size_of(read.claim.dtype.value_or(DType::kF32))) {
      faults.add(fault_at(at("shape"), "shape-too-large",
                          fmt::format("a tensor of shape {} takes more than 2^63-1 bytes", to_string(*read.claim.shape))));
    }
    if (json.contains("layout") && mesh)
      faults.collect([&] { read_layout(json["layout"], *mesh, at("layout"), read.claim); });
  });
  read.sound = faults.count() == before;
  return read;
}

}  // namespace tessera::reading
