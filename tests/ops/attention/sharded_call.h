// Runs a call on all ranks of a mesh, one after the other, and puts its results together: what the tests of the attention operators compare
// with the unsharded call.
#pragma once

#include <string>
#include <vector>

#include "core/dtensor/dtensor.h"
#include "core/op/op.h"
#include "layouts/notation.h"

namespace tessera {

/// An operand: its numbers, and its layout as text; no layout for an absent one.
struct ShardedOperand {
  Tensor tensor;
  std::string layout;
};

/// The whole results of the call, computed shard by shard. Every rank of the mesh runs its part; replicas must be equal bit for bit (they are the
/// same computation), or the result of the disagreeing rank overwrites, and the comparison with the unsharded call shows it.
/// @throws Error of planning, of the kernel
inline std::vector<Tensor> run_sharded(const DistributedOp& op, DeviceMesh mesh,
                                       const std::vector<ShardedOperand>& operands, const Attributes& attributes) {
  std::vector<TensorSpec> specs;
  for (const ShardedOperand& operand : operands) {
    specs.push_back(operand.layout.empty()
                        ? TensorSpec{}
                        : TensorSpec{operand.tensor.shape(), operand.tensor.dtype(), parse_layout(mesh, operand.layout)});
  }
  std::vector<const TensorSpec*> pointers;
  for (std::size_t i = 0; i < operands.size(); ++i) pointers.push_back(operands[i].layout.empty() ? nullptr : &specs[i]);
  const auto plan = make_plan(op, pointers, attributes);
  std::vector<Tensor> results;
  for (const TensorSpec& spec : plan->results) results.push_back(Tensor::zeros(spec.shape, spec.dtype));
  for (std::int64_t rank : mesh.ranks()) {
    const Coordinate coordinate = mesh.coordinate_of(rank);
    std::vector<std::optional<Tensor>> inputs;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].layout.empty()) {
        inputs.emplace_back();
      } else {
        inputs.emplace_back(DTensor::distribute(operands[i].tensor, specs[i].layout, rank).to_local());
      }
    }
    const std::vector<Tensor> local = run_local(*plan, op.kernel, coordinate, inputs);
    for (std::size_t i = 0; i < local.size(); ++i) {
      scatter_indices(local[i], results[i], shard_of(plan->results[i].layout, plan->results[i].shape, coordinate));
    }
  }
  return results;
}

/// The same call on one device.
inline std::vector<Tensor> run_whole(const DistributedOp& op, const std::vector<ShardedOperand>& operands,
                                     const Attributes& attributes) {
  std::vector<ShardedOperand> whole = operands;
  for (ShardedOperand& operand : whole) {
    if (operand.layout.empty()) continue;
    operand.layout = to_string(Layout::replicated(DeviceMesh(), operand.tensor.rank()));
  }
  return run_sharded(op, DeviceMesh(), whole, attributes);
}

/// Whether two tensors have the same shape, dtype and numbers, bit for bit.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous();
  const Tensor y = b.contiguous();
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::equal(x.bytes_begin(), x.bytes_begin() + x.bytes(), y.bytes_begin());
}

}  // namespace tessera
