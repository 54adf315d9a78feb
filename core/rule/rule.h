// The rule of an operator: index notation, parsed at compile time from literals and at run time from configs by the same code.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "layouts/layout.h"
#include "support/shape.h"
#include "support/static_vector.h"

namespace tessera {

inline constexpr std::size_t kMaxTensors = 16;  ///< operands of a rule, and results
inline constexpr std::size_t kMaxFactors = 24;
inline constexpr std::size_t kMaxRuleText = 768;

/// A part of a rule's text.
struct TextSlice {
  std::uint16_t begin = 0;
  std::uint16_t length = 0;

  friend constexpr bool operator==(TextSlice, TextSlice) = default;
};

/// A letter of a rule: an index that operands and results share.
struct RuleFactor {
  static constexpr std::int64_t kGivenLater = -1;

  TextSlice name;
  std::int64_t size = 0;              ///< from a `size` clause; 0 where shapes tell it, kGivenLater where `with_size` does
  Partial reduction = Partial::kSum;  ///< what happens to it in results that lack it
  bool whole = false;                 ///< must not be split
  std::int8_t batch = 0;              ///< of a `...`: which dim of it, counted from its right end, from 1; else 0
};

/// An operand or a result of a rule: the factors of its dims.
struct RuleTensor {
  TextSlice name;                          ///< empty where the rule does not name it
  StaticVector<std::uint8_t, 20> factors;  ///< of all dims, one dim after the other, outermost first
  StaticVector<std::uint8_t, kMaxRank>
      factors_of_dim;         ///< how many of them each dim has: 0 for a literal 1, more than 1 for a compound
  std::int8_t ellipsis = -1;  ///< the dim before which `...` stands, -1 where there is none
  bool optional = false;      ///< may be absent

  [[nodiscard]] constexpr int rank() const { return static_cast<int>(factors_of_dim.size()); }
  /// The factors of a dim, outermost first.
  [[nodiscard]] constexpr std::span<const std::uint8_t> dim(int i) const {
    std::size_t begin = 0;
    for (int k = 0; k < i; ++k) begin += factors_of_dim[static_cast<std::size_t>(k)];
    return {factors.data() + begin, factors_of_dim[static_cast<std::size_t>(i)]};
  }
  [[nodiscard]] constexpr bool has(std::uint8_t factor) const {
    for (std::uint8_t f : factors) {
      if (f == factor) return true;
    }
    return false;
  }
};

/// An operator's index notation. Grammar, with an example of each form:
/// ```
/// rule     := tensors '->' tensors clause*
/// tensors  := tensor (',' tensor)*
/// tensor   := name '[' dim* ']' '?'?  |  dim*           query[b s n d]     rope[b s r]?  (may be absent)      m k
/// dim      := factor | '(' factor* ')' | '1' | '...'    m    (g r): a compound, outermost first    1    ...: any number of dims
/// clause   := '|' 'whole' factor*                       these factors must not be split
///           | '|' reduction factor*                     max i: results that lack i are pending maxima (default: sum)
///           | '|' 'linear' term ('+' term)*             x w + bias: a pending sum may pass; a term is a product of operands
///           | '|' 'move' operand*                       the operator only moves these operands' numbers: anything pending passes
///           | '|' 'broadcast' operand*                  dims of size 1 of these operands repeat (those of `...` always may)
///           | '|' 'size' (factor ('=' number)?)*        sizes that shapes do not tell; without a number the operator gives it
/// ```
/// A factor that a result lacks is reduced there. Where it lacks several that are reduced in different ways (sum and avg count as one), all but
/// the last reduced must be `whole`: a max of sums is no sum of maxima. An operand is in one `linear` term at most, and its factors are
/// reduced by sum or avg. `...` stands for the same dims in every tensor that has it, aligned at the right.
/// Worked example: `x[... m k], w[... k n] -> out[... m n] | linear x w`: splitting k over an axis leaves `out` a pending sum.
///
/// A value without pointers; `to_string` gives the text it was parsed from.
struct Rule {
  StaticVector<RuleTensor, kMaxTensors> operands;
  StaticVector<RuleTensor, kMaxTensors> results;
  StaticVector<RuleFactor, kMaxFactors> factors;
  StaticVector<std::uint16_t, 4> linear_terms;  ///< each a set of operands: bit i for operand i
  std::uint16_t moved = 0;                      ///< operands of `move`
  std::uint16_t broadcast = 0;                  ///< operands of `broadcast`
  std::array<char, kMaxRuleText> text{};
  std::uint16_t text_length = 0;

  constexpr Rule() = default;

  /// A literal: a bad one does not compile.
  template <std::size_t N>
  consteval Rule(const char (&literal)[N]);  // NOLINT(google-explicit-constructor): tables of operators are written with it

  /// @throws Error "rule-syntax" with a caret under the fault
  static Rule parse(std::string_view text);

  /// This rule with the size of a factor given: what a call's attributes decide. @pre the rule has such a factor
  [[nodiscard]] Rule with_size(std::string_view factor, std::int64_t size) const;

  [[nodiscard]] constexpr std::string_view slice(TextSlice s) const {
    return std::string_view(text.data(), text_length).substr(s.begin, s.length);
  }
  [[nodiscard]] constexpr bool has_ellipsis() const {
    for (const RuleTensor& tensor : operands) {
      if (tensor.ellipsis >= 0) return true;
    }
    for (const RuleTensor& tensor : results) {
      if (tensor.ellipsis >= 0) return true;
    }
    return false;
  }
};

/// Rule::parse that remembers: for an operator's variants, of which there are few, so that planning a call costs a copy of the rule.
/// Safe when ranks are threads. @throws as Rule::parse
const Rule& parse_once(const std::string& text);

std::string to_string(const Rule& rule);
/// "k", or "...[-2]" for the second dim from the right of a `...`.
std::string factor_name(const Rule& rule, int factor);
/// The operand's name in the rule, or "operand 1" (counted from 0).
std::string operand_name(const Rule& rule, int operand);
std::string result_name(const Rule& rule, int result);
/// The operand of that name, or -1.
int find_operand(const Rule& rule, std::string_view name);
/// How many operands must be there.
int required_operands(const Rule& rule);

}  // namespace tessera

#include "core/rule/parser.h"  // IWYU pragma: export
