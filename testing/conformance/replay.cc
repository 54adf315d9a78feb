// Reads a corpus and replays its cases one after the other.
#include <fmt/format.h>

#include <exception>
#include <nlohmann/json.hpp>

#include "core/program/document.h"
#include "layouts/json_reader.h"
#include "support/diagnostic.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

// The kinds of cases that are replayed. A layout inference of another system's format has no "inputs".
Outcome replay_kind(const Json& test, const std::string& kind, const Registry& registry) {
  if (kind == "infer" && test.contains("inputs")) return replay_inference(test, registry);
  if (kind == "layout") return replay_layout(test);
  if (kind == "mesh") return replay_mesh(test);
  if (kind == "window") return replay_window(test);
  if (kind == "band") return replay_band(test);
  if (kind == "reject_sharding") return replay_reject_sharding(test);
  if (kind == "reject_rule") return replay_reject_rule(test);
  if (kind == "reject_rule_text") return replay_reject_rule_text(test);
  throw Skip{fmt::format("cases of kind '{}' are not replayed", kind)};
}

Outcome replay_case(const Json& test, const Registry& registry) {
  try {
    if (!test.is_object()) fail_json_type(test, "", "a case");
    const Json& kind = value_or_null(test, "kind");
    return replay_kind(test, kind.is_null() ? "infer" : read_text(kind, "/kind", "a kind"), registry);
  } catch (const Skip& skip) {
    return {.verdict = Verdict::kSkipped, .got = skip.reason};
  } catch (const Error& error) {
    const Diagnostic& fault = error.diagnostic();
    return {.verdict = Verdict::kFailed,
            .expected = "a case that makes sense",
            .got = fault.pointer.empty() ? fault.message : fmt::format("{} at {}", fault.message, fault.pointer),
            .code = fault.code};
  } catch (const std::exception& error) {  // JSON of another form than its readers expect, a size that no memory holds
    return {.verdict = Verdict::kFailed, .expected = "a case that makes sense", .got = error.what()};
  }
}

void apply(const Deviations& deviations, Outcome& outcome) {
  const auto found = deviations.find(outcome.id);
  if (found == deviations.end() || outcome.verdict == Verdict::kSkipped) return;
  if (outcome.verdict == Verdict::kFailed) {
    outcome.verdict = Verdict::kDeviation;
    outcome.reason = found->second;
  } else {
    outcome.verdict = Verdict::kFailed;
    outcome.expected = fmt::format("a deviation: {}", found->second);
    outcome.got += " (stale deviation: it does not differ)";
  }
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed: return "passed";
    case Verdict::kFailed: return "failed";
    case Verdict::kSkipped: return "skipped";
    case Verdict::kDeviation: return "deviation";
  }
  return "";
}

Outcome compare(std::string expected, Answer answer) {
  if (answer.refused()) {
    return {.verdict = Verdict::kFailed,
            .expected = std::move(expected),
            .got = fmt::format("refused ({}): {}", answer.code, answer.text),
            .code = answer.code};
  }
  const Verdict verdict = expected == answer.text ? Verdict::kPassed : Verdict::kFailed;
  return {.verdict = verdict, .expected = std::move(expected), .got = std::move(answer.text)};
}

Outcome expect_refusal(const Json& expect, Answer answer) {
  const Json& message = value_or_null(expect, "message_contains");
  const std::string expected =
      message.is_string() ? fmt::format("refused: {}", message.get_ref<const std::string&>()) : "refused";
  if (!answer.refused()) return {.verdict = Verdict::kFailed, .expected = expected, .got = std::move(answer.text)};
  return {.expected = expected, .got = fmt::format("refused ({}): {}", answer.code, answer.text), .code = answer.code};
}

bool expects_refusal(const Json& expect) {
  const Json& error = value_or_null(expect, "error");
  return !error.is_null() && error != false;
}

Deviations read_deviations(std::string_view text) {
  const Json json = parse_document(text);
  if (!json.is_array()) fail_json_type(json, "", R"(a list of deviations, as [{"id": "...", "reason": "..."}])");
  static const std::vector<std::string> keys{"id", "reason"};
  Deviations deviations;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string pointer = child("", i);
    if (!json[i].is_object()) fail_json_type(json[i], pointer, R"(a deviation, as {"id": "...", "reason": "..."})");
    check_keys(json[i], keys, pointer);
    const std::string& id = read_text(required(json[i], "id", pointer), child(pointer, "id"), "the id of a case");
    const std::string& reason = read_text(required(json[i], "reason", pointer), child(pointer, "reason"), "a reason");
    if (reason.find_first_not_of(' ') == std::string::npos) {
      fail({.code = "deviation-reason",
            .message = fmt::format("the deviation of '{}' has no reason", id),
            .pointer = child(pointer, "reason")});
    }
    if (!deviations.emplace(id, reason).second) {
      fail({.code = "duplicate-deviation",
            .message = fmt::format("'{}' is listed twice", id),
            .pointer = child(pointer, "id")});
    }
  }
  return deviations;
}

std::vector<Outcome> replay(std::string_view text, std::string_view name, const Registry& registry,
                            const Deviations& deviations) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    fail("json-syntax", "the corpus is empty", R"(begin with {"cases": [...]})");
  const Json document = parse_document(text);
  if (!document.is_object()) fail_json_type(document, "", R"(a corpus, as {"cases": [...]})");
  const Json& cases = required(document, "cases", "");
  if (!cases.is_array()) fail_json_type(cases, "/cases", "a list of cases");
  std::vector<Outcome> outcomes;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    Outcome outcome = replay_case(cases[i], registry);
    const Json& id = value_or_null(cases[i], "id");
    outcome.id = id.is_string() ? id.get<std::string>() : fmt::format("{}/{}", name, i);
    apply(deviations, outcome);
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

std::size_t count(const std::vector<Outcome>& outcomes, Verdict verdict) {
  std::size_t number = 0;
  for (const Outcome& outcome : outcomes) number += outcome.verdict == verdict ? 1 : 0;
  return number;
}

}  // namespace tessera::conformance
