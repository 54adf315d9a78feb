#include "core/rule/repair.h"

#include <algorithm>
#include <optional>

#include "core/rule/projection.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

// More choices than this are cut down: a call with so many disagreements wants its layouts read by a human.
constexpr std::size_t kMaxChoices = 4096;

constexpr std::size_t kMaxPending = 8;

// More shards than these are not looked at one by one.
constexpr std::int64_t kMaxShards = 4096;

using Candidates = std::vector<std::vector<DimSplit>>;  // by factor

// The split, and those with some of its axes taken out, which keep their order and are dealt in blocks: of more axes first.
std::vector<DimSplit> parts_of(const DimSplit& split, DeviceMesh mesh) {
  const AxisList axes = significant(split.axes, mesh);
  std::vector<DimSplit> parts{split};
  for (int size = axes.size() - 1; size > 0; --size) {
    for (std::uint32_t taken = (1U << axes.size()) - 1; taken > 0; --taken) {
      DimSplit part;
      for (int k = 0; k < axes.size(); ++k) {
        if ((taken >> (axes.size() - 1 - k) & 1) != 0) part.axes.push_back(axes[k]);
      }
      if (part.axes.size() == size) parts.push_back(part);
    }
  }
  return parts;
}

// For each factor the splits that some operand gives it, what is left of them without some of their axes, and "whole".
Candidates candidates_of(const RuleCall& call, const Binding& binding) {
  Candidates candidates(binding.rule.factors.size());
  const auto add = [&](std::uint8_t f, const DimSplit& split) {
    const bool known = std::find(candidates[f].begin(), candidates[f].end(), split) != candidates[f].end();
    if (!binding.rule.factors[f].whole && !known) candidates[f].push_back(split);
  };
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    if (call.operands[i] == nullptr) continue;
    const RuleTensor& tensor = binding.rule.operands[i];
    for (int dim = 0; dim < tensor.rank(); ++dim) {
      const DimSplit split = call.operands[i]->dim(dim);
      if (significant(split.axes, call.mesh).empty() || (binding.repeated[i] >> dim & 1) != 0) continue;
      // The split itself, and all that is left of it when axes are taken out.
      for (const DimSplit& part : parts_of(split, call.mesh)) {
        const FactorSplits projected =
            split_factors(part, tensor.dim(dim), {binding.sizes.data(), binding.sizes.size()}, call.mesh);
        if (projected.fault >= 0) continue;
        for (std::size_t k = 0; k < tensor.dim(dim).size(); ++k) {
          if (!projected.splits[k].axes.empty()) add(tensor.dim(dim)[k], projected.splits[k]);
        }
      }
    }
  }
  for (auto& splits : candidates) splits.push_back({});
  return candidates;
}

std::size_t choices(const Candidates& candidates) {
  std::size_t count = 1;
  for (const auto& splits : candidates) count = std::min(count * splits.size(), kMaxChoices + 1);
  return count;
}

void cut_down(Candidates& candidates) {
  for (auto it = candidates.rbegin(); it != candidates.rend() && choices(candidates) > kMaxChoices; ++it) {
    if (it->size() > 1) it->pop_back();  // no "whole" where an operand splits it
  }
  for (auto it = candidates.rbegin(); it != candidates.rend() && choices(candidates) > kMaxChoices; ++it) it->resize(1);
}

class Search {
 public:
  Search(const RuleCall& call, OperandSpecs operands, const Binding& binding)
      : call_(call), operands_(operands), binding_(binding) {}

  std::optional<Inference> best(const Candidates& candidates) {
    StaticVector<DimSplit, kMaxFactors> splits(candidates.size(), DimSplit{});
    choose(candidates, splits, 0, 0);
    return std::move(best_);
  }

 private:
  struct Reduction {
    std::size_t operand;
    int axis;
  };

  void choose(const Candidates& candidates, StaticVector<DimSplit, kMaxFactors>& splits, std::size_t f,
              std::uint32_t used) {
    if (f == candidates.size()) {
      try_splits(splits);
      return;
    }
    for (const DimSplit& split : candidates[f]) {
      if ((split.axes.mask() & used) != 0) continue;
      splits[f] = split;
      choose(candidates, splits, f + 1, used | split.axes.mask());
    }
  }

