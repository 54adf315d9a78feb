#include "core/program/read_program.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/program/document.h"
#include "core/program/reading.h"
#include "layouts/json.h"
#include "support/text.h"

namespace tessera {
namespace {

using Json = nlohmann::json;
using reading::child;
using reading::fault_at;
using reading::Faults;

double read_link_number(const Json& json, const std::string& key, double low, const std::string& pointer) {
  const std::string at = child(pointer, key);
  if (!json.contains(key)) fail(fault_at(pointer, "json-missing", fmt::format("key '{}' is missing", key)));
  if (!json[key].is_number()) fail_json_type(json[key], at, "a number");
  const double value = json[key].get<double>();
  if (std::isfinite(value) && value >= 0 && value > low) return value;
  fail(fault_at(at, "link-value", fmt::format("'{}' is {}, it must be {}", key, value, low < 0 ? "0 or more" : "above 0")));
}

AxisLink read_link(const Json& json, const std::string& pointer, Faults& faults) {
  static const std::vector<std::string> keys{"latency_us", "bandwidth_gbps"};
  reading::collect_keys(json, keys, pointer, R"(what an axis costs, as {"latency_us": 5, "bandwidth_gbps": 200})", faults);
  return {read_link_number(json, "latency_us", -1, pointer), read_link_number(json, "bandwidth_gbps", 0, pointer)};
}

std::vector<std::optional<AxisLink>> read_links(const Json& json, DeviceMesh mesh, Faults& faults) {
  static const std::string pointer = "/mesh/links";
  if (!json.is_object())
    fail_json_type(json, pointer, R"(costs by axis, as {"dp": {"latency_us": 5, "bandwidth_gbps": 200}})");
  std::vector<std::optional<AxisLink>> links(static_cast<std::size_t>(mesh.axis_count()));
  for (const auto& item : json.items()) {
    const std::string& name = item.key();
    const Json& value = item.value();
    const std::string at = child(pointer, name);
    faults.collect([&] {
      const int axis = reading::placed_at(at, [&] { return mesh.axis(name); });
      links[static_cast<std::size_t>(axis)] = read_link(value, at, faults);
    });
  }
  return links;
}

void read_rules(const Json& json, Registry& rules, Faults& faults) {
  if (!json.is_object()) fail_json_type(json, "/rules", R"(rules by name, as {"my_op": "m k, k n -> m n"})");
  for (const auto& item : json.items()) {
    const std::string& name = item.key();
    const Json& value = item.value();
    const std::string at = child("/rules", name);
    faults.collect([&] {
      const std::string text = reading::read_text(value, at, R"(a rule, as "m k, k n -> m n")");
      reading::placed_at(at, [&] { return &rules.add_rule(name, text); });
    });
  }
}

class ProgramReader {
 public:
  ProgramReader(const Json& json, const Registry& registry, Faults& faults)
      : json_(json), registry_(registry), faults_(faults) {}

  Program read() {
    static const std::vector<std::string> keys{"mesh", "tensors", "ops", "rules", "expect"};
    faults_.collect([&] {
      reading::collect_keys(json_, keys, "", R"(a config, an object with the keys "mesh", "tensors" and "ops")", faults_);
      read_mesh();
      const auto rules = std::make_shared<Registry>();
      if (const Json* json = find("rules")) faults_.collect([&] { read_rules(*json, *rules, faults_); });
      program_.rules = rules;
      read_claims("tensors", [&](reading::ReadClaim read) { entries_.push_back(std::move(read)); });
      read_ops(*rules);
      sort_entries();
      read_claims("expect", [&](reading::ReadClaim read) { add_expectation(std::move(read)); });
    });
    return std::move(program_);
  }

 private:
  [[nodiscard]] const Json* find(const char* key) const { return json_.contains(key) ? &json_[key] : nullptr; }

