// The prover: tries every layout of every operand of a call and computes what its rule claims.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/op/op.h"
#include "testing/layout_space.h"

namespace tessera {

/// An operand of a call to prove.
struct TensorCase {
  Shape shape;  ///< global; sizes that the mesh does not divide prove more
  DType dtype = DType::kF64;
  std::optional<Tensor> values{};  ///< of that shape and dtype; else the operator's `sample`, else random numbers
};

struct ProofOptions {
  /// Which layouts the operands are tried in: pending sums and blocks, unless told otherwise.
  LayoutSpace space{.partials = {Partial::kSum}};
  /// How far an element may be from the unsharded one, as a share of the largest magnitude of the result.
  double tolerance = 1e-12;
  /// Whether to compute rejected calls too, to find out which were rejected in vain.
  bool find_missed = true;
  std::uint64_t seed = 1;
  std::size_t max_examples = 8;  ///< of missed calls
};

/// A call that the rule accepts, and that does not give what the unsharded call gives.
struct Counterexample {
  std::vector<std::string> operands;  ///< "x f64 [4, 6] [dp, tp]", "bias absent"
  std::vector<std::string> results;   ///< the same, in the layouts that the rule infers
  std::string difference;             ///< "out[1, 2] is 0.5 on rank 3, but 1.25 unsharded"

  friend bool operator==(const Counterexample&, const Counterexample&) = default;
};

struct Proof {
  std::int64_t tried = 0;      ///< combinations of layouts
  std::int64_t accepted = 0;   ///< by strict inference
  std::int64_t unsound = 0;    ///< accepted, but the results are wrong
  std::int64_t unchecked = 0;  ///< accepted, with a pending softmax: a bundle, which no reduction of tensors merges
  std::int64_t missed = 0;     ///< rejected in vain
  std::optional<Counterexample> counterexample{};  ///< the first
  std::vector<std::string> missed_examples{};      ///< "x [dp, -], w [-, -] -> out [dp, -]", and why it was rejected
};

/// Proves an operator by trying: every layout of every operand on the mesh is planned (strictly); where the rule accepts it, every
/// rank's part is computed, in this thread, and the parts must assemble to the result of the same kernel on one device: each shard
/// in its place, replicas equal, pending reductions made. A tensor with a pending reduction is given to its ranks as random parts
/// that reduce to it, so that a product of sums shows.
///
/// A call counts as missed where it is rejected, but the kernel takes the operands as they are on every rank, and each result is right
/// in at least one layout of the space. Numbers decide, not reasons: a case in which many shards are empty or of size 1 may be right
/// by chance.
///
/// ```cpp
/// const Proof proof = prove(op, {{TensorCase{{4, 6}}, TensorCase{{6, 5}}}}, {}, DeviceMesh({{"dp", 2}, {"tp", 2}}));
/// EXPECT_THAT(proof, IsSound());   // testing/matchers.h
/// ```
/// @throws Error of planning or computing the unsharded call
Proof prove(const DistributedOp& op, std::span<const std::optional<TensorCase>> operands, const Attributes& attributes,
            DeviceMesh mesh, const ProofOptions& options = {});
Proof prove(const DistributedOp& op, std::initializer_list<std::optional<TensorCase>> operands,
            const Attributes& attributes, DeviceMesh mesh, const ProofOptions& options = {});

/// "324 tried, 31 accepted, 0 unsound, 12 missed", and the counterexample below it.
std::string to_string(const Proof& proof);
std::string to_string(const Counterexample& counterexample);

}  // namespace tessera