  // The operands' layouts for these splits; pending reductions are kept first, and made where they cannot pass.
  void try_splits(std::span<const DimSplit> splits) {
    std::vector<Layout> targets;
    std::vector<Reduction> pending;
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      targets.emplace_back();
      if (operands_[i] == nullptr) continue;
      const Projected projected =
          project_back(binding_.rule.operands[i], binding_, splits, call_.mesh, binding_.repeated[i]);
      if (!projected.layout) return;
      targets.back() = *projected.layout;
      const AxisList axes = operands_[i]->layout.partials().axes();
      for (int k = 0; k < axes.size(); ++k) {
        if (!targets.back().splitting_axes().contains(axes[k])) pending.push_back({i, axes[k]});
      }
    }
    // Bit k of `made`: the k-th pending reduction is made first. Of very many, all the last ones are.
    const std::size_t free = std::min(pending.size(), kMaxPending);
    for (std::size_t made = 0; made < std::size_t{1} << free; ++made) {
      std::vector<PartialMap> kept(targets.size());
      for (std::size_t k = 0; k < free; ++k) {
        const auto [operand, axis] = pending[k];
        if ((made >> k & 1) == 0) kept[operand].set(axis, operands_[operand]->layout.partials()[axis]);
      }
      std::vector<Layout> chosen = targets;
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (!kept[i].empty()) chosen[i] = chosen[i].with_partials(kept[i]);
      }
      try_layouts(chosen);
    }
  }

  // Strict inference is the judge of what can be made.
  void try_layouts(std::span<const Layout> layouts) {
    double cost = 0;
    int splits = 0;
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i] == nullptr) continue;
      cost += redistribution_bytes(*operands_[i], layouts[i]);
      splits += layouts[i].splitting_axes().size();
    }
    if (best_ && (cost > cost_ || (cost == cost_ && splits <= splits_))) return;
    RuleCall call = call_;
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i] != nullptr) call.operands[i] = &layouts[i];
    }
    try {
      best_ = infer_layouts(call, binding_);
      cost_ = cost;
      splits_ = splits;
    } catch (const Error&) {
      // This choice cannot be made; another one can: nothing split at all always is.
    }
  }

  const RuleCall& call_;
  OperandSpecs operands_;
  const Binding& binding_;
  std::optional<Inference> best_;
  double cost_ = 0;
  int splits_ = 0;
};

// Whether every one of `fine` shards lies inside that of `coarse` shards which holds it, so that splitting further moves nothing.
bool lies_inside(Distribution fine_dealt, std::int64_t fine, Distribution coarse_dealt, std::int64_t coarse,
                 std::int64_t n) {
  if (coarse == 1 || (fine == coarse && deal_alike(fine_dealt, coarse_dealt, n, fine))) return true;
  if (n % fine == 0 && deal_alike(fine_dealt, Distribution::block(), n, fine) &&
      deal_alike(coarse_dealt, Distribution::block(), n, coarse)) {
    return true;
  }
  if (fine > kMaxShards) return false;
  for (std::int64_t i = 0; i < fine; ++i) {
    const IndexSet outer = owned_indices(coarse_dealt, n, coarse, i / (fine / coarse));
    for (const Interval& inner : owned_indices(fine_dealt, n, fine, i)) {
      const bool inside = std::any_of(outer.begin(), outer.end(), [&](const Interval& interval) {
        return interval.begin <= inner.begin && inner.end <= interval.end;
      });
      if (!inside) return false;
    }
  }
  return true;
}

}  // namespace

double redistribution_bytes(const TensorSpec& from, const Layout& to) {
  const DeviceMesh mesh = to.mesh();
  const auto bytes_of = [&](const Layout& layout) {
    double bytes = static_cast<double>(size_of(from.dtype));
    for (int dim = 0; dim < layout.rank(); ++dim) {
      bytes *=
          static_cast<double>(from.shape[static_cast<std::size_t>(dim)]) / static_cast<double>(split_count(layout, dim));
    }
    return bytes;
  };
  double held = 1;  // which part of what the rank needs it has already
  for (int dim = 0; dim < to.rank(); ++dim) {
    const AxisList before = significant(from.layout.axes(dim), mesh);
    const AxisList after = significant(to.axes(dim), mesh);
    const std::int64_t n = from.shape[static_cast<std::size_t>(dim)];
    int common = 0;
    while (common < before.size() && common < after.size() && before[common] == after[common]) ++common;
    if (common == before.size()) {
      const bool inside =
          lies_inside(to.distribution(dim), mesh.size(after), from.layout.distribution(dim), mesh.size(before), n);
      if (!inside) common = 0;
    } else if (from.layout.distribution(dim) != to.distribution(dim)) {
      common = 0;
    }
    held /= static_cast<double>(mesh.size(before.sublist(common, before.size() - common)));
  }
  double bytes = bytes_of(to) * (1 - held);
  const AxisList pending = from.layout.partials().axes();
  for (int k = 0; k < pending.size(); ++k) {
    if (to.partials()[pending[k]] != Partial::kNone) continue;
    const auto n = static_cast<double>(mesh.size(pending[k]));
    const double passes = to.splitting_axes().contains(pending[k]) ? 1 : 2;  // reduce-scatter, or all-reduce
    bytes += passes * (n - 1) / n * bytes_of(from.layout);
  }
  return bytes;
}

Inference infer_repaired(const RuleCall& call, OperandSpecs operands, const Binding& binding) {
  try {
    return infer_layouts(call, binding);  // what can be made as it is stays as it is
  } catch (const Error&) {
  }
  Candidates candidates = candidates_of(call, binding);
  cut_down(candidates);
  std::optional<Inference> best = Search(call, operands, binding).best(candidates);
  if (!best) best = Search(call, operands, binding).best(Candidates(candidates.size(), {DimSplit{}}));
  if (best) return *std::move(best);
  return infer_layouts(call, binding);  // nothing can be made: say why
}

}  // namespace tessera
