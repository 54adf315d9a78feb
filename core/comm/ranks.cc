// Ranks as threads: each call becomes mail, the arithmetic is done by the rank that wants the result.
#include "core/comm/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "core/comm/mailbox.h"
#include "core/comm/reduce.h"
#include "support/diagnostic.h"
#include "support/parallel.h"

namespace tessera {
namespace {

constexpr int kMaxRanks = 1024;

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Mailbox& mailbox, int rank) : mailbox_(mailbox), rank_(rank) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return mailbox_.size(); }

  void send(const Tensor& tensor, int to, int tag) override {
    check_peer(rank_, to, size(), Operation::kSend);
    mailbox_.post(rank_, to, tag, tensor.clone());
  }

  Tensor receive(int from, int tag) override {
    check_peer(rank_, from, size(), Operation::kReceive);
    return mailbox_.take(rank_, from, tag);
  }

  void barrier(const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kBarrier);
    mailbox_.meet(rank_, group, place, {.operation = Operation::kBarrier}, {});
  }

  Tensor all_reduce(const Tensor& tensor, Reduction reduction, const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kAllReduce);
    check_reduction(reduction, tensor.dtype());
    Call call{.operation = Operation::kAllReduce, .dtype = tensor.dtype(), .shape = tensor.shape(), .reduction = reduction};
    return mailbox_.meet(rank_, group, place, std::move(call), {tensor.clone()})->reduced(reduction);
  }

  Tensor all_gather(const Tensor& tensor, int dim, const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kAllGather);
    check_dim(tensor, dim, Operation::kAllGather);
    Call call{.operation = Operation::kAllGather, .dtype = tensor.dtype(), .shape = tensor.shape(), .dim = dim};
    const auto meeting = mailbox_.meet(rank_, group, place, std::move(call), {tensor.clone()});
    std::vector<Tensor> parts;
    parts.reserve(group.size());
    for (std::size_t i = 0; i < group.size(); ++i) parts.push_back(meeting->sent_by(i)[0]);
    return join_along(parts, dim);
  }

  Tensor reduce_scatter(const Tensor& tensor, int dim, std::span<const std::int64_t> counts, Reduction reduction,
                        const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kReduceScatter);
    check_reduction(reduction, tensor.dtype());
    check_dim(tensor, dim, Operation::kReduceScatter);
    check_counts(tensor, dim, counts, group.size());
    std::int64_t begin = 0;
    for (std::int64_t count : counts.first(place)) begin += count;
    Call call{.operation = Operation::kReduceScatter,
              .dtype = tensor.dtype(),
              .shape = tensor.shape(),
              .dim = dim,
              .reduction = reduction,
              .counts = {counts.begin(), counts.end()}};
    const auto meeting = mailbox_.meet(rank_, group, place, std::move(call), {tensor.clone()});
    std::vector<Tensor> terms;
    terms.reserve(group.size());
    for (std::size_t i = 0; i < group.size(); ++i) {
      terms.push_back(meeting->sent_by(i)[0].slice(dim, begin, begin + counts[place]));
    }
    return reduce(terms, reduction);
  }

  std::vector<Tensor> all_to_all(std::span<const Tensor> pieces, const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kAllToAll);
    check_pieces(pieces.size(), group.size());
    std::vector<Tensor> sent;
    sent.reserve(pieces.size());
    for (const Tensor& piece : pieces) sent.push_back(piece.clone());
    const auto meeting = mailbox_.meet(rank_, group, place, {.operation = Operation::kAllToAll}, std::move(sent));
    std::vector<Tensor> received;  // each piece is for one rank only, which may have its memory
    received.reserve(group.size());
    for (std::size_t i = 0; i < group.size(); ++i) received.push_back(meeting->sent_by(i)[place]);
    return received;
  }

  Tensor broadcast(const Tensor& tensor, int root, const Group& group) override {
    const std::size_t place = place_in(group, rank_, size(), Operation::kBroadcast);
    check_root(root, group);
    std::vector<Tensor> sent;
    if (rank_ == root) sent.push_back(tensor.clone());
    const auto meeting =
        mailbox_.meet(rank_, group, place, {.operation = Operation::kBroadcast, .root = root}, std::move(sent));
    return meeting->sent_by(place_in(group, root, size(), Operation::kBroadcast))[0].clone();
  }

 private:
  Mailbox& mailbox_;
  int rank_;
};

void run_rank(Mailbox& mailbox, int rank, int threads, const std::function<void(Communicator&)>& body) {
  const ThreadShare share(threads);
  try {
    ThreadCommunicator communicator(mailbox, rank);
    body(communicator);
  } catch (...) {
    mailbox.abort(std::current_exception());
  }
  mailbox.end(rank);
}

}  // namespace

void run_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  if (ranks < 1 || ranks > kMaxRanks) {
    fail("comm-ranks", fmt::format("cannot run {} ranks", ranks), fmt::format("ask for 1 to {} ranks", kMaxRanks));
  }
  const int share = std::max(1, thread_count() / ranks);
  Mailbox mailbox(ranks);
  {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(ranks));
    try {
      for (int rank = 0; rank < ranks; ++rank) {
        threads.emplace_back([&mailbox, rank, share, &body] { run_rank(mailbox, rank, share, body); });
      }
    } catch (const std::system_error& error) {
      mailbox.abort(std::make_exception_ptr(
          Error({.code = "comm-ranks",
                 .message = fmt::format("cannot start a thread for rank {} of {}: {}", threads.size(), ranks, error.what()),
                 .hint = "run fewer ranks, or raise the limit of threads (ulimit -u)"})));
    } catch (...) {  // out of memory: the ranks that run must not wait for those that do not
      mailbox.abort(std::current_exception());
    }
  }
  if (const std::exception_ptr failure = mailbox.failure()) std::rethrow_exception(failure);
}

}  // namespace tessera
