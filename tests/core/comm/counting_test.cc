// Tests of core/comm/counting.h.
#include "core/comm/counting.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/core/comm/comm_cases.h"

namespace tessera {
namespace {

using namespace comm_cases;

OperationCount counted(Operation operation, std::int64_t calls, std::int64_t bytes) { return {operation, calls, bytes}; }

TEST(Counting, CountsCallsAndBytesOfEachOperation) {
  run_ranks(4, [](Communicator& comm) {
    CountingCommunicator counting(comm);
    EXPECT_EQ(counting.rank(), comm.rank());
    EXPECT_EQ(counting.size(), 4);
    const Group all{0, 1, 2, 3};
    const Tensor hundred = Tensor::zeros({100}, DType::kF32);
    const int rank = comm.rank();

    EXPECT_TRUE(same(counting.all_reduce(hundred, Reduction::kSum, all), hundred));
    counting.all_reduce(hundred, Reduction::kSum, {rank});
    EXPECT_EQ(counting.count(Operation::kAllReduce), counted(Operation::kAllReduce, 2, 600));

    EXPECT_EQ(counting.all_gather(hundred.slice(0, 0, rank), 0, all).count(), 6);
    EXPECT_EQ(counting.count(Operation::kAllGather), counted(Operation::kAllGather, 1, 3 * 4 * rank));

    const std::vector<std::int64_t> counts{100, 0, 0, 0};
    EXPECT_EQ(counting.reduce_scatter(hundred, 0, counts, Reduction::kMax, all).count(), rank == 0 ? 100 : 0);
    EXPECT_EQ(counting.count(Operation::kReduceScatter), counted(Operation::kReduceScatter, 1, 300));

    std::vector<Tensor> pieces;
    for (int to : all) pieces.push_back(Tensor::zeros({to + 1}, DType::kF64));
    EXPECT_EQ(counting.all_to_all(pieces, all).size(), 4U);
    EXPECT_EQ(counting.count(Operation::kAllToAll), counted(Operation::kAllToAll, 1, 8 * (10 - (rank + 1))));

    EXPECT_TRUE(same(counting.broadcast(rank == 2 ? hundred : Tensor(), 2, all), hundred));
    counting.broadcast(hundred, rank, {rank});
    EXPECT_EQ(counting.count(Operation::kBroadcast), counted(Operation::kBroadcast, 2, rank == 2 ? 400 : 0));

    counting.send(hundred, (rank + 1) % 4);
    counting.send(hundred, rank, 5);
    EXPECT_EQ(counting.receive((rank + 3) % 4).count(), 100);
    EXPECT_EQ(counting.receive(rank, 5).count(), 100);
    EXPECT_EQ(counting.count(Operation::kSend), counted(Operation::kSend, 2, 400));
    EXPECT_EQ(counting.count(Operation::kReceive), counted(Operation::kReceive, 2, 0));

    counting.barrier(all);
    EXPECT_EQ(counting.count(Operation::kBarrier), counted(Operation::kBarrier, 1, 0));

    EXPECT_EQ(counting.total_bytes(), 600 + 12 * rank + 300 + 8 * (9 - rank) + (rank == 2 ? 400 : 0) + 400);
  });
}

TEST(Counting, StartsAtZeroAndListsAllOperations) {
  run_ranks(1, [](Communicator& comm) {
    const CountingCommunicator counting(comm);
    ASSERT_EQ(counting.counts().size(), kOperations);
    std::vector<std::string_view> names;
    for (const OperationCount& count : counting.counts()) {
      names.push_back(to_string(count.operation));
      EXPECT_EQ(count.calls, 0);
      EXPECT_EQ(count.bytes, 0);
    }
    EXPECT_EQ(names, (std::vector<std::string_view>{"send", "receive", "barrier", "all_reduce", "all_gather",
                                                    "reduce_scatter", "all_to_all", "broadcast"}));
  });
}

TEST(Counting, DoesNotCountRefusedCalls) {
  run_ranks(1, [](Communicator& comm) {
    CountingCommunicator counting(comm);
    EXPECT_EQ(error_of([&] { counting.send(Tensor::zeros({2}, DType::kF32), 3); }),
              "comm-rank: send: rank 0 sends to rank 3, which is not there\n  hint       name a rank from 0 to 0");
    EXPECT_EQ(counting.count(Operation::kSend), counted(Operation::kSend, 0, 0));
  });
}

}  // namespace
}  // namespace tessera
