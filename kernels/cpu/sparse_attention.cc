// Attention over listed keys: the heads of a row lie in lanes and share one gather of the keys.
#include "kernels/call_checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/outputs.h"
#include "kernels/cpu/sparse_call.h"

namespace tessera::kernels::cpu {

std::string refusal(const SparseAttentionCall& call) {
  std::vector<NamedTensor> operands = {{"query", &call.query}, {"key", &call.key}, {"value", &call.value}};
  if (call.query_rope) operands.push_back({"query_rope", &*call.query_rope});
  if (call.key_rope) operands.push_back({"key_rope", &*call.key_rope});
  return storage_refusal(operands);
}

AttentionResult sparse_attention(const SparseAttentionCall& call) {
  const Sizes size = check(call);
  AttentionOutputs outputs(call, size);
  const SparseCall sparse(call, size);
  const BlocksShape shape{.count = sparse.block_count(),
                          .most_places = sparse.most_keys(),
                          .most_lanes = sparse.most_lanes(),
                          .value_width = size['e'],
                          .arithmetic = arithmetic_of(call.query.dtype(), static_cast<double>(sparse.most_keys()))};
  run_blocks(shape, [&](std::int64_t block, LanedBlock& laned) {
    sparse.fill(laned, sparse.at(block));
    outputs.attach(laned);
  });
  return outputs.result();
}

}  // namespace tessera::kernels::cpu
