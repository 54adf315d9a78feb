// What the readers of JSON share: values of the type that is expected, and pointers for the errors of others.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "layouts/json.h"
#include "support/diagnostic.h"

namespace tessera {

/// The pointer of what is below `pointer` under that key or index.
std::string child(const std::string& pointer, const std::string& key);
std::string child(const std::string& pointer, std::size_t index);

/// The value where it has the type, else Error "json-type" that says what was expected.
std::int64_t read_integer(const nlohmann::json& json, const std::string& pointer, const std::string& expected);
const std::string& read_text(const nlohmann::json& json, const std::string& pointer, const std::string& expected);
/// @param each what an entry of the list should be
std::vector<std::int64_t> read_integers(const nlohmann::json& json, const std::string& pointer, const std::string& expected,
                                        const std::string& each);
std::vector<std::string> read_texts(const nlohmann::json& json, const std::string& pointer, const std::string& expected,
                                    const std::string& each);
/// The value of a key. @throws Error "json-missing"
const nlohmann::json& required(const nlohmann::json& json, const std::string& key, const std::string& pointer);

/// What `read()` returns; an error of it that has no pointer gets `place(diagnostic)`.
template <class Read, class Place>
auto placed(Read read, Place place) {
  try {
    return read();
  } catch (const Error& error) {
    if (!error.diagnostic().pointer.empty()) throw;
    Diagnostic diagnostic = error.diagnostic();
    diagnostic.pointer = place(diagnostic);
    fail(std::move(diagnostic));
  }
}

/// The same with a pointer that is known.
template <class Read>
auto placed_at(const std::string& pointer, Read read) {
  return placed(std::move(read), [&](const Diagnostic&) { return pointer; });
}

/// The same for errors about a dim.
template <class Read>
auto placed_in_dim(int dim, const std::string& pointer, Read read) {
  try {
    return placed_at(pointer, std::move(read));
  } catch (const Error& error) {
    if (error.diagnostic().dim >= 0) throw;
    Diagnostic diagnostic = error.diagnostic();
    diagnostic.dim = dim;
    fail(std::move(diagnostic));
  }
}

}  // namespace tessera
