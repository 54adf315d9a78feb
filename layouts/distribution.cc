#include "layouts/distribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <mutex>

#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {

struct Distribution::Table {
  std::vector<IndexSet> shards;
  std::int64_t n = 0;
};

namespace {

using Kind = Distribution::Kind;

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// Chunk i of chunks of `chunk` indices.
Interval chunk_at(std::int64_t n, std::int64_t chunk, std::int64_t i) {
  // i * chunk may exceed what n is by far: 2^62 shards of one index each
  if (chunk != 0 && i > n / chunk) return {n, n};
  const std::int64_t begin = std::min(i * chunk, n);
  return {begin, begin + std::min(chunk, n - begin)};
}

std::int64_t count_of(const IndexSet& intervals) {
  std::int64_t count = 0;
  for (const Interval& interval : intervals) count += interval.size();
  return count;
}

void append(IndexSet& intervals, Interval interval) {
  if (interval.size() == 0) return;
  if (!intervals.empty() && intervals.back().end == interval.begin) {
    intervals.back().end = interval.end;
  } else {
    intervals.push_back(interval);
  }
}

// The size of head_tail's 2N chunks. (2N may be no number where there are more shards than indices.)
std::int64_t head_tail_chunk(std::int64_t n, std::int64_t shards) { return shards > n ? 1 : ceil_divide(n, 2 * shards); }

}  // namespace

Distribution Distribution::cyclic(std::int64_t block) {
  if (block < 1) fail("distribution-block", fmt::format("cyclic({}) needs a block of at least 1", block));
  return {Kind::kCyclic, block, nullptr};
}

Distribution Distribution::intervals(std::vector<IndexSet> shards) {
  std::vector<Interval> all;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    IndexSet kept;
    for (const Interval& interval : shards[i]) {
      if (interval.begin < 0 || interval.end < interval.begin) {
        fail("distribution-intervals",
             fmt::format("interval [{}, {}) of shard {} is none", interval.begin, interval.end, i),
             "write 0 <= begin <= end");
      }
      append(kept, interval);
    }
    shards[i] = kept;
    all.insert(all.end(), kept.begin(), kept.end());
  }
  std::sort(all.begin(), all.end(), [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  std::int64_t n = 0;
  for (const Interval& interval : all) {
    if (interval.begin != n) {
      fail("distribution-intervals",
           interval.begin > n ? fmt::format("no shard owns indices [{}, {})", n, interval.begin)
                              : fmt::format("two shards own indices [{}, {})", interval.begin, std::min(n, interval.end)),
           "each index belongs to one shard");
    }
    n = interval.end;
  }
  static std::mutex mutex;
  static std::deque<Table> storage;
  const std::lock_guard lock(mutex);
  const auto found =
      std::find_if(storage.begin(), storage.end(), [&](const Table& table) { return table.shards == shards; });
  if (found != storage.end()) return {Kind::kIntervals, 0, &*found};
  storage.push_back({std::move(shards), n});
  return {Kind::kIntervals, 0, &storage.back()};
}

std::span<const IndexSet> Distribution::listed() const {
  if (table_ == nullptr) return {};
  return table_->shards;
}

std::size_t Distribution::hash() const {
  const auto table = static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(table_));
  return (static_cast<std::size_t>(kind_) * 0x9e3779b97f4a7c15U) ^ (static_cast<std::size_t>(block_) << 8) ^ table;
}

IndexSet owned_indices(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t i) {
  IndexSet owned;
  switch (distribution.kind()) {
    case Kind::kBlock: append(owned, chunk_at(n, ceil_divide(n, shards), i)); break;
    case Kind::kBalanced: {
      const std::int64_t begin = i * (n / shards) + std::min(i, n % shards);
      append(owned, {begin, begin + n / shards + (i < n % shards ? 1 : 0)});
      break;
    }
    case Kind::kCyclic: {
      const std::int64_t block = std::min(distribution.cyclic_block(), std::max<std::int64_t>(n, 1));
      for (std::int64_t chunk = i; chunk < ceil_divide(n, block); chunk += shards) append(owned, chunk_at(n, block, chunk));
      break;
    }
    case Kind::kHeadTail:
      append(owned, chunk_at(n, head_tail_chunk(n, shards), i));
      if (shards <= n) append(owned, chunk_at(n, head_tail_chunk(n, shards), 2 * shards - 1 - i));
      break;
    case Kind::kIntervals: return distribution.listed()[static_cast<std::size_t>(i)];
  }
  return owned;
}

