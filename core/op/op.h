// A distributed operator: its rule, its kernel, and what else it says of itself; and the plan of one call of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/op/attributes.h"
#include "core/rule/inference.h"
#include "core/rule/rule.h"
#include "core/tensor/spec.h"
#include "core/tensor/tensor.h"

namespace tessera {

/// A call before planning: operands in the rule's order (null where absent) and normalised attributes.
struct CallSpec {
  OperandSpecs operands;
  const Attributes& attributes;

  [[nodiscard]] bool has(std::size_t operand) const { return operand < operands.size() && operands[operand] != nullptr; }
  [[nodiscard]] const Shape& shape(std::size_t operand) const { return operands[operand]->shape; }
};

struct DistributedOp;

/// What a call needs: layouts of operands and results, and their shapes. Immutable, shared, cached by value.
struct Plan {
  const DistributedOp* op = nullptr;
  DeviceMesh mesh{};
  Attributes attributes{};                            ///< normalised
  std::vector<std::optional<TensorSpec>> operands{};  ///< in the layouts in which the kernel takes them
  std::vector<TensorSpec> results{};
  Inference inference{};
};

/// One rank's part of a call: what a kernel gets.
struct LocalCall {
  std::span<const std::optional<Tensor>>
      inputs;  ///< local tensors, in the rule's order; nothing for an absent optional operand
  const Plan& plan;
  const Coordinate& coordinate;  ///< where the rank stands

  [[nodiscard]] const Tensor& input(std::size_t operand) const { return *inputs[operand]; }
  [[nodiscard]] bool has(std::size_t operand) const { return operand < inputs.size() && inputs[operand].has_value(); }
  [[nodiscard]] const Attributes& attributes() const { return plan.attributes; }
  /// The global indices of an operand's dim that this rank holds, in the order of its local indices.
  [[nodiscard]] IndexSet indices(std::size_t operand, int dim) const;
  /// How many indices that dim has globally.
  [[nodiscard]] std::int64_t global_size(std::size_t operand, int dim) const;
};

class Communicator;

/// Computes one rank's results from its local operands. @post one tensor for each result, of its local shape and dtype
using Kernel = std::function<std::vector<Tensor>(const LocalCall&)>;

/// The same together with the other ranks of the mesh, which all make the call.
using Collective = std::function<std::vector<Tensor>(const LocalCall&, Communicator&)>;

/// A kernel with the rank's part of the call filled in.
using LocalKernel = std::function<std::vector<Tensor>(std::span<const std::optional<Tensor>>)>;

/// An example of a call, for `tessera ops` and for the tests that run every operator once.
struct Example {
  std::vector<std::string> operands;  ///< "f32 [8, 16] [dp, tp]", or "-" for an absent one
  std::vector<Attributes::Entry> attributes{};
  std::string mesh = "dp=2 x tp=2";
};

/// An operator. One line registers it:
/// ```cpp
/// registry.add({"matmul", "x[m k], w[k n] -> out[m n] | linear x w", my_kernel});
/// ```
/// Any stage of a call may be overridden by filling in its function; almost none is.
struct DistributedOp {
  std::string name;
  Rule rule;      ///< the rule, or where `rule_for` decides, the usual one
  Kernel kernel;  ///< may be empty: the operator can be planned but not run
  std::vector<std::string> aliases{};
  std::string summary{};  ///< one line
  std::vector<AttributeSpec> attributes{};
  std::vector<FactorMeaning> factors{};  ///< what the rule's letters mean, for messages
  /// Where attributes or shapes decide the rule. All its rules have the same operands, in the same order.
  std::function<Rule(const CallSpec&)> rule_for{};
  /// Refuses calls that the rule cannot, by throwing an Error.
  std::function<void(const CallSpec&)> check{};
  /// dtypes of the results; that of the first operand where empty.
  std::function<std::vector<DType>(const CallSpec&)> result_dtypes{};
  /// Layouts of the results where not the rule decides them but the call, of operators that communicate.
  std::function<std::vector<Layout>(const CallSpec&)> result_layouts{};
  /// In place of a kernel, for operators that communicate.
  Collective collective{};
  /// Valid numbers for an operand that not any numbers fit (ids, index lists, lengths), for runs without input files; nothing for an operand
  /// that takes any. The same for the same seed, shapes and layouts.
  std::function<std::optional<Tensor>(const CallSpec&, std::size_t operand, std::uint64_t seed)> sample{};
  /// Multiply-adds of one rank's part of a call, for reports of balance; the product of the local sizes of all factors where empty.
  std::function<double(const LocalCall&)> work{};
  std::vector<Example> examples{};

  [[nodiscard]] OpNames names() const { return {name, factors}; }

  /// The kernel as one rank runs it: operands that count once are zeroed where they must be, the kernel learns where its shards lie, and
  /// its results are checked against the plan. A kernel of one's own gets the same adjustments as the operator's.
  /// @throws (when called) Error "kernel-result" where the kernel returns other shapes, dtypes or numbers of results than planned
  [[nodiscard]] static LocalKernel expand(Kernel kernel, std::shared_ptr<const Plan> plan, const Coordinate& coordinate);
};

/// Plans a call without any cache: normalises the attributes, asks for the rule, infers.
/// @throws Error of `normalise`, of the operator's `check`, of `infer`
std::shared_ptr<const Plan> make_plan(const DistributedOp& op, OperandSpecs operands, const Attributes& attributes,
                                      Policy policy = Policy::kStrict);

/// Runs one rank's part: `expand` and call, without the wrapping.
std::vector<Tensor> run_local(const Plan& plan, const Kernel& kernel, const Coordinate& coordinate,
                              std::span<const std::optional<Tensor>> inputs);

}  // namespace tessera
