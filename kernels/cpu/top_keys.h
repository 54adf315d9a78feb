// The best keys of a row, chosen from scores that come by. Private to kernels/cpu/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::kernels::cpu {

/// A key and how good its score is, in one number: the better of two is the smaller. Larger scores are better, NaN is best,
/// ties go to the lower key.
class RankedKey {
 public:
  RankedKey() = default;
  RankedKey(std::uint32_t rank, std::int32_t key) : bits_(std::uint64_t{rank} << 32 | static_cast<std::uint32_t>(key)) {}

  [[nodiscard]] std::uint32_t rank() const { return static_cast<std::uint32_t>(bits_ >> 32); }
  [[nodiscard]] std::int32_t key() const { return static_cast<std::int32_t>(bits_); }
  [[nodiscard]] float score() const;

 private:
  std::uint64_t bits_ = 0;
};

/// Keeps the best `count` keys of one row: a buffer of some 2 * count candidates and the rank that a key must be better
/// than.
class TopKeys {
 public:
  /// Scores taken at a time, at most.
  static constexpr std::size_t kMostTaken = 64;

  /// Forgets everything. @param most_keys as many will come at most
  void reset(std::int64_t count, std::int64_t most_keys);

  /// Takes the scores of the keys from `first` on. @pre keys come in ascending order, at most kMostTaken at a time
  void take(std::int32_t first, std::span<const float> scores);
  /// Takes keys that another one has chosen and that are all above those taken before; `keys` are in ascending order.
  void take(std::span<const RankedKey> keys);

  /// The keys chosen, in ascending order.
  std::span<const RankedKey> chosen();
  /// The keys chosen, best first.
  std::span<const RankedKey> sorted();

 private:
  void prune();

  std::size_t count_ = 0;
  std::size_t size_ = 0;     // candidates, in ascending order of keys
  std::uint32_t limit_ = 0;  // later keys must have a lower rank
  std::vector<RankedKey> candidates_;
  std::vector<RankedKey> other_;
  std::vector<std::uint32_t> ranks_;
};

}  // namespace tessera::kernels::cpu
