// From sequences, lengths and shards to row plans: the front ends of every attention kernel.
#pragma once

#include <span>
#include <vector>

#include "kernels/row_plan.h"
#include "layouts/distribution.h"
#include "ops/attention/band.h"

namespace tessera {

/// A padded batch (BSND and its kin): every batch entry is a sequence at the front of its rows.
struct PaddedBatch {
  std::int64_t batch = 0;                            ///< local batch entries
  std::int64_t rows_total = 0;                       ///< global query rows an entry has, padding included
  std::int64_t keys_total = 0;                       ///< key rows an entry has, padding included; all of them are local
  std::span<const std::int64_t> query_lengths = {};  ///< of the local entries; none: all rows. One: for every entry
  std::span<const std::int64_t> key_lengths = {};
  std::span<const Interval> entries = {};  ///< global numbers of the local entries, in their order; none: 0, 1, ...
};

/// The plan of the query rows `rows` (global indices that this rank holds, in local order) of every local batch entry. Rows beyond an
/// entry's length are padding and see nothing. A segment's `sequence` is the entry's global number, whatever splits the batch.
///
/// Worked example: 10 causal queries as 3 + 3 + 3 + 1 over 10 keys, last rank: rows {[9, 10)}: one row that sees keys 0..9.
/// @throws Error "sequence-lengths" for a length below 0 or beyond its total, or lists of another number than the entries; "batch-entries"
///   where `entries` are of another number than `batch`
RowPlan plan_padded(const PaddedBatch& batch, const IndexSet& rows, const Masking& masking);

/// A packed batch (TND): sequences one after the other, told by prefix sums: entry i is where sequence i ends.
struct PackedBatch {
  std::int64_t rows_total = 0;               ///< global query rows
  std::int64_t keys_total = 0;               ///< global key rows
  std::span<const std::int64_t> query_ends;  ///< global prefix sums; rows after the last are padding
  std::span<const std::int64_t> key_ends;
};

/// The plan of the global query rows `rows` over the global key rows `keys` that this rank holds. Sequences may begin and end anywhere
/// in a shard: a segment is the part of one sequence inside one interval of rows, and its `sequence` that one's number in the prefix sums.
///
/// @throws Error "sequence-lengths" (counts differ, a sum decreases, or exceeds its total), "keys-elsewhere" where a row would see keys that this
///   rank does not hold: the sequence crosses a border of the keys' shards
RowPlan plan_packed(const PackedBatch& batch, const IndexSet& rows, const IndexSet& keys, const Masking& masking);

/// How many (row, key) pairs a plan lets see each other: the work of one head.
std::int64_t visible_pairs(const RowPlan& plan);

}  // namespace tessera
