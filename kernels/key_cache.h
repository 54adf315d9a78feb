// A cache of keys and values for decoding: plain data, rows added behind each sequence, and the plan of the newest rows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/tensor/tensor.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

/// Keys and values of b sequences, of which the first `lengths[i]` rows of sequence i are set; what lies behind them is
/// not read. Dense, or in blocks, of which the block table tells whose they are: row j of sequence i is row j % rows of
/// block `block_table[i, j / rows]`. Blocks may be shared by sequences that begin alike, as long as none of these appends
/// to them.
///
/// Worked example: two sequences of up to 512 rows, decoded a row at a time:
/// ```
/// KeyValueCache cache{.key = Tensor::zeros({2, 512, k, d}, DType::kBF16),
///                     .value = Tensor::zeros({2, 512, k, e}, DType::kBF16),
///                     .lengths = {0, 0}};
/// append(cache, key, value);  // [2, 1, k, d] and [2, 1, k, e]
/// attention({.query = query, .key = cache.key, .value = cache.value, .plan = cache_plan(cache, 1)});
/// ```
struct KeyValueCache {
  Tensor key;                           ///< [b, capacity, k, d]; in blocks [blocks, rows, k, d]
  Tensor value;                         ///< [b, capacity, k, e]; in blocks [blocks, rows, k, e]
  std::optional<Tensor> block_table{};  ///< i32 or i64 [b, m]; entries behind those that the rows need are not read
  std::vector<std::int64_t> lengths{};  ///< b, rows that each sequence has
};

/// Rows that each sequence may have: the cache's dim 1, or m * rows in blocks.
/// @throws Error "shape-mismatch", "dtype" where the cache's parts do not fit each other; "sequence-lengths" for a length
///   below 0 or beyond the capacity
std::int64_t capacity(const KeyValueCache& cache);

/// Writes rows behind each sequence's, into the memory of the cache's tensors, and raises the lengths.
/// @param key    [b, r, k, d] in the cache's dtype
/// @param value  [b, r, k, e]
/// @param counts how many of the r rows, the first ones, each sequence gets; none given: all r
/// @throws as `capacity`, and Error "row-counts" where `counts` are no b numbers from 0 to r, "cache-full" where a
///   sequence's rows do not fit, "block-table" where an entry that they need names no block. Nothing is written then.
void append(KeyValueCache& cache, const Tensor& key, const Tensor& value, std::span<const std::int64_t> counts = {});

/// The plan of queries [b, r, n, d] of which the first `counts[i]` rows of entry i are the last rows of sequence i, those
/// just appended: each sees the keys up to its own (the diagonal ends at the last query and the last key), or with a
/// window only the last `window` of these. Query rows behind them see nothing.
///
/// Worked example: 3 new rows of a sequence that now has 7: they are at positions 4, 5 and 6 and see keys 0..4, 0..5 and
/// 0..6; with a window of 2 keys 3..4, 4..5 and 5..6.
/// @throws as `capacity`, and Error "row-counts" where `counts` are no b numbers from 0 to the sequences' lengths,
///   "attribute-range" for a window below 1
RowPlan cache_plan(const KeyValueCache& cache, std::span<const std::int64_t> counts,
                   std::optional<std::int64_t> window = std::nullopt);

/// The same with as many new rows in each sequence; sequences that are still empty have none.
RowPlan cache_plan(const KeyValueCache& cache, std::int64_t new_rows, std::optional<std::int64_t> window = std::nullopt);

}  // namespace tessera::kernels
