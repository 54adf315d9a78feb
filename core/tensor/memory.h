// The memory in which tensors lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tessera {

/// Memory of so many bytes is large: it lies in huge pages where the machine has them, and may be kept for the next tensor.
inline constexpr std::int64_t kLargeMemory = std::int64_t{1} << 21;

/// At most so many bytes of large memory that no tensor has any more are kept.
inline constexpr std::int64_t kMostKeptMemory = std::int64_t{1} << 29;

/// Memory that is not initialised, at a multiple of 64 bytes; null where the machine does not have as much, or does not give
/// it. The last owner's end gives it back: large memory is kept for the next that is as large, for what comes fresh from the
/// system must be mapped and cleared page by page, which took a sixth of the time of a sparse backward pass. Any number of
/// threads may call at once.
std::shared_ptr<std::byte[]> allocate_memory(std::int64_t bytes);

/// How much is kept at present, in bytes; nothing ever under the address sanitizer, which is to see what is used after it has
/// been given back.
std::int64_t kept_memory();

/// Gives what is kept back to the system. Allocation does so by itself where memory runs out.
void release_kept_memory();

}  // namespace tessera
