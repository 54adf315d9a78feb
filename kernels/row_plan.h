// Which keys each query row sees: the one form in which every attention kernel takes masks, documents and context
// parallelism.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tessera {

/// A run of query rows that follow one another in memory and belong to one sequence. Row `row + i` (0 <= i < count) sees
/// the keys numbered `[max(0, first + first_step * i), min(length, limit + limit_step * i))` of its sequence, where key
/// number j lies at row `key_base + j` of the key tensor.
///
/// A sequence's rows are cut anywhere: a part of it is the same segment with `row` and the two bounds translated. Worked
/// example: 8 causal queries over 8 keys, of which this rank holds rows 4..7 as its local rows 0..3: `{.row = 0, .count =
/// 4, .position = 4, .length = 8, .first = 0, .limit = 5, .limit_step = 1}` lets local row 0 see keys 0..4 and local row 3
/// keys 0..7.
struct RowSegment {
  std::int64_t batch = 0;  ///< index into the batch dim of queries and keys; 0 where they have none (TND)
  std::int64_t row = 0;    ///< first row, inside that batch entry of the local query tensor
  std::int64_t count = 0;  ///< rows
  std::int64_t sequence =
      0;  ///< global number of the sequence: of the batch entry, or of the document (what dropout goes by)
  std::int64_t position = 0;    ///< global position of the first row inside its sequence (what masks and dropout go by)
  std::int64_t key_base = 0;    ///< row of the local key tensor at which key 0 of the sequence lies
  std::int64_t length = 0;      ///< keys the sequence has
  std::int64_t first = 0;       ///< first key that the first row sees; may be below 0
  std::int64_t limit = 0;       ///< one past the last key that the first row sees; may be <= 0 or beyond `length`
  std::int64_t first_step = 0;  ///< by how much `first` moves from row to row: 0 or 1
  std::int64_t limit_step = 0;  ///< by how much `limit` moves from row to row: 0 or 1

  friend bool operator==(const RowSegment&, const RowSegment&) = default;
};

/// The plan of one rank's local queries. Rows that no segment covers see no key: their output is 0, their max and sum are
/// 0.
struct RowPlan {
  std::vector<RowSegment> segments;

  friend bool operator==(const RowPlan&, const RowPlan&) = default;
};

/// Keys that one row sees: numbers `[begin, end)` of its sequence; `begin >= end` means none.
struct KeyRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

/// What row `segment.row + i` sees. @pre 0 <= i < segment.count
constexpr KeyRange keys_of(const RowSegment& segment, std::int64_t i) {
  const std::int64_t begin = segment.first + segment.first_step * i;
  const std::int64_t end = segment.limit + segment.limit_step * i;
  return {begin > 0 ? begin : 0, end < segment.length ? end : segment.length};
}

}  // namespace tessera
