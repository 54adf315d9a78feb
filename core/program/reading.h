// What the readers of a config's parts share. Not for users of the library.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/program/program.h"

namespace tessera::reading {

/// Collects what is wrong.
class Faults {
 public:
  void add(Diagnostic diagnostic) { list_.push_back(std::move(diagnostic)); }
  /// Runs `read()`; whether it ended without an Error, which is kept.
  template <class Read>
  bool collect(Read read) {
    try {
      read();
      return true;
    } catch (const Error& error) {
      list_.push_back(error.diagnostic());
      return false;
    }
  }
  [[nodiscard]] std::size_t count() const { return list_.size(); }
  [[nodiscard]] const std::vector<Diagnostic>& list() const { return list_; }

 private:
  std::vector<Diagnostic> list_;
};

std::string child(const std::string& pointer, const std::string& key);
std::string child(const std::string& pointer, std::size_t index);

/// A diagnostic at a place of the config.
Diagnostic fault_at(const std::string& pointer, std::string_view code, std::string message, std::string hint = {});

/// What `read()` returns; its errors get this place.
template <class Read>
auto placed_at(const std::string& pointer, Read read) {
  try {
    return read();
  } catch (const Error& error) {
    Diagnostic diagnostic = error.diagnostic();
    diagnostic.pointer = pointer;
    fail(std::move(diagnostic));
  }
}

/// Reports every key of an object that is not known. @throws Error "json-type" where `json` is no object (`expected` says what it should be)
void collect_keys(const nlohmann::json& json, std::span<const std::string> known, const std::string& pointer,
                  const std::string& expected, Faults& faults);

/// @throws Error "json-type" where it is no integer that int64_t holds
std::int64_t read_integer(const nlohmann::json& json, const std::string& pointer, const std::string& expected);
/// @throws Error "json-type"
std::string read_text(const nlohmann::json& json, const std::string& pointer, const std::string& expected);

/// An entry of "tensors" or "expect", and whether all of it could be read.
struct ReadClaim {
  Claim claim;
  bool sound = true;
};
/// @param mesh nothing where the mesh has faults itself: layouts are not read then
ReadClaim read_claim(const nlohmann::json& json, const std::string& tensor, const std::string& pointer,
                     const std::optional<DeviceMesh>& mesh, Faults& faults);

/// The list "ops". Faulty ops have a null `op`.
/// @param declared names of the entries of "tensors"
std::vector<ProgramOp> read_ops(const nlohmann::json& json, const std::set<std::string>& declared, const Registry& rules,
                                const Registry& registry, Faults& faults);

}  // namespace tessera::reading
