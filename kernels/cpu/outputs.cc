#include "kernels/cpu/outputs.h"

namespace tessera::kernels::cpu {

const float* statistic(const Tensor& statistics, std::int64_t batch, std::int64_t row, std::int64_t head) {
  const std::int64_t group = statistics.size(3);
  return reinterpret_cast<const float*>(element(statistics, batch, head / group, row)) +
         head % group * statistics.strides()[3];
}

void AttentionOutputs::attach(LanedBlock& laned) {
  laned.block.out_dtype = leaf_dtype_;
  laned.block.write_out = result_.out.rank() == 4;
  for (std::size_t i = 0; i < laned.block.lanes.size(); ++i) {
    const auto& [batch, row, head] = laned.origins[i];
    if (laned.block.write_out) laned.lanes[i].out = element(result_.out, batch, row, head);
    if (result_.softmax_max.rank() != 4) continue;
    laned.lanes[i].max = const_cast<float*>(statistic(result_.softmax_max, batch, row, head));
    laned.lanes[i].sum = const_cast<float*>(statistic(result_.softmax_sum, batch, row, head));
  }
}

AttentionResult AttentionOutputs::result() const {
  AttentionResult result = result_;
  if (leaf_dtype_ != dtype_ && result.out.rank() == 4) result.out = result.out.to(dtype_);
  return result;
}

}  // namespace tessera::kernels::cpu
