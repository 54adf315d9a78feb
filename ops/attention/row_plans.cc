#include "ops/attention/row_plans.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/diagnostic.h"

namespace tessera {
namespace {

// The segment of `count` rows from position `position` of a sequence on, with the band's bounds as the first row sees them.
RowSegment segment_of(const Band& band, std::int64_t position, std::int64_t count, std::int64_t length) {
  RowSegment segment{.count = count, .position = position, .length = length, .first = 0, .limit = length};
  if (band.lo) {
    segment.first = position + *band.lo;
    segment.first_step = 1;
  }
  if (band.hi) {
    segment.limit = position + *band.hi + 1;
    segment.limit_step = 1;
  }
  return segment;
}

std::int64_t length_of(std::span<const std::int64_t> lengths, std::int64_t entry, std::int64_t entries, std::int64_t total,
                       std::string_view name) {
  if (lengths.empty()) return total;
  if (lengths.size() != 1 && static_cast<std::int64_t>(lengths.size()) != entries) {
    fail("sequence-lengths", fmt::format("{} has {} entries for {} sequences", name, lengths.size(), entries),
         "give one for each sequence, or one for all");
  }
  const std::int64_t length = lengths.size() == 1 ? lengths[0] : lengths[static_cast<std::size_t>(entry)];
  if (length < 0 || length > total) {
    fail("sequence-lengths", fmt::format("{}[{}] is {}, sequences have 0 to {} rows", name, entry, length, total));
  }
  return length;
}

void check_ends(std::span<const std::int64_t> ends, std::int64_t total, std::string_view name) {
  std::int64_t before = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (ends[i] < before) {
      fail("sequence-lengths", fmt::format("{}[{}] is {}, below the entry before it ({})", name, i, ends[i], before),
           "prefix sums never decrease: entry i is where sequence i ends");
    }
    before = ends[i];
  }
  if (before > total) {
    fail("sequence-lengths", fmt::format("{} ends at {}, the tensor has {} rows", name, before, total));
  }
}

}  // namespace

RowPlan plan_padded(const PaddedBatch& batch, const IndexSet& rows, const Masking& masking) {
  RowPlan plan;
  std::vector<std::int64_t> numbers;
  for (const Interval& interval : batch.entries) {
    for (std::int64_t number = interval.begin; number < interval.end; ++number) numbers.push_back(number);
  }
  if (!batch.entries.empty() && static_cast<std::int64_t>(numbers.size()) != batch.batch) {
    fail("batch-entries", fmt::format("{} numbers are given for {} batch entries", numbers.size(), batch.batch),
         "give each local entry its global number, or none where all entries are local");
  }
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    const std::int64_t queries =
        length_of(batch.query_lengths, b, batch.batch, batch.rows_total, "actual_seq_lengths_query");
    const std::int64_t keys = length_of(batch.key_lengths, b, batch.batch, batch.keys_total, "actual_seq_lengths_kv");
    const Band band = band_of(masking, queries, keys);
    std::int64_t local = 0;
    for (const Interval& interval : rows) {
      const std::int64_t count = std::min(interval.end, queries) - interval.begin;
      if (count > 0) {
        RowSegment segment = segment_of(band, interval.begin, count, keys);
        segment.batch = b;
        segment.sequence = numbers.empty() ? b : numbers[static_cast<std::size_t>(b)];
        segment.row = local;
        plan.segments.push_back(segment);
      }
      local += interval.size();
    }
  }
  return plan;
}

RowPlan plan_packed(const PackedBatch& batch, const IndexSet& rows, const IndexSet& keys, const Masking& masking) {
  if (batch.query_ends.size() != batch.key_ends.size()) {
    fail("sequence-lengths", fmt::format("actual_seq_lengths_query names {} sequences, actual_seq_lengths_kv {}",
                                         batch.query_ends.size(), batch.key_ends.size()));
  }
  check_ends(batch.query_ends, batch.rows_total, "actual_seq_lengths_query");
  check_ends(batch.key_ends, batch.keys_total, "actual_seq_lengths_kv");
  const Interval held = keys.empty() ? Interval{} : Interval{keys.front().begin, keys.back().end};

  RowPlan plan;
  std::int64_t local = 0;
  for (const Interval& interval : rows) {
    // From the first sequence that ends inside or behind the interval on.
    auto sequence = static_cast<std::size_t>(
        std::upper_bound(batch.query_ends.begin(), batch.query_ends.end(), interval.begin) - batch.query_ends.begin());
    for (; sequence < batch.query_ends.size(); ++sequence) {
      const std::int64_t query_begin = sequence == 0 ? 0 : batch.query_ends[sequence - 1];
      const std::int64_t key_begin = sequence == 0 ? 0 : batch.key_ends[sequence - 1];
      const std::int64_t queries = batch.query_ends[sequence] - query_begin;
      const std::int64_t length = batch.key_ends[sequence] - key_begin;
      const std::int64_t begin = std::max(interval.begin, query_begin);
      const std::int64_t end = std::min(interval.end, batch.query_ends[sequence]);
      if (begin >= interval.end) break;
      if (begin >= end) continue;
      RowSegment segment = segment_of(band_of(masking, queries, length), begin - query_begin, end - begin, length);
      segment.row = local + begin - interval.begin;
      segment.sequence = static_cast<std::int64_t>(sequence);
      segment.key_base = key_begin - held.begin;
      // All that any of these rows sees lies between what the first and what the last see.
      const KeyRange first = keys_of(segment, 0);
      const KeyRange last = keys_of(segment, segment.count - 1);
      const KeyRange seen{first.begin, last.end};
      if (seen.begin < seen.end && (key_begin + seen.begin < held.begin || key_begin + seen.end > held.end)) {
        fail("keys-elsewhere",
             fmt::format("sequence {} (query rows {} to {}) sees keys {} to {}, this rank holds keys {} to {}", sequence,
                         begin, end - 1, key_begin + seen.begin, key_begin + seen.end - 1, held.begin, held.end - 1),
             "split the keys only where sequences end, or keep them whole");
      }
      plan.segments.push_back(segment);
    }
    local += interval.size();
  }
  return plan;
}

std::int64_t visible_pairs(const RowPlan& plan) {
  std::int64_t pairs = 0;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange range = keys_of(segment, i);
      pairs += std::max<std::int64_t>(0, range.end - range.begin);
    }
  }
  return pairs;
}

}  // namespace tessera
