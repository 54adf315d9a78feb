// The gradient of attention over listed keys.
#include <algorithm>
#include <array>

#include "kernels/call_checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gradients.h"
#include "kernels/cpu/sparse_call.h"

namespace tessera::kernels::cpu {

std::string refusal(const SparseAttentionBackwardCall& call) {
  std::string reason = refusal(call.forward);
  if (reason.empty()) reason = storage_refusal(std::array<NamedTensor, 1>{{{"out", &call.out}}});
  return reason;
}

SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call) {
  const Sizes size = check(call);
  const SparseCall sparse(call.forward, size);
  const DType storage = call.forward.query.dtype();
  std::vector<std::vector<std::vector<std::int64_t>>> of(
      static_cast<std::size_t>(size['b']));  // blocks by batch entry and key head
  for (auto& heads : of) heads.resize(static_cast<std::size_t>(size['k']));
  for (std::int64_t block = 0; block < sparse.block_count(); ++block) {
    const ListedRow row = sparse.at(block);
    of[static_cast<std::size_t>(row.segment->batch)][static_cast<std::size_t>(row.key_head)].push_back(block);
  }
  const GradientBlocks blocks{.most_places = sparse.most_keys(),
                              .count =
                                  [&](std::int64_t batch) {
                                    const auto& heads = of[static_cast<std::size_t>(batch)];
                                    return heads.empty() ? 0 : static_cast<std::int64_t>(heads.front().size());
                                  },
                              .fill =
                                  [&](std::int64_t batch, std::int64_t key_head, std::int64_t block, LanedBlock& result) {
                                    const auto& own =
                                        of[static_cast<std::size_t>(batch)][static_cast<std::size_t>(key_head)];
                                    sparse.fill(result, sparse.at(own[static_cast<std::size_t>(block)]));
                                  }};
  // A key is listed by as many rows as lists are long, where there are as many rows as keys.
  const double pairs = static_cast<double>(sparse.most_keys() * size['s'] * size['g']);
  const double terms =
      std::min(static_cast<double>(sparse.most_keys()), pairs / static_cast<double>(std::max<std::int64_t>(size['t'], 1)));
  const Gradients result = run_gradients(
      {call.out, call.softmax_max, call.softmax_sum, call.grad_out, call.gradient_dtype}, blocks, call.forward.plan, size,
      {size['d'], call.forward.query_rope ? size['r'] : 0}, storage, arithmetic_of(storage, terms));
  return {result.queries[0], result.keys[0], result.values, result.queries[1], result.keys[1]};
}

}  // namespace tessera::kernels::cpu
