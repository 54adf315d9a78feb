#include "testing/prover.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "core/comm/reduce.h"
#include "core/dtensor/dtensor.h"
#include "core/tensor/convert.h"
#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"
#include "support/text.h"
#include "testing/parts.h"

namespace tessera {
namespace {

bool has_reduction(const Layout& layout, DType dtype) {
  const AxisList pending = layout.partials().axes();
  for (int k = 0; k < pending.size(); ++k) {
    const Partial partial = layout.partials()[pending[k]];
    if (partial == Partial::kSoftmax) return false;
    try {
      check_reduction(reduction_of(partial), dtype);
    } catch (const Error&) {
      return false;
    }
  }
  return true;
}

// The layouts of the space that a tensor can have, those without pending reductions first.
std::vector<Layout> layouts_of(DeviceMesh mesh, const Shape& shape, DType dtype, const LayoutSpace& space) {
  std::vector<Layout> layouts = all_layouts(mesh, shape, space);
  std::erase_if(layouts, [&](const Layout& layout) { return !has_reduction(layout, dtype); });
  std::stable_partition(layouts.begin(), layouts.end(), [](const Layout& layout) { return !layout.is_partial(); });
  return layouts;
}

// An operand in all its layouts.
struct Operand {
  Tensor values;
  std::vector<TensorSpec> specs;          // by layout
  std::vector<std::vector<Tensor>> held;  // by layout, then by rank
};

// A result of the unsharded call.
struct Reference {
  Tensor values;
  double allowed = 0;                                      // how far an element may be off
  std::vector<Layout> layouts;                             // of the space
  std::unordered_map<Layout, std::vector<Tensor>> shards;  // by layout, then by rank
};

// Where a result is wrong.
struct Difference {
  std::size_t rank = 0;       // in the mesh's order
  std::int64_t element = -1;  // of the local tensor, row major; -1 where its shape or dtype is wrong
};

template <class T>
std::int64_t first_difference(std::span<const T> got, std::span<const T> want, double allowed) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;
    if constexpr (!std::is_integral_v<T>) {
      const auto a = convert_to<double>(got[i]);
      const auto b = convert_to<double>(want[i]);
      if ((std::isnan(a) && std::isnan(b)) || (std::isfinite(b) && std::abs(a - b) <= allowed)) continue;
    }
    return static_cast<std::int64_t>(i);
  }
  return -1;
}

double largest_magnitude(const Tensor& tensor) {
  double largest = 0;
  const Tensor numbers = tensor.to(DType::kF64);
  for (double number : numbers.span<double>()) {
    if (std::isfinite(number)) largest = std::max(largest, std::abs(number));
  }
  return largest;
}

std::string element_text(const Tensor& tensor, std::int64_t element) {
  return fmt::format("{}", tensor.to(DType::kF64).span<double>()[static_cast<std::size_t>(element)]);
}

