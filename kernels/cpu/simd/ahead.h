// Where keys' rows lie, and asking for those that are multiplied next while others are multiplied.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/leaves.h"

namespace tessera::kernels::cpu {

inline constexpr std::int64_t kCacheLine = 64;

/// Calls `visit(i, run, at)` for rows [first, first + count) without a list, in runs at even distances: `run` rows from the
/// `i`th on, which lies at `at`. There are several where pages are: divisions would take longer than reading a short row.
template <class Isa, class Visit>
inline void for_each_run(const KeyRows& keys, std::int64_t first, std::int64_t count, Visit visit) {
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t left = keys.pages == nullptr ? count : keys.page_rows - (first + i) % keys.page_rows;
    const std::int64_t run = std::min(count - i, left);
    visit(i, run, keys.row(first + i));
    i += run;
  }
}

/// Writes where the rows of places [first, first + count) lie.
template <class Isa, class Pointer>
inline void find_rows(const KeyRows& keys, const BlockKeys& block, std::int64_t first, std::int64_t count, Pointer* rows) {
  if (block.list != nullptr) {
    for (std::int64_t i = 0; i < count; ++i) rows[i] = keys.row(block.list[first + i]);
    return;
  }
  for_each_run<Isa>(keys, first, count, [&](std::int64_t i, std::int64_t run, const std::byte* row) {
    const std::int64_t stride = keys.row_stride;
    for (std::int64_t j = 0; j < run; ++j) rows[i + j] = row + j * stride;
  });
}

/// Repeats the last of `count` rows until there are `all`, so that whole tiles or vectors of them can be read.
template <class Isa, class Pointer>
inline void repeat_last(Pointer* rows, std::int64_t count, std::int64_t all) {
  for (std::int64_t i = count; i < all; ++i) rows[i] = rows[count - 1];
}

/// Asks for the rows of a block of keys a few cache lines at a time: all at once they would wait for one another, and the
/// tiles for them. Rows of different tokens lie too far apart for the machine to foresee. Worked example: 64 keys and values
/// of 512 bytes are 1024 lines; with 120 tiles before they are needed, each of them asks for 9.
template <class Isa>
class RowsAhead {
 public:
  /// From now on `ask`, called `times` times, asks for the rows of places [from, to).
  /// @param to at most from + kKeyBlock; below `from` there are none
  /// @param gradients asked for too, if given: that of a block with these keys
  void start(const BlockKeys& keys, std::int64_t element_bytes, std::int64_t from, std::int64_t to, std::int64_t times,
             const GradientBlock* gradients = nullptr) {
    operands_ = operand_ = row_ = byte_ = 0;
    rows_ = std::max<std::int64_t>(to - from, 0);
    std::int64_t lines = 0;
    const auto count_in = [&](std::int64_t bytes) {
      bytes_[operands_++] = bytes;
      lines += rows_ * (rounded_up(bytes, kCacheLine) / kCacheLine);
    };
    const auto add = [&](const KeyRows& rows, const GradientRows* gradient) {
      if (rows.width == 0) return;
      const bool latent = &rows == &keys.values && keys.values == keys.parts[0];  // those of the keys
      if (rows.element_stride == 1 && !latent) {
        find_rows<Isa>(rows, keys, from, rows_, addresses_[operands_]);
        count_in(rows.width * element_bytes);
      }
      if (gradient == nullptr) return;
      for (std::int64_t i = 0; i < rows_; ++i) addresses_[operands_][i] = gradient->row(keys.row(from + i));
      count_in(rows.width * static_cast<std::int64_t>(sizeof(float)));
    };
    for (int part = 0; part < 2; ++part) add(keys.parts[part], gradients == nullptr ? nullptr : &gradients->parts[part]);
    add(keys.values, gradients == nullptr ? nullptr : &gradients->values);
    lines_ = rounded_up(lines, times) / times;
  }

  void ask() {
    for (std::int64_t left = lines_; left > 0 && operand_ < operands_;) {
      const auto* row = static_cast<const std::byte*>(addresses_[operand_][row_]);
      const std::int64_t end = std::min(bytes_[operand_], byte_ + left * kCacheLine);
      // Into the second cache: what the tiles read now has the first one.
      for (; byte_ < end; byte_ += kCacheLine, --left) __builtin_prefetch(row + byte_, 0, 2);
      if (byte_ < bytes_[operand_]) return;
      byte_ = 0;
      if (++row_ < rows_) continue;
      row_ = 0;
      ++operand_;
    }
  }

 private:
  static constexpr int kMostOperands = 6;  // two parts, values, and their gradients

  const void* addresses_[kMostOperands][kKeyBlock];  // of operand, row
  std::int64_t bytes_[kMostOperands];                // of an operand's row
  std::int64_t operands_ = 0;
  std::int64_t rows_ = 0;
  std::int64_t lines_ = 0;    // asked for at a time
  std::int64_t operand_ = 0;  // the next line is this operand's, of this row, at this byte
  std::int64_t row_ = 0;
  std::int64_t byte_ = 0;
};

}  // namespace tessera::kernels::cpu
