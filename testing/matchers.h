// GoogleTest matchers for tests of sharding rules.
#pragma once

#include <gmock/gmock.h>

#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "core/op/op.h"
#include "support/diagnostic.h"
#include "testing/prover.h"

namespace tessera {

/// An operand of a call, as text.
struct OperandText {
  std::string_view shape;   ///< "[8, 4]"; empty for an operand that is absent
  std::string_view layout;  ///< "[dp, -]", in any notation that `parse_layout` reads
  DType dtype = DType::kF32;
};

/// What became of a call: its layouts, or the fault.
struct Inferred {
  DeviceMesh mesh;
  std::vector<Layout> operands;  ///< as the call needs them
  std::vector<Layout> results;
  std::optional<Diagnostic> fault{};
};
void PrintTo(const Inferred& inferred, std::ostream* out);
void PrintTo(const Proof& proof, std::ostream* out);

/// Infers the layouts of a call; what it throws becomes the fault. A literal rule is checked by the compiler.
///
/// ```cpp
/// const DeviceMesh mesh({{"dp", 2}, {"tp", 2}});
/// EXPECT_THAT(infer_layouts_of("m k, k n -> m n", mesh, {{"[8, 4]", "[dp, -]"}, {"[4, 6]", "[-, tp]"}}), ResultLayouts("[dp, tp]"));
/// EXPECT_THAT(infer_layouts_of("m k, k n -> m n", mesh, {{"[8, 4]", "[-, tp]"}, {"[4, 6]", "[-, -]"}}),
///             FailsWith("factor-conflict", "factor k is split over 'tp'"));
/// EXPECT_THAT(infer_layouts_of(catalogue().get("sum"), mesh, {{"[8, 4]", "[dp, -]"}}, {{"dim", 0}}), ResultLayouts("[-] partial(dp: sum)"));
/// ```
Inferred infer_layouts_of(const Rule& rule, DeviceMesh mesh, const std::vector<OperandText>& operands,
                          Policy policy = Policy::kStrict);
Inferred infer_layouts_of(const DistributedOp& op, DeviceMesh mesh, const std::vector<OperandText>& operands,
                          const Attributes& attributes = {}, Policy policy = Policy::kStrict);

/// Matches layouts that are these, read on the call's mesh.
class LayoutsMatcher {
 public:
  using is_gtest_matcher = void;
  enum class Of : std::uint8_t { kOperands, kResults };
  LayoutsMatcher(Of of, std::vector<std::string> layouts) : of_(of), layouts_(std::move(layouts)) {}
  bool MatchAndExplain(const Inferred& inferred, std::ostream* out) const;
  void DescribeTo(std::ostream* out) const;
  void DescribeNegationTo(std::ostream* out) const;

 private:
  Of of_;
  std::vector<std::string> layouts_;
};

// NOLINTBEGIN(readability-identifier-naming): matchers are named as GoogleMock's
/// The call is accepted, and its results have these layouts: `ResultLayouts("[dp, tp]", "[dp]")`.
template <class... Texts>
LayoutsMatcher ResultLayouts(const Texts&... layouts) {
  return {LayoutsMatcher::Of::kResults, {std::string(layouts)...}};
}
/// The call is accepted, and needs its operands in these layouts ("[]" for an absent one).
template <class... Texts>
LayoutsMatcher OperandLayouts(const Texts&... layouts) {
  return {LayoutsMatcher::Of::kOperands, {std::string(layouts)...}};
}

/// Matches a fault by its code and a part of its text (all that `to_string(diagnostic)` prints).
class FaultMatcher {
 public:
  using is_gtest_matcher = void;
  FaultMatcher(std::string code, std::string part) : code_(std::move(code)), part_(std::move(part)) {}
  bool MatchAndExplain(const Inferred& inferred, std::ostream* out) const;
  bool MatchAndExplain(const std::function<void()>& call, std::ostream* out) const;
  void DescribeTo(std::ostream* out) const;
  void DescribeNegationTo(std::ostream* out) const;

 private:
  bool matches(const std::optional<Diagnostic>& fault, std::ostream* out) const;
  std::string code_;
  std::string part_;
};

/// The call is refused: `FailsWith("factor-conflict", "factor k")`. Also for what throws:
/// `EXPECT_THAT([&] { Rule::parse(text); }, FailsWith("rule-syntax", "expected ']'"))`.
inline FaultMatcher FailsWith(std::string code, std::string part = {}) { return {std::move(code), std::move(part)}; }

/// Matches a proof that found nothing wrong in what the rule accepts, and in which the rule accepts something and results were checked.
class SoundMatcher {
 public:
  using is_gtest_matcher = void;
  bool MatchAndExplain(const Proof& proof, std::ostream* out) const;
  void DescribeTo(std::ostream* out) const;
  void DescribeNegationTo(std::ostream* out) const;
};
inline SoundMatcher IsSound() { return {}; }
// NOLINTEND(readability-identifier-naming)

}  // namespace tessera
