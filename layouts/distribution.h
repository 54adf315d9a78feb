// How the indices of a dim are dealt to its shards.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tessera {

/// Indices [begin, end).
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] constexpr std::int64_t size() const { return end - begin; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

/// The global indices that a shard owns, in the order in which they lie in its memory.
using IndexSet = std::vector<Interval>;

/// How the n indices of a dim are dealt to its N shards. Shard i owns
/// | block       | chunk i of ceil(n / N) indices, as torch.chunk: 10 over 4 are 3 3 3 1, and 4 over 3 are 2 2 0 |
/// | balanced    | n / N indices, the first n % N shards one more: 10 over 4 are 3 3 2 2 |
/// | cyclic(b)   | the blocks i, i + N, i + 2N, ... of b indices |
/// | head_tail   | chunks i and 2N - 1 - i of 2N chunks of ceil(n / 2N): causal attention costs each shard the same |
/// | intervals   | what is listed for it |
/// A value as small as two words.
class Distribution {
 public:
  enum class Kind : std::uint8_t { kBlock, kBalanced, kCyclic, kHeadTail, kIntervals };

  constexpr Distribution() = default;  ///< block
  static constexpr Distribution block() { return {}; }
  static constexpr Distribution balanced() { return Distribution(Kind::kBalanced, 0, nullptr); }
  static constexpr Distribution head_tail() { return Distribution(Kind::kHeadTail, 0, nullptr); }
  /// @throws Error "distribution-block" where the block is below 1
  static Distribution cyclic(std::int64_t block);
  /// One list of intervals a shard. They must share nothing and together be [0, n) for some n; a shard may own nothing.
  /// @throws Error "distribution-intervals"
  static Distribution intervals(std::vector<IndexSet> shards);

  [[nodiscard]] constexpr Kind kind() const { return kind_; }
  [[nodiscard]] constexpr bool is_block() const { return kind_ == Kind::kBlock; }
  /// The b of cyclic(b), else 0.
  [[nodiscard]] constexpr std::int64_t cyclic_block() const { return block_; }
  /// The lists of an explicit distribution, else empty.
  [[nodiscard]] std::span<const IndexSet> listed() const;

  [[nodiscard]] std::size_t hash() const;
  friend constexpr bool operator==(Distribution, Distribution) = default;

 private:
  struct Table;  // interned lists: one for each value, kept for the life of the process
  constexpr Distribution(Kind kind, std::int64_t block, const Table* table) : table_(table), block_(block), kind_(kind) {}

  const Table* table_ = nullptr;
  std::int64_t block_ = 0;
  Kind kind_ = Kind::kBlock;
};

/// What shard `i` of `shards` owns of `n` indices. Never an empty interval.
/// @pre 0 <= i < shards
IndexSet owned_indices(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t i);

/// How many indices that are, without listing them.
std::int64_t owned_count(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t i);

/// The largest shard's count.
std::int64_t largest_count(Distribution distribution, std::int64_t n, std::int64_t shards);

/// Whether every shard owns as many indices as every other.
bool is_even(Distribution distribution, std::int64_t n, std::int64_t shards);

/// Which shard owns global index `index`, and where in its memory.
struct Owner {
  std::int64_t shard = 0;
  std::int64_t local = 0;

  friend bool operator==(const Owner&, const Owner&) = default;
};
/// @pre 0 <= index < n
Owner owner_of(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t index);

/// Why `n` indices cannot be dealt so to so many shards (explicit intervals for another count), or nothing where they can.
std::optional<std::string> misfit(Distribution distribution, std::int64_t n, std::int64_t shards);

/// Whether two distributions give every shard the same indices: equal ones, and block and balanced where the shards are equal.
bool deal_alike(Distribution a, Distribution b, std::int64_t n, std::int64_t shards);

/// The distribution of a compound's outer part, where `n` indices dealt to `shards` are `n / inner` groups of `inner`: nothing where a
/// shard's border cuts a group. 12 indices cyclic(4) as groups of 4 are 3 groups cyclic(1).
std::optional<Distribution> group_indices(Distribution distribution, std::int64_t n, std::int64_t shards,
                                          std::int64_t inner);

/// The other way: `n` groups of `inner` indices each, dealt to `shards`, as a distribution of the `n * inner` indices; nothing where no
/// distribution deals them so (block of 3 groups over 2 shards is 2 and 1 groups of 4: 8 and 4 indices, but block deals 6 and 6).
std::optional<Distribution> ungroup_indices(Distribution distribution, std::int64_t n, std::int64_t shards,
                                            std::int64_t inner);

/// "block", "balanced", "cyclic(128)", "head_tail", "intervals(0-5 9-12 | 5-9)".
std::string to_string(Distribution distribution);

}  // namespace tessera
