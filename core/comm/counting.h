// How much the ranks talk: a Communicator that counts what goes through it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/comm/collective.h"
#include "core/comm/communicator.h"

namespace tessera {

/// Calls of one operation by one rank, and the bytes that this rank sent in them.
struct OperationCount {
  Operation operation = Operation::kSend;
  std::int64_t calls = 0;
  std::int64_t bytes = 0;

  friend bool operator==(const OperationCount&, const OperationCount&) = default;
};

/// Passes each call on to another communicator and counts it once it has succeeded.
///
/// Bytes are what a rank sends in the algorithms that need least, for n ranks and a tensor of b bytes, rounded down:
/// all_gather (n-1) b, all_reduce 2 (n-1)/n b, reduce_scatter (n-1)/n b, all_to_all the pieces for others, broadcast b at the
/// root, send b. receive and barrier send nothing, nor does a rank to itself.
///
/// ```cpp
/// CountingCommunicator counting(comm);                     // one of 4 ranks
/// counting.all_reduce(zeros of f32 [100], kSum, {0, 1, 2, 3});
/// counting.count(Operation::kAllReduce);                   // 1 call, 600 bytes
/// ```
class CountingCommunicator final : public Communicator {
 public:
  /// @pre `inner` outlives this
  explicit CountingCommunicator(Communicator& inner);

  /// All operations, also those that were not called.
  [[nodiscard]] std::span<const OperationCount> counts() const { return counts_; }
  [[nodiscard]] const OperationCount& count(Operation operation) const {
    return counts_[static_cast<std::size_t>(operation)];
  }
  /// The sum over all operations.
  [[nodiscard]] std::int64_t total_bytes() const;

  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int size() const override { return inner_.size(); }
  void send(const Tensor& tensor, int to, int tag = 0) override;
  Tensor receive(int from, int tag = 0) override;
  void barrier(const Group& group) override;
  Tensor all_reduce(const Tensor& tensor, Reduction reduction, const Group& group) override;
  Tensor all_gather(const Tensor& tensor, int dim, const Group& group) override;
  Tensor reduce_scatter(const Tensor& tensor, int dim, std::span<const std::int64_t> counts, Reduction reduction,
                        const Group& group) override;
  std::vector<Tensor> all_to_all(std::span<const Tensor> pieces, const Group& group) override;
  Tensor broadcast(const Tensor& tensor, int root, const Group& group) override;

 private:
  void add(Operation operation, std::int64_t bytes);

  Communicator& inner_;
  std::array<OperationCount, kOperations> counts_;
};

}  // namespace tessera
