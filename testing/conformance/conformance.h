// Replays corpora of conformance cases: facts about layouts that other systems' tests state, or that follow from a definition.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/op/registry.h"

namespace tessera::conformance {

/// kSkipped: what the case asks about does not exist here (an operator that the registry lacks, a kind that is not replayed).
/// kDeviation: it differs, and the list of deviations says why it rightly does.
enum class Verdict : std::uint8_t { kPassed, kFailed, kSkipped, kDeviation };
std::string_view to_string(Verdict verdict);

/// What came of a case.
struct Outcome {
  std::string id{};
  Verdict verdict = Verdict::kPassed;
  std::string expected{};  ///< what the case says, in this project's notation
  std::string got{};       ///< what there is here; of a skipped case why it was skipped
  std::string code{};      ///< the code of the diagnostic with which the call was refused; empty where it was not
  std::string reason{};    ///< of a deviation

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// Reasons for deviations, by the ids of their cases.
using Deviations = std::map<std::string, std::string, std::less<>>;

/// Reads a list of deviations: `[{"id": "...", "reason": "..."}, ...]`.
/// @throws Error "json-syntax", "json-type", "json-missing", "json-unknown-key", "duplicate-deviation", "deviation-reason" (an empty reason)
Deviations read_deviations(std::string_view text);

/// Replays the cases of a corpus (formats: tests/conformance/README.md), in their order. A case that does not make sense fails, with the reason; it
/// does not stop the others. A case that a deviation names and that does not differ fails too: the deviation is stale.
/// @param name what cases without an id are called: "NAME/3" for the fourth
/// @throws Error "json-syntax", "json-type", "json-missing" where the text is no corpus
std::vector<Outcome> replay(std::string_view text, std::string_view name, const Registry& registry,
                            const Deviations& deviations = {});

/// How many outcomes have that verdict.
std::size_t count(const std::vector<Outcome>& outcomes, Verdict verdict);

}  // namespace tessera::conformance
