#include "kernels/cpu/gradients.h"

#include <algorithm>

#include "kernels/cpu/operands.h"
#include "kernels/cpu/outputs.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {

Gradients run_gradients(const GradientOperands& operands, const GradientBlocks& blocks, const RowPlan& plan,
                        const Sizes& size, std::array<std::int64_t, 2> widths, DType storage, Arithmetic arithmetic) {
  const DType dtype = operands.gradient_dtype.value_or(storage);
  const DType leaf_dtype = dtype == DType::kF64 ? DType::kF32 : dtype;
  const Tensor grad_out = operands.grad_out.dtype() == storage ? operands.grad_out : operands.grad_out.to(storage);
  const Tensor max = operands.softmax_max.to(DType::kF32);
  const Tensor sum = operands.softmax_sum.to(DType::kF32);
  const auto leaf = leaves().gradient[static_cast<std::size_t>(arithmetic)];

  const std::int64_t heads = size['b'] * size['k'];
  std::int64_t most_blocks = 0;
  for (std::int64_t b = 0; b < size['b']; ++b) most_blocks = std::max(most_blocks, blocks.count(b));
  const std::int64_t parts = gradient_parts(heads, most_blocks, heads * size['t'] * (widths[0] + widths[1] + size['e']));
  Gradients result;
  std::array<KeyGradients, 2> keys;
  for (std::size_t part = 0; part < 2; ++part) {
    if (widths[part] == 0) continue;
    result.queries[part] = rows_of_plan(plan, {size['b'], size['s'], size['n'], widths[part]}, leaf_dtype);
    keys[part] = KeyGradients(parts, size['b'], size['k'], size['t'], widths[part]);
  }
  KeyGradients values(parts, size['b'], size['k'], size['t'], size['e']);
  parallel_for(heads * parts, [&](std::int64_t task) {
    const std::int64_t own = task % parts;
    const std::int64_t key_head = task / parts % size['k'];
    const std::int64_t batch = task / parts / size['k'];
    LanedBlock laned;
    std::array<std::array<std::byte*, kMaxLanes>, 2> queries;
    for (std::int64_t block = own; block < blocks.count(batch); block += parts) {
      blocks.fill(batch, key_head, block, laned);
      const std::size_t lanes = laned.block.lanes.size();
      GradientBlock gradient{.grad_out_stride = grad_out.strides()[3],
                             .out_dtype = operands.out.dtype(),
                             .gradient_dtype = leaf_dtype,
                             .values = values.rows(own, batch, key_head)};
      for (std::size_t i = 0; i < lanes; ++i) {
        const auto& [b, row, head] = laned.origins[i];
        QueryLane& lane = laned.lanes[i];
        lane.out = element(operands.out, b, row, head);
        lane.grad_out = element(grad_out, b, row, head);
        lane.max = const_cast<float*>(statistic(max, b, row, head));
        lane.sum = const_cast<float*>(statistic(sum, b, row, head));
        for (std::size_t part = 0; part < 2; ++part) {
          if (widths[part] > 0) queries[part][i] = element(result.queries[part], b, row, head);
        }
      }
      for (std::size_t part = 0; part < 2; ++part) {
        gradient.queries[part] = {queries[part].data(), lanes};
        if (widths[part] > 0) gradient.parts[part] = keys[part].rows(own, batch, key_head);
      }
      laned.block.out_stride = operands.out.strides()[3];
      gradient.forward = laned.block;
      leaf(gradient);
    }
  });
  for (std::size_t part = 0; part < 2; ++part) {
    if (widths[part] == 0) continue;
    if (leaf_dtype != dtype) result.queries[part] = result.queries[part].to(dtype);
    result.keys[part] = keys[part].total(dtype);
  }
  result.values = values.total(dtype);
  return result;
}

}  // namespace tessera::kernels::cpu
