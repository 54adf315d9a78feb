// `tessera conformance`: replays corpora of cases from other systems' tests.
#include "testing/conformance/conformance.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/command.h"

namespace tessera::tools {
namespace {

using Json = nlohmann::json;
using conformance::Outcome;
using conformance::Verdict;

struct ConformanceOptions {
  std::vector<std::string> files;
  std::string deviations;
  bool skipped = false;
  bool json = false;
};

void print_outcome(const Console& console, const Outcome& outcome) {
  const bool failed = outcome.verdict == Verdict::kFailed;
  const std::string verdict(conformance::to_string(outcome.verdict));
  console.out << fmt::format("{} {}\n", styled(console, failed ? Style::kBad : Style::kFaint, verdict), outcome.id);
  console.out << fmt::format("  expected   {}\n  got        {}\n", outcome.expected, outcome.got);
  if (!outcome.reason.empty()) console.out << fmt::format("  reason     {}\n", outcome.reason);
}

// Each difference, then why cases were skipped if that is asked for, then the counts.
void print_outcomes(const Console& console, const std::vector<Outcome>& outcomes, bool skipped) {
  std::map<std::string, std::size_t> reasons;
  for (const Outcome& outcome : outcomes) {
    if (outcome.verdict == Verdict::kSkipped) ++reasons[outcome.got];
    if (outcome.verdict == Verdict::kFailed || outcome.verdict == Verdict::kDeviation) print_outcome(console, outcome);
  }
  for (const auto& [reason, count] : reasons) {
    if (skipped) console.out << fmt::format("skipped {}: {}\n", count_of(count, "case"), reason);
  }
  const std::size_t failed = conformance::count(outcomes, Verdict::kFailed);
  const std::size_t deviations = conformance::count(outcomes, Verdict::kDeviation);
  std::string line = fmt::format("{} passed, {} failed, {} skipped", conformance::count(outcomes, Verdict::kPassed), failed,
                                 conformance::count(outcomes, Verdict::kSkipped));
  if (deviations > 0) line += ", " + count_of(deviations, "deviation");
  console.out << styled(console, failed == 0 ? Style::kGood : Style::kBad, line) << '\n';
}

Json to_json(const std::vector<Outcome>& outcomes, const std::vector<Diagnostic>& diagnostics) {
  Json failures = Json::array();
  for (const Outcome& outcome : outcomes) {
    if (outcome.verdict != Verdict::kFailed) continue;
    failures.push_back({{"id", outcome.id}, {"expected", outcome.expected}, {"got", outcome.got}});
  }
  Json faults = Json::array();
  for (const Diagnostic& diagnostic : diagnostics) faults.push_back(diagnostic_json(diagnostic));
  return {{"passed", conformance::count(outcomes, Verdict::kPassed)},
          {"failed", conformance::count(outcomes, Verdict::kFailed)},
          {"skipped", conformance::count(outcomes, Verdict::kSkipped)},
          {"deviations", conformance::count(outcomes, Verdict::kDeviation)},
          {"failures", std::move(failures)},
          {"diagnostics", std::move(faults)}};
}

int replay_files(const ConformanceOptions& options, Context context) {
  conformance::Deviations deviations;
  if (!options.deviations.empty())
    deviations = conformance::read_deviations(read_source(options.deviations, context.console).text);
  int status = kFine;
  std::vector<Outcome> outcomes;
  std::vector<Diagnostic> diagnostics;
  for (const std::string& file : options.files) {
    try {
      const Source source = read_source(file, context.console);
      std::vector<Outcome> more = conformance::replay(source.text, std::filesystem::path(source.name).stem().string(),
                                                      context.registry, deviations);
      outcomes.insert(outcomes.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    } catch (const Error& error) {  // this corpus cannot be replayed: the others can
      status = std::max(status, is_about_files(error.diagnostic()) ? kUsage : kFault);
      context.console.err << fmt::format("tessera: {}: {}\n", file, error.what());
      diagnostics.push_back(error.diagnostic());
    }
  }
  if (conformance::count(outcomes, Verdict::kFailed) > 0) status = std::max(status, kFault);
  if (options.json) {
    print_json(context.console, to_json(outcomes, diagnostics));
  } else {
    print_outcomes(context.console, outcomes, options.skipped);
  }
  return status;
}

}  // namespace

Action add_conformance(CLI::App& app, Context context) {
  const auto options = std::make_shared<ConformanceOptions>();
  app.add_option("files", options->files, "Corpora, or - for standard input")->required()->type_name("FILE|-");
  app.add_option("--deviations", options->deviations, "The cases that rightly differ, with the reasons")->type_name("FILE");
  app.add_flag("--skipped", options->skipped, "Show also why cases are skipped");
  app.add_flag("--json", options->json, "Write JSON");
  return [options, context] { return replay_files(*options, context); };
}

}  // namespace tessera::tools
