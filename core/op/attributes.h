// Attributes of a call: what is no tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tessera {

/// A value of an attribute; the first alternative is "none".
using AttributeValue = std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;

/// Named values, in the order of their names. Its hash is computed once, when it is made: build it outside of a hot loop.
class Attributes {
 public:
  using Entry = std::pair<std::string, AttributeValue>;

  Attributes() : Attributes(std::vector<Entry>{}) {}
  Attributes(std::initializer_list<Entry> entries) : Attributes(std::vector<Entry>(entries)) {}
  /// @throws Error "duplicate-attribute"
  explicit Attributes(std::vector<Entry> entries);

  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }
  /// Null where there is none of that name.
  [[nodiscard]] const AttributeValue* find(std::string_view name) const;

  /// The value of that name. @pre it is there and of that type: operators read attributes that `normalise` has checked
  template <class T>
  [[nodiscard]] const T& get(std::string_view name) const {
    return std::get<T>(*find(name));
  }
  /// Nothing where the value is absent or none.
  template <class T>
  [[nodiscard]] std::optional<T> get_optional(std::string_view name) const {
    const AttributeValue* value = find(name);
    if (value == nullptr || !std::holds_alternative<T>(*value)) return std::nullopt;
    return std::get<T>(*value);
  }

  [[nodiscard]] std::size_t hash() const { return hash_; }
  friend bool operator==(const Attributes& a, const Attributes& b) {
    return a.hash_ == b.hash_ && a.entries_ == b.entries_;
  }

 private:
  std::vector<Entry> entries_;
  std::size_t hash_ = 0;
};

/// "true", "3", "0.5", "BSND", "[1, 2]", "none".
std::string to_string(const AttributeValue& value);

enum class AttributeType : std::uint8_t { kBool, kInt, kFloat, kString, kInts };
std::string_view to_string(AttributeType type);

/// What an operator says of one of its attributes.
struct AttributeSpec {
  std::string name;
  AttributeType type = AttributeType::kInt;
  AttributeValue default_value{};  ///< none: the attribute may be none, unless it is required
  std::string doc{};               ///< one line
  bool required = false;
  std::vector<std::string> choices{};  ///< of a string; any where empty
  std::vector<std::string> aliases{};  ///< other names that callers use
};

/// The attributes under their own names, with defaults filled in; integers become floats, and a single integer a list, where the
/// spec says so.
/// @throws Error "unknown-attribute" with the nearest, "attribute-type", "attribute-value" (not one of the choices), "missing-attribute"
Attributes normalise(const Attributes& attributes, std::span<const AttributeSpec> specs, std::string_view op);

}  // namespace tessera
