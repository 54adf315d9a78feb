// What the replays of the kinds of cases share. Not for users of the library.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "core/op/registry.h"
#include "support/diagnostic.h"
#include "testing/conformance/conformance.h"

namespace tessera::conformance {

/// The end of a case that cannot be replayed here, with the reason: it is skipped.
struct Skip {
  std::string reason;
};

/// What came of asking: a text to compare and to print, or the refusal.
struct Answer {
  std::string text;  ///< of a refusal its message
  std::string code;  ///< of a refusal
  [[nodiscard]] bool refused() const { return !code.empty(); }
};

/// What `ask()` (a text) says, or with what Error it refuses.
template <class Ask>
Answer answer(Ask ask) {
  try {
    return {ask(), ""};
  } catch (const Error& error) {
    return {error.diagnostic().message, error.diagnostic().code};
  }
}

/// Passed where the answer is the expected text.
Outcome compare(std::string expected, Answer answer);
/// Passed where the answer is a refusal.
Outcome expect_refusal(const nlohmann::json& expect, Answer answer);
/// Whether the case expects a refusal.
bool expects_refusal(const nlohmann::json& expect);

/// The value of a key, null where there is none.
const nlohmann::json& value_or_null(const nlohmann::json& json, const std::string& key);

/// The mesh of a case or of an input: "mesh_shape" and "mesh_dim_names" (axis_0, ... where there are none) and perhaps "rank_list".
DeviceMesh read_case_mesh(const nlohmann::json& json);
/// A layout as corpora write it: "alias" or "tensor_map" or "placements", and perhaps "partial". Axes in "partial" may have any spelling of a reduction.
Layout read_case_layout(const nlohmann::json& json, DeviceMesh mesh);
/// The layout without what has no effect: axes of size 1.
Layout effective(const Layout& layout);

/// The replays. They return an outcome without id, throw Skip, and throw Error for a case that does not make sense.
Outcome replay_inference(const nlohmann::json& test, const Registry& registry);
Outcome replay_layout(const nlohmann::json& test);
Outcome replay_mesh(const nlohmann::json& test);
Outcome replay_window(const nlohmann::json& test);
Outcome replay_band(const nlohmann::json& test);
Outcome replay_reject_sharding(const nlohmann::json& test);
Outcome replay_reject_rule(const nlohmann::json& test);
Outcome replay_reject_rule_text(const nlohmann::json& test);

}  // namespace tessera::conformance
