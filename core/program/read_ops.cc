// Reads the list "ops": which operators are called, on which tensors, and whether the names make an order.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/program/reading.h"
#include "layouts/json.h"
#include "support/text.h"

namespace tessera::reading {
namespace {

using Json = nlohmann::json;

std::string count_of(std::size_t count, std::string_view what) {
  return count == 0 ? fmt::format("no {}s", what) : fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

AttributeValue read_attribute(const Json& json, const std::string& pointer) {
  static const std::string expected = "a value of an attribute: null, a bool, a number, a text or a list of integers";
  if (json.is_null()) return std::monostate{};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_number()) return read_integer(json, pointer, "an integer");
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_array()) fail_json_type(json, pointer, expected);
  std::vector<std::int64_t> numbers;
  for (const Json& entry : json) numbers.push_back(read_integer(entry, child(pointer, numbers.size()), "an integer"));
  return numbers;
}

// One entry of the list.
class OpReader {
 public:
  OpReader(const Json& json, std::string pointer, const Registry& rules, const Registry& registry, Faults& faults)
      : json_(json), faults_(faults) {
    read_.pointer = std::move(pointer);
    find_op(rules, registry);
  }

  ProgramOp read() {
    static const std::vector<std::string> keys{"op", "inputs", "attrs", "outputs"};
    const std::size_t before = faults_.count();
    faults_.collect([&] {
      collect_keys(json_, keys, read_.pointer, R"(an op, as {"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]})",
                   faults_);
      faults_.collect([&] { read_name(); });
      faults_.collect([&] { read_inputs(); });
      faults_.collect([&] { read_attributes(); });
      faults_.collect([&] { read_outputs(); });
    });
    if (faults_.count() != before) read_.op = nullptr;
    return read_;
  }

 private:
  [[nodiscard]] std::string at(const std::string& key) const { return child(read_.pointer, key); }

  void find_op(const Registry& rules, const Registry& registry) {
    rules_ = &rules;
    registry_ = &registry;
    if (!json_.is_object() || !json_.contains("op") || !json_["op"].is_string()) return;
    read_.name = json_["op"].get<std::string>();
    op_ = rules.find(read_.name);
    if (op_ == nullptr) op_ = registry.find(read_.name);
    read_.op = op_;
  }

  [[nodiscard]] Diagnostic fault(const std::string& pointer, std::string_view code, std::string message,
                                 std::string hint = {}) const {
    Diagnostic diagnostic = fault_at(pointer, code, std::move(message), std::move(hint));
    if (op_ != nullptr) diagnostic.op = op_->name;
    return diagnostic;
  }
  [[nodiscard]] Diagnostic fault_with_rule(const std::string& pointer, std::string_view code, std::string message,
                                           std::string hint = {}) const {
    Diagnostic diagnostic = fault(pointer, code, std::move(message), std::move(hint));
    diagnostic.details.push_back({"rule", to_string(op_->rule), ""});
    return diagnostic;
  }

  void read_name() const {
    if (!json_.contains("op")) fail(fault(read_.pointer, "json-missing", "key 'op' is missing"));
    if (!json_["op"].is_string()) fail_json_type(json_["op"], at("op"), R"(the name of an operator, as "matmul")");
    if (op_ != nullptr) return;
    std::vector<std::string> known = rules_->names();
    for (std::string& name : registry_->names()) known.push_back(std::move(name));
    std::string hint = did_you_mean(read_.name, known);
    if (hint.empty()) hint = "`tessera ops` lists them";
    fail(fault(at("op"), "unknown-op", fmt::format("no operator is called '{}'", read_.name), std::move(hint)));
  }

  std::string read_tensor(const Json& json, const std::string& pointer, const std::string& otherwise) const {
    if (json.is_null()) return "";
    std::string name = read_text(json, pointer, "the name of a tensor, or null for " + otherwise);
    if (name.empty()) fail(fault(pointer, "tensor-name", "a tensor's name is empty"));
    return name;
  }

  void read_inputs() {
    if (!json_.contains("inputs")) fail(fault(read_.pointer, "json-missing", "key 'inputs' is missing"));
    const Json& inputs = json_["inputs"];
    if (!inputs.is_object() && !inputs.is_array()) {
      fail_json_type(inputs, at("inputs"), R"(the operands, as {"x": "tensor"} or ["tensor"])");
    }
    if (op_ == nullptr) {  // what the operands are called is not known, but the tensors they name can be checked
      std::size_t i = 0;
      for (const auto& item : inputs.items()) {
        const std::string& key = item.key();
        const Json& value = item.value();
        const std::string place = inputs.is_object() ? child(at("inputs"), key) : child(at("inputs"), i++);
        faults_.collect([&] { add_input(read_tensor(value, place, "an absent one"), place); });
      }
      return;
    }
    read_.inputs.resize(op_->rule.operands.size());
    read_.input_places.resize(op_->rule.operands.size());
    if (inputs.is_object()) {
      for (const auto& item : inputs.items()) faults_.collect([&] { read_named(item.key(), item.value()); });
    } else {
      read_listed(inputs);
    }
    check_present();
  }

  void add_input(std::string tensor, const std::string& place) {
    read_.inputs.push_back(std::move(tensor));
    read_.input_places.push_back(place);
  }

  void set_input(std::size_t operand, const Json& value, const std::string& place) {
    given_ |= 1U << operand;
    read_.input_places[operand] = place;
    read_.inputs[operand] = read_tensor(value, place, "an absent one");
    if (read_.inputs[operand].empty() && !op_->rule.operands[operand].optional) given_ &= ~(1U << operand);
  }

  void read_named(const std::string& key, const Json& value) {
    const std::string place = child(at("inputs"), key);
    const int operand = find_operand(op_->rule, key);
    if (operand >= 0 && !key.empty()) {
      set_input(static_cast<std::size_t>(operand), value, place);
      return;
    }
    std::vector<std::string> names;
    for (const RuleTensor& tensor : op_->rule.operands) {
      if (tensor.name.length > 0) names.emplace_back(op_->rule.slice(tensor.name));
    }
    misnamed_ = true;
    fail(fault_with_rule(place, "unknown-operand", fmt::format("has no operand '{}'", key),
                         names.empty() ? "the rule does not name its operands: give a list" : did_you_mean(key, names)));
  }

  void read_listed(const Json& inputs) {
    const std::size_t operands = op_->rule.operands.size();
    if (inputs.size() > operands) {
      const bool one = operands == 1;
      fail(fault_with_rule(child(at("inputs"), operands), "too-many-operands",
                           fmt::format("takes {}, {} {} given", count_of(operands, "operand"), inputs.size(),
                                       one && inputs.size() == 1 ? "is" : "are")));
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      faults_.collect([&] { set_input(i, inputs[i], child(at("inputs"), i)); });
    }
  }

  void check_present() const {
    if (misnamed_) return;  // the missing one is most likely the misnamed one
    for (std::size_t i = 0; i < op_->rule.operands.size(); ++i) {
      if ((given_ >> i & 1) != 0 || op_->rule.operands[i].optional) continue;
      Diagnostic missing = fault_with_rule(at("inputs"), "missing-operand",
                                           fmt::format("{} is missing", operand_name(op_->rule, static_cast<int>(i))));
      missing.operand = operand_name(op_->rule, static_cast<int>(i));
      faults_.add(std::move(missing));
    }
  }

  void read_attributes() {
    if (!json_.contains("attrs")) return;
    const Json& attrs = json_["attrs"];
    if (!attrs.is_object()) fail_json_type(attrs, at("attrs"), R"(attributes, as {"axis": 1})");
    std::vector<Attributes::Entry> entries;
    for (const auto& item : attrs.items()) {
      const std::string& key = item.key();
      const Json& value = item.value();
      const std::string place = child(at("attrs"), key);
      faults_.collect([&] {
        Attributes::Entry entry{key, read_attribute(value, place)};
        entries.push_back(entry);
        check_attribute(std::move(entry), place);
      });
    }
    read_.attributes = Attributes(std::move(entries));
  }

  // Whether the operator takes it; what else it needs is seen when the call is planned.
  void check_attribute(Attributes::Entry entry, const std::string& place) const {
    if (op_ == nullptr) return;
    std::vector<AttributeSpec> specs = op_->attributes;
    for (AttributeSpec& spec : specs) {
      const bool given = spec.name == entry.first ||
                         std::find(spec.aliases.begin(), spec.aliases.end(), entry.first) != spec.aliases.end();
      spec.required = spec.required && given;
    }
    placed_at(place, [&] { return normalise(Attributes({std::move(entry)}), specs, op_->name); });
  }

  void read_outputs() {
    if (!json_.contains("outputs")) fail(fault(read_.pointer, "json-missing", "key 'outputs' is missing"));
    const Json& outputs = json_["outputs"];
    if (!outputs.is_array()) fail_json_type(outputs, at("outputs"), R"(a list of names for the results, as ["y"])");
    for (const Json& entry : outputs) {
      const std::string place = child(at("outputs"), read_.outputs.size());
      read_.outputs.emplace_back();
      faults_.collect([&] { read_.outputs.back() = read_tensor(entry, place, "one that is not wanted"); });
    }
    // Where attributes decide the rule, the results are known only when the call is planned.
    if (op_ == nullptr || op_->rule_for || outputs.size() <= op_->rule.results.size()) return;
    fail(fault_with_rule(at("outputs"), "output-count",
                         fmt::format("has {}, {} {} named", count_of(op_->rule.results.size(), "result"), outputs.size(),
                                     outputs.size() == 1 ? "is" : "are"),
                         "name the results in their order; null for one that is not wanted"));
  }

  const Json& json_;
  Faults& faults_;
  const Registry* rules_ = nullptr;
  const Registry* registry_ = nullptr;
  const DistributedOp* op_ = nullptr;
  ProgramOp read_;
  std::uint32_t given_ = 0;
  bool misnamed_ = false;
};

