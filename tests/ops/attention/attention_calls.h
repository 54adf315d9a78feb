// Calls of the attention operators for tests of planning: a good call, variants of it, and what planning says of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "layouts/notation.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"
#include "tests/ops/calls.h"

namespace tessera {

/// Operands by their names in the rule, as in an example: {"query", "f32 [2, 8] [dp, -]"}.
using NamedOperands = std::vector<std::pair<std::string, std::string>>;

struct AttentionCall {
  std::string op;
  NamedOperands operands;
  std::vector<Attributes::Entry> attributes;
  std::string mesh;
};

/// A variant of a call, and what planning says of it.
struct Variant {
  const char* name;
  NamedOperands operands;                     ///< instead of the call's; "-" for one that is absent
  std::vector<Attributes::Entry> attributes;  ///< instead of the call's; none for one that is not given
  const char* said;       ///< the results' layouts, or the whole text of the error with {rule} for the call's rule
  const char* mesh = "";  ///< instead of the call's
};

inline AttentionCall changed(AttentionCall call, const Variant& variant) {
  for (const auto& change : variant.operands) {
    std::erase_if(call.operands, [&](const auto& operand) { return operand.first == change.first; });
    call.operands.push_back(change);
  }
  for (const auto& change : variant.attributes) {
    std::erase_if(call.attributes, [&](const auto& entry) { return entry.first == change.first; });
    if (!std::holds_alternative<std::monostate>(change.second)) call.attributes.push_back(change);
  }
  if (*variant.mesh != '\0') call.mesh = variant.mesh;
  return call;
}

/// The layouts of the results, or the whole text of the error.
inline std::string said_of(const AttentionCall& call) {
  const DistributedOp& op = catalogue().get(call.op);
  std::vector<std::string> operands;
  for (int i = 0; i < static_cast<int>(op.rule.operands.size()); ++i) {
    const auto given = std::find_if(call.operands.begin(), call.operands.end(),
                                    [&](const auto& operand) { return operand.first == operand_name(op.rule, i); });
    operands.push_back(given == call.operands.end() ? "-" : given->second);
  }
  try {
    const ExampleCall read = read_example({operands, call.attributes, call.mesh});
    const auto plan = make_plan(op, read.pointers(), read.attributes);
    std::string text;
    for (const TensorSpec& result : plan->results) {
      text += (text.empty() ? "" : ", ") + to_string(result.layout);
    }
    return text;
  } catch (const Error& error) {
    return error.what();
  }
}

/// Expects planning to say of each variant what it should. @param rule of the unchanged call
inline void expect_said(const AttentionCall& call, const std::string& rule, const std::vector<Variant>& variants) {
  for (const Variant& variant : variants) {
    std::string said = variant.said;
    if (const std::size_t place = said.find("{rule}"); place != std::string::npos) said.replace(place, 6, rule);
    EXPECT_EQ(said_of(changed(call, variant)), said) << variant.name;
  }
}

}  // namespace tessera