  void read_mesh() {
    faults_.collect([&] {
      const Json* json = find("mesh");
      if (json == nullptr)
        fail(fault_at("", "json-missing", "key 'mesh' is missing",
                      R"(add "mesh": {"shape": [2, 4], "names": ["dp", "cp"]})"));
      program_.mesh = mesh_from_json(*json, "/mesh");
      mesh_ = program_.mesh;
      if (json->contains("links")) program_.links = read_links((*json)["links"], program_.mesh, faults_);
    });
  }

  template <class Add>
  void read_claims(const char* key, Add add) {
    const Json* json = find(key);
    if (json == nullptr) return;
    const std::string pointer = child("", std::string(key));
    faults_.collect([&] {
      if (!json->is_object()) fail_json_type(*json, pointer, "tensors by name");
      for (const auto& [name, value] : json->items()) {
        const std::string at = child(pointer, name);
        if (name.empty()) {
          faults_.add(fault_at(at, "tensor-name", "a tensor's name is empty"));
          continue;
        }
        add(reading::read_claim(value, name, at, mesh_, faults_));
      }
    });
  }

  void read_ops(const Registry& rules) {
    for (const auto& entry : entries_) names_.insert(entry.claim.tensor);
    if (const Json* json = find("ops")) {
      sound_ops_ = faults_.collect([&] { program_.ops = reading::read_ops(*json, names_, rules, registry_, faults_); });
    }
    for (const ProgramOp& op : program_.ops) {
      for (const std::string& name : op.outputs) {
        if (!name.empty()) made_.insert(name);
      }
    }
    names_.insert(made_.begin(), made_.end());
  }

  // Entries of tensors that ops make are annotations, the others are inputs, which need a shape.
  void sort_entries() {
    for (auto& [claim, sound] : entries_) {
      if (made_.contains(claim.tensor)) {
        if (sound) program_.annotations.push_back(std::move(claim));
        continue;
      }
      if (!sound || !mesh_) continue;
      if (!claim.shape) {
        if (!sound_ops_) continue;  // perhaps an op makes it
        faults_.add(
            fault_at(claim.pointer, "json-missing", fmt::format("key 'shape' is missing: no op makes '{}'", claim.tensor)));
        continue;
      }
      const Layout layout =
          claim.layout ? *claim.layout : Layout::replicated(*mesh_, static_cast<int>(claim.shape->size()));
      program_.inputs.push_back({.name = claim.tensor,
                                 .spec = {*claim.shape, claim.dtype.value_or(DType::kF32), layout},
                                 .pointer = claim.pointer,
                                 .layout_place = claim.layout_place});
    }
  }

  void add_expectation(reading::ReadClaim read) {
    if (names_.contains(read.claim.tensor)) {
      if (read.sound) program_.expectations.push_back(std::move(read.claim));
      return;
    }
    if (!sound_ops_) return;
    const std::vector<std::string> known(names_.begin(), names_.end());
    faults_.add(fault_at(read.claim.pointer, "unknown-tensor", fmt::format("no tensor is called '{}'", read.claim.tensor),
                         did_you_mean(read.claim.tensor, known)));
  }

  const Json& json_;
  const Registry& registry_;
  Faults& faults_;
  Program program_;
  std::optional<DeviceMesh> mesh_;
  std::vector<reading::ReadClaim> entries_;  // of "tensors"
  std::set<std::string> made_;               // results of ops
  std::set<std::string> names_;              // of all tensors
  bool sound_ops_ = true;                    // whether "ops" is a list at all
};

}  // namespace

Program read_program(std::string_view text, const Registry& registry) {
  Faults faults;
  Program program;
  program.rules = std::make_shared<Registry>();
  faults.collect([&] {
    const Json json = parse_document(text);
    for (Diagnostic& duplicate : duplicate_keys(text)) faults.add(std::move(duplicate));
    program = ProgramReader(json, registry, faults).read();
  });
  program.faults = faults.list();
  return program;
}

}  // namespace tessera
