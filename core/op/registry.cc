#include "core/op/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "support/diagnostic.h"
#include "support/shared_library.h"
#include "support/text.h"

namespace tessera {

const DistributedOp& Registry::add(DistributedOp op) {
  std::vector<std::string> names{op.name};
  names.insert(names.end(), op.aliases.begin(), op.aliases.end());
  const std::unique_lock lock(mutex_);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) fail("op-name", "an operator's name is empty");
    const bool own = std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
                     names.begin() + static_cast<std::ptrdiff_t>(i);
    const auto known = by_name_.find(names[i]);
    if (own || known != by_name_.end()) {
      fail("duplicate-op",
           fmt::format("operator '{}' is registered already{}", names[i],
                       known == by_name_.end() || known->second->name == names[i]
                           ? ""
                           : fmt::format(", as an alias of '{}'", known->second->name)),
           "give it another name");
    }
  }
  auto stored = std::make_unique<DistributedOp>(std::move(op));
  const DistributedOp& added = *stored;
  for (const std::string& name : names) by_name_.emplace(name, stored.get());
  ops_.emplace(added.name, std::move(stored));
  return added;
}

const DistributedOp& Registry::add_rule(const std::string& name, std::string_view rule) {
  DistributedOp op;
  op.name = name;
  op.rule = Rule::parse(rule);
  op.summary = "given by its rule alone";
  return add(std::move(op));
}

const DistributedOp* Registry::find(std::string_view name) const {
  const std::shared_lock lock(mutex_);
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

const DistributedOp& Registry::get(std::string_view name) const {
  if (const DistributedOp* op = find(name)) return *op;
  Diagnostic diagnostic{.code = "unknown-op", .message = fmt::format("no operator is called '{}'", name)};
  diagnostic.op = std::string();
  diagnostic.hint = did_you_mean(name, names());
  if (diagnostic.hint.empty()) diagnostic.hint = "`tessera ops` lists them";
  fail(std::move(diagnostic));
}

std::vector<const DistributedOp*> Registry::all() const {
  const std::shared_lock lock(mutex_);
  std::vector<const DistributedOp*> all;
  for (const auto& [name, op] : ops_) all.push_back(op.get());
  return all;
}

std::vector<std::string> Registry::names() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, op] : by_name_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

void load_library(Registry& registry, const std::string& path) {
  const SharedLibrary library(path);
  auto* const register_operators = library.find<void(Registry&)>("tessera_register");
  if (register_operators == nullptr) {
    fail("library-symbol", fmt::format("{} has no function tessera_register", path),
         "define extern \"C\" void tessera_register(tessera::Registry&)");
  }
  register_operators(registry);
}

}  // namespace tessera
