// The attributes of corpora under our names: one table.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "testing/conformance/call.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

// Names for the same thing: an attribute that the operator does not have is said with another of its line that it has.
constexpr std::array<std::array<std::string_view, 5>, 7> kSynonyms{{
    {"dim", "axis", "dims", "axes"},
    {"shape", "dst_shape", "size", "sizes"},
    {"perm", "permutation", "dims", "axes"},
    {"keepdim", "keep_dims", "keepdims"},
    {"layout", "input_layout", "dims", "layout_query"},
    {"scale", "scale_value", "softmax_scale"},
    {"head_num", "num_heads", "num_query_heads"},
}};

// Not attributes: what a case says of its inputs.
const std::set<std::string> kOfInputs{"input_roles", "input_shape", "input_shapes", "input_and_target_shape"};

// Required attributes that cases leave out because no layout depends on them; numbers are 1.
const Attributes::Entry kAssumed[] = {
    {"k", std::int64_t{1}},
    {"dtype", "f32"},
};

const AttributeSpec* find_spec(const DistributedOp& op, std::string_view name) {
  for (const AttributeSpec& spec : op.attributes) {
    if (spec.name == name || std::find(spec.aliases.begin(), spec.aliases.end(), name) != spec.aliases.end()) return &spec;
  }
  return nullptr;
}

bool fits(const AttributeSpec& spec, const Json& value) {
  return (spec.type == AttributeType::kString) == value.is_string();
}

// The attributes that say what the corpus calls `name`: several where we say it for each operand (layout_query, layout_kv).
std::vector<const AttributeSpec*> specs_for(const DistributedOp& op, const std::string& name, const Json& value) {
  if (const AttributeSpec* spec = find_spec(op, name); spec != nullptr) return {spec};
  for (const auto& line : kSynonyms) {
    if (std::find(line.begin(), line.end(), name) == line.end()) continue;
    for (std::string_view synonym : line) {
      const AttributeSpec* spec = synonym.empty() ? nullptr : find_spec(op, synonym);
      if (spec == nullptr || !fits(*spec, value)) continue;
      std::vector<const AttributeSpec*> specs{spec};
      if (synonym == "layout_query") {
        for (const AttributeSpec& other : op.attributes) {
          if (&other != spec && other.name.starts_with("layout_")) specs.push_back(&other);
        }
      }
      return specs;
    }
  }
  return {};
}

std::optional<AttributeValue> value_of(const AttributeSpec& spec, const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    const bool known =
        spec.choices.empty() || std::find(spec.choices.begin(), spec.choices.end(), text) != spec.choices.end();
    // NSD is BNSD without its batch dim: the operand's rank says so.
    if (!known && std::find(spec.choices.begin(), spec.choices.end(), "B" + text) != spec.choices.end()) return "B" + text;
    return text;
  }
  if (!json.is_array()) return std::nullopt;
  std::vector<std::int64_t> numbers;
  for (const Json& entry : json) {
    if (!entry.is_number_integer()) return std::nullopt;
    numbers.push_back(entry.get<std::int64_t>());
  }
  return numbers;
}

// Whether an input is a rope part: by its role, or by its place.
bool has_rope(const Json& test, const DistributedOp& op) {
  const Json& inputs = value_or_null(test, "inputs");
  const Json& roles = value_or_null(value_or_null(test, "attrs"), "input_roles");
  for (std::size_t i = 0; inputs.is_array() && i < inputs.size(); ++i) {
    if (!inputs[i].is_object()) continue;
    std::string name = i < op.rule.operands.size() ? operand_name(op.rule, static_cast<int>(i)) : "";
    if (roles.is_array() && i < roles.size() && roles[i].is_string()) name = roles[i].get<std::string>();
    if (name.find("rope") != std::string::npos) return true;
  }
  return false;
}

class Reader {
 public:
  explicit Reader(const DistributedOp& op) : op_(op) {}

