// The results of a backward pass, dense or sparse: what its blocks read and where they write. Private to kernels/cpu/.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/key_gradients.h"
#include "kernels/operands.h"
#include "kernels/row_plan.h"

namespace tessera::kernels::cpu {

/// What a backward pass has beside the forward call. Parts are the plain and the rope part of queries and keys.
struct GradientOperands {
  const Tensor& out;
  const Tensor& softmax_max;
  const Tensor& softmax_sum;
  const Tensor& grad_out;
  std::optional<DType> gradient_dtype;
};

/// The blocks of one key head of one batch entry: `fill` makes one.
struct GradientBlocks {
  std::int64_t most_places = 0;  ///< of keys, that a block meets at most
  std::function<std::int64_t(std::int64_t batch)> count;
  std::function<void(std::int64_t batch, std::int64_t key_head, std::int64_t block, LanedBlock& result)> fill;
};

struct Gradients {
  std::array<Tensor, 2> queries;
  std::array<Tensor, 2> keys;
  Tensor values;
};

/// Runs all blocks, those of a task (see `GradientCuts`) in order, on one thread.
/// @param widths of the two parts; 0 for an absent one
Gradients run_gradients(const GradientOperands& operands, const GradientBlocks& blocks, const RowPlan& plan,
                        const Sizes& size, std::array<std::int64_t, 2> widths, DType storage, Arithmetic arithmetic);

}  // namespace tessera::kernels::cpu
