#include "kernels/cpu/operands.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/key_lists.h"

namespace tessera::kernels::cpu {

std::string storage_refusal(std::span<const NamedTensor> tensors) {
  const DType first = tensors.front().tensor->dtype();
  for (const auto& [name, tensor] : tensors) {
    const DType dtype = tensor->dtype();
    if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16)
      return fmt::format("{} is {}, not f32, bf16 or f16", name, to_string(dtype));
    if (dtype != first)
      return fmt::format("{} is {}, {} is {}", tensors.front().name, to_string(first), name, to_string(dtype));
    if (tensor->rank() == 4 && tensor->size(3) == 0) return fmt::format("{} has width 0", name);
  }
  return {};
}

KeyRows key_rows(const Tensor& keys, std::int64_t batch, std::int64_t head, const std::optional<Tensor>& block_table) {
  const Shape& strides = keys.strides();
  const std::int64_t bytes = size_of(keys.dtype());
  KeyRows rows{.base = element(keys, block_table ? 0 : batch, 0, head),
               .width = keys.size(3),
               .row_stride = strides[1] * bytes,
               .element_stride = strides[3]};
  if (block_table) {
    rows.pages = block_table->data<std::int64_t>() + batch * block_table->strides()[0];
    rows.page_rows = keys.size(1);
    rows.page_stride = strides[0] * bytes;
  }
  return rows;
}

bool covers_all_rows(const RowPlan& plan, std::int64_t b, std::int64_t s) {
  std::int64_t next = 0;  // counted through all batch entries
  for (const RowSegment& segment : plan.segments) {
    if (segment.batch * s + segment.row != next) return false;
    next += segment.count;
  }
  return next == b * s;
}

Tensor rows_of_plan(const RowPlan& plan, std::int64_t b, std::int64_t s, const Shape& shape, DType dtype) {
  return covers_all_rows(plan, b, s) ? Tensor::uninitialized(shape, dtype) : Tensor::zeros(shape, dtype);
}

void list_rows(std::string_view op, const Tensor& indices, std::int64_t block_size, const RowSegment& segment,
               std::int64_t row, std::int64_t key_head, std::vector<std::int64_t>& rows) {
  rows.clear();
  const std::byte* list = element(indices, segment.batch, row, key_head);
  const auto write = [&]<class Slot>(const Slot* slots) {
    const KeyList<Slot> read{.slots = {slots, static_cast<std::size_t>(indices.size(3))},
                             .block_size = block_size,
                             .keys = keys_of(segment, row - segment.row),
                             .key_base = segment.key_base,
                             .length = segment.length,
                             .op = op,
                             .batch = segment.batch,
                             .row = row,
                             .key_head = key_head};
    for_each_listed(read, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t key = begin; key < end; ++key) rows.push_back(key);
    });
  };
  if (indices.dtype() == DType::kI32) write(reinterpret_cast<const std::int32_t*>(list));
  else write(reinterpret_cast<const std::int64_t*>(list));
}

std::vector<LaneRange> lane_ranges(const RowPlan& plan, std::int64_t group, std::int64_t most) {
  std::vector<LaneRange> ranges;
  for (const RowSegment& segment : plan.segments) {
    const std::int64_t lanes = segment.count * group;
    for (std::int64_t first = 0; first < lanes; first += most)
      ranges.push_back({&segment, first, std::min(most, lanes - first)});
  }
  std::reverse(ranges.begin(), ranges.end());
  return ranges;
}

}  // namespace tessera::kernels::cpu
