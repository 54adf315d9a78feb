#include "ops/attention/band.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/diagnostic.h"

namespace tessera {

Band translate(const Band& band, std::int64_t q_offset, std::int64_t kv_offset) {
  Band local = band;
  if (local.lo) *local.lo += q_offset - kv_offset;
  if (local.hi) *local.hi += q_offset - kv_offset;
  return local;
}

KeyRange visible_keys(const Band& band, std::int64_t i, std::int64_t length) {
  return {band.lo ? std::max<std::int64_t>(0, i + *band.lo) : 0, band.hi ? std::min(length, i + *band.hi + 1) : length};
}

Masking masking_of_mode(std::int64_t sparse_mode, std::int64_t pre_tokens, std::int64_t next_tokens) {
  switch (sparse_mode) {
    case 0: return {pre_tokens, next_tokens, false};
    case 1: return {};
    case 2: return {Masking::kAll, 0, false};
    case 3: return {Masking::kAll, 0, true};
    case 4: return {pre_tokens, next_tokens, true};
    default: break;
  }
  fail("sparse-mode", fmt::format("sparse_mode is {}, it takes 0 to 4", sparse_mode),
       "0 band, 1 explicit mask, 2 causal from the top left, 3 causal to the bottom right, 4 band to the bottom right");
}

Masking masking_of_window(std::int64_t left, std::int64_t right) {
  return {left < 0 ? Masking::kAll : left, right < 0 ? Masking::kAll : right, true};
}

Band band_of(const Masking& masking, std::int64_t queries, std::int64_t keys) {
  // No two positions are further apart than this: a bound beyond it hides nothing, or everything.
  const std::int64_t reach = queries + keys + 1;
  const std::int64_t shift = masking.right_down ? keys - queries : 0;
  Band band;
  if (masking.pre < reach) band.lo = shift - std::max(masking.pre, -2 * reach);
  if (masking.next < reach) band.hi = shift + std::max(masking.next, -2 * reach);
  return band;
}

}  // namespace tessera
