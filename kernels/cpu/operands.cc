#include "kernels/cpu/operands.h"

#include <fmt/format.h>

#include <algorithm>

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

Tensor rows_of_plan(const RowPlan& plan, const Shape& shape, DType dtype) {
  std::int64_t next = 0;  // counted through all batch entries
  bool gap = false;
  for (const RowSegment& segment : plan.segments) {
    gap = gap || segment.batch * shape[1] + segment.row != next;
    next += segment.count;
  }
  return gap || next != shape[0] * shape[1] ? Tensor::zeros(shape, dtype) : Tensor::uninitialized(shape, dtype);
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
