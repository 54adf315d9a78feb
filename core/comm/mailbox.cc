// Messages, meetings and the detection of deadlocks.
#include "core/comm/mailbox.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/comm/reduce.h"

namespace tessera {

Group Meeting::missing() const {
  Group ranks;
  for (std::size_t i = 0; i < group_.size(); ++i) {
    if (!deposits_[i]) ranks.push_back(group_[i]);
  }
  return ranks;
}

void Meeting::deposit(std::size_t place, Call call, std::vector<Tensor> tensors) {
  deposits_[place] = Deposit{std::move(call), std::move(tensors)};
  ++arrived_;
}

void Meeting::check() const {
  std::vector<const Call*> calls;
  calls.reserve(deposits_.size());
  for (const std::optional<Deposit>& deposit : deposits_) calls.push_back(&deposit->call);
  check_fit(group_, calls);
}

Tensor Meeting::reduced(Reduction reduction) {
  const std::lock_guard lock(reducing_);
  if (reduced_) return reduced_->clone();
  std::vector<Tensor> terms;
  terms.reserve(deposits_.size());
  for (const std::optional<Deposit>& deposit : deposits_) terms.push_back(deposit->tensors[0]);
  reduced_ = reduce(terms, reduction);
  return reduced_->clone();
}

void Mailbox::post(int from, int to, int tag, Tensor message) {
  const std::lock_guard lock(mutex_);
  check_running();
  Seat& receiver = seat(to);
  receiver.mail[{from, tag}].push_back(std::move(message));
  if (!receiver.wait) return;
  const Source* source = std::get_if<Source>(&*receiver.wait);
  if (source != nullptr && source->from == from && source->tag == tag) release(receiver);
}

Tensor Mailbox::take(int rank, int from, int tag) {
  std::unique_lock lock(mutex_);
  check_running();
  auto& mail = seat(rank).mail;
  if (!mail.contains({from, tag})) wait(lock, rank, Source{from, tag});
  const auto queue = mail.find({from, tag});
  Tensor message = std::move(queue->second.front());
  queue->second.pop_front();
  if (queue->second.empty()) mail.erase(queue);
  return message;
}

std::shared_ptr<Meeting> Mailbox::meet(int rank, const Group& group, std::size_t place, Call call,
                                       std::vector<Tensor> tensors) {
  std::unique_lock lock(mutex_);
  check_running();
  std::shared_ptr<Meeting>& open = open_[group];
  if (!open) open = std::make_shared<Meeting>(group);
  std::shared_ptr<Meeting> meeting = open;
  meeting->deposit(place, std::move(call), std::move(tensors));
  if (!meeting->complete()) {
    wait(lock, rank, Attendance{meeting, place});
    return meeting;
  }
  open_.erase(group);
  try {
    meeting->check();
  } catch (const Error&) {
    stop(std::current_exception());
    throw;
  }
  for (int member : group) {
    if (member != rank) release(seat(member));
  }
  return meeting;
}

void Mailbox::end(int rank) {
  const std::lock_guard lock(mutex_);
  seat(rank).ended = true;
  ++idle_;
  stop_if_stuck();
}

void Mailbox::abort(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  stop(std::move(error));
}

std::exception_ptr Mailbox::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Mailbox::check_running() const {
  if (failure_) throw RankAborted();
}

void Mailbox::wait(std::unique_lock<std::mutex>& lock, int rank, Wait what) {
  Seat& mine = seat(rank);
  mine.wait = std::move(what);
  ++idle_;
  stop_if_stuck();
  mine.wake.wait(lock, [&] { return failure_ || !mine.wait; });
  check_running();
}

void Mailbox::release(Seat& waiting) {
  waiting.wait.reset();
  --idle_;
  waiting.wake.notify_one();
}

void Mailbox::stop(std::exception_ptr error) {
  if (failure_) return;
  failure_ = std::move(error);
  for (Seat& each : seats_) each.wake.notify_one();
}

void Mailbox::stop_if_stuck() {
  if (failure_ || idle_ < seats_.size()) return;
  for (const Seat& each : seats_) {
    if (each.wait) return stop(std::make_exception_ptr(Error(deadlock())));
  }
}

Diagnostic Mailbox::deadlock() const {
  Diagnostic diagnostic{.code = "comm-deadlock", .message = "every rank waits for something that cannot come"};
  std::size_t first = 0;
  while (first < seats_.size()) {  // neighbours in the same state share a line
    std::size_t end = first + 1;
    while (end < seats_.size() && state_of(seats_[end], false) == state_of(seats_[first], false)) ++end;
    const bool several = end - first > 1;
    diagnostic.details.push_back({several ? fmt::format("ranks {}-{}", first, end - 1) : fmt::format("rank {}", first),
                                  state_of(seats_[first], several), ""});
    first = end;
  }
  for (std::size_t rank = 0; rank < seats_.size() && diagnostic.hint.empty(); ++rank) {
    if (seats_[rank].wait) diagnostic.hint = fix_for(static_cast<int>(rank), *seats_[rank].wait);
  }
  return diagnostic;
}

std::string Mailbox::state_of(const Seat& seat, bool several) {
  if (!seat.wait) return several ? "have ended" : "has ended";
  const std::string_view verb = several ? "wait" : "waits";
  if (const Source* source = std::get_if<Source>(&*seat.wait)) {
    return fmt::format("{} for a message from rank {} under tag {}", verb, source->from, source->tag);
  }
  const Attendance& attendance = std::get<Attendance>(*seat.wait);
  return fmt::format("{} in {} over ranks {}", verb, to_string(attendance.meeting->operation_of(attendance.place)),
                     describe(attendance.meeting->group()));
}

std::string Mailbox::fix_for(int rank, const Wait& wait) {
  if (const Source* source = std::get_if<Source>(&wait)) {
    return fmt::format("let rank {} send to rank {} under tag {}", source->from, rank, source->tag);
  }
  const Attendance& attendance = std::get<Attendance>(wait);
  const Group missing = attendance.meeting->missing();
  return fmt::format("let rank{} {} call {} over ranks {} too", missing.size() == 1 ? "" : "s", fmt::join(missing, ", "),
                     to_string(attendance.meeting->operation_of(attendance.place)), describe(attendance.meeting->group()));
}

}  // namespace tessera
