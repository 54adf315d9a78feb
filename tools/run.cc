// `tessera run`: runs a config on in-process ranks and compares it with the unsharded computation.
#include "core/program/run.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/program/read_program.h"
#include "support/text.h"
#include "tools/command.h"

namespace tessera::tools {
namespace {

using Json = nlohmann::json;

struct Options {
  std::string file;
  std::uint64_t seed = 0;
  std::string inputs{};
  std::string outputs{};
  bool strict = false;
  bool repair = false;
  bool json = false;
};

Json to_json(const RunReport& report) {
  Json outputs = Json::array();
  for (const RunOutput& output : report.outputs) {
    outputs.push_back({{"tensor", output.tensor},
                       {"max_abs_error", output.max_abs_error},
                       {"max_rel_error", output.max_rel_error},
                       {"tolerance", output.tolerance}});
  }
  Json communication = Json::array();
  for (const OpCommunication& row : report.communication) {
    communication.push_back({{"op", row.op},
                             {"schedule", row.schedule},
                             {"collective", row.collective},
                             {"calls", row.calls},
                             {"bytes_per_rank", row.bytes_per_rank}});
  }
  Json diagnostics = Json::array();
  for (const Diagnostic& diagnostic : report.diagnostics) diagnostics.push_back(diagnostic_json(diagnostic));
  return {{"ok", report.ok()},
          {"ranks", report.ranks},
          {"outputs", std::move(outputs)},
          {"communication", std::move(communication)},
          {"balance", {{"max_over_mean_flops", report.max_over_mean_work}}},
          {"diagnostics", std::move(diagnostics)}};
}

void print_report(const Console& console, const Program& program, const RunReport& report, const std::string& file) {
  console.out << styled(console, Style::kStrong, file);
  console.out << fmt::format(": mesh {}, {}\n", to_string(program.mesh),
                             count_of(static_cast<std::size_t>(report.ranks), "rank"));
  print_diagnostics(console, report.diagnostics);
  std::size_t wrong = 0;
  if (report.diagnostics.empty()) {
    Table outputs({"output", "max abs error", "max rel error", "tolerance", ""}, {1, 2, 3});
    for (const RunOutput& output : report.outputs) {
      wrong += output.ok() ? 0U : 1U;
      outputs.add({output.tensor, fmt::format("{:.3g}", output.max_abs_error), fmt::format("{:.3g}", output.max_rel_error),
                   output.tolerance == 0 ? "exact" : fmt::format("{:.3g}", output.tolerance),
                   output.ok() ? "ok" : "differs"});
    }
    console.out << '\n';
    outputs.print(console);
    Table communication({"op", "schedule", "collective", "calls", "per rank"}, {3, 4});
    for (const OpCommunication& row : report.communication) {
      communication.add(
          {row.op, row.schedule, row.collective, std::to_string(row.calls), format_bytes(row.bytes_per_rank)});
    }
    console.out << '\n';
    if (communication.empty()) console.out << "  no communication\n";
    else communication.print(console);
    console.out << fmt::format("  work of the busiest rank over the mean: {:.3f}\n", report.max_over_mean_work);
  }
  const std::string line =
      !report.diagnostics.empty() ? fmt::format("failed: {}", count_of(report.diagnostics.size(), "diagnostic"))
      : wrong > 0                 ? fmt::format("failed: {} of {} differ from the unsharded computation", wrong,
                                                count_of(report.outputs.size(), "output"))
                                  : fmt::format("ok: {} as unsharded, on {}", count_of(report.outputs.size(), "output"),
                                                count_of(static_cast<std::size_t>(report.ranks), "rank"));
  console.out << '\n' << styled(console, report.ok() ? Style::kGood : Style::kBad, line) << '\n';
}

int run_file(const Options& options, Context context) {
  const Source source = read_source(options.file, context.console);
  const Program program = read_program(source.text, context.registry);
  RunOptions how{.seed = options.seed, .policy = options.repair ? Policy::kRepair : Policy::kStrict};
  if (!options.inputs.empty()) how.inputs = options.inputs;
  if (!options.outputs.empty()) how.outputs = options.outputs;
  Progress progress(context.console);
  how.progress = [&](std::size_t done, std::size_t total, std::string_view now) { progress(done, total, now); };
  RunReport report;
  try {
    report = run(program, how);
  } catch (const Error& error) {
    if (is_about_files(error.diagnostic())) throw;
    report.ranks = program.mesh.device_count();
    report.diagnostics.push_back(error.diagnostic());
  }
  if (options.json) print_json(context.console, to_json(report));
  else print_report(context.console, program, report, source.name);
  return report.ok() ? kFine : kFault;
}

}  // namespace

Action add_run(CLI::App& app, Context context) {
  const auto options = std::make_shared<Options>();
  app.add_option("file", options->file, "A config, or - for standard input")->required()->type_name("FILE|-");
  app.add_option("--seed", options->seed, "Of the generated inputs")->type_name("N")->check([](const std::string& text) {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    return digits ? std::string() : fmt::format("'{}' is no number from 0 on", text);
  });
  app.add_option("--inputs", options->inputs, "Read inputs from NAME.npy in this folder, where they are there")
      ->type_name("DIR");
  app.add_option("--outputs", options->outputs, "Write every result to NAME.npy in this folder")->type_name("DIR");
  auto* strict = app.add_flag("--strict", options->strict, "Refuse calls whose layouts do not fit together (the default)");
  app.add_flag("--repair", options->repair, "Insert the cheapest redistributions")->excludes(strict);
  app.add_flag("--json", options->json, "Write JSON");
  return [options, context] { return run_file(*options, context); };
}

}  // namespace tessera::tools
