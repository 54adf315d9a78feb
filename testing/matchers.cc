#include "testing/matchers.h"

#include <fmt/format.h>

#include <charconv>

#include "layouts/notation.h"
#include "layouts/text_reader.h"
#include "support/text.h"

namespace tessera {
namespace {

Shape parse_shape(std::string_view text) {
  TextReader reader(text, "shape-syntax");
  Shape shape;
  reader.expect("[", "'['");
  while (!reader.accept("]")) {
    if (!shape.empty()) reader.expect(",", "',' or ']'");
    if (shape.full()) reader.fail_expected("']'");
    shape.push_back(reader.integer("a size"));
  }
  if (!reader.at_end()) reader.fail_expected("the end of the shape");
  return shape;
}

template <class Infer>
Inferred inferred_by(DeviceMesh mesh, const std::vector<OperandText>& operands, Infer&& infer_specs) {
  Inferred inferred{.mesh = mesh, .operands = {}, .results = {}};
  std::vector<TensorSpec> specs;
  for (const OperandText& operand : operands) {
    specs.push_back(operand.shape.empty()
                        ? TensorSpec{}
                        : TensorSpec{parse_shape(operand.shape), operand.dtype, parse_layout(mesh, operand.layout)});
  }
  std::vector<const TensorSpec*> pointers;
  for (std::size_t i = 0; i < specs.size(); ++i) pointers.push_back(operands[i].shape.empty() ? nullptr : &specs[i]);
  try {
    const Inference inference = infer_specs(OperandSpecs(pointers));
    inferred.operands.assign(inference.operands.begin(), inference.operands.end());
    inferred.results.assign(inference.results.begin(), inference.results.end());
  } catch (const Error& error) {
    inferred.fault = error.diagnostic();
  }
  return inferred;
}

std::string texts(const std::vector<Layout>& layouts) {
  std::vector<std::string> all;
  for (const Layout& layout : layouts) all.push_back(to_string(layout));
  return join(all);
}

std::string quoted(const std::vector<std::string>& layouts) { return fmt::format("{}", join(layouts)); }

}  // namespace

void PrintTo(const Inferred& inferred, std::ostream* out) {
  if (inferred.fault) {
    *out << inferred.fault->code << ": " << to_string(*inferred.fault);
  } else {
    *out << texts(inferred.operands) << " -> " << texts(inferred.results);
  }
}

void PrintTo(const Proof& proof, std::ostream* out) { *out << to_string(proof); }

Inferred infer_layouts_of(const Rule& rule, DeviceMesh mesh, const std::vector<OperandText>& operands, Policy policy) {
  return inferred_by(mesh, operands, [&](OperandSpecs specs) { return infer(rule, specs, policy); });
}

Inferred infer_layouts_of(const DistributedOp& op, DeviceMesh mesh, const std::vector<OperandText>& operands,
                          const Attributes& attributes, Policy policy) {
  return inferred_by(mesh, operands,
                     [&](OperandSpecs specs) { return make_plan(op, specs, attributes, policy)->inference; });
}

bool LayoutsMatcher::MatchAndExplain(const Inferred& inferred, std::ostream* out) const {
  if (inferred.fault) {
    if (out != nullptr) *out << "which is refused";
    return false;
  }
  const std::vector<Layout>& layouts = of_ == Of::kResults ? inferred.results : inferred.operands;
  bool same = layouts.size() == layouts_.size();
  for (std::size_t i = 0; same && i < layouts.size(); ++i) {
    const bool absent = layouts[i] == Layout();  // lies on a mesh of its own
    same = layouts[i] == parse_layout(absent ? DeviceMesh() : inferred.mesh, layouts_[i]);
  }
  return same;
}

void LayoutsMatcher::DescribeTo(std::ostream* out) const {
  *out << (of_ == Of::kResults ? "has results " : "takes operands ") << quoted(layouts_);
}
void LayoutsMatcher::DescribeNegationTo(std::ostream* out) const {
  *out << (of_ == Of::kResults ? "does not have results " : "does not take operands ") << quoted(layouts_);
}

bool FaultMatcher::matches(const std::optional<Diagnostic>& fault, std::ostream* out) const {
  if (!fault) {
    if (out != nullptr) *out << "which does not fail";
    return false;
  }
  if (fault->code == code_ && to_string(*fault).find(part_) != std::string::npos) return true;
  if (out != nullptr) *out << "which fails with " << fault->code << ": " << to_string(*fault);
  return false;
}

bool FaultMatcher::MatchAndExplain(const Inferred& inferred, std::ostream* out) const {
  return matches(inferred.fault, out);
}

bool FaultMatcher::MatchAndExplain(const std::function<void()>& call, std::ostream* out) const {
  try {
    call();
  } catch (const Error& error) {
    return matches(error.diagnostic(), out);
  }
  return matches(std::nullopt, out);
}

void FaultMatcher::DescribeTo(std::ostream* out) const {
  *out << "fails with " << code_ << " and a text that has \"" << part_ << '"';
}
void FaultMatcher::DescribeNegationTo(std::ostream* out) const {
  *out << "does not fail with " << code_ << " and a text that has \"" << part_ << '"';
}

bool SoundMatcher::MatchAndExplain(const Proof& proof, std::ostream* out) const {
  if (out != nullptr && proof.unsound == 0 && proof.accepted == proof.unchecked) {
    *out << (proof.accepted == 0 ? "which proves nothing: nothing is accepted"
                                 : "which proves nothing: no result could be checked");
  }
  return proof.unsound == 0 && proof.accepted > proof.unchecked;
}
void SoundMatcher::DescribeTo(std::ostream* out) const { *out << "is sound"; }
void SoundMatcher::DescribeNegationTo(std::ostream* out) const { *out << "is not sound"; }

}  // namespace tessera