std::int64_t owned_count(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t i) {
  switch (distribution.kind()) {
    case Kind::kBlock: return chunk_at(n, ceil_divide(n, shards), i).size();
    case Kind::kBalanced: return n / shards + (i < n % shards ? 1 : 0);
    case Kind::kCyclic: {
      const std::int64_t block = distribution.cyclic_block();
      const std::int64_t blocks = ceil_divide(n, block);
      if (i >= blocks) return 0;
      const std::int64_t mine = (blocks - 1 - i) / shards + 1;
      const bool last_is_mine = (blocks - 1) % shards == i;
      return last_is_mine ? (mine - 1) * block + (n - (blocks - 1) * block) : mine * block;
    }
    case Kind::kHeadTail:
    case Kind::kIntervals: return count_of(owned_indices(distribution, n, shards, i));
  }
  return 0;
}

std::int64_t largest_count(Distribution distribution, std::int64_t n, std::int64_t shards) {
  if (distribution.kind() == Kind::kIntervals) {
    std::int64_t largest = 0;
    for (const IndexSet& shard : distribution.listed()) largest = std::max(largest, count_of(shard));
    return largest;
  }
  // No shard owns more than the first, but of head_tail's (3 over 2: chunks 0 and -, 1 and 2), where it may be the last.
  return std::max(owned_count(distribution, n, shards, 0), owned_count(distribution, n, shards, shards - 1));
}

bool is_even(Distribution distribution, std::int64_t n, std::int64_t shards) {
  return n % shards == 0 && largest_count(distribution, n, shards) == n / shards;
}

Owner owner_of(Distribution distribution, std::int64_t n, std::int64_t shards, std::int64_t index) {
  switch (distribution.kind()) {
    case Kind::kBlock: {
      const std::int64_t chunk = ceil_divide(n, shards);
      return {index / chunk, index % chunk};
    }
    case Kind::kBalanced: {
      const std::int64_t small = n / shards;
      const std::int64_t large_total = small * (n % shards) + n % shards;
      if (index < large_total) return {index / (small + 1), index % (small + 1)};
      return {n % shards + (index - large_total) / small, (index - large_total) % small};
    }
    case Kind::kCyclic: {
      const std::int64_t block = distribution.cyclic_block();
      const std::int64_t chunk = index / block;
      return {chunk % shards, chunk / shards * block + index % block};
    }
    case Kind::kHeadTail: {
      const std::int64_t chunk = head_tail_chunk(n, shards);
      const std::int64_t at = index / chunk;
      if (at < shards) return {at, index % chunk};
      const std::int64_t shard = 2 * shards - 1 - at;
      return {shard, chunk_at(n, chunk, shard).size() + index % chunk};
    }
    case Kind::kIntervals: break;
  }
  for (std::size_t shard = 0; shard < distribution.listed().size(); ++shard) {
    std::int64_t local = 0;
    for (const Interval& interval : distribution.listed()[shard]) {
      if (index >= interval.begin && index < interval.end) {
        return {static_cast<std::int64_t>(shard), local + index - interval.begin};
      }
      local += interval.size();
    }
  }
  return {};
}

std::optional<std::string> misfit(Distribution distribution, std::int64_t n, std::int64_t shards) {
  if (distribution.kind() != Kind::kIntervals) return std::nullopt;
  const auto listed = distribution.listed();
  if (static_cast<std::int64_t>(listed.size()) != shards) {
    return fmt::format("the intervals are for {} shards, the axes make {}", listed.size(), shards);
  }
  std::int64_t covered = 0;
  for (const IndexSet& shard : listed) covered += count_of(shard);
  if (covered != n) return fmt::format("the intervals cover {} indices, the dim has {}", covered, n);
  return std::nullopt;
}

