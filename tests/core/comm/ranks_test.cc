// Tests of the collectives of in-process ranks: every group of up to 4 ranks in every order, every dtype, uneven pieces.
#include "core/comm/ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <numeric>
#include <vector>

#include "support/parallel.h"
#include "tests/core/comm/comm_cases.h"

namespace tessera {
namespace {

using namespace comm_cases;

constexpr int kRanks = 4;
constexpr std::array<std::int64_t, kRanks> kPiece{2, 0, 1, 3};  // rank i's uneven share of a dim

bool contains(const Group& group, int rank) { return std::find(group.begin(), group.end(), rank) != group.end(); }

// Runs `check` on every rank of every group, all on the same threads, so that the groups overlap and ranks run ahead.
void for_every_group(const std::function<void(Communicator&, const Group&)>& check) {
  run_ranks(kRanks, [&](Communicator& comm) {
    for (const Group& group : all_groups(kRanks)) {
      if (contains(group, comm.rank())) check(comm, group);
    }
  });
}

double combine(Reduction reduction, double a, double b) {
  switch (reduction) {
    case Reduction::kSum:
    case Reduction::kAvg: return a + b;
    case Reduction::kProd: return a * b;
    case Reduction::kMax:
    case Reduction::kAny: return std::max(a, b);
    case Reduction::kMin:
    case Reduction::kAll: return std::min(a, b);
  }
  return NAN;
}

// The reduced value over the group's ranks; rounded only by a division in the dtype that averages are taken in.
double expected_value(const Group& group, const Shape& index, DType dtype, Reduction reduction) {
  double value = value_of(group[0], index, dtype);
  for (std::size_t i = 1; i < group.size(); ++i) value = combine(reduction, value, value_of(group[i], index, dtype));
  if (reduction != Reduction::kAvg) return value;
  if (dtype == DType::kF64) return value / static_cast<double>(group.size());
  return static_cast<double>(static_cast<float>(value) / static_cast<float>(group.size()));
}

TEST(RunRanks, RunsEachRankOnce) {
  for (int ranks : {1, 2, 5, 64}) {
    std::vector<int> seen(static_cast<std::size_t>(ranks));
    run_ranks(ranks, [&](Communicator& comm) {
      EXPECT_EQ(comm.size(), ranks);
      ++seen[static_cast<std::size_t>(comm.rank())];
    });
    EXPECT_EQ(seen, std::vector<int>(static_cast<std::size_t>(ranks), 1));
  }
}

TEST(RunRanks, ExampleOfTheDocstring) {
  run_ranks(4, [](Communicator& comm) {
    const Tensor mine = Tensor::of<float>({1}, {static_cast<float>(comm.rank())});
    const Tensor all = comm.all_gather(mine, 0, {0, 1, 2, 3});
    EXPECT_TRUE(same(all, Tensor::of<float>({4}, {0, 1, 2, 3})));
  });
}

TEST(RunRanks, RefusesOtherNumbersOfRanks) {
  const auto error = [](int ranks) { return error_of_ranks(ranks, [](Communicator&) { FAIL() << "must not run"; }); };
  EXPECT_EQ(error(0), "comm-ranks: cannot run 0 ranks\n  hint       ask for 1 to 1024 ranks");
  EXPECT_EQ(error(-3), "comm-ranks: cannot run -3 ranks\n  hint       ask for 1 to 1024 ranks");
  EXPECT_EQ(error(1025), "comm-ranks: cannot run 1025 ranks\n  hint       ask for 1 to 1024 ranks");
}

TEST(RunRanks, RunsInsideARank) {
  run_ranks(2, [](Communicator& outer) {
    run_ranks(3, [&](Communicator& inner) {
      const Tensor mine = Tensor::of<std::int32_t>({1}, {10 * outer.rank() + inner.rank()});
      const std::int32_t first = 10 * outer.rank();
      EXPECT_TRUE(same(inner.all_gather(mine, 0, {0, 1, 2}), Tensor::of<std::int32_t>({3}, {first, first + 1, first + 2})));
    });
    outer.barrier({0, 1});
  });
}

TEST(RunRanks, SharesTheMachinesThreads) {
  const int threads = thread_count();
  for (int ranks = 1; ranks <= 2 * threads; ++ranks) {
    run_ranks(ranks, [&](Communicator&) {
      EXPECT_EQ(thread_count(), std::max(1, threads / ranks));
      std::atomic<std::int64_t> sum{0};
      parallel_for(10, [&](std::int64_t i) { sum += i; });
      EXPECT_EQ(sum, 45);
    });
  }
  EXPECT_EQ(thread_count(), threads);
  const ThreadShare one(1);  // ranks inside a rank divide what that one has
  run_ranks(2, [](Communicator&) { EXPECT_EQ(thread_count(), 1); });
}

TEST(Collectives, CasesCoverEveryGroup) { EXPECT_EQ(all_groups(kRanks).size(), 4U + 12U + 24U + 24U); }

TEST(Collectives, AllReduce) {
  for_every_group([](Communicator& comm, const Group& group) {
    for (DType dtype : kDTypes) {
      for (Reduction reduction : kReductions) {
        if (!has(dtype, reduction)) continue;
        for (const Shape& shape : {Shape{}, Shape{3, 2}, Shape{2, 0}}) {
          const Tensor result = comm.all_reduce(held_by(comm.rank(), shape, dtype), reduction, group);
          EXPECT_TRUE(same(
              result,
              filled(shape, dtype, [&](const Shape& index) { return expected_value(group, index, dtype, reduction); })))
              << to_string(reduction) << ' ' << to_string(dtype) << ' ' << to_string(shape);
        }
      }
    }
  });
}

TEST(Collectives, AllGatherOfUnevenAndEmptyParts) {
  for_every_group([](Communicator& comm, const Group& group) {
    for (DType dtype : kDTypes) {
      for (int dim = 0; dim < 3; ++dim) {
        const auto along = static_cast<std::size_t>(dim);
        const auto shape_of = [&](int rank) {
          Shape shape{2, 3, 2};
          shape[along] = kPiece[static_cast<std::size_t>(rank)];
          return shape;
        };
        Shape joined{2, 3, 2};
        joined[along] = 0;
        for (int rank : group) joined[along] += shape_of(rank)[along];
        const Tensor expected = filled(joined, dtype, [&](Shape index) {
          std::size_t place = 0;
          for (; index[along] >= shape_of(group[place])[along]; ++place) index[along] -= shape_of(group[place])[along];
          return value_of(group[place], index, dtype);
        });
        EXPECT_TRUE(same(comm.all_gather(held_by(comm.rank(), shape_of(comm.rank()), dtype), dim, group), expected))
            << to_string(dtype) << " dim " << dim;
      }
    }
  });
}

TEST(Collectives, ReduceScatterIntoUnevenAndEmptyPieces) {
  for_every_group([](Communicator& comm, const Group& group) {
    std::vector<std::int64_t> counts;
    for (int rank : group) counts.push_back(kPiece[static_cast<std::size_t>(rank)]);
    const auto place = std::find(group.begin(), group.end(), comm.rank()) - group.begin();
    const std::int64_t begin = std::accumulate(counts.begin(), counts.begin() + place, std::int64_t{0});
    for (DType dtype : kDTypes) {
      for (Reduction reduction : kReductions) {
        if (!has(dtype, reduction)) continue;
        for (int dim = 0; dim < 2; ++dim) {
          const auto along = static_cast<std::size_t>(dim);
          Shape shape{2, 2};
          shape[along] = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
          Shape piece = shape;
          piece[along] = kPiece[static_cast<std::size_t>(comm.rank())];
          const Tensor expected = filled(piece, dtype, [&](Shape index) {
            index[along] += begin;
            return expected_value(group, index, dtype, reduction);
          });
          const Tensor mine = held_by(comm.rank(), shape, dtype);
          EXPECT_TRUE(same(comm.reduce_scatter(mine, dim, counts, reduction, group), expected))
              << to_string(reduction) << ' ' << to_string(dtype) << " dim " << dim;
        }
      }
    }
  });
}

TEST(Collectives, AllToAllOfAnyShapesAndDtypes) {
  for_every_group([](Communicator& comm, const Group& group) {
    // What `from` sends to `to` has a shape and a dtype of its own.
    const auto message = [](int from, int to) {
      const DType dtype = kDTypes[static_cast<std::size_t>(3 * from + to) % kDTypes.size()];
      const Shape shape = (from + to) % 2 == 0 ? Shape{kPiece[static_cast<std::size_t>(from)], to} : Shape{to + 1};
      return held_by(10 * from + to, shape, dtype);
    };
    std::vector<Tensor> pieces;
    for (int to : group) pieces.push_back(message(comm.rank(), to));
    const std::vector<Tensor> received = comm.all_to_all(pieces, group);
    ASSERT_EQ(received.size(), group.size());
    for (std::size_t i = 0; i < group.size(); ++i) {
      EXPECT_TRUE(same(received[i], message(group[i], comm.rank()))) << "from " << group[i];
    }
  });
}

TEST(Collectives, BroadcastIgnoresTheOthersTensors) {
  for_every_group([](Communicator& comm, const Group& group) {
    for (DType dtype : kDTypes) {
      for (int root : group) {
        const Tensor sent = held_by(root, {3, 2}, dtype);
        const Tensor mine = comm.rank() == root ? sent : Tensor::zeros({comm.rank()}, DType::kI64);
        EXPECT_TRUE(same(comm.broadcast(mine, root, group), sent)) << to_string(dtype) << " root " << root;
      }
    }
  });
}

TEST(Collectives, BarrierIsLeftOnlyWhenAllHaveCome) {
  constexpr int kRounds = 200;
  std::array<std::atomic<int>, kRanks> arrivals{};
  run_ranks(kRanks, [&](Communicator& comm) {
    for (int round = 1; round <= kRounds; ++round) {
      ++arrivals[static_cast<std::size_t>(comm.rank())];
      comm.barrier({3, 1, 0, 2});
      for (const std::atomic<int>& each : arrivals) EXPECT_GE(each.load(), round);
    }
  });
}

TEST(Collectives, AcceptViews) {
  run_ranks(2, [](Communicator& comm) {
    const Tensor matrix = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
    const Tensor turned = Tensor::of<float>({3, 2}, {1, 4, 2, 5, 3, 6});
    const Tensor view = matrix.permute({1, 0});
    EXPECT_TRUE(same(comm.all_reduce(view, Reduction::kMax, {0, 1}), turned));
    EXPECT_TRUE(same(comm.all_gather(view.slice(0, comm.rank(), comm.rank() + 1), 0, {0, 1}), turned.slice(0, 0, 2)));
    EXPECT_TRUE(same(comm.broadcast(view, 1, {1, 0}), turned));
    comm.send(view, 1 - comm.rank());
    EXPECT_TRUE(same(comm.receive(1 - comm.rank()), turned));
  });
}

TEST(Messages, ComeInOrderBySenderAndTag) {
  run_ranks(3, [](Communicator& comm) {
    const auto message = [](int from, int tag, int number) {
      return Tensor::of<std::int32_t>({1}, {100 * from + 10 * tag + number});
    };
    for (int number = 0; number < 5; ++number) {
      for (int to = 0; to < 3; ++to) {
        for (int tag : {0, 7}) comm.send(message(comm.rank(), tag, number), to, tag);
      }
    }
    for (int tag : {7, 0}) {
      for (int from : {2, 0, 1}) {  // itself among them
        for (int number = 0; number < 5; ++number) EXPECT_TRUE(same(comm.receive(from, tag), message(from, tag, number)));
      }
    }
  });
}

TEST(Messages, KeepShapeAndDtypeOfTheSender) {
  run_ranks(2, [](Communicator& comm) {
    for (DType dtype : kDTypes) {
      for (const Shape& shape : {Shape{}, Shape{0, 4}, Shape{2, 1, 3}}) {
        if (comm.rank() == 0) {
          comm.send(held_by(0, shape, dtype), 1);
        } else {
          EXPECT_TRUE(same(comm.receive(0), held_by(0, shape, dtype)));
        }
      }
    }
  });
}

// What goes in may be changed after the call and what comes out belongs to the rank alone, while other ranks still read.
TEST(Collectives, ShareNoMemory) {
  run_ranks(kRanks, [](Communicator& comm) {
    const Group all{0, 1, 2, 3};
    const auto scribble = [](Tensor tensor) {
      std::fill_n(tensor.data<float>(), tensor.count(), -1.0F);
      return tensor;
    };
    const std::vector<std::int64_t> counts(kRanks, 16);
    for (int round = 0; round < 200; ++round) {
      const auto number = static_cast<float>(round);
      Tensor mine = Tensor::zeros({64}, DType::kF32);
      const auto refill = [&] { std::fill_n(mine.data<float>(), 64, number + static_cast<float>(comm.rank())); };
      refill();
      const auto first_of = [&](const Tensor& result) {
        const float first = result.at<float>({0});
        scribble(result);
        scribble(mine);
        refill();
        return first;
      };
      const int next = (comm.rank() + 1) % kRanks;
      const int previous = (comm.rank() + kRanks - 1) % kRanks;
      EXPECT_EQ(first_of(comm.all_reduce(mine, Reduction::kSum, all)), 4 * number + 6);
      EXPECT_EQ(first_of(comm.all_gather(mine, 0, all)), number);
      EXPECT_EQ(first_of(comm.reduce_scatter(mine, 0, counts, Reduction::kMax, all)), number + 3);
      EXPECT_EQ(first_of(comm.broadcast(mine, 2, all)), number + 2);
      const std::vector<Tensor> pieces(kRanks, mine);
      const std::vector<Tensor> received = comm.all_to_all(pieces, all);
      for (int from = 0; from < kRanks; ++from) {
        EXPECT_EQ(first_of(received[static_cast<std::size_t>(from)]), number + static_cast<float>(from));
      }
      comm.send(mine, next, round);
      scribble(mine);
      EXPECT_EQ(first_of(comm.receive(previous, round)), number + static_cast<float>(previous));
    }
  });
}

TEST(Collectives, ManyRanksManyRounds) {
  constexpr int kMany = 16;
  run_ranks(kMany, [](Communicator& comm) {
    Group row, column, all;
    for (int i = 0; i < 4; ++i) row.push_back(comm.rank() / 4 * 4 + i);
    for (int i = 0; i < 4; ++i) column.push_back(comm.rank() % 4 + 4 * i);
    for (int i = 0; i < kMany; ++i) all.push_back(i);
    const Tensor mine = Tensor::of<std::int64_t>({1}, {std::int64_t{1} << comm.rank()});
    for (int round = 0; round < 100; ++round) {
      const Tensor rows = comm.all_reduce(mine, Reduction::kSum, row);
      EXPECT_EQ(rows.at<std::int64_t>({0}), std::int64_t{0xF} << (comm.rank() / 4 * 4));
      EXPECT_EQ(comm.all_reduce(rows, Reduction::kSum, column).at<std::int64_t>({0}), 0xFFFF);
      if (round % 10 == comm.rank() % 10) comm.barrier({comm.rank()});
      comm.barrier(all);
    }
  });
}

TEST(Collectives, AreTheSameBitsEveryTime) {
  const Group order{2, 0, 3, 1};
  const auto run = [&] {
    Tensor sum;
    run_ranks(kRanks, [&](Communicator& comm) {
      const Tensor mine = filled({257}, DType::kF32, [&](const Shape& index) {
        return std::sin(static_cast<double>(index[0] * (comm.rank() + 1))) * std::pow(10.0, comm.rank());
      });
      const Tensor result = comm.all_reduce(mine, Reduction::kSum, order);
      if (comm.rank() == 0) sum = result;
    });
    return sum;
  };
  const Tensor first = run();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(same(run(), first));
}

}  // namespace
}  // namespace tessera