class Prover {
 public:
  Prover(const DistributedOp& op, std::span<const std::optional<TensorCase>> cases, const Attributes& attributes,
         DeviceMesh mesh, const ProofOptions& options)
      : op_(op), attributes_(attributes), mesh_(mesh), options_(options), coordinates_(all_coordinates(mesh)) {
    compute_unsharded(cases);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (!operands_[i]) continue;
      const Tensor& values = operands_[i]->values;
      for (const Layout& layout : layouts_of(mesh, values.shape(), values.dtype(), options.space)) {
        operands_[i]->specs.push_back({values.shape(), values.dtype(), layout});
        operands_[i]->held.push_back(distribute_parts(values, layout, options.seed + i));
      }
    }
  }

  Proof run() {
    chosen_.assign(operands_.size(), 0);
    specs_.assign(operands_.size(), nullptr);
    choose(0);
    return std::move(proof_);
  }

 private:
  void compute_unsharded(std::span<const std::optional<TensorCase>> cases) {
    std::vector<std::optional<Tensor>> inputs(cases.size());
    std::vector<TensorSpec> specs(cases.size());
    std::vector<const TensorSpec*> pointers(cases.size(), nullptr);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (!cases[i]) continue;
      specs[i] = {cases[i]->shape, cases[i]->dtype,
                  Layout::replicated(DeviceMesh(), static_cast<int>(cases[i]->shape.size()))};
      pointers[i] = &specs[i];
    }
    unsharded_ = make_plan(op_, pointers, attributes_);
    operands_.resize(cases.size());
    const CallSpec call{pointers, unsharded_->attributes};
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (!cases[i]) continue;
      inputs[i] = values_of(*cases[i], call, i);
      operands_[i] = Operand{*inputs[i], {}, {}};
    }
    for (Tensor& result : run_local(*unsharded_, op_.kernel, Coordinate(), inputs)) {
      Reference reference;
      reference.values = result.contiguous();
      reference.allowed = options_.tolerance * largest_magnitude(reference.values);
      reference.layouts = layouts_of(mesh_, result.shape(), result.dtype(), options_.space);
      references_.push_back(std::move(reference));
    }
  }

  [[nodiscard]] Tensor values_of(const TensorCase& operand, const CallSpec& call, std::size_t i) const {
    if (operand.values) {
      if (operand.values->shape() == operand.shape && operand.values->dtype() == operand.dtype)
        return operand.values->contiguous();
      fail("case-values", fmt::format("operand {} is {} {}, its values are {}", i, to_string(operand.dtype),
                                      to_string(operand.shape), to_string(*operand.values)));
    }
    if (op_.sample) {
      if (auto sampled = op_.sample(call, i, options_.seed)) return sampled->contiguous();
    }
    if (is_floating(operand.dtype))
      return random_normal(operand.shape, operand.dtype, options_.seed, fmt::format("operand {}", i));
    const std::int64_t end = operand.dtype == DType::kBool ? 2 : 8;
    return random_integers(operand.shape, operand.dtype, 0, end, options_.seed, fmt::format("operand {}", i));
  }

  void choose(std::size_t operand) {
    if (operand == operands_.size()) return try_call();
    if (!operands_[operand]) return choose(operand + 1);
    for (std::size_t layout = 0; layout < operands_[operand]->specs.size(); ++layout) {
      chosen_[operand] = layout;
      specs_[operand] = &operands_[operand]->specs[layout];
      choose(operand + 1);
    }
  }

  void try_call() {
    ++proof_.tried;
    std::shared_ptr<const Plan> plan;
    try {
      plan = make_plan(op_, specs_, attributes_);
    } catch (const Error& error) {
      if (options_.find_missed) try_rejected(error);
      return;
    }
    ++proof_.accepted;
    for (const TensorSpec& result : plan->results) {
      const AxisList pending = result.layout.partials().axes();
      for (int k = 0; k < pending.size(); ++k) {
        if (result.layout.partials()[pending[k]] != Partial::kSoftmax) continue;
        ++proof_.unchecked;
        return;
      }
    }
    try_accepted(*plan);
  }

  [[nodiscard]] std::vector<std::optional<Tensor>> inputs_of(std::size_t rank) const {
    std::vector<std::optional<Tensor>> inputs(operands_.size());
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i]) inputs[i] = operands_[i]->held[chosen_[i]][rank];
    }
    return inputs;
  }

  void try_accepted(const Plan& plan) {
    std::vector<std::vector<Tensor>> results(references_.size());  // by result, then by rank
    for (std::size_t rank = 0; rank < coordinates_.size(); ++rank) {
      try {
        std::vector<Tensor> local = run_local(plan, op_.kernel, coordinates_[rank], inputs_of(rank));
        for (std::size_t i = 0; i < local.size(); ++i) results[i].push_back(std::move(local[i]));
      } catch (const std::exception& error) {
        return add_counterexample(
            plan, fmt::format("the kernel fails on rank {}: {}", mesh_.rank_at(coordinates_[rank]), error.what()));
      }
    }
    for (std::size_t i = 0; i < references_.size(); ++i) {
      const auto wrong = difference(i, plan.results[i].layout, results[i]);
      if (wrong) return add_counterexample(plan, describe(plan, i, results[i], *wrong));
    }
  }

  // Where the ranks' parts do not assemble to the unsharded result, reductions made.
  std::optional<Difference> difference(std::size_t result, const Layout& layout, std::span<const Tensor> parts) {
    Reference& reference = references_[result];
    const std::vector<Tensor>& shards = shards_of(reference, layout);
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      if (parts[rank].shape() != shards[rank].shape() || parts[rank].dtype() != shards[rank].dtype())
        return Difference{rank};
    }
    if (layout.is_partial()) {
      const std::vector<Tensor> reduced = make_reductions(layout, parts);
      return difference_of(reduced, shards, reference.allowed);
    }
    return difference_of(parts, shards, reference.allowed);
  }

  static std::optional<Difference> difference_of(std::span<const Tensor> parts, std::span<const Tensor> shards,
                                                 double allowed) {
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      const Tensor part = parts[rank].contiguous();
      const std::int64_t element = visit_dtype(part.dtype(), [&](auto zero) {
        using T = decltype(zero);
        return first_difference<T>(part.span<T>(), shards[rank].span<T>(), allowed);
      });
      if (element >= 0) return Difference{rank, element};
    }
    return std::nullopt;
  }

  const std::vector<Tensor>& shards_of(Reference& reference, const Layout& layout) const {
    const Layout whole = layout.is_partial() ? layout.with_partials({}) : layout;
    const auto known = reference.shards.find(whole);
    if (known != reference.shards.end()) return known->second;
    return reference.shards.emplace(whole, distribute_parts(reference.values, whole)).first->second;
  }

  // In the order in which `redistribute` makes them: from the first axis to the last.
  [[nodiscard]] std::vector<Tensor> make_reductions(const Layout& layout, std::span<const Tensor> parts) const {
    std::vector<Tensor> reduced(parts.begin(), parts.end());
    const AxisList pending = layout.partials().axes();
    for (int k = 0; k < pending.size(); ++k) {
      const int axis = pending[k];
      std::size_t stride = 1;  // between ranks that differ by 1 along the axis
      for (int inner = axis + 1; inner < mesh_.axis_count(); ++inner) stride *= static_cast<std::size_t>(mesh_.size(inner));
      for (std::size_t rank = 0; rank < reduced.size(); ++rank) {
        if (coordinates_[rank][static_cast<std::size_t>(axis)] != 0) continue;
        std::vector<Tensor> terms;
        for (std::size_t i = 0; i < static_cast<std::size_t>(mesh_.size(axis)); ++i)
          terms.push_back(reduced[rank + i * stride]);
        const Tensor total = reduce(terms, reduction_of(layout.partials()[axis]));
        for (std::size_t i = 0; i < terms.size(); ++i) reduced[rank + i * stride] = total;
      }
    }
    return reduced;
  }

  [[nodiscard]] std::string describe(const Plan& plan, std::size_t result, std::span<const Tensor> parts,
                                     Difference wrong) const {
    const Reference& reference = references_[result];
    const Layout& layout = plan.results[result].layout;
    const std::string name = result_name(plan.inference.binding.rule, static_cast<int>(result));
    const std::int64_t rank = mesh_.rank_at(coordinates_[wrong.rank]);
    if (wrong.element < 0) return fmt::format("{} is {} on rank {}", name, to_string(parts[wrong.rank]), rank);
    const std::vector<Tensor> reduced = make_reductions(layout, parts);
    Shape local;  // index of the element in the local tensor
    std::int64_t rest = wrong.element;
    const Shape strides = contiguous_strides(parts[wrong.rank].shape());
    for (std::int64_t stride : strides) {
      local.push_back(rest / stride);
      rest %= stride;
    }
    Shape global;
    for (std::int64_t i : global_index(layout, reference.values.shape(), coordinates_[wrong.rank], local))
      global.push_back(i);
    const std::vector<Tensor>& shards = reference.shards.at(layout.is_partial() ? layout.with_partials({}) : layout);
    return fmt::format("{}{} is {} on rank {}{}, but {} unsharded", name, to_string(global),
                       element_text(reduced[wrong.rank], wrong.element), rank,
                       layout.is_partial() ? " (reductions made)" : "", element_text(shards[wrong.rank], wrong.element));
  }

  void add_counterexample(const Plan& plan, std::string difference) {
    ++proof_.unsound;
    if (proof_.counterexample) return;
    const Rule& rule = plan.inference.binding.rule;
    Counterexample example{.operands = {}, .results = {}, .difference = std::move(difference)};
    const auto text = [](const std::string& name, const TensorSpec& spec) {
      return fmt::format("{} {} {} {}", name, to_string(spec.dtype), to_string(spec.shape), to_string(spec.layout));
    };
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const std::string name = operand_name(rule, static_cast<int>(i));
      example.operands.push_back(specs_[i] == nullptr ? name + " absent" : text(name, *specs_[i]));
    }
    for (std::size_t i = 0; i < plan.results.size(); ++i) {
      example.results.push_back(text(result_name(rule, static_cast<int>(i)), plan.results[i]));
    }
    proof_.counterexample = std::move(example);
  }

  // The kernel is trusted with local shapes only where the rule takes them.
  [[nodiscard]] bool is_consistent(std::span<const std::optional<Tensor>> inputs) const {
    std::vector<TensorSpec> specs(inputs.size());
    std::vector<const TensorSpec*> pointers(inputs.size(), nullptr);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i]) continue;
      specs[i].shape = inputs[i]->shape();
      pointers[i] = &specs[i];
    }
    try {
      tessera::bind(unsharded_->inference.binding.rule, pointers);  // std::bind would take a vector too
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  void try_rejected(const Error& error) {
    Plan plan = *unsharded_;
    plan.mesh = mesh_;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i] == nullptr) continue;
      plan.operands[i] = *specs_[i];
      plan.inference.operands[i] = specs_[i]->layout;
    }
    std::vector<std::vector<Tensor>> results(references_.size());
    for (std::size_t rank = 0; rank < coordinates_.size(); ++rank) {
      const auto inputs = inputs_of(rank);
      if (!is_consistent(inputs)) return;
      try {
        std::vector<Tensor> local = op_.kernel(LocalCall{inputs, plan, coordinates_[rank]});
        if (local.size() != results.size()) return;
        for (std::size_t i = 0; i < local.size(); ++i) results[i].push_back(std::move(local[i]));
      } catch (const std::exception&) {
        return;  // the kernel does not take what this rank holds
      }
    }
    std::vector<std::string> found;
    for (std::size_t i = 0; i < references_.size(); ++i) {
      const auto& layouts = references_[i].layouts;
      const auto right = std::find_if(layouts.begin(), layouts.end(),
                                      [&](const Layout& layout) { return !difference(i, layout, results[i]); });
      if (right == layouts.end()) return;
      found.push_back(fmt::format("{} {}", result_name(op_.rule, static_cast<int>(i)), to_string(*right)));
    }
    ++proof_.missed;
    if (proof_.missed_examples.size() >= options_.max_examples) return;
    std::vector<std::string> given;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i] == nullptr) continue;
      given.push_back(fmt::format("{} {}", operand_name(op_.rule, static_cast<int>(i)), to_string(specs_[i]->layout)));
    }
    proof_.missed_examples.push_back(fmt::format("{} -> {}: {}", join(given), join(found), error.diagnostic().message));
  }

  const DistributedOp& op_;
  const Attributes& attributes_;
  DeviceMesh mesh_;
  const ProofOptions& options_;
  std::vector<Coordinate> coordinates_;  // of the ranks, in the mesh's order
  std::shared_ptr<const Plan> unsharded_;
  std::vector<std::optional<Operand>> operands_;
  std::vector<Reference> references_;
  std::vector<std::size_t> chosen_;       // layout of each operand in the call that is tried
  std::vector<const TensorSpec*> specs_;  // the same
  Proof proof_;
};

}  // namespace

Proof prove(const DistributedOp& op, std::span<const std::optional<TensorCase>> operands, const Attributes& attributes,
            DeviceMesh mesh, const ProofOptions& options) {
  return Prover(op, operands, attributes, mesh, options).run();
}

Proof prove(const DistributedOp& op, std::initializer_list<std::optional<TensorCase>> operands,
            const Attributes& attributes, DeviceMesh mesh, const ProofOptions& options) {
  return prove(op, std::span(operands.begin(), operands.size()), attributes, mesh, options);
}

std::string to_string(const Counterexample& counterexample) {
  return fmt::format("{}\n  -> {}\n  {}", fmt::join(counterexample.operands, "\n  "),
                     fmt::join(counterexample.results, "\n     "), counterexample.difference);
}

std::string to_string(const Proof& proof) {
  std::string text =
      fmt::format("{} tried, {} accepted, {} unsound, {} missed", proof.tried, proof.accepted, proof.unsound, proof.missed);
  if (proof.unchecked > 0) text += fmt::format(", {} unchecked", proof.unchecked);
  if (proof.counterexample) text += fmt::format("\n  {}", to_string(*proof.counterexample));
  return text;
}

}  // namespace tessera
