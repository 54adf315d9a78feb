#include "core/tensor/memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "core/tensor/tensor.h"

namespace tessera {
namespace {

class Memory : public testing::Test {
 protected:
  void SetUp() override { release_kept_memory(); }
  void TearDown() override { release_kept_memory(); }

  // Whether anything is kept at all: the address sanitizer is to see memory that is used too late.
  static bool keeps() {
    allocate_memory(kLargeMemory);
    return kept_memory() > 0;
  }
};

TEST_F(Memory, BeginsAtAMultipleOf64Bytes) {
  for (const std::int64_t bytes : {std::int64_t{1}, std::int64_t{100}, kLargeMemory - 1, kLargeMemory, kLargeMemory + 1}) {
    const auto memory = allocate_memory(bytes);
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.get()) % 64, 0u) << bytes;
    std::memset(memory.get(), 1, static_cast<std::size_t>(bytes));
  }
}

TEST_F(Memory, MoreThanTheMachineHasIsRefused) {
  EXPECT_EQ(allocate_memory(std::numeric_limits<std::int64_t>::max()), nullptr);
  EXPECT_EQ(allocate_memory(std::int64_t{1} << 60), nullptr);
}

TEST_F(Memory, IsKeptForTheNextOfAsManyPages) {
  if (!keeps()) GTEST_SKIP() << "nothing is kept under the address sanitizer";
  release_kept_memory();
  auto memory = allocate_memory(3 * kLargeMemory - 5);
  const std::byte* const begin = memory.get();
  EXPECT_EQ(kept_memory(), 0);
  memory.reset();
  EXPECT_EQ(kept_memory(), 3 * kLargeMemory);
  EXPECT_NE(allocate_memory(2 * kLargeMemory), nullptr);  // of another size
  memory = allocate_memory(3 * kLargeMemory);
  EXPECT_EQ(memory.get(), begin);
  EXPECT_EQ(kept_memory(), 2 * kLargeMemory);
  const auto other = allocate_memory(3 * kLargeMemory);
  EXPECT_NE(other.get(), begin);
}

TEST_F(Memory, SmallMemoryIsNotKept) {
  allocate_memory(kLargeMemory - 1);
  EXPECT_EQ(kept_memory(), 0);
}

TEST_F(Memory, KeepsNoMoreThanTheMost) {
  if (!keeps()) GTEST_SKIP() << "nothing is kept under the address sanitizer";
  release_kept_memory();
  allocate_memory(kMostKeptMemory + 1);
  EXPECT_EQ(kept_memory(), 0);
  const std::int64_t half = kMostKeptMemory / 2;
  std::vector<std::shared_ptr<std::byte[]>> three;
  for (int i = 0; i < 3; ++i) three.push_back(allocate_memory(half));
  const std::byte* const last = three[2].get();
  for (auto& memory : three) memory.reset();
  EXPECT_EQ(kept_memory(), kMostKeptMemory);
  EXPECT_EQ(allocate_memory(half).get(), last) << "the oldest goes first, the latest is taken first";
}

TEST_F(Memory, ThreadsTakeItInTurns) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) {
        const auto memory = allocate_memory(kLargeMemory * (1 + (t + i) % 3));
        auto* own = reinterpret_cast<volatile int*>(memory.get());
        *own = t;
        std::this_thread::yield();
        if (*own != t) ADD_FAILURE() << "two owners of one piece of memory";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Memory, ZerosAreZerosInMemoryThatWasUsed) {
  const Shape shape{kLargeMemory / 4};
  {
    Tensor used = Tensor::uninitialized(shape, DType::kF32);
    std::memset(used.bytes_begin(), 7, static_cast<std::size_t>(used.bytes()));
  }
  const Tensor zeros = Tensor::zeros(shape, DType::kF32);
  for (const float value : zeros.span<float>()) ASSERT_EQ(value, 0.0f);
}

}  // namespace
}  // namespace tessera
