// Where ranks of one process meet: messages, collectives, failures, and who waits for what.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/comm/collective.h"
#include "support/diagnostic.h"

namespace tessera {

/// One call of a collective by the ranks of a group. Each deposits what it calls and the tensors it sends; who has deposited
/// waits until all have. From then on the deposits no longer change and every member may read them.
class Meeting {
 public:
  explicit Meeting(const Group& group) : group_(group), deposits_(group.size()) {}

  [[nodiscard]] const Group& group() const { return group_; }
  [[nodiscard]] bool complete() const { return arrived_ == group_.size(); }
  /// Ranks that have not deposited yet.
  [[nodiscard]] Group missing() const;
  [[nodiscard]] Operation operation_of(std::size_t place) const { return deposits_[place]->call.operation; }
  /// What the rank at `place` of the group sent. @pre complete()
  [[nodiscard]] std::span<const Tensor> sent_by(std::size_t place) const { return deposits_[place]->tensors; }

  /// @pre the rank at `place` has not deposited yet
  void deposit(std::size_t place, Call call, std::vector<Tensor> tensors);
  /// @throws Error "comm-mismatch" where the deposits do not fit together @pre complete()
  void check() const;
  /// The reduction of the first tensors of all: done by the member that asks first, the others get a copy. @pre complete()
  [[nodiscard]] Tensor reduced(Reduction reduction);

 private:
  struct Deposit {
    Call call;
    std::vector<Tensor> tensors;
  };

  Group group_;
  std::vector<std::optional<Deposit>> deposits_;
  std::size_t arrived_ = 0;
  std::mutex reducing_;
  std::optional<Tensor> reduced_;
};

/// The mail of all ranks behind one mutex. A rank that waits is marked so until the call of another gives it what it waits for, so
/// that the ranks which wait or have ended are known exactly: where these are all, nothing can come any more, and the run fails with
/// Error "comm-deadlock".
///
/// After a failure (`abort`, a mismatch, a deadlock) every pending and later call throws RankAborted. A rank's calls come from one
/// thread at a time.
class Mailbox {
 public:
  /// @pre ranks >= 1
  explicit Mailbox(int ranks) : seats_(static_cast<std::size_t>(ranks)) {}

  [[nodiscard]] int size() const { return static_cast<int>(seats_.size()); }

  /// Leaves a message; never waits. @pre `message` shares no memory with another tensor
  void post(int from, int to, int tag, Tensor message);
  /// The oldest message from a rank under a tag; waits until there is one.
  Tensor take(int rank, int from, int tag);
  /// Deposits at the group's open meeting, which is opened where there is none, and waits until it is complete.
  /// @pre `place` is that of `rank` in the group; the tensors share no memory with others
  /// @throws Error "comm-mismatch" in the rank that arrives last
  std::shared_ptr<Meeting> meet(int rank, const Group& group, std::size_t place, Call call, std::vector<Tensor> tensors);

  /// Says that a rank makes no further calls.
  void end(int rank);
  /// Fails the run, unless it has failed before.
  void abort(std::exception_ptr error);
  /// What failed first; null where nothing did.
  [[nodiscard]] std::exception_ptr failure() const;

 private:
  struct Source {
    int from;
    int tag;
  };
  struct Attendance {
    std::shared_ptr<Meeting> meeting;
    std::size_t place;
  };
  using Wait = std::variant<Source, Attendance>;

  struct Seat {
    std::map<std::pair<int, int>, std::deque<Tensor>> mail;  // by sender and tag
    std::optional<Wait> wait;
    bool ended = false;
    std::condition_variable wake;
  };

  Seat& seat(int rank) { return seats_[static_cast<std::size_t>(rank)]; }
  void check_running() const;
  void wait(std::unique_lock<std::mutex>& lock, int rank, Wait what);
  void release(Seat& waiting);
  void stop(std::exception_ptr error);
  void stop_if_stuck();
  [[nodiscard]] Diagnostic deadlock() const;
  [[nodiscard]] static std::string state_of(const Seat& seat, bool several);
  [[nodiscard]] static std::string fix_for(int rank, const Wait& wait);

  mutable std::mutex mutex_;
  std::deque<Seat> seats_;
  std::map<Group, std::shared_ptr<Meeting>> open_;  // members leave only when all have come: one a group
  std::size_t idle_ = 0;                            // ranks that wait or have ended
  std::exception_ptr failure_;
};

}  // namespace tessera
