// Tests of ranks that fail, and of ranks that wait for what cannot come.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/core/comm/comm_cases.h"

namespace tessera {
namespace {

using namespace comm_cases;

// All ways to be waiting for rank 0; each must end with RankAborted when rank 0 fails.
const std::vector<Body>& waits_for_rank_0() {
  static const std::vector<Body> waits{
      [](Communicator& comm) { comm.receive(0, 3); },
      [](Communicator& comm) {
        comm.barrier({0, 1, 2});
      },
      [](Communicator& comm) {
        comm.all_reduce(floats({2}), Reduction::kSum, {0, comm.rank()});
      },
      [](Communicator& comm) {
        comm.all_gather(floats({2}), 0, {comm.rank(), 0});
      },
      [](Communicator& comm) {
        comm.reduce_scatter(floats({2}), 0, std::vector<std::int64_t>{1, 1}, Reduction::kSum, {0, comm.rank()});
      },
      [](Communicator& comm) {
        comm.all_to_all(std::vector<Tensor>(2), {0, comm.rank()});
      },
      [](Communicator& comm) {
        comm.broadcast(floats({1}), 0, {0, comm.rank()});
      },
  };
  return waits;
}

TEST(Failure, EndsPendingAndLaterCallsOfTheOthers) {
  for (const Body& wait : waits_for_rank_0()) {
    for (bool early : {false, true}) {
      std::atomic<int> aborted = 0;
      const auto body = [&](Communicator& comm) {
        if (comm.rank() == 0) {
          if (!early) std::this_thread::sleep_for(std::chrono::milliseconds(5));
          throw std::runtime_error("rank 0 broke");
        }
        if (early) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        try {
          wait(comm);
        } catch (const RankAborted&) {
          ++aborted;
        }
        EXPECT_THROW(comm.send(floats({1}), 0), RankAborted);
        EXPECT_THROW(comm.barrier({comm.rank()}), RankAborted);
        wait(comm);
      };
      try {
        run_ranks(3, body);
        ADD_FAILURE() << "no error";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "rank 0 broke");
      }
      EXPECT_EQ(aborted, 2);
    }
  }
}

TEST(Failure, AnyTypeIsRethrown) {
  const Body throws_a_number = [](Communicator& comm) {
    if (comm.rank() == 1) throw 42;
    comm.barrier({0, 1, 2});
  };
  EXPECT_THROW(run_ranks(3, throws_a_number), int);
  EXPECT_THROW(run_ranks(1, [](Communicator&) { throw std::string("text"); }), std::string);
  EXPECT_THROW(run_ranks(2,
                         [](Communicator& comm) {
                           if (comm.rank() == 1) throw RankAborted();
                         }),
               RankAborted);
  EXPECT_EQ(error_of_ranks(2, [](Communicator&) { fail("my-code", "my text"); }), "my-code: my text");
}

TEST(Failure, TheFirstOneIsRethrown) {
  for (int round = 0; round < 50; ++round) {
    EXPECT_EQ(error_of_ranks(4,
                             [](Communicator& comm) {
                               if (comm.rank() == 2) fail("first", "the cause");
                               try {
                                 comm.barrier({0, 1, 2, 3});
                               } catch (const RankAborted&) {
                                 fail("second", "a consequence");
                               }
                             }),
              "first: the cause");
  }
}

TEST(Failure, AllRanksEndBeforeItIsRethrown) {
  std::atomic<int> ended = 0;
  const std::string error = error_of_ranks(4, [&](Communicator& comm) {
    if (comm.rank() == 3) fail("early", "gone");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ++ended;
  });
  EXPECT_EQ(error, "early: gone");
  EXPECT_EQ(ended, 3);
}

TEST(Deadlock, CollectiveThatOneRankLeftOut) {
  EXPECT_EQ(error_of_pair(
                [](Communicator& comm) {
                  comm.all_reduce(floats({2}), Reduction::kSum, {0, 1});
                },
                [](Communicator&) {}),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  rank 0     waits in all_reduce over ranks [0, 1]\n"
            "  rank 1     has ended\n"
            "  hint       let rank 1 call all_reduce over ranks [0, 1] too");
}

TEST(Deadlock, GroupsInAnotherOrder) {
  EXPECT_EQ(error_of_pair(
                [](Communicator& comm) {
                  comm.barrier({0, 1});
                },
                [](Communicator& comm) {
                  comm.barrier({1, 0});
                }),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  rank 0     waits in barrier over ranks [0, 1]\n"
            "  rank 1     waits in barrier over ranks [1, 0]\n"
            "  hint       let rank 1 call barrier over ranks [0, 1] too");
}

TEST(Deadlock, ReceiveWithoutASend) {
  EXPECT_EQ(error_of_pair([](Communicator& comm) { comm.receive(1, 5); },
                          [](Communicator& comm) { comm.send(floats({1}), 0, 4); }),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  rank 0     waits for a message from rank 1 under tag 5\n"
            "  rank 1     has ended\n"
            "  hint       let rank 1 send to rank 0 under tag 5");
  EXPECT_EQ(error_of_ranks(1, [](Communicator& comm) { comm.receive(0); }),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  rank 0     waits for a message from rank 0 under tag 0\n"
            "  hint       let rank 0 send to rank 0 under tag 0");
}

TEST(Deadlock, NeighboursInTheSameStateShareALine) {
  EXPECT_EQ(error_of_ranks(8,
                           [](Communicator& comm) {
                             if (comm.rank() == 3 || comm.rank() >= 6) return;
                             comm.barrier({0, 1, 2, 3, 4, 5, 6});
                           }),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  ranks 0-2  wait in barrier over ranks [0, 1, 2, 3, 4, 5, 6]\n"
            "  rank 3     has ended\n"
            "  ranks 4-5  wait in barrier over ranks [0, 1, 2, 3, 4, 5, 6]\n"
            "  ranks 6-7  have ended\n"
            "  hint       let ranks 3, 6 call barrier over ranks [0, 1, 2, 3, 4, 5, 6] too");
}

TEST(Deadlock, RingOfReceivesIsFoundEveryTime) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> aborted = 0;
    const std::string error = error_of_ranks(3, [&](Communicator& comm) {
      try {
        const Tensor got = comm.receive((comm.rank() + 1) % 3);
        comm.send(got, (comm.rank() + 2) % 3);
      } catch (const RankAborted&) {
        ++aborted;
        throw;
      }
    });
    ASSERT_EQ(error,
              "comm-deadlock: every rank waits for something that cannot come\n"
              "  rank 0     waits for a message from rank 1 under tag 0\n"
              "  rank 1     waits for a message from rank 2 under tag 0\n"
              "  rank 2     waits for a message from rank 0 under tag 0\n"
              "  hint       let rank 1 send to rank 0 under tag 0");
    ASSERT_EQ(aborted, 3);
  }
}

