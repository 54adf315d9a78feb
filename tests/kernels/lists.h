// Index lists to try sparse kernels on.
#pragma once

#include <algorithm>
#include <random>

#include "core/tensor/tensor.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {

/// Random lists [b, s, k, slots] of blocks of each row's sequence: any order, blocks named twice, about one slot in five
/// ends a list.
inline Tensor random_lists(const PlanCase& plan, std::int64_t k, std::int64_t slots, std::int64_t block_size, DType dtype) {
  std::mt19937 random(11);
  Tensor lists = Tensor::zeros({plan.b, plan.s, k, slots}, DType::kI64);
  for (const Index& i : all_indices(lists.shape())) {
    const std::int64_t length = seen_by(plan.plan, i[0], i[1]).length;
    const std::int64_t blocks = (length + block_size - 1) / block_size;
    const bool end = blocks == 0 || random() % 5 == 0;
    lists.at<std::int64_t>({i[0], i[1], i[2], i[3]}) = end ? -1 : static_cast<std::int64_t>(random()) % blocks;
  }
  return lists.to(dtype);
}

/// Lists [b, s, k, slots] that name every key of each row's sequence up to its limit, in order, then -1.
/// @pre no limit is beyond `slots`
inline Tensor complete_lists(const PlanCase& plan, std::int64_t k, std::int64_t slots) {
  Tensor lists = Tensor::zeros({plan.b, plan.s, k, slots}, DType::kI64);
  for (const Index& i : all_indices(lists.shape())) {
    lists.at<std::int64_t>({i[0], i[1], i[2], i[3]}) = i[3] < seen_by(plan.plan, i[0], i[1]).end ? i[3] : -1;
  }
  return lists;
}

}  // namespace tessera::kernels
