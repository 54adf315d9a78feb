// Tests of core/comm/collective.h: calls that cannot be made, and calls of ranks that do not fit together.
#include "core/comm/collective.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/core/comm/comm_cases.h"

namespace tessera {
namespace {

using namespace comm_cases;

Body reducing(DType dtype, const Shape& shape, Reduction reduction = Reduction::kSum) {
  return [=](Communicator& comm) { comm.all_reduce(Tensor::zeros(shape, dtype), reduction, {0, 1}); };
}

Body gathering(const Shape& shape, int dim, DType dtype = DType::kF32) {
  return [=](Communicator& comm) { comm.all_gather(Tensor::zeros(shape, dtype), dim, {0, 1}); };
}

Body scattering(const Shape& shape, int dim, const std::vector<std::int64_t>& counts) {
  return [=](Communicator& comm) { comm.reduce_scatter(floats(shape), dim, counts, Reduction::kSum, {0, 1}); };
}

Body broadcasting(int root) {
  return [=](Communicator& comm) { comm.broadcast(floats({2}), root, {0, 1}); };
}

TEST(Mismatch, Texts) {
  EXPECT_EQ(error_of_pair(reducing(DType::kF32, {2}), gathering({2}, 0)),
            "comm-mismatch: ranks [0, 1] disagree on the collective: rank 0 calls all_reduce, rank 1 calls all_gather\n"
            "  hint       make the same calls in the same order on every rank of the group");
  EXPECT_EQ(error_of_pair(reducing(DType::kF32, {2}), reducing(DType::kBF16, {2})),
            "comm-mismatch: all_reduce: ranks [0, 1] disagree on the dtype: rank 0 has f32, rank 1 has bf16\n"
            "  hint       convert the tensors to one dtype before the call");
  EXPECT_EQ(error_of_pair(reducing(DType::kF32, {2, 3}), reducing(DType::kF32, {3, 2})),
            "comm-mismatch: all_reduce: ranks [0, 1] disagree on the shape: rank 0 has [2, 3], rank 1 has [3, 2]\n"
            "  hint       reduce tensors of one shape");
  EXPECT_EQ(error_of_pair(reducing(DType::kF32, {2}, Reduction::kMax), reducing(DType::kF32, {2}, Reduction::kMin)),
            "comm-mismatch: all_reduce: ranks [0, 1] disagree on the reduction: rank 0 has max, rank 1 has min\n"
            "  hint       name the same reduction on every rank of the group");
  EXPECT_EQ(error_of_pair(gathering({2, 2}, 0), gathering({2, 2}, 1)),
            "comm-mismatch: all_gather: ranks [0, 1] disagree on the dim: rank 0 has 0, rank 1 has 1\n"
            "  hint       name the same dim on every rank of the group");
  EXPECT_EQ(
      error_of_pair(gathering({2, 3}, 0), gathering({4, 5}, 0)),
      "comm-mismatch: all_gather: ranks [0, 1] disagree on the shape outside dim 0: rank 0 has [2, 3], rank 1 has [4, 5]\n"
      "  hint       gather tensors whose shapes differ only in that dim");
  EXPECT_EQ(
      error_of_pair(gathering({2}, 0), gathering({2, 1}, 0)),
      "comm-mismatch: all_gather: ranks [0, 1] disagree on the shape outside dim 0: rank 0 has [2], rank 1 has [2, 1]\n"
      "  hint       gather tensors whose shapes differ only in that dim");
  EXPECT_EQ(error_of_pair(gathering({0}, 0, DType::kI32), gathering({2}, 0, DType::kI64)),
            "comm-mismatch: all_gather: ranks [0, 1] disagree on the dtype: rank 0 has i32, rank 1 has i64\n"
            "  hint       convert the tensors to one dtype before the call");
  EXPECT_EQ(error_of_pair(scattering({4}, 0, {1, 3}), scattering({4}, 0, {3, 1})),
            "comm-mismatch: reduce_scatter: ranks [0, 1] disagree on the counts: rank 0 has [1, 3], rank 1 has [3, 1]\n"
            "  hint       name the same counts on every rank of the group");
  EXPECT_EQ(error_of_pair(scattering({2, 2}, 0, {1, 1}), scattering({2, 2}, 1, {1, 1})),
            "comm-mismatch: reduce_scatter: ranks [0, 1] disagree on the dim: rank 0 has 0, rank 1 has 1\n"
            "  hint       name the same dim on every rank of the group");
  EXPECT_EQ(error_of_pair(broadcasting(0), broadcasting(1)),
            "comm-mismatch: broadcast: ranks [0, 1] disagree on the root: rank 0 has 0, rank 1 has 1\n"
            "  hint       name the same root on every rank of the group");
}

TEST(Mismatch, NamesTheFirstOfTheGroupAndTheFirstThatDiffers) {
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(error_of_ranks(4,
                             [](Communicator& comm) {
                               const DType dtype = comm.rank() % 2 == 0 ? DType::kF64 : DType::kF16;
                               comm.all_reduce(Tensor::zeros({2}, dtype), Reduction::kSum, {2, 0, 3, 1});
                             }),
              "comm-mismatch: all_reduce: ranks [2, 0, 3, 1] disagree on the dtype: rank 2 has f64, rank 3 has f16\n"
              "  hint       convert the tensors to one dtype before the call");
  }
}

TEST(Mismatch, IsThrownOnceAndCannotBeSwallowed) {
  std::atomic<int> mismatches = 0;
  std::atomic<int> aborted = 0;
  const std::string error = error_of_ranks(3, [&](Communicator& comm) {
    for (int call = 0; call < 3; ++call) {  // also the calls that follow
      try {
        comm.broadcast(floats({1}), comm.rank(), {0, 1, 2});
      } catch (const Error&) {
        ++mismatches;
      } catch (const RankAborted& caught) {
        EXPECT_STREQ(caught.what(), "another rank failed");
        ++aborted;
      }
    }
  });
  EXPECT_EQ(error,
            "comm-mismatch: broadcast: ranks [0, 1, 2] disagree on the root: rank 0 has 0, rank 1 has 1\n"
            "  hint       name the same root on every rank of the group");
  EXPECT_EQ(mismatches, 1);
  EXPECT_EQ(aborted, 8);
}

TEST(Refused, GroupsThatAreNone) {
  const auto error = [](const Group& group) {
    return error_of_ranks(3, [&](Communicator& comm) {
      if (comm.rank() == 2) comm.barrier(group);
    });
  };
  EXPECT_EQ(error({0, 2, 3}),
            "comm-rank: barrier: group [0, 2, 3] names rank 3, which is not there\n"
            "  hint       name ranks from 0 to 2");
  EXPECT_EQ(error({-1, 2}),
            "comm-rank: barrier: group [-1, 2] names rank -1, which is not there\n"
            "  hint       name ranks from 0 to 2");
  EXPECT_EQ(error({2, 0, 2}),
            "comm-rank: barrier: group [2, 0, 2] names rank 2 twice\n"
            "  hint       name every rank of the group once");
  EXPECT_EQ(error({0, 1}),
            "comm-rank: barrier: rank 2 calls over group [0, 1], which lacks it\n"
            "  hint       only the ranks of a group call its collectives");
  EXPECT_EQ(error({}),
            "comm-rank: barrier: rank 2 calls over group [], which lacks it\n"
            "  hint       only the ranks of a group call its collectives");
}

TEST(Refused, CallsThatCannotBeMade) {
  const auto error = [](const std::function<void(Communicator&)>& call) { return error_of_ranks(1, call); };
  EXPECT_EQ(error([](Communicator& comm) { comm.send(floats({1}), 1); }),
            "comm-rank: send: rank 0 sends to rank 1, which is not there\n  hint       name a rank from 0 to 0");
  EXPECT_EQ(error([](Communicator& comm) { comm.receive(-1); }),
            "comm-rank: receive: rank 0 receives from rank -1, which is not there\n  hint       name a rank from 0 to 0");
  EXPECT_EQ(error([](Communicator& comm) { comm.broadcast(floats({1}), 4, {0}); }),
            "comm-rank: broadcast: root 4 is not in group [0]\n  hint       name a rank of the group as root");
  EXPECT_EQ(error([](Communicator& comm) {
              comm.all_gather(floats({2, 3}), 2, {0});
            }),
            "comm-dim: all_gather: f32 [2, 3] has no dim 2\n  hint       name a dim from 0 to 1");
  EXPECT_EQ(error([](Communicator& comm) { comm.all_gather(floats({}), 0, {0}); }),
            "comm-dim: all_gather: f32 [] has no dim 0\n  hint       reshape the tensor to [1] first");
  EXPECT_EQ(error([](Communicator& comm) { comm.all_reduce(floats({1}), Reduction::kAll, {0}); }),
            "comm-reduction: all is not defined for f32\n"
            "  hint       convert the tensor to bool, or reduce it with max or min");
  EXPECT_EQ(error([](Communicator& comm) { comm.all_to_all(std::vector<Tensor>(2), {0}); }),
            "comm-counts: all_to_all: 2 pieces for a group of 1 ranks\n"
            "  hint       give one piece for each rank of the group, empty where it gets nothing");
  const auto scatter = [&](const std::vector<std::int64_t>& counts, int dim) {
    return error_of_ranks(2, [&](Communicator& comm) {
      comm.reduce_scatter(floats({4, 2}), dim, counts, Reduction::kSum, {0, 1});
    });
  };
  EXPECT_EQ(scatter({4}, 0),
            "comm-counts: reduce_scatter: 1 counts [4] for a group of 2 ranks\n"
            "  hint       give one count for each rank of the group");
  for (const std::vector<std::int64_t>& counts :
       {std::vector<std::int64_t>{1, 2}, {2, 3}, {5, -1}, {-1, 5}, {std::numeric_limits<std::int64_t>::max(), 5}}) {
    EXPECT_EQ(scatter(counts, 0),
              "comm-counts: reduce_scatter: counts [" + std::to_string(counts[0]) + ", " + std::to_string(counts[1]) +
                  "] do not cut dim 0 of f32 [4, 2] into pieces\n  hint       give counts of 0 or more that sum up to 4");
  }
  EXPECT_EQ(scatter({1, 1}, -1), "comm-dim: reduce_scatter: f32 [4, 2] has no dim -1\n  hint       name a dim from 0 to 1");
}

TEST(Refused, ACallMayBeCaughtAndMadeAgain) {
  run_ranks(2, [](Communicator& comm) {
    EXPECT_NE(error_of([&] { comm.barrier({0, 1, 7}); }), "no error");
    EXPECT_TRUE(same(comm.all_reduce(floats({2}), Reduction::kSum, {0, 1}), floats({2})));
  });
}

TEST(Describe, ShortensLongGroups) {
  Group group;
  for (int rank = 0; rank < 16; ++rank) group.push_back(2 * rank);
  EXPECT_EQ(describe(group), "[0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]");
  group.push_back(33);
  EXPECT_EQ(describe(group), "[0, 2, 4, 6, 8, 10, 12, 14, ..., 33] (17 ranks)");
}

}  // namespace
}  // namespace tessera
