// What the indexer's fast kernels hand to the code of one instruction set, as leaves.h does for attention. Private to
// kernels/cpu/.
//
// Query rows lie in lanes with all their index heads: lane x is head x % heads of row x / heads. A row's score of a key is
// then a sum over its lanes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/leaves.h"

namespace tessera::kernels::cpu {

/// One query row of one key head.
struct IndexerRow {
  const std::byte* query = nullptr;  ///< of its first index head
  const float* weights = nullptr;    ///< one for each index head
  std::int64_t begin = 0;            ///< it sees places [begin, end)
  std::int64_t end = 0;
};

/// Takes the scores of `count` places from `place` on of row `row`; those of one row come in order.
struct TakeScores {
  void (*call)(void* taker, std::int64_t row, std::int64_t place, const float* scores, std::int64_t count) = nullptr;
  void* taker = nullptr;
};

/// Maximum of a row's scores and sum of exp(score - max); both 0 without scores, NaN where a score is NaN.
struct ScoreStatistics {
  float max = 0;
  float sum = 0;
};
/// Of all scores together, from the statistics of disjoint ones; where a sum is 0, its maximum is not looked at unless it
/// is NaN.
ScoreStatistics merged(const ScoreStatistics* parts, std::size_t count);

struct IndexerBlock {
  std::span<const IndexerRow> rows{};
  std::int64_t heads = 0;        ///< index heads of a row
  std::int64_t head_stride = 0;  ///< bytes from one head of a query to the next
  std::int64_t element_stride = 1;
  BlockKeys keys{};                         ///< parts[0] only
  TakeScores take{};                        ///< for `index_scores`
  std::span<ScoreStatistics> statistics{};  ///< by row, for `index_statistics`
};

/// One query row of one key head, for the loss: lanes are its heads.
struct IndexerLossBlock {
  BlockKeys keys{};      ///< of the main attention, with places [begin, end)
  KeyRows index_keys{};  ///< of the indexer
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t heads = 0;             ///< main heads
  const std::byte* queries[2] = {};   ///< of the first main head: plain and rope part
  std::int64_t head_strides[2] = {};  ///< bytes
  std::int64_t element_strides[2] = {1, 1};
  const float* max = nullptr;  ///< statistics by main head
  const float* sum = nullptr;
  float scale = 1;

  std::int64_t index_heads = 0;
  const std::byte* index_query = nullptr;  ///< of the first index head
  std::int64_t index_head_stride = 0;      ///< bytes
  std::int64_t index_element_stride = 1;
  const float* weights = nullptr;  ///< by index head

  std::byte* grad_query = nullptr;  ///< written, [index_heads][width] of `gradient_dtype`
  DType gradient_dtype = DType::kF32;
  float* grad_weights = nullptr;  ///< written, by index head
  GradientRows grad_keys{};       ///< added to
  double* loss = nullptr;         ///< added to
};

}  // namespace tessera::kernels::cpu
