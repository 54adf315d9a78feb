// A dense call as leaves take it, shared by the forward and the backward pass. Private to kernels/cpu/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/leaves.h"
#include "kernels/cpu/operands.h"
#include "kernels/operands.h"

namespace tessera::kernels::cpu {

/// An attention call cut into blocks: range `r` of key head `h` is one.
class DenseCall {
 public:
  /// @param most_lanes of a block
  DenseCall(const AttentionCall& call, const Sizes& size, std::int64_t most_lanes);

  [[nodiscard]] const std::vector<LaneRange>& ranges() const { return ranges_; }
  /// Lanes that a range has at most.
  [[nodiscard]] std::int64_t most_lanes() const;
  /// Keys that a row sees, and rows (of all heads of a group) that see a key, on average.
  [[nodiscard]] double keys_of_row() const { return pairs_ / std::max(rows_, 1.0); }
  [[nodiscard]] double rows_of_key() const { return pairs_ * static_cast<double>(group_) / std::max(keys_, 1.0); }
  /// Key heads that are best read together: those that lie side by side within a token, where rows are so few that memory's
  /// speed counts.
  [[nodiscard]] std::int64_t heads_together() const;
  /// The block of a range and key head, all but outputs and statistics. `result.block` points into `result`.
  void fill(LanedBlock& result, const LaneRange& range, std::int64_t key_head) const;

 private:
  const AttentionCall& call_;
  std::int64_t group_;
  std::optional<Tensor> mask_;
  std::optional<Tensor> table_;
  std::vector<LaneRange> ranges_;
  double pairs_ = 0;
  double rows_ = 0;
  double keys_ = 0;
};

}  // namespace tessera::kernels::cpu
