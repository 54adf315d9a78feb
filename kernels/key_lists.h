// From a row's list of key blocks to rows of the key tensor: the one reading of `indices`, for all providers. Private to
// kernels/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/row_plan.h"

namespace tessera::kernels {

/// The list of one row and key head, as `SparseAttentionCall` reads it, and the row that reads it. `Slot` is std::int32_t
/// or std::int64_t.
template <class Slot>
struct KeyList {
  std::span<const Slot> slots;  ///< c blocks, counted from the start of the row's own sequence
  std::int64_t block_size = 1;  ///< keys a slot names, at least 1
  KeyRange keys;                ///< what the plan lets the row see
  std::int64_t key_base = 0;    ///< row of the key tensor at which key 0 of the sequence lies
  std::int64_t length = 0;      ///< keys of the sequence
  std::string_view op{};        ///< from here on: what an error calls the list
  std::int64_t batch = 0;
  std::int64_t row = 0;
  std::int64_t key_head = 0;
};

/// A slot that names no block of its sequence. @throws Error "index-out-of-range", always
[[noreturn]] void fail_listed_block(std::string_view op, std::int64_t batch, std::int64_t row, std::int64_t key_head,
                                    std::size_t slot, std::int64_t block, std::int64_t length, std::int64_t block_size);

/// Calls `visit(begin, end)` with the rows [begin, end) of the key tensor that each slot adds, in the list's order; what it
/// visits is never empty.
///
/// Worked example: slots [1, 0, -1, 2] of blocks of 4, for a row that sees keys [2, 6) of a sequence of 9, which lies from
/// row 10 on: the limit 6 has 2 slots read, which gives visit(14, 16), then visit(12, 14).
/// @throws Error "index-out-of-range" for a block that starts at or beyond the sequence's length
template <class Slot, class Visit>
void for_each_listed(const KeyList<Slot>& list, Visit visit) {
  if (list.keys.begin >= list.keys.end) return;
  const std::int64_t read = (list.keys.end - 1) / list.block_size + 1;  // later slots are not looked at
  const std::int64_t blocks = (list.length - 1) / list.block_size + 1;
  for (std::size_t slot = 0; slot < list.slots.size() && static_cast<std::int64_t>(slot) < read; ++slot) {
    const std::int64_t block = list.slots[slot];
    if (block < 0) return;
    if (block >= blocks) {
      fail_listed_block(list.op, list.batch, list.row, list.key_head, slot, block, list.length, list.block_size);
    }
    const std::int64_t begin = std::max(block * list.block_size, list.keys.begin);
    const std::int64_t end = std::min(block * list.block_size + std::min(list.block_size, list.keys.end), list.keys.end);
    if (begin < end) visit(list.key_base + begin, list.key_base + end);
  }
}

/// Rows that a list of `slots` slots can name at most, whatever the row: what a buffer must hold.
/// @param most_keys the largest `keys.end` of all rows
constexpr std::int64_t most_listed_rows(std::int64_t slots, std::int64_t block_size, std::int64_t most_keys) {
  // A block gives min(block_size, limit) keys at most, and ceil(limit / block_size) slots are read.
  if (most_keys <= 0 || slots <= 0) return 0;
  const std::int64_t of_block = std::min(block_size, most_keys);
  return std::min(slots, (most_keys - 1) / block_size + 1) * of_block;
}

/// Writes the rows that a list names, one by one, in its order, into a caller's buffer of integers, as std::copy does.
/// @return the end of what was written; @throws as `for_each_listed`
template <class Slot, class Out>
Out write_listed_rows(const KeyList<Slot>& list, Out out) {
  for_each_listed(list, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) *out++ = static_cast<std::iter_value_t<Out>>(row);
  });
  return out;
}

/// Rows of the key tensor that a list names, in its order. @throws as `for_each_listed`
template <class Slot>
std::vector<std::int64_t> listed_rows(const KeyList<Slot>& list) {
  std::vector<std::int64_t> rows;
  for_each_listed(list, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) rows.push_back(row);
  });
  return rows;
}

}  // namespace tessera::kernels
