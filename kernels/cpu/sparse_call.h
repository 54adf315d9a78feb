// A sparse call as leaves take it, shared by the forward and the backward pass: a block is one query row with the heads of
// one key head, which read the same list. Private to kernels/cpu/.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/operands.h"
#include "kernels/operands.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels::cpu {

/// Query heads [head, head + count) of a row, all of one key head.
struct ListedRow {
  const RowSegment* segment = nullptr;
  std::int64_t row = 0;
  std::int64_t key_head = 0;
  std::int64_t head = 0;
  std::int64_t count = 0;
};

class SparseCall {
 public:
  SparseCall(const SparseAttentionCall& call, const Sizes& size);

  /// Heads beyond what a block holds are in blocks of their own.
  [[nodiscard]] std::int64_t block_count() const { return static_cast<std::int64_t>(rows_.size()) * blocks_of_row_; }
  [[nodiscard]] ListedRow at(std::int64_t block) const;
  /// Heads that a block has at most.
  [[nodiscard]] std::int64_t most_lanes() const { return heads_of_block_; }
  /// Keys that a list names at most.
  [[nodiscard]] std::int64_t most_keys() const { return most_keys_; }
  /// The block of a row, all but outputs and statistics. `result.block` points into `result`.
  /// @throws Error "index-out-of-range"
  void fill(LanedBlock& result, const ListedRow& row) const;

 private:
  struct Row {
    const RowSegment* segment;
    std::int64_t row;
  };

  const SparseAttentionCall& call_;
  Tensor indices_;
  std::optional<Tensor> table_;
  std::int64_t group_;
  std::int64_t heads_of_block_;
  std::int64_t blocks_of_row_;
  std::int64_t most_keys_ = 0;
  std::vector<Row> rows_;
};

}  // namespace tessera::kernels::cpu