namespace {

// Explicit intervals with every bound multiplied or divided.
std::optional<Distribution> scale(Distribution distribution, std::int64_t multiply, std::int64_t divide) {
  std::vector<IndexSet> scaled;
  for (const IndexSet& shard : distribution.listed()) {
    IndexSet& to = scaled.emplace_back();
    for (const Interval& interval : shard) {
      if (interval.begin % divide != 0 || interval.end % divide != 0) return std::nullopt;
      to.push_back({interval.begin / divide * multiply, interval.end / divide * multiply});
    }
  }
  return Distribution::intervals(std::move(scaled));
}

}  // namespace

std::optional<Distribution> group_indices(Distribution distribution, std::int64_t n, std::int64_t shards,
                                          std::int64_t inner) {
  if (distribution.kind() == Kind::kIntervals) return scale(distribution, 1, inner);
  if (inner == 1 || shards == 1 || n == 0) return distribution;
  const std::int64_t groups = n / inner;
  switch (distribution.kind()) {
    case Kind::kBlock:
      // Equal chunks of whole groups; also where there are fewer groups than shards only if chunks of n are chunks of groups.
      return ceil_divide(n, shards) == ceil_divide(groups, shards) * inner ? std::optional(distribution) : std::nullopt;
    case Kind::kBalanced: return groups % shards == 0 ? std::optional(distribution) : std::nullopt;
    case Kind::kCyclic: {
      const std::int64_t block = distribution.cyclic_block();
      if (block % inner != 0 && block < n) return std::nullopt;
      return Distribution::cyclic(ceil_divide(block, inner));
    }
    case Kind::kHeadTail:
      return head_tail_chunk(n, shards) == head_tail_chunk(groups, shards) * inner ? std::optional(distribution)
                                                                                   : std::nullopt;
    case Kind::kIntervals: break;
  }
  return std::nullopt;
}

std::optional<Distribution> ungroup_indices(Distribution distribution, std::int64_t n, std::int64_t shards,
                                            std::int64_t inner) {
  if (distribution.kind() == Kind::kIntervals) return scale(distribution, inner, 1);
  if (inner == 1 || shards == 1) return distribution;
  if (distribution.kind() == Kind::kCyclic) {
    // A block beyond all indices may be as large as it likes: any that holds them all deals them so.
    const bool fits = distribution.cyclic_block() <= std::numeric_limits<std::int64_t>::max() / inner;
    return Distribution::cyclic(fits ? distribution.cyclic_block() * inner : std::numeric_limits<std::int64_t>::max());
  }
  return group_indices(distribution, n * inner, shards, inner);
}

bool deal_alike(Distribution a, Distribution b, std::int64_t n, std::int64_t shards) {
  if (a == b || shards == 1) return true;
  const auto in_order = [](Distribution d) { return d.kind() == Kind::kBlock || d.kind() == Kind::kBalanced; };
  return in_order(a) && in_order(b) && n % shards == 0;
}

std::string to_string(Distribution distribution) {
  switch (distribution.kind()) {
    case Kind::kBlock: return "block";
    case Kind::kBalanced: return "balanced";
    case Kind::kCyclic: return fmt::format("cyclic({})", distribution.cyclic_block());
    case Kind::kHeadTail: return "head_tail";
    case Kind::kIntervals: break;
  }
  std::vector<std::string> shards;
  for (const IndexSet& shard : distribution.listed()) {
    std::vector<std::string> parts;
    for (const Interval& interval : shard) parts.push_back(fmt::format("{}-{}", interval.begin, interval.end));
    shards.push_back(join(parts, " "));
  }
  return fmt::format("intervals({})", join(shards, " | "));
}

}  // namespace tessera
