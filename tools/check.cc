// `tessera check`: validates configs and shows what every op's tensors look like.
#include "core/program/check.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/program/read_program.h"
#include "layouts/json.h"
#include "layouts/notation.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/rank_view.h"

namespace tessera::tools {
namespace {

using Json = nlohmann::json;

struct CheckOptions {
  std::vector<std::string> files;
  bool strict = false;
  bool repair = false;
  bool json = false;
  std::optional<std::int64_t> rank{};

  [[nodiscard]] Policy policy() const { return repair ? Policy::kRepair : Policy::kStrict; }
};

Json to_json(const CheckedTensor& tensor) {
  Json json = layout_json(tensor.spec.layout);
  json["tensor"] = tensor.tensor;
  json["operand"] = tensor.operand;
  json["dtype"] = to_string(tensor.spec.dtype);
  json["shape"] = std::vector<std::int64_t>(tensor.spec.shape.begin(), tensor.spec.shape.end());
  json["local_shape"] = std::vector<std::int64_t>(tensor.local_shape.begin(), tensor.local_shape.end());
  json["bytes_per_rank"] = tensor.bytes_per_rank;
  return json;
}

Json to_json(const Redistribution& redistribution) {
  return {{"op", redistribution.op},
          {"operand", redistribution.operand},
          {"tensor", redistribution.tensor},
          {"from", layout_json(redistribution.from)},
          {"to", layout_json(redistribution.to)},
          {"bytes_per_rank", redistribution.bytes_per_rank}};
}

template <class T, class Write>
Json list_of(const std::vector<T>& values, Write write) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(write(value));
  return list;
}

Json to_json(const CheckedOp& op) {
  const auto tensor = [](const CheckedTensor& value) { return to_json(value); };
  return {{"op", op.op},
          {"ok", op.plan != nullptr},
          {"inputs", list_of(op.inputs, tensor)},
          {"outputs", list_of(op.outputs, tensor)},
          {"redistributions", list_of(op.redistributions, [](const Redistribution& value) { return to_json(value); })}};
}

Json to_json(const CheckReport& report) {
  return {{"ok", report.ok()},
          {"ops", list_of(report.ops, [](const CheckedOp& op) { return to_json(op); })},
          {"diagnostics", list_of(report.diagnostics, diagnostic_json)}};
}

std::string sentence_of(const Redistribution& redistribution) {
  return fmt::format("reshard {} from {} to {}: {} per rank",
                     redistribution.tensor.empty() ? redistribution.operand : redistribution.tensor,
                     to_string(redistribution.from), to_string(redistribution.to),
                     format_bytes(redistribution.bytes_per_rank));
}

void print_op(const Console& console, std::size_t index, const CheckedOp& op) {
  console.out << '\n' << styled(console, Style::kStrong, fmt::format("op {}: {}", index, op.op));
  console.out << (op.plan == nullptr ? "   not planned\n" : "\n");
  if (op.plan == nullptr) return;
  Table table({"", "tensor", "dtype", "shape", "layout", "local shape", "per rank"}, {6});
  const auto add = [&](const std::string& name, const CheckedTensor& tensor) {
    table.add({name, tensor.tensor.empty() ? "(unnamed)" : tensor.tensor, std::string(to_string(tensor.spec.dtype)),
               to_string(tensor.spec.shape), to_string(tensor.spec.layout), to_string(tensor.local_shape),
               format_bytes(tensor.bytes_per_rank)});
  };
  for (const CheckedTensor& tensor : op.inputs) add(tensor.operand, tensor);
  for (const CheckedTensor& tensor : op.outputs) add("-> " + tensor.operand, tensor);
  table.print(console);
  for (const Redistribution& redistribution : op.redistributions)
    console.out << "  " << sentence_of(redistribution) << '\n';
}

void print_report(const Console& console, const Program& program, const CheckReport& report, const CheckOptions& options,
                  const std::string& file) {
  console.out << styled(console, Style::kStrong, file);
  if (program.mesh != DeviceMesh())
    console.out << fmt::format(": mesh {}, {}", to_string(program.mesh),
                               count_of(static_cast<std::size_t>(program.mesh.device_count()), "device"));
  console.out << '\n';
  for (std::size_t i = 0; i < report.ops.size(); ++i) print_op(console, i, report.ops[i]);
  if (options.rank) print_rank_view(console, rank_view(program.mesh, report.tensors, *options.rank));
  print_diagnostics(console, report.diagnostics);
  const std::string line = fmt::format("{}: {}, {}", report.ok() ? "ok" : "failed", count_of(report.ops.size(), "op"),
                                       count_of(report.diagnostics.size(), "diagnostic"));
  console.out << '\n' << styled(console, report.ok() ? Style::kGood : Style::kBad, line) << '\n';
}

// A rank that the mesh lacks is a wrong option, not a wrong config.
bool check_rank(const Console& console, const Program& program, std::optional<std::int64_t> rank) {
  if (!rank || program.mesh.contains(*rank) || !program.faults.empty()) return true;
  console.err << fmt::format("tessera: --rank {}: the mesh ({}, {}) has no such rank\n", *rank, to_string(program.mesh),
                             count_of(static_cast<std::size_t>(program.mesh.device_count()), "device"));
  return false;
}

int check_files(const CheckOptions& options, Context context) {
  int status = kFine;
  Json all = Json::array();
  for (std::size_t i = 0; i < options.files.size(); ++i) {
    const std::string& file = options.files[i];
    CheckReport report;
    try {
      const Source source = read_source(file, context.console);
      const Program program = read_program(source.text, context.registry);
      if (!check_rank(context.console, program, options.rank)) return kUsage;
      report = check(program, options.policy());
      status = std::max(status, report.ok() ? kFine : kFault);
      if (!options.json) {
        if (i > 0) context.console.out << '\n';
        print_report(context.console, program, report, options, source.name);
      } else {
        Json json = to_json(report);
        if (options.rank) json["rank"] = to_json(rank_view(program.mesh, report.tensors, *options.rank));
        if (options.files.size() > 1) json["file"] = source.name;
        all.push_back(std::move(json));
      }
    } catch (const Error& error) {  // the file cannot be read: the others can
      status = kUsage;
      report.diagnostics.push_back(error.diagnostic());
      context.console.err << "tessera: " << error.what() << '\n';
      Json json = to_json(report);
      if (options.files.size() > 1) json["file"] = file;
      all.push_back(std::move(json));
    }
  }
  if (options.json) {
    print_json(context.console,
               options.files.size() == 1 ? all[0] : Json{{"ok", status == kFine}, {"files", std::move(all)}});
  }
  return status;
}

}  // namespace

Action add_check(CLI::App& app, Context context) {
  const auto options = std::make_shared<CheckOptions>();
  app.add_option("files", options->files, "Configs, or - for standard input")->required()->type_name("FILE|-");
  auto* strict = app.add_flag("--strict", options->strict, "Refuse calls whose layouts do not fit together (the default)");
  app.add_flag("--repair", options->repair, "Insert the cheapest redistributions, and show them")->excludes(strict);
  app.add_option("--rank", options->rank, "Show also what this rank holds")->type_name("R");
  app.add_flag("--json", options->json, "Write JSON");
  return [options, context] { return check_files(*options, context); };
}

}  // namespace tessera::tools
