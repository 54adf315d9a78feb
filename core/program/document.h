// The JSON text of a config, before anything in it is understood.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "support/diagnostic.h"

namespace tessera {

/// Lists and objects that may stand inside one another.
inline constexpr std::size_t kMaxDepth = 100;

/// The JSON value of a text; comments (`//` and `/* */`) are skipped.
/// @throws Error "json-syntax" with line, column and the line with a caret, "json-depth" beyond kMaxDepth
nlohmann::json parse_document(std::string_view text);

/// A diagnostic "json-duplicate-key" for each key that an object has twice. @pre parse_document(text) does not throw
std::vector<Diagnostic> duplicate_keys(std::string_view text);

}  // namespace tessera
