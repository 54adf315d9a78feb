// A distributed tensor as one rank holds it: its local part, and the layout that says which part that is.
#pragma once

#include "core/comm/communicator.h"
#include "core/tensor/spec.h"
#include "core/tensor/tensor.h"

namespace tessera {

/// One rank's view of a tensor that is spread over a mesh. Cheap to copy: the local tensor shares its memory.
class DTensor {
 public:
  /// Takes `local` as what `rank` holds of a tensor of that global shape.
  /// @throws Error "layout-misfit", "local-shape" where `local` has another shape than the layout gives the rank, "unknown-rank"
  static DTensor from_local(Tensor local, const Layout& layout, const Shape& shape, std::int64_t rank);

  /// The rank's shard of `global`, which every rank holds; no communication. Over an axis with a pending sum the first rank gets the numbers
  /// and the others zeros (for prod ones; for avg, max, min, any, all every rank gets the numbers).
  /// @throws Error "layout-misfit", "unknown-rank", "partial-softmax" (a bundle, which no tensor is)
  static DTensor distribute(const Tensor& global, const Layout& layout, std::int64_t rank);

  [[nodiscard]] const Tensor& to_local() const { return local_; }
  [[nodiscard]] const TensorSpec& spec() const { return spec_; }
  [[nodiscard]] const Layout& layout() const { return spec_.layout; }
  [[nodiscard]] const Shape& shape() const { return spec_.shape; }
  [[nodiscard]] DType dtype() const { return spec_.dtype; }

  /// The whole tensor on every rank of the mesh: pending reductions are made, shards gathered. Called by all ranks of the mesh.
  [[nodiscard]] Tensor full_tensor(Communicator& comm) const;

 private:
  DTensor(Tensor local, const TensorSpec& spec) : local_(std::move(local)), spec_(spec) {}
  Tensor local_;
  TensorSpec spec_;
};

/// The same tensor in another layout on the same mesh. Called by all ranks of the mesh.
///
/// Pending reductions that `layout` lacks are made (one all-reduce an axis); then every rank sends each other what it needs and does
/// not have, in one all-to-all along the axes that change. Right for every pair of layouts: any axis orders, uneven and empty shards, all
/// distributions. @throws Error "mesh-mismatch", "layout-misfit", "partial-softmax"
DTensor redistribute(const DTensor& tensor, const Layout& layout, Communicator& comm);

/// The elements of `source` at these indices of every dim, as a contiguous tensor.
Tensor gather_indices(const Tensor& source, std::span<const IndexSet> indices);
/// Writes the elements of `part` to these indices of every dim of `target`.
void scatter_indices(const Tensor& part, Tensor& target, std::span<const IndexSet> indices);

/// The identity of a reduction as a tensor: zeros for sum, ones for prod, the lowest number for max. @pre not softmax
Tensor identity_tensor(Partial partial, const Shape& shape, DType dtype);
/// The communicator's reduction for a pending one. @throws Error "partial-softmax"
Reduction reduction_of(Partial partial);

}  // namespace tessera