  CallAttributes read(const Json& test) {
    const Json& attributes = value_or_null(test, "attrs");
    if (attributes.is_object()) {
      read_exact(attributes);
      read_named(attributes);
    }
    for (const Attributes::Entry& entry : kAssumed) assume(entry);
    for (const AttributeSpec& spec : op_.attributes) {
      if (spec.required && spec.type == AttributeType::kFloat) assume({spec.name, 1.0});
      if (spec.name == "attention_mode" && !has(spec.name) && !has_rope(test, op_))
        read_.entries.emplace_back(spec.name, std::int64_t{0});
    }
    return std::move(read_);
  }

 private:
  // What the operator has under that very name comes before what is said with another.
  void read_exact(const Json& attributes) {
    for (const auto& [name, value] : attributes.items()) {
      const AttributeSpec* spec = find_spec(op_, name);
      if (spec != nullptr && !kOfInputs.contains(name) && !is_shapes(value)) add(*spec, value);
    }
  }

  void read_named(const Json& attributes) {
    for (const auto& [name, value] : attributes.items()) {
      const bool is_positional = name == "extra_args" || name == "args";
      if (kOfInputs.contains(name)) continue;
      if (is_positional && value.is_object()) read_named(value);
      if (is_positional && value.is_array()) read_positional(value);
      if (is_positional || is_shapes(value)) continue;
      const std::vector<const AttributeSpec*> specs = specs_for(op_, name, value);
      const bool is_operand = find_operand(op_.rule, name) >= 0;  // a comment about it, as "weight": "[out, in]"
      if (specs.empty() && !value.is_null() && !is_operand && read_.untold.empty()) read_.untold = name;
      for (const AttributeSpec* spec : specs) add(*spec, value);
    }
  }

  // [[8, 1, 4]] in the place of an attribute is the shapes of the inputs.
  static bool is_shapes(const Json& value) { return value.is_array() && !value.empty() && value.front().is_array(); }

  // In the order in which the operator has its attributes; a list of integers is one value where its first attribute takes one.
  void read_positional(const Json& values) {
    const auto is_integer = [](const Json& value) { return value.is_number_integer(); };
    const bool one_list = !op_.attributes.empty() && op_.attributes[0].type == AttributeType::kInts &&
                          std::all_of(values.begin(), values.end(), is_integer) &&
                          (values.size() > 1 || op_.attributes[0].required);
    if (one_list) {
      add(op_.attributes[0], values);
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i < op_.attributes.size()) {
        add(op_.attributes[i], values[i]);
      } else if (!values[i].is_null() && read_.untold.empty()) {
        read_.untold = fmt::format("argument {}", i);
      }
    }
  }

  void add(const AttributeSpec& spec, const Json& json) {
    if (has(spec.name)) return;
    const std::optional<AttributeValue> value = json.is_null() ? AttributeValue{} : value_of(spec, json);
    if (value) {
      read_.entries.emplace_back(spec.name, *value);
    } else if (read_.faulty.empty()) {
      read_.faulty = fmt::format("attribute '{}' is {}", spec.name, json.dump());
    }
  }

  void assume(const Attributes::Entry& entry) {
    const AttributeSpec* spec = find_spec(op_, entry.first);
    if (spec == nullptr || has(spec->name)) return;
    const bool takes_it = (spec->type == AttributeType::kString) == std::holds_alternative<std::string>(entry.second);
    if (takes_it && spec->required) read_.entries.emplace_back(spec->name, entry.second);
  }

  [[nodiscard]] bool has(std::string_view name) const {
    return std::any_of(read_.entries.begin(), read_.entries.end(), [&](const auto& entry) { return entry.first == name; });
  }

  const DistributedOp& op_;
  CallAttributes read_;
};

}  // namespace

CallAttributes read_attributes(const Json& test, const DistributedOp& op) { return Reader(op).read(test); }

}  // namespace tessera::conformance
