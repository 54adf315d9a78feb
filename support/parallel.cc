// The pool: workers take tasks by a counter; a caller works too, and waits only for tasks that run.
#include "support/parallel.h"

#include <fmt/format.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr int kMaxThreads = 1024;

// How long who waits looks again and again before it sleeps: about what waking a sleeper costs on a virtual machine (some
// 10 us of it the caller's), since calls come in quick succession.
constexpr std::chrono::microseconds kSpin{50};

thread_local int share_of_this_thread = 0;  // 0: the whole pool

int available_cores() {
#ifdef __linux__
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

int size_of_pool() {
  const char* text = std::getenv("TESSERA_THREADS");
  return text == nullptr || *text == '\0' ? std::min(available_cores(), kMaxThreads) : parse_thread_count(text);
}

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until `done`, or for kSpin; whether it was done.
template <class Done>
bool spin_until(const Done& done) {
  if (done()) return true;
  constexpr int kLooks = 32;  // between looks at the clock
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

using Run = std::function<void(std::int64_t, std::int64_t)>;  // of tasks [first, last)

// One parallel call. Workers share its ownership: one that comes when all tasks are taken finds only that, and the caller has
// not waited for it.
class Job {
 public:
  Job(std::int64_t count, std::int64_t parts, const Run& work) : count_(count), parts_(parts), work_(work) {}

  // Takes tasks until there are none. Each is either run or, after another threw, left out, and counted as finished either
  // way.
  void run() {
    std::int64_t finished = 0;
    for (std::int64_t first = next_.load(std::memory_order_relaxed); first < count_;) {
      const std::int64_t last = first + std::max<std::int64_t>((count_ - first) / parts_, 1);
      if (!next_.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
      finished += last - first;
      try {
        work_(first, last);
      } catch (...) {
        finished += give_up(std::current_exception());
      }
      first = next_.load(std::memory_order_relaxed);
    }
    if (finished == 0) return;
    if (finished_.fetch_add(finished, std::memory_order_acq_rel) + finished == count_) {
      const std::scoped_lock lock(mutex_);  // not between the caller's last look and its sleep
      all_finished_.notify_one();
    }
  }

  // Returns when no task runs any more. @pre `run` has returned on this thread
  void wait() {
    const auto all_finished = [this] { return finished_.load(std::memory_order_acquire) == count_; };
    if (!spin_until(all_finished)) {
      std::unique_lock lock(mutex_);
      all_finished_.wait(lock, all_finished);
    }
    if (failure_) std::rethrow_exception(std::move(failure_));
  }

 private:
  // Leaves out the tasks that nobody has taken yet; how many.
  std::int64_t give_up(std::exception_ptr failure) {
    {
      const std::scoped_lock lock(mutex_);
      if (!failure_) failure_ = std::move(failure);
    }
    return count_ - std::min(count_, next_.exchange(count_, std::memory_order_relaxed));
  }

  const std::int64_t count_;
  const std::int64_t parts_;
  const Run& work_;  // the caller's: there as long as a task is
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::int64_t> finished_{0};
  std::mutex mutex_;
  std::condition_variable all_finished_;
  std::exception_ptr failure_;
};

// Workers, and the jobs that still want some. Never destroyed: at exit workers sleep, and joining them there could hang
// (exit called in a task) or leave later destructors of other files without them.
class Pool {
 public:
  explicit Pool(int workers) {
    try {
      for (int i = 0; i < workers; ++i) std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {  // no more threads to be had: those that run, and the callers, do the work
    }
  }

  void offer(const std::shared_ptr<Job>& job, int places) {
    int missing = 0;  // sleepers that have to come
    {
      const std::scoped_lock lock(mutex_);
      offers_.push_back({job, places});
      const int wanted = places_.fetch_add(places, std::memory_order_relaxed) + places;
      missing = std::min(sleepers_, wanted - looking_.load(std::memory_order_relaxed));
    }
    for (int i = 0; i < missing; ++i) wake_.notify_one();
  }

  void withdraw(const std::shared_ptr<Job>& job) {
    const std::scoped_lock lock(mutex_);
    const auto offer = std::find_if(offers_.begin(), offers_.end(), [&](const Offer& other) { return other.job == job; });
    if (offer == offers_.end()) return;
    places_.fetch_sub(offer->places, std::memory_order_relaxed);
    offers_.erase(offer);
  }

 private:
  struct Offer {
    std::shared_ptr<Job> job;
    int places;  // workers still wanted, at least 1
  };

  void serve() {
    share_of_this_thread = 1;
    for (;;) take()->run();
  }

  // Waits for the oldest job that wants a worker.
  std::shared_ptr<Job> take() {
    for (;;) {
      looking_.fetch_add(1, std::memory_order_relaxed);
      const bool offered = spin_until([this] { return places_.load(std::memory_order_relaxed) > 0; });
      std::unique_lock lock(mutex_);
      looking_.fetch_sub(1, std::memory_order_relaxed);
      if (!offered) {
        ++sleepers_;
        wake_.wait(lock, [this] { return !offers_.empty(); });
        --sleepers_;
      }
      if (offers_.empty()) continue;
      places_.fetch_sub(1, std::memory_order_relaxed);
      Offer& oldest = offers_.front();
      if (--oldest.places > 0) return oldest.job;
      std::shared_ptr<Job> job = std::move(oldest.job);
      offers_.erase(offers_.begin());
      return job;
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Offer> offers_;  // oldest first
  int sleepers_ = 0;
  std::atomic<int> places_{0};   // of all offers: what workers look at, without the lock, before they sleep
  std::atomic<int> looking_{0};  // workers that will see an offer without being woken
};

int pool_size() {
  static const int size = size_of_pool();
  return size;
}

Pool& pool() {
  static Pool& pool = *new Pool(pool_size() - 1);
  return pool;
}

// A run is one of `parts` parts of what is left, at least one task.
void run_all(std::int64_t count, std::int64_t parts, const Run& work) {
  const std::int64_t threads = std::min<std::int64_t>(count, thread_count());
  const ThreadShare inside(1);
  if (threads <= 1) {
    if (count > 0) work(0, count);
    return;
  }
  const auto job = std::make_shared<Job>(count, parts, work);
  pool().offer(job, static_cast<int>(threads) - 1);
  job->run();
  pool().withdraw(job);
  job->wait();
}

}  // namespace

int parse_thread_count(std::string_view text) {
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error != std::errc() || end != text.data() + text.size() || threads < 1 || threads > kMaxThreads) {
    fail("environment", fmt::format("TESSERA_THREADS is '{}'", text),
         fmt::format("set it to a number from 1 to {}", kMaxThreads));
  }
  return threads;
}

int thread_count() {
  const int size = pool_size();
  return share_of_this_thread == 0 ? size : std::min(share_of_this_thread, size);
}

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  run_all(count, count, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) work(i);
  });
}

void parallel_for_runs(std::int64_t count, const std::function<void(std::int64_t first, std::int64_t last)>& work) {
  run_all(count, std::int64_t{2} * thread_count(), work);
}

ThreadShare::ThreadShare(int threads) : before_(share_of_this_thread) {
  const int share = std::max(1, threads);
  share_of_this_thread = before_ == 0 ? share : std::min(before_, share);
}

ThreadShare::~ThreadShare() { share_of_this_thread = before_; }

}  // namespace tessera
