// How ranks talk: collectives over groups of ranks, and messages between two.
#pragma once

#include <cstdint>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"

namespace tessera {

/// What an all-reduce or reduce-scatter does with the ranks' values. kAvg divides the sum by the number of ranks; kAny and kAll
/// are the logical or and and of bools.
enum class Reduction : std::uint8_t { kSum, kAvg, kMax, kMin, kProd, kAny, kAll };

/// "sum", "avg", ...
std::string_view to_string(Reduction reduction);

/// Ranks that take part in a collective, in the order in which their parts are joined. Every member names the same group.
using Group = std::vector<int>;

/// One rank's end of the wires. Every call of a collective is made by all ranks of its group, in the same order. All calls
/// return only when the result is there; the tensors that go in may be changed again after the call, and results share no memory
/// with them or with another rank's. Reductions of f16 and bf16 accumulate in f32 and round once; the order of the terms is the
/// group's, so that results do not depend on timing. A group of one rank never waits.
///
/// All throw Error "comm-mismatch" where the ranks' calls do not fit together (another collective, another dtype, shapes that
/// cannot be joined), "comm-rank" for a rank that is not there or a group that names one twice or lacks the caller, "comm-dim"
/// for a dim that the tensor lacks, "comm-counts" for pieces that do not fit the group or the dim, and "comm-reduction" for a
/// reduction that the dtype does not have. If another rank fails they end with `RankAborted`.
///
/// @pre one thread at a time calls a rank's communicator
class Communicator {
 public:
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;

  /// Sends `tensor` to rank `to`, this one included, under a tag that the receiver names; waits for nobody.
  virtual void send(const Tensor& tensor, int to, int tag = 0) = 0;
  /// Receives what rank `from` sends under `tag`, in the order sent: shape and dtype are the sender's.
  virtual Tensor receive(int from, int tag = 0) = 0;
  /// Returns when every rank of the group has called it.
  virtual void barrier(const Group& group) = 0;
  /// Element-wise reduction of the ranks' tensors, which have one shape; every rank gets the result.
  virtual Tensor all_reduce(const Tensor& tensor, Reduction reduction, const Group& group) = 0;
  /// Joins the ranks' tensors along `dim`, in the group's order; their sizes there may differ, 0 included.
  virtual Tensor all_gather(const Tensor& tensor, int dim, const Group& group) = 0;
  /// Reduces, then gives rank i of the group the i-th of the pieces of sizes `counts` along `dim`.
  /// @pre counts sum up to the dim's size
  virtual Tensor reduce_scatter(const Tensor& tensor, int dim, std::span<const std::int64_t> counts, Reduction reduction,
                                const Group& group) = 0;
  /// Sends `pieces[i]` to rank i of the group; element i of the result is what rank i sent here. Shapes and dtypes may differ
  /// freely.
  virtual std::vector<Tensor> all_to_all(std::span<const Tensor> pieces, const Group& group) = 0;
  /// Every rank gets the tensor of `root` (a rank of the group); the others' argument is ignored.
  virtual Tensor broadcast(const Tensor& tensor, int root, const Group& group) = 0;
};

/// Thrown in the ranks that wait for one that failed; the failing rank's own error is the one that the user sees.
class RankAborted : public std::exception {
 public:
  [[nodiscard]] const char* what() const noexcept override { return "another rank failed"; }
};

}  // namespace tessera
