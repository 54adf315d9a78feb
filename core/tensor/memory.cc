#include "core/tensor/memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif
#include <unistd.h>

#include <limits>
#include <mutex>
#include <new>
#include <vector>

namespace tessera {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif
#else
constexpr bool kKeeps = true;
#endif

// Bytes of memory the machine has; the largest int64_t where it does not tell.
std::int64_t machine_memory() {
  static const std::int64_t bytes = [] {
    const std::int64_t pages = ::sysconf(_SC_PHYS_PAGES);
    const std::int64_t page = ::sysconf(_SC_PAGE_SIZE);
    return pages > 0 && page > 0 ? pages * page : std::numeric_limits<std::int64_t>::max();
  }();
  return bytes;
}

std::align_val_t alignment_of(std::int64_t bytes) {
  return std::align_val_t{bytes >= kLargeMemory ? static_cast<std::size_t>(kLargeMemory) : 64};
}

void* take_from_system(std::int64_t bytes) {
  void* memory = ::operator new[](static_cast<std::size_t>(bytes), alignment_of(bytes), std::nothrow);
#ifdef __linux__
  // Whole pages only, and a hint only: memory works without.
  if (memory != nullptr && bytes >= kLargeMemory)
    madvise(memory, static_cast<std::size_t>(bytes / kLargeMemory * kLargeMemory), MADV_HUGEPAGE);
#endif
  return memory;
}

void give_to_system(void* memory, std::int64_t bytes) { ::operator delete[](memory, alignment_of(bytes)); }

// Large memory without an owner, the longest kept first.
class KeptMemory {
 public:
  KeptMemory() { blocks_.reserve(kMostKeptMemory / kLargeMemory + 1); }  // so that keeping one more cannot fail

  // The latest of this size, which the caches know best; null where there is none.
  void* take(std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      if (block->bytes != bytes) continue;
      void* memory = block->memory;
      blocks_.erase(std::next(block).base());
      total_ -= bytes;
      return memory;
    }
    return nullptr;
  }

  void keep(void* memory, std::int64_t bytes) {
    if (bytes > kMostKeptMemory) return give_to_system(memory, bytes);
    const std::lock_guard lock(mutex_);
    blocks_.push_back({memory, bytes});
    total_ += bytes;
    release_until(kMostKeptMemory);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_until(0);
  }

  std::int64_t total() {
    const std::lock_guard lock(mutex_);
    return total_;
  }

 private:
  struct Block {
    void* memory;
    std::int64_t bytes;
  };

  void release_until(std::int64_t most) {
    std::size_t released = 0;
    for (; total_ > most; ++released) {
      give_to_system(blocks_[released].memory, blocks_[released].bytes);
      total_ -= blocks_[released].bytes;
    }
    blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(released));
  }

  std::mutex mutex_;
  std::vector<Block> blocks_;
  std::int64_t total_ = 0;
};

// Never destroyed: tensors may outlive all other static objects.
KeptMemory& kept() {
  static KeptMemory& memory = *new KeptMemory;
  return memory;
}

}  // namespace

std::shared_ptr<std::byte[]> allocate_memory(std::int64_t bytes) {
  // More than the machine's memory is refused before the system is asked: it may well promise it, and then end the process
  // when it is written to.
  if (bytes > machine_memory()) return nullptr;
  const bool large = kKeeps && bytes >= kLargeMemory;
  // Tensors of nearly the same size take turns with the same memory.
  const std::int64_t taken = large ? (bytes + kLargeMemory - 1) / kLargeMemory * kLargeMemory : bytes;
  void* memory = large ? kept().take(taken) : nullptr;
  if (memory == nullptr) memory = take_from_system(taken);
  if (memory == nullptr) {
    kept().release();
    memory = take_from_system(taken);
  }
  if (memory == nullptr) return nullptr;
  return {static_cast<std::byte*>(memory), [taken, large](std::byte* begin) {
            if (large) kept().keep(begin, taken);
            else give_to_system(begin, taken);
          }};
}

std::int64_t kept_memory() { return kept().total(); }

void release_kept_memory() { kept().release(); }

}  // namespace tessera
