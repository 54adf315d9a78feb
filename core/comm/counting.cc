// Counts of calls and bytes.
#include "core/comm/counting.h"

namespace tessera {

CountingCommunicator::CountingCommunicator(Communicator& inner) : inner_(inner) {
  for (std::size_t i = 0; i < kOperations; ++i) counts_[i].operation = static_cast<Operation>(i);
}

std::int64_t CountingCommunicator::total_bytes() const {
  std::int64_t total = 0;
  for (const OperationCount& count : counts_) total += count.bytes;
  return total;
}

void CountingCommunicator::add(Operation operation, std::int64_t bytes) {
  OperationCount& count = counts_[static_cast<std::size_t>(operation)];
  ++count.calls;
  count.bytes += bytes;
}

void CountingCommunicator::send(const Tensor& tensor, int to, int tag) {
  inner_.send(tensor, to, tag);
  add(Operation::kSend, to == rank() ? 0 : tensor.bytes());
}

Tensor CountingCommunicator::receive(int from, int tag) {
  Tensor message = inner_.receive(from, tag);
  add(Operation::kReceive, 0);
  return message;
}

void CountingCommunicator::barrier(const Group& group) {
  inner_.barrier(group);
  add(Operation::kBarrier, 0);
}

Tensor CountingCommunicator::all_reduce(const Tensor& tensor, Reduction reduction, const Group& group) {
  Tensor result = inner_.all_reduce(tensor, reduction, group);
  const auto ranks = static_cast<std::int64_t>(group.size());
  add(Operation::kAllReduce, 2 * (ranks - 1) * tensor.bytes() / ranks);
  return result;
}

Tensor CountingCommunicator::all_gather(const Tensor& tensor, int dim, const Group& group) {
  Tensor result = inner_.all_gather(tensor, dim, group);
  add(Operation::kAllGather, (static_cast<std::int64_t>(group.size()) - 1) * tensor.bytes());
  return result;
}

Tensor CountingCommunicator::reduce_scatter(const Tensor& tensor, int dim, std::span<const std::int64_t> counts,
                                            Reduction reduction, const Group& group) {
  Tensor result = inner_.reduce_scatter(tensor, dim, counts, reduction, group);
  const auto ranks = static_cast<std::int64_t>(group.size());
  add(Operation::kReduceScatter, (ranks - 1) * tensor.bytes() / ranks);
  return result;
}

std::vector<Tensor> CountingCommunicator::all_to_all(std::span<const Tensor> pieces, const Group& group) {
  std::vector<Tensor> received = inner_.all_to_all(pieces, group);
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (group[i] != rank()) bytes += pieces[i].bytes();
  }
  add(Operation::kAllToAll, bytes);
  return received;
}

Tensor CountingCommunicator::broadcast(const Tensor& tensor, int root, const Group& group) {
  Tensor result = inner_.broadcast(tensor, root, group);
  add(Operation::kBroadcast, rank() == root && group.size() > 1 ? tensor.bytes() : 0);
  return result;
}

}  // namespace tessera
