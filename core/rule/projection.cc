#include "core/rule/projection.h"

namespace tessera {

AxisList significant(AxisList axes, DeviceMesh mesh) {
  AxisList kept;
  for (int i = 0; i < axes.size(); ++i) {
    if (mesh.size(axes[i]) > 1) kept.push_back(axes[i]);
  }
  return kept;
}

FactorSplits split_factors(const DimSplit& split, std::span<const std::uint8_t> factors,
                           std::span<const std::int64_t> sizes, DeviceMesh mesh) {
  FactorSplits result;
  for (std::size_t i = 0; i < factors.size(); ++i) result.splits.push_back({});
  if (split.axes.empty() || factors.empty()) return result;
  // Factors of size 1 cannot be split and are no obstacle; where one factor is left the dim is that factor.
  std::int64_t n = 1;
  int large = 0;
  std::size_t only = 0;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    n *= sizes[factors[i]];
    if (sizes[factors[i]] == 1) continue;
    ++large;
    only = i;
  }
  if (large <= 1 || n == 0) {
    result.splits[only] = split;
    return result;
  }
  std::int64_t inner = n;  // indices behind the current factor
  int next = 0;
  int used = 0;  // factors that are split
  for (std::size_t i = 0; i < factors.size() && next < split.axes.size(); ++i) {
    std::int64_t rest = sizes[factors[i]];
    if (rest == 1) continue;
    inner /= rest;
    AxisList taken;
    while (next < split.axes.size() && rest % mesh.size(split.axes[next]) == 0) {
      const std::int64_t size = mesh.size(split.axes[next]);
      rest /= size;
      taken.push_back(split.axes[next++]);
    }
    const bool axes_left = !significant(split.axes.sublist(next, split.axes.size() - next), mesh).empty();
    const auto kind = split.distribution.kind();
    const bool in_order = kind == Distribution::Kind::kBlock || kind == Distribution::Kind::kBalanced;
    if (axes_left && used == 0 && (rest > 1 || !in_order)) {
      // All axes may deal whole elements of the outermost factor: 3 groups of 2 as cyclic(2) over 2 shards.
      if (const auto groups = group_indices(split.distribution, n, mesh.size(split.axes), inner)) {
        result.splits[i] = {split.axes, *groups};
        return result;
      }
    }
    if (axes_left && rest > 1) {
      result.fault = static_cast<int>(i);
      result.fault_axis = split.axes[next];
      return result;
    }
    if (taken.empty()) continue;
    const std::int64_t shards = mesh.size(taken);
    std::optional<Distribution> dealt = split.distribution;
    if (used > 0 || axes_left) {
      // Part of a split over several factors: equal shards in order, or nothing.
      if (!in_order) dealt.reset();
    } else {
      dealt = group_indices(split.distribution, n, shards, inner);
    }
    if (!dealt) {
      result.fault = static_cast<int>(i);
      return result;
    }
    result.splits[i] = {taken, *dealt};
    ++used;
  }
  if (!significant(split.axes.sublist(next, split.axes.size() - next), mesh).empty()) {  // more shards than elements
    result.fault = static_cast<int>(only);
    result.fault_axis = split.axes[next];
  }
  return result;
}

std::optional<DimSplit> join_factors(std::span<const DimSplit> splits, std::span<const std::uint8_t> factors,
                                     std::span<const std::int64_t> sizes, DeviceMesh mesh) {
  if (factors.size() == 1) return splits[factors[0]];
  DimSplit joined;
  std::int64_t inner = 1;
  for (std::uint8_t factor : factors) inner *= sizes[factor];
  const bool no_indices = inner == 0;
  int used = 0;
  bool in_equal_blocks = true;  // the factors in front that are split
  bool closed = false;          // a factor in front keeps more than one element a shard: nothing behind it may be split
  for (std::uint8_t factor : factors) {
    const DimSplit& split = splits[factor];
    const AxisList axes = significant(split.axes, mesh);
    const std::int64_t n = sizes[factor];
    if (!no_indices) inner /= n;
    if (axes.empty()) {
      joined.axes.append(split.axes);
      closed = closed || n > 1;
      continue;
    }
    if (closed || no_indices) return std::nullopt;
    const std::int64_t shards = mesh.size(axes);
    const auto dealt = ungroup_indices(split.distribution, n, shards, inner);
    if (!dealt) return std::nullopt;
    joined.axes.append(split.axes);
    joined.distribution = *dealt;
    if (used > 0) {  // the factors in front are split evenly, or they would have closed the dim
      const bool in_order = in_equal_blocks && deal_alike(split.distribution, Distribution::block(), n, shards);
      if (!in_order || !is_even(split.distribution, n, shards)) return std::nullopt;
      joined.distribution = Distribution::block();
    }
    in_equal_blocks = deal_alike(split.distribution, Distribution::block(), n, shards);
    closed = !is_even(split.distribution, n, shards) || n > shards;
    ++used;
  }
  return joined;
}

Projected project_back(const RuleTensor& tensor, const Binding& binding, std::span<const DimSplit> splits, DeviceMesh mesh,
                       std::uint16_t repeated) {
  StaticVector<DimSplit, kMaxRank> dims;
  std::size_t begin = 0;
  for (int dim = 0; dim < tensor.rank(); ++dim) {
    const std::span<const std::uint8_t> factors(tensor.factors.data() + begin,
                                                tensor.factors_of_dim[static_cast<std::size_t>(dim)]);
    begin += factors.size();
    if (factors.empty() || (repeated >> dim & 1) != 0) {
      dims.push_back({});
      continue;
    }
    const auto joined = join_factors(splits, factors, {binding.sizes.data(), binding.sizes.size()}, mesh);
    if (!joined) return {std::nullopt, dim};
    dims.push_back(*joined);
  }
  return {Layout(mesh, dims), -1};
}

}  // namespace tessera
