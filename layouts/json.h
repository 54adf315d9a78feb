// Meshes and layouts in JSON: what `docs/config.md` says of "mesh" and "layout".
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

#include "layouts/layout.h"

namespace tessera {

/// Reads `{"shape": [2, 4], "names": ["dp", "cp"], "devices": [...]}`; "devices" and "links" are optional ("links" is not read here).
/// @param pointer JSON pointer of `json` in its document, put before the faults' own
/// @throws Error of the mesh, or "json-type", "json-missing", "json-unknown-key" (with the nearest), with the pointer
DeviceMesh mesh_from_json(const nlohmann::json& json, const std::string& pointer);
nlohmann::json to_json(DeviceMesh mesh);

/// Reads a layout in any notation: a list (entries: null, a name, a list of names, or {"axes": [...], "distribution": ...}), an object with
/// "dims" and "partial", with "placements", or with "tensor_map" (and "partial"), or a text.
/// @param rank dims of the tensor, which placements need and all others must match
/// @throws Error of the layout, or "json-type", "json-missing", "json-unknown-key", "layout-rank", with the pointer of the entry
Layout layout_from_json(const nlohmann::json& json, DeviceMesh mesh, int rank, const std::string& pointer);

/// The list form where that says all, else the object form.
nlohmann::json to_json(const Layout& layout);
nlohmann::json to_json(Distribution distribution);

/// An error about the value at `pointer`: what was expected and what is there. For readers of other parts of a config too.
[[noreturn]] void fail_json_type(const nlohmann::json& json, const std::string& pointer, const std::string& expected);
/// Every key of `json` must be one of `known`. @throws Error "json-unknown-key" with the nearest known key as a hint
void check_keys(const nlohmann::json& json, std::span<const std::string> known, const std::string& pointer);
/// A key as a part of a JSON pointer: "/" becomes "~1", "~" becomes "~0".
std::string escape_pointer(const std::string& key);

}  // namespace tessera
