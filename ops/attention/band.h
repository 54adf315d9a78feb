// What a query sees: a band of keys around its diagonal.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "kernels/row_plan.h"

namespace tessera {

/// Query i sees key j iff lo <= j - i <= hi, in positions inside their sequence; nothing for a bound that is not there.
///
/// A shard only translates a band: rows that begin at `q_offset` over keys that begin at `kv_offset` see in their local numbers
/// `translate(band, q_offset, kv_offset)`. Worked example: causal over 8 tokens is {-, 0}; the second half of the queries over all keys
/// has the local band {-, 4}: local row 0 sees local keys 0..4.
struct Band {
  std::optional<std::int64_t> lo;
  std::optional<std::int64_t> hi;

  friend bool operator==(const Band&, const Band&) = default;
};

Band translate(const Band& band, std::int64_t q_offset, std::int64_t kv_offset);

/// The keys of `length` that row `i` sees in a band of the same numbering.
KeyRange visible_keys(const Band& band, std::int64_t i, std::int64_t length);

/// A mask as the operators' attributes say it: how many tokens before and after the diagonal are seen, and where the diagonal begins.
struct Masking {
  static constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();

  std::int64_t pre = kAll;   ///< tokens seen before the diagonal; may be below 0
  std::int64_t next = kAll;  ///< tokens seen after it; may be below 0
  /// Whether the diagonal ends at the last query and the last key (right-down, as flash attention's and the vendor's) rather than
  /// beginning at the first ones (left-up, as torch's `is_causal`).
  bool right_down = false;

  friend bool operator==(const Masking&, const Masking&) = default;
};

/// The mask of a vendor's sparse mode: 0 left-up band, 1 everything (an explicit mask narrows it), 2 left-up causal, 3 right-down causal,
/// 4 right-down band. @throws Error "sparse-mode" for another mode
Masking masking_of_mode(std::int64_t sparse_mode, std::int64_t pre_tokens, std::int64_t next_tokens);

/// Flash attention's window: `left` keys before and `right` after the diagonal, which is right-down; below 0 means all.
Masking masking_of_window(std::int64_t left, std::int64_t right);

/// The band of one sequence of `queries` rows and `keys` keys. Bounds that nothing can reach are dropped.
Band band_of(const Masking& masking, std::int64_t queries, std::int64_t keys);

}  // namespace tessera
