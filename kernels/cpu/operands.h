// From tensors to what leaves take: rows of keys, lanes of queries, blocks of a plan. Private to kernels/cpu/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"
#include "kernels/cpu/leaves.h"
#include "kernels/row_plan.h"

namespace tessera::kernels::cpu {

/// Tasks that keep many threads busy: calls are cut into at least as many where that pays, whatever the number of threads, on which
/// no number may depend.
inline constexpr std::int64_t kTasks = 32;

/// An operand of a call, to be looked at before the call is checked.
struct NamedTensor {
  std::string_view name;
  const Tensor* tensor;
};
/// Why leaves cannot take these operands, "" where they can: they work on f32, bf16 or f16, the same in all, and on widths
/// above 0.
std::string storage_refusal(std::span<const NamedTensor> tensors);

/// Where element [a, b, c, 0] of a tensor of four dims lies.
inline const std::byte* element(const Tensor& tensor, std::int64_t a, std::int64_t b, std::int64_t c) {
  const Shape& strides = tensor.strides();
  return tensor.bytes_begin() + (a * strides[0] + b * strides[1] + c * strides[2]) * size_of(tensor.dtype());
}
inline std::byte* element(Tensor& tensor, std::int64_t a, std::int64_t b, std::int64_t c) {
  return const_cast<std::byte*>(element(std::as_const(tensor), a, b, c));
}

/// Head `head` of batch entry `batch` of keys or values [b, t, k, d], or of [blocks, rows, k, d] where there is a block
/// table [b, m] of i64, which must outlive the result.
KeyRows key_rows(const Tensor& keys, std::int64_t batch, std::int64_t head, const std::optional<Tensor>& block_table);

/// Writes the rows of the key tensor that a query row's list names to `rows`. @param indices [b, s, k, c], each list together
/// @throws Error "index-out-of-range" in the name of `op`
void list_rows(std::string_view op, const Tensor& indices, std::int64_t block_size, const RowSegment& segment,
               std::int64_t row, std::int64_t key_head, std::vector<std::int64_t>& rows);

/// Some rows of a segment with all query heads of a key head: lanes [first, first + count) of the segment's count * group
/// lanes, lane x being query head x % group of row x / group.
struct LaneRange {
  const RowSegment* segment = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;

  [[nodiscard]] std::int64_t row(std::int64_t lane, std::int64_t group) const {
    return segment->row + (first + lane) / group;
  }
  [[nodiscard]] std::int64_t head(std::int64_t lane, std::int64_t group) const { return (first + lane) % group; }
  /// The rows of the key tensor that a lane sees; [most, 0) for none, so that it widens no other lane's range.
  [[nodiscard]] KeyRange places(std::int64_t lane, std::int64_t group) const {
    const KeyRange keys = keys_of(*segment, (first + lane) / group);
    if (keys.begin >= keys.end) return {INT32_MAX, 0};
    return {segment->key_base + keys.begin, segment->key_base + keys.end};
  }
};

/// Whether each of the rows [b, s] is one of the plan's, as far as is easily seen: where segments follow one another.
bool covers_all_rows(const RowPlan& plan, std::int64_t b, std::int64_t s);

/// A result of this shape in which a plan's rows of [b, s] will be written: the others are zeros.
Tensor rows_of_plan(const RowPlan& plan, std::int64_t b, std::int64_t s, const Shape& shape, DType dtype);

/// A plan's rows in ranges of at most `most` lanes, the costliest (the last of each segment) first.
std::vector<LaneRange> lane_ranges(const RowPlan& plan, std::int64_t group, std::int64_t most);

}  // namespace tessera::kernels::cpu
