// Between the dims of a tensor and the factors of a rule: how an axis list on a compound dim splits its factors, and back.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "core/rule/binding.h"

namespace tessera {

/// How each factor of a dim is split, or why the axes cannot be told apart.
struct FactorSplits {
  StaticVector<DimSplit, kMaxFactors> splits;  ///< one for each factor of the dim
  int fault = -1;       ///< position in the dim of the factor whose size is not a multiple, -1 for none
  int fault_axis = -1;  ///< the axis that would cut it, -1 where the distribution is at fault
};

/// Reads the split of a dim as splits of its factors: the outermost axes split the outermost factor, as long as their sizes divide it.
/// Worked example: `(g r)` with g = 8, r = 8 on axes [tp=8, cp=2]: tp splits g, then cp splits r. With tp = 16 g would be cut in half: a fault.
/// Shards of several factors, or of one in front of others, must be whole and equal.
FactorSplits split_factors(const DimSplit& split, std::span<const std::uint8_t> factors,
                           std::span<const std::int64_t> sizes, DeviceMesh mesh);

/// The other way: the split of the dim whose factors are split so, or nothing where no layout says it (r is split while g, in front of
/// it, is not cut to single elements).
std::optional<DimSplit> join_factors(std::span<const DimSplit> splits, std::span<const std::uint8_t> factors,
                                     std::span<const std::int64_t> sizes, DeviceMesh mesh);

/// The layout of a tensor whose factors are split so, without pending reductions.
struct Projected {
  std::optional<Layout> layout;
  int faulty_dim = -1;  ///< the dim that no layout can say, where there is no layout
};
/// @param repeated bit d: dim d has size 1 and repeats, so it is whole
Projected project_back(const RuleTensor& tensor, const Binding& binding, std::span<const DimSplit> splits, DeviceMesh mesh,
                       std::uint16_t repeated);

/// The axes whose size is not 1: those that count as splits.
AxisList significant(AxisList axes, DeviceMesh mesh);

}  // namespace tessera
