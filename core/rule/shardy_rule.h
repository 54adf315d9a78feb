// Shardy's notation of a rule: ([i, k], [k, j])->([i, j]) {i=2, j=4, k=8} reduction={k}.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/rule/rule.h"
#include "support/shape.h"

namespace tessera {

/// What Shardy says of a factor beside its size.
enum class ShardyFactorKind : std::uint8_t { kPassThrough, kReduction, kNeedReplication, kPermutation };

struct ShardyFactor {
  std::string name;  ///< "i" to "z", then "z_1", "z_2", ...
  std::int64_t size =
      0;  ///< may differ from that of a dim it stands for: a concatenation's factor is as long as the result
  ShardyFactorKind kind = ShardyFactorKind::kPassThrough;
  bool blocked = false;  ///< splits of it are not propagated

  friend bool operator==(const ShardyFactor&, const ShardyFactor&) = default;
};

/// A rule as Shardy writes it; factors are numbers, in the order of their sizes.
struct ShardyRule {
  using Tensor = std::vector<std::vector<int>>;  ///< for each dim its factors, outermost first

  std::vector<Tensor> operands;
  std::vector<Tensor> results;
  std::vector<ShardyFactor> factors;
  bool custom = false;  ///< written by a user rather than derived from the operator

  friend bool operator==(const ShardyRule&, const ShardyRule&) = default;
};

/// Reads the notation:
/// ```
/// rule   := tensors '->' tensors '{' factor '=' size, ... '}' set* (', custom')?
/// tensor := '[' dim, ... ']'         dim := factor+, outermost first: "ij"        factor := 'i'..'z' | 'z_1', 'z_2', ...
/// set    := 'reduction=' | 'need_replication=' | 'permutation=' | 'blocked_propagation='   then '{' factor, ... '}'; in this order
/// ```
/// Sizes are given for all factors, in the order i, j, k, ...
/// @throws Error "shardy-rule" with a caret: what is not this notation, a factor without a size or without a use, one twice in a tensor, one of size 1
///   in a compound, sets that are out of order or share a factor, a reduction over a factor of a result
ShardyRule parse_shardy_rule(std::string_view text);

/// Whether the rule can be that of an operator on tensors of these shapes. Sizes of dims and of factors may differ.
/// @throws Error "shardy-rule-count", "shardy-rule-rank"
void check_shapes(const ShardyRule& rule, std::span<const Shape> operands, std::span<const Shape> results);

/// The same rule in our notation: `x0[i k], x1[k j] -> y0[i j] | size i=2 j=4 k=8`. What Shardy would replicate first (need_replication), move
/// between neighbours (permutation) or drop without reducing it (a factor that a result lacks and `reduction` does not list) is `whole`.
/// @throws Error "shardy-rule-limit" where ours has no room for it (16 operands, 24 factors), or for the size 0 of a factor that only
///   results have
Rule to_rule(const ShardyRule& rule);

/// `to_rule(parse_shardy_rule(text))`.
Rule rule_from_shardy(std::string_view text);

}  // namespace tessera
