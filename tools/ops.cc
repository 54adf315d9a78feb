// `tessera ops`: the catalogue.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/text.h"
#include "tools/command.h"

namespace tessera::tools {
namespace {

using Json = nlohmann::json;

struct Options {
  std::vector<std::string> names;
  bool json = false;
};

Json to_json(const AttributeValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) return nullptr;
        else return v;
      },
      value);
}

Json to_json(const AttributeSpec& spec) {
  return {{"name", spec.name},
          {"type", to_string(spec.type)},
          {"default", to_json(spec.default_value)},
          {"required", spec.required},
          {"choices", spec.choices},
          {"aliases", spec.aliases},
          {"doc", spec.doc}};
}

Json to_json(const Example& example) {
  Json attributes = Json::object();
  for (const auto& [name, value] : example.attributes) attributes[name] = to_json(value);
  return {{"mesh", example.mesh}, {"operands", example.operands}, {"attributes", std::move(attributes)}};
}

Json to_json(const DistributedOp& op) {
  Json attributes = Json::array();
  for (const AttributeSpec& spec : op.attributes) attributes.push_back(to_json(spec));
  Json factors = Json::object();
  for (const FactorMeaning& factor : op.factors) factors[std::string(factor.factor)] = factor.meaning;
  Json examples = Json::array();
  for (const Example& example : op.examples) examples.push_back(to_json(example));
  return {{"name", op.name},
          {"aliases", op.aliases},
          {"summary", op.summary},
          {"rule", to_string(op.rule)},
          {"rule_depends_on_call", static_cast<bool>(op.rule_for)},
          {"runs", static_cast<bool>(op.kernel)},
          {"attributes", std::move(attributes)},
          {"factors", std::move(factors)},
          {"examples", std::move(examples)}};
}

std::string default_of(const AttributeSpec& spec) { return spec.required ? "required" : to_string(spec.default_value); }

void print_example(const Console& console, const DistributedOp& op, const Example& example) {
  console.out << fmt::format("\n  example on mesh {}\n", example.mesh);
  Table table({"operand", "given"});
  for (std::size_t i = 0; i < example.operands.size(); ++i) {
    table.add({operand_name(op.rule, static_cast<int>(i)), example.operands[i] == "-" ? "absent" : example.operands[i]});
  }
  for (const auto& [name, value] : example.attributes) table.add({name, to_string(value)});
  table.print(console);
}

void print_op(const Console& console, const DistributedOp& op) {
  console.out << styled(console, Style::kStrong, op.name) << (op.summary.empty() ? "" : ": " + op.summary) << '\n';
  console.out << "  rule       " << to_string(op.rule) << '\n';
  if (op.rule_for) console.out << "             (attributes or shapes may change it)\n";
  if (!op.aliases.empty()) console.out << "  aliases    " << join(op.aliases) << '\n';
  if (!op.kernel) console.out << "  kernel     none: it can be checked, but not run\n";
  if (!op.factors.empty()) {
    console.out << '\n';
    Table factors({"factor", "meaning"});
    for (const FactorMeaning& factor : op.factors) factors.add({std::string(factor.factor), std::string(factor.meaning)});
    factors.print(console);
  }
  if (!op.attributes.empty()) {
    console.out << '\n';
    Table attributes({"attribute", "type", "default", "meaning"});
    for (const AttributeSpec& spec : op.attributes) {
      std::string meaning = spec.doc;
      if (!spec.choices.empty()) meaning += fmt::format("{}one of {}", meaning.empty() ? "" : "; ", join(spec.choices));
      if (!spec.aliases.empty())
        meaning += fmt::format("{}also called {}", meaning.empty() ? "" : "; ", join(spec.aliases));
      attributes.add({spec.name, std::string(to_string(spec.type)), default_of(spec), meaning});
    }
    attributes.print(console);
  }
  for (const Example& example : op.examples) print_example(console, op, example);
}

int show_ops(const Options& options, Context context) {
  std::vector<std::string> names;
  for (const std::string& name : options.names) {
    if (name != "-") {
      names.push_back(name);
      continue;
    }
    std::istringstream words(read_source("-", context.console).text);
    names.insert(names.end(), std::istream_iterator<std::string>(words), {});
  }
  std::vector<const DistributedOp*> ops;
  for (const std::string& name : names) ops.push_back(&context.registry.get(name));
  const bool all = options.names.empty();
  if (all) ops = context.registry.all();
  if (options.json) {
    Json list = Json::array();
    for (const DistributedOp* op : ops) list.push_back(to_json(*op));
    print_json(context.console, {{"ops", std::move(list)}});
  } else if (all) {
    Table table({"op", "rule"});
    for (const DistributedOp* op : ops) table.add({op->name, to_string(op->rule)});
    table.print(context.console);
    context.console.out << fmt::format("\n{}; `tessera ops NAME` tells more of one\n", count_of(ops.size(), "op"));
  } else {
    for (const DistributedOp* op : ops) {
      if (op != ops.front()) context.console.out << '\n';
      print_op(context.console, *op);
    }
  }
  return kFine;
}

}  // namespace

Action add_ops(CLI::App& app, Context context) {
  const auto options = std::make_shared<Options>();
  app.add_option("names", options->names, "Operators to tell more of, or - for names on standard input")
      ->type_name("NAME|-");
  app.add_flag("--json", options->json, "Write JSON");
  return [options, context] { return show_ops(*options, context); };
}

}  // namespace tessera::tools
