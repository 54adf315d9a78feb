// The results of a forward pass, dense or sparse, and where each lane writes its part of them. Private to kernels/cpu/.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/operands.h"
#include "kernels/operands.h"

namespace tessera::kernels::cpu {

/// Where the entry of a query head of a row lies in statistics [b, k, s, g].
const float* statistic(const Tensor& statistics, std::int64_t batch, std::int64_t row, std::int64_t head);

class AttentionOutputs {
 public:
  /// @param call an AttentionCall or SparseAttentionCall
  template <class Call>
  AttentionOutputs(const Call& call, const Sizes& size)
      : dtype_(call.out_dtype.value_or(call.query.dtype())), leaf_dtype_(dtype_ == DType::kF64 ? DType::kF32 : dtype_) {
    if (call.return_out)
      result_.out =
          rows_of_plan(call.plan, size['b'], size['s'], {size['b'], size['s'], size['n'], size['e']}, leaf_dtype_);
    if (!call.return_statistics) return;
    result_.softmax_max = Tensor::zeros({size['b'], size['k'], size['s'], size['g']}, DType::kF32);
    result_.softmax_sum = Tensor::zeros({size['b'], size['k'], size['s'], size['g']}, DType::kF32);
  }

  /// Has a block's lanes write their parts of the results.
  void attach(LanedBlock& laned);
  /// Once all blocks are done.
  [[nodiscard]] AttentionResult result() const;

 private:
  DType dtype_;
  DType leaf_dtype_;  // what leaves write: f32 where f64 is asked for
  AttentionResult result_;
};

}  // namespace tessera::kernels::cpu
