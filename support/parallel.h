// A small pool of threads that all kernels of the process share.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace tessera {

/// Threads that a call from this thread may use, itself included: this thread's share (see `ThreadShare`), else the pool's
/// size: the environment's TESSERA_THREADS, else the cores that the process may run on. At least 1.
/// @throws Error "environment" where TESSERA_THREADS is neither empty nor a number from 1 to 1024
int thread_count();

/// The number that TESSERA_THREADS is set to. @throws Error "environment"
int parse_thread_count(std::string_view text);

/// Runs `work(i)` for every 0 <= i < count, on this thread and on up to `thread_count() - 1` of the pool's; returns when
/// all are done. Tasks start in order. Inside `work`, `thread_count()` is 1: parallel calls do not nest. The first
/// exception that a task throws is rethrown here once no task runs any more; tasks not yet started are then left out.
///
/// Threads may call this at the same time; they share the pool's, and none waits for another's tasks. The pool's threads
/// start with the first call that wants them and end with the process. A fork does not copy them: its child must not call
/// this.
/// @throws also Error "environment" as `thread_count`
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work);

/// The same for tasks that go faster one after the other on one thread, as those over neighbouring memory do: calls
/// `work(first, last)` for runs of tasks [first, last) that together are all of them. A thread takes its share of half of what
/// is left, at least one task: long runs first, so that there are few, and single tasks at last, so that all threads end
/// together. Worked example: of 32 tasks two threads take 8, 6, 4, 3, 2, 2 and 7 times one.
void parallel_for_runs(std::int64_t count, const std::function<void(std::int64_t first, std::int64_t last)>& work);

/// While it lives, calls from this thread use at most `threads` threads, at least 1, and no more than those that lived
/// before it allow. In-process ranks take the machine's threads divided by their number, at least 1 each, so that ranks
/// times threads never exceeds what the machine has by more than the ranks do.
class ThreadShare {
 public:
  explicit ThreadShare(int threads);
  ~ThreadShare();
  ThreadShare(const ThreadShare&) = delete;
  ThreadShare& operator=(const ThreadShare&) = delete;

 private:
  int before_;
};

}  // namespace tessera