TEST(Deadlock, CannotBeSwallowed) {
  EXPECT_EQ(error_of_ranks(2,
                           [](Communicator& comm) {
                             try {
                               comm.receive(1 - comm.rank());
                             } catch (const RankAborted&) {
                             }
                           }),
            "comm-deadlock: every rank waits for something that cannot come\n"
            "  rank 0     waits for a message from rank 1 under tag 0\n"
            "  rank 1     waits for a message from rank 0 under tag 0\n"
            "  hint       let rank 1 send to rank 0 under tag 0");
}

TEST(Deadlock, IsNotSeenWhereARankIsOnlySlow) {
  run_ranks(3, [](Communicator& comm) {
    for (int slow = 0; slow < 3; ++slow) {
      if (comm.rank() == slow) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      comm.barrier({0, 1, 2});
    }
  });
}

// Ranks wait, wake and end in all orders; whoever is woken but has not run yet must not count as waiting.
TEST(Deadlock, IsNeverSeenWhereThereIsNone) {
  for (int round = 0; round < 200; ++round) {
    run_ranks(4, [&](Communicator& comm) {
      const int rank = comm.rank();
      const Tensor token = Tensor::of<std::int32_t>({1}, {round});
      const int turns = 1 + round % 3;
      for (int turn = 0; turn < turns; ++turn) {  // a token goes round: three of four ranks wait at any time
        if (rank == 0) comm.send(token, 1, turn);
        EXPECT_TRUE(same(comm.receive((rank + 3) % 4, turn), token));
        if (rank != 0) comm.send(token, (rank + 1) % 4, turn);
      }
      if (rank == round % 4) return;  // ends while the others still talk
      Group others;
      for (int other = 0; other < 4; ++other) {
        if (other != round % 4) others.push_back(other);
      }
      comm.all_gather(token, 0, others);
    });
  }
}

// Every combination of what three ranks may do: it ends, with success exactly where the calls fit together.
TEST(Deadlock, EveryCombinationOfCallsEnds) {
  const std::vector<Body> calls{
      [](Communicator&) {},
      [](Communicator& comm) {
        comm.barrier({0, 1, 2});
      },
      [](Communicator& comm) { comm.receive((comm.rank() + 1) % 3); },
      [](Communicator& comm) { comm.send(Tensor(), (comm.rank() + 2) % 3); },
      [](Communicator& comm) {
        comm.send(Tensor(), (comm.rank() + 2) % 3);
        comm.receive((comm.rank() + 1) % 3);
      },
  };
  const auto sends = [](std::size_t call) { return call >= 3; };
  const auto receives = [](std::size_t call) { return call == 2 || call == 4; };
  int succeeded = 0;
  for (std::size_t code = 0; code < 125; ++code) {
    const std::vector<std::size_t> chosen{code % 5, code / 5 % 5, code / 25};
    bool fits = (chosen[0] == 1) == (chosen[1] == 1) && (chosen[1] == 1) == (chosen[2] == 1);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      // A rank that only receives does not send: its neighbour before must not need it; one that sends does so first.
      fits = fits && (!receives(chosen[rank]) || sends(chosen[(rank + 1) % 3]));
    }
    const std::string error =
        error_of_ranks(3, [&](Communicator& comm) { calls[chosen[static_cast<std::size_t>(comm.rank())]](comm); });
    if (fits) ++succeeded;
    EXPECT_EQ(error.substr(0, 13), fits ? "no error" : "comm-deadlock")
        << chosen[0] << chosen[1] << chosen[2] << ' ' << error;
  }
  EXPECT_GT(succeeded, 1);
  EXPECT_LT(succeeded, 125);
}

}  // namespace
}  // namespace tessera
