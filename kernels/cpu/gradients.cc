#include "kernels/cpu/gradients.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "kernels/cpu/operands.h"
#include "kernels/cpu/outputs.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {

namespace {

// Leaves a block the rows [from, to) of its keys.
void keep_rows(LanedBlock& laned, std::int64_t from, std::int64_t to) {
  if (laned.block.keys.list == nullptr) return keep_places(laned, from, to);
  std::erase_if(laned.list, [&](std::int64_t row) { return row < from || row >= to; });
  for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) laned.lanes[i].end = std::ssize(laned.list);
}

}  // namespace

Gradients run_gradients(const GradientOperands& operands, const GradientBlocks& blocks, const RowPlan& plan,
                        const Sizes& size, std::array<std::int64_t, 2> widths, DType storage, Arithmetic arithmetic) {
  const DType dtype = operands.gradient_dtype.value_or(storage);
  const DType leaf_dtype = dtype == DType::kF64 ? DType::kF32 : dtype;
  const Tensor grad_out = operands.grad_out.dtype() == storage ? operands.grad_out : operands.grad_out.to(storage);
  const Tensor max = operands.softmax_max.to(DType::kF32);
  const Tensor sum = operands.softmax_sum.to(DType::kF32);
  const auto leaf = leaves().gradient[static_cast<std::size_t>(arithmetic)];

  const std::int64_t heads = size['b'] * size['k'];
  const std::int64_t width = widths[0] + widths[1];
  GradientWork work{.heads = heads,
                    .places = blocks.most_places,
                    .query_numbers = size['b'] * size['s'] * size['n'] * width,
                    .key_numbers = heads * size['t'] * (width + size['e'])};
  for (std::int64_t b = 0; b < size['b']; ++b) work.blocks = std::max(work.blocks, blocks.count(b));
  const GradientCuts cuts = cut_gradients(work);
  // The queries' gradients, apart for each piece of the keys: [pieces, b, s, n, width]. Rows of no block stay zeros.
  std::array<Tensor, 2> queries;
  std::array<KeyGradients, 2> keys;
  const DType query_dtype = cuts.pieces == 1 ? leaf_dtype : DType::kF32;
  for (std::size_t part = 0; part < 2; ++part) {
    if (widths[part] == 0) continue;
    const std::int64_t own = cuts.pieces == 1 ? widths[part] : rounded_up(widths[part], kWidestVector);
    const Shape shape{cuts.pieces, size['b'], size['s'], size['n'], own};
    queries[part] = rows_of_plan(plan, size['b'], size['s'], shape, query_dtype);
    keys[part] = KeyGradients(cuts, size['b'], size['k'], size['t'], widths[part], leaf_dtype);
  }
  KeyGradients values(cuts, size['b'], size['k'], size['t'], size['e'], leaf_dtype);
  parallel_for(heads * cuts.parts * cuts.pieces, [&](std::int64_t index) {
    const GradientTask task = gradient_task(index, cuts, size['k'], size['t']);
    std::array<KeyGradients::Sums, 2> key_sums;
    for (std::size_t part = 0; part < 2; ++part) {
      if (widths[part] > 0) key_sums[part] = keys[part].begin(task);
    }
    const KeyGradients::Sums value_sums = values.begin(task);
    LanedBlock laned;
    std::array<std::array<std::byte*, kMaxLanes>, 2> addresses;
    for (std::int64_t block = task.part; block < blocks.count(task.batch); block += cuts.parts) {
      blocks.fill(task.batch, task.key_head, block, laned);
      if (cuts.pieces > 1) keep_rows(laned, task.first, task.last);
      const std::size_t lanes = laned.block.lanes.size();
      GradientBlock gradient{.grad_out_stride = grad_out.strides()[3],
                             .out_dtype = operands.out.dtype(),
                             .gradient_dtype = query_dtype,
                             .parts = {key_sums[0].rows, key_sums[1].rows},
                             .values = value_sums.rows};
      for (std::size_t i = 0; i < lanes; ++i) {
        const auto& [b, row, head] = laned.origins[i];
        QueryLane& lane = laned.lanes[i];
        lane.out = element(operands.out, b, row, head);
        lane.grad_out = element(grad_out, b, row, head);
        lane.max = const_cast<float*>(statistic(max, b, row, head));
        lane.sum = const_cast<float*>(statistic(sum, b, row, head));
      }
      for (std::size_t part = 0; part < 2; ++part) {
        if (widths[part] == 0) continue;
        Tensor piece = queries[part].select(0, task.piece);
        for (std::size_t i = 0; i < lanes; ++i) {
          const auto& [b, row, head] = laned.origins[i];
          addresses[part][i] = element(piece, b, row, head);
        }
        gradient.queries[part] = {addresses[part].data(), lanes};
      }
      laned.block.out_stride = operands.out.strides()[3];
      gradient.forward = laned.block;
      leaf(gradient);
    }
    for (std::size_t part = 0; part < 2; ++part) {
      if (widths[part] > 0) keys[part].end(task, key_sums[part]);
    }
    values.end(task, value_sums);
  });
  Gradients result;
  for (std::size_t part = 0; part < 2; ++part) {
    if (widths[part] == 0) continue;
    const Tensor own = cuts.pieces == 1 ? queries[part].select(0, 0) : added_up(queries[part], widths[part], leaf_dtype);
    result.queries[part] = own.to(dtype);
    result.keys[part] = keys[part].result().to(dtype);
  }
  result.values = values.result().to(dtype);
  return result;
}

}  // namespace tessera::kernels::cpu
