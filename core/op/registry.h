// The registry: operators by name.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/op/op.h"

namespace tessera {

/// Operators by name and alias. Safe when ranks are threads; a registered operator stays where it is for the life of the registry.
class Registry {
 public:
  Registry() = default;
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  /// @throws Error "duplicate-op" where the name or an alias is taken, "op-name" where one is empty
  const DistributedOp& add(DistributedOp op);
  /// An operator without a kernel from a rule alone, as a config's "rules" give it. @throws also Error "rule-syntax"
  const DistributedOp& add_rule(const std::string& name, std::string_view rule);

  /// Null where there is none.
  [[nodiscard]] const DistributedOp* find(std::string_view name) const;
  /// @throws Error "unknown-op" with the nearest name
  [[nodiscard]] const DistributedOp& get(std::string_view name) const;
  /// All operators, by name.
  [[nodiscard]] std::vector<const DistributedOp*> all() const;
  /// Every name and alias.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  mutable std::shared_mutex mutex_;
  std::map<std::string, std::unique_ptr<DistributedOp>, std::less<>> ops_;
  std::unordered_map<std::string, const DistributedOp*, Hash, std::equal_to<>> by_name_;
};

/// Loads a user's shared library, which registers its operators in `extern "C" void tessera_register(tessera::Registry&)`.
/// @throws Error "library-open", "library-symbol", and what the library's registration throws
void load_library(Registry& registry, const std::string& path);

}  // namespace tessera
