// Hashes of several words.
#pragma once

#include <cstdint>

namespace tessera {

/// A hash that takes in one more word: `mix_hash(mix_hash(a, b), c)` depends on all three and on their order.
constexpr std::uint64_t mix_hash(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0xff51afd7ed558ccdU;  // a step of MurmurHash3's finaliser
  return hash ^ (hash >> 32);
}

}  // namespace tessera