// Which op makes which tensor, and whether every op reads only what is there before it.
class Order {
 public:
  Order(std::vector<ProgramOp>& ops, const std::set<std::string>& declared, Faults& faults)
      : ops_(ops), declared_(declared), faults_(faults) {}

  void check() {
    for (std::size_t i = 0; i < ops_.size(); ++i) add_outputs(i);
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      for (std::size_t k = 0; k < ops_[i].inputs.size(); ++k) {
        if (ops_[i].inputs[k].empty() || faults_.collect([&] { check_input(i, k); })) continue;
        ops_[i].op = nullptr;
      }
    }
  }

 private:
  void add_outputs(std::size_t op) {
    for (std::size_t k = 0; k < ops_[op].outputs.size(); ++k) {
      const std::string& name = ops_[op].outputs[k];
      if (name.empty()) continue;
      const std::string place = child(child(ops_[op].pointer, "outputs"), k);
      const auto [known, is_new] = made_by_.emplace(name, std::pair(op, place));
      if (is_new) continue;
      Diagnostic twice = fault_at(place, "tensor-twice", fmt::format("tensor '{}' is made twice", name),
                                  "give one of the results another name");
      twice.op = ops_[op].name;
      twice.details = {{"before", ops_[known->second.first].name, known->second.second}};
      faults_.add(std::move(twice));
      ops_[op].op = nullptr;
    }
  }

  [[nodiscard]] Diagnostic fault(std::size_t op, std::size_t input, std::string_view code, std::string message,
                                 std::string hint) const {
    Diagnostic diagnostic = fault_at(ops_[op].input_places[input], code, std::move(message), std::move(hint));
    diagnostic.op = ops_[op].op == nullptr ? ops_[op].name : ops_[op].op->name;
    diagnostic.operand = ops_[op].inputs[input];
    return diagnostic;
  }

  void check_input(std::size_t op, std::size_t input) {
    const std::string& name = ops_[op].inputs[input];
    const auto maker = made_by_.find(name);
    if (maker == made_by_.end()) {
      if (declared_.contains(name)) return;
      std::vector<std::string> known(declared_.begin(), declared_.end());
      for (const auto& [made, by] : made_by_) {
        if (!declared_.contains(made)) known.push_back(made);
      }
      fail(fault(op, input, "unknown-tensor", fmt::format("no tensor is called '{}'", name), did_you_mean(name, known)));
    }
    const std::size_t from = maker->second.first;
    if (from < op) return;
    std::vector<std::string> way{name};
    std::vector<bool> seen(ops_.size(), false);
    if (from == op || needs(from, op, way, seen)) {
      std::string steps;
      for (std::size_t i = 1; i < way.size(); ++i) steps += fmt::format(" needs '{}', which", way[i]);
      fail(fault(op, input, "tensor-cycle", fmt::format("'{}'{} needs itself", name, steps),
                 "an op's results need names of their own"));
    }
    Diagnostic early = fault(op, input, "tensor-order", fmt::format("reads '{}' before it is made", name), "");
    early.hint = fmt::format("move {} behind {}", ops_[op].pointer, ops_[from].pointer);
    early.details = {{"made by", ops_[from].name, maker->second.second}};
    fail(std::move(early));
  }

  // Whether op `from` needs a result of op `target`, by the tensors in `way` then.
  bool needs(std::size_t from, std::size_t target, std::vector<std::string>& way, std::vector<bool>& seen) const {
    struct Step {
      std::size_t op;
      std::size_t next;
    };
    std::vector<Step> path{{from, 0}};
    seen[from] = true;
    while (!path.empty()) {
      Step& step = path.back();
      if (step.next == ops_[step.op].inputs.size()) {
        path.pop_back();
        if (!path.empty()) way.pop_back();
        continue;
      }
      const std::string& name = ops_[step.op].inputs[step.next++];
      const auto maker = made_by_.find(name);
      if (maker == made_by_.end()) continue;
      const std::size_t by = maker->second.first;
      if (by == target) {
        way.push_back(name);
        return true;
      }
      if (seen[by]) continue;
      seen[by] = true;
      way.push_back(name);
      path.push_back({by, 0});
    }
    return false;
  }

  std::vector<ProgramOp>& ops_;
  const std::set<std::string>& declared_;
  Faults& faults_;
  std::map<std::string, std::pair<std::size_t, std::string>> made_by_;  // op and pointer, by tensor
};

}  // namespace

std::vector<ProgramOp> read_ops(const Json& json, const std::set<std::string>& declared, const Registry& rules,
                                const Registry& registry, Faults& faults) {
  std::vector<ProgramOp> ops;
  if (!json.is_array()) fail_json_type(json, "/ops", "a list of ops");
  for (const Json& entry : json) ops.push_back(OpReader(entry, child("/ops", ops.size()), rules, registry, faults).read());
  Order(ops, declared, faults).check();
  return ops;
}

}  // namespace tessera::reading
