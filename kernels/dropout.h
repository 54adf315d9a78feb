// Dropout of attention weights by a counter-based generator: what is dropped is a function of global positions alone.
#pragma once

#include <array>
#include <cstdint>

namespace tessera::kernels {

/// Which weights are dropped. The weight of query head `head` (counted globally) at global position `position` of sequence
/// `sequence` for key number `key` of that sequence is kept where word `key % 4` of `philox({key / 4, position, head,
/// sequence}, seed)` is at least `dropout_threshold(probability)`; what is kept is multiplied by 1 / (1 - probability). So
/// neither sharding nor packing nor the kernel changes the mask. Counters are taken modulo 2^32.
struct Dropout {
  double probability = 0;  ///< 0 drops nothing; below 1
  std::uint64_t seed = 0;
  std::int64_t first_head = 0;  ///< global number of the call's query head 0

  friend bool operator==(const Dropout&, const Dropout&) = default;
};

/// Four random words of Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::uint64_t key) {
  constexpr std::uint64_t kMultipliers[2] = {0xD2511F53u, 0xCD9E8D57u};
  constexpr std::uint32_t kWeyl[2] = {0x9E3779B9u, 0xBB67AE85u};
  std::uint32_t low = static_cast<std::uint32_t>(key);
  std::uint32_t high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = kMultipliers[0] * counter[0];
    const std::uint64_t second = kMultipliers[1] * counter[2];
    counter = {static_cast<std::uint32_t>(second >> 32) ^ counter[1] ^ low, static_cast<std::uint32_t>(second),
               static_cast<std::uint32_t>(first >> 32) ^ counter[3] ^ high, static_cast<std::uint32_t>(first)};
    low += kWeyl[0];
    high += kWeyl[1];
  }
  return counter;
}

/// Words below this are dropped: `probability * 2^32`, rounded down.
constexpr std::uint32_t dropout_threshold(double probability) {
  const double words = probability * 4294967296.0;
  return words >= 4294967295.0 ? 4294967295u : static_cast<std::uint32_t>(words);
}

}  // namespace tessera::kernels
