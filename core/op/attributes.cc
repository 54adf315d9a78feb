#include "core/op/attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "support/diagnostic.h"
#include "support/hash.h"
#include "support/text.h"

namespace tessera {
namespace {

std::size_t hash_of(const AttributeValue& value) {
  std::size_t hash = value.index();
  if (const auto* text = std::get_if<std::string>(&value)) return mix_hash(hash, std::hash<std::string>{}(*text));
  if (const auto* number = std::get_if<double>(&value)) return mix_hash(hash, std::hash<double>{}(*number));
  if (const auto* number = std::get_if<std::int64_t>(&value)) return mix_hash(hash, static_cast<std::uint64_t>(*number));
  if (const auto* flag = std::get_if<bool>(&value)) return mix_hash(hash, *flag ? 1 : 0);
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
    for (std::int64_t number : *list) hash = mix_hash(hash, static_cast<std::uint64_t>(number));
  }
  return hash;
}

// The value as the type wants it, or nothing where it cannot be.
std::optional<AttributeValue> convert(const AttributeValue& value, AttributeType type) {
  switch (type) {
    case AttributeType::kBool: return std::holds_alternative<bool>(value) ? std::optional(value) : std::nullopt;
    case AttributeType::kInt: return std::holds_alternative<std::int64_t>(value) ? std::optional(value) : std::nullopt;
    case AttributeType::kString: return std::holds_alternative<std::string>(value) ? std::optional(value) : std::nullopt;
    case AttributeType::kFloat:
      if (std::holds_alternative<double>(value)) return value;
      if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
      return std::nullopt;
    case AttributeType::kInts:
      if (std::holds_alternative<std::vector<std::int64_t>>(value)) return value;
      if (const auto* number = std::get_if<std::int64_t>(&value)) return std::vector<std::int64_t>{*number};
      return std::nullopt;
  }
  return std::nullopt;
}

const AttributeSpec* find_spec(std::span<const AttributeSpec> specs, const std::string& name) {
  for (const AttributeSpec& spec : specs) {
    if (spec.name == name || std::find(spec.aliases.begin(), spec.aliases.end(), name) != spec.aliases.end()) return &spec;
  }
  return nullptr;
}

[[noreturn]] void fail_attribute(std::string_view code, std::string_view op, std::string message, std::string hint = {}) {
  fail(
      Diagnostic{.code = std::string(code), .message = std::move(message), .op = std::string(op), .hint = std::move(hint)});
}

}  // namespace

Attributes::Attributes(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (i > 0 && entries_[i].first == entries_[i - 1].first) {
      fail("duplicate-attribute", fmt::format("attribute '{}' is given twice", entries_[i].first));
    }
    hash_ = mix_hash(mix_hash(hash_, std::hash<std::string>{}(entries_[i].first)), hash_of(entries_[i].second));
  }
}

const AttributeValue* Attributes::find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.first == name) return &entry.second;
  }
  return nullptr;
}

std::string to_string(const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *number);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) return fmt::format("[{}]", fmt::join(*list, ", "));
  return "none";
}

std::string_view to_string(AttributeType type) {
  switch (type) {
    case AttributeType::kBool: return "bool";
    case AttributeType::kInt: return "int";
    case AttributeType::kFloat: return "float";
    case AttributeType::kString: return "string";
    case AttributeType::kInts: return "ints";
  }
  return "";
}

Attributes normalise(const Attributes& attributes, std::span<const AttributeSpec> specs, std::string_view op) {
  std::vector<Attributes::Entry> entries;
  for (const auto& [name, value] : attributes.entries()) {
    const AttributeSpec* spec = find_spec(specs, name);
    if (spec == nullptr) {
      std::vector<std::string> known;
      for (const AttributeSpec& s : specs) known.push_back(s.name);
      fail_attribute("unknown-attribute", op, fmt::format("has no attribute '{}'", name), did_you_mean(name, known));
    }
    const bool none = std::holds_alternative<std::monostate>(value);
    if (none && spec->required)
      fail_attribute("missing-attribute", op, fmt::format("attribute '{}' cannot be none", spec->name), spec->doc);
    const std::optional<AttributeValue> converted = none ? spec->default_value : convert(value, spec->type);
    if (!converted) {
      fail_attribute("attribute-type", op,
                     fmt::format("attribute '{}' is {}, it takes {} {}", name, to_string(value),
                                 spec->type == AttributeType::kInt || spec->type == AttributeType::kInts ? "an" : "a",
                                 spec->type == AttributeType::kInts ? "int or a list of ints" : to_string(spec->type)),
                     spec->doc);
    }
    const auto* text = std::get_if<std::string>(&*converted);
    if (text != nullptr && !spec->choices.empty() &&
        std::find(spec->choices.begin(), spec->choices.end(), *text) == spec->choices.end()) {
      fail_attribute(
          "attribute-value", op, fmt::format("attribute '{}' is '{}', it takes {}", name, *text, join(spec->choices)),
          nearest(*text, spec->choices).empty() ? "" : fmt::format("did you mean '{}'?", nearest(*text, spec->choices)));
    }
    entries.emplace_back(spec->name, *converted);
  }
  for (const AttributeSpec& spec : specs) {
    const bool given =
        std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == spec.name; });
    if (given) continue;
    if (spec.required)
      fail_attribute("missing-attribute", op, fmt::format("attribute '{}' is missing", spec.name), spec.doc);
    entries.emplace_back(spec.name, spec.default_value);
  }
  return Attributes(std::move(entries));
}

}  // namespace tessera
