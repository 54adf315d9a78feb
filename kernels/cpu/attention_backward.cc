// The gradient of dense attention.
#include <algorithm>
#include <array>

#include "kernels/call_checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dense_call.h"
#include "kernels/cpu/gradients.h"

namespace tessera::kernels::cpu {

std::string refusal(const AttentionBackwardCall& call) {
  std::string reason = refusal(call.forward);
  if (reason.empty()) reason = storage_refusal(std::array<NamedTensor, 1>{{{"out", &call.out}}});
  return reason;
}

namespace {

// A block's weights and gradients of scores stay in the cache between two products.
constexpr std::int64_t kMostLanes = 192;

}  // namespace

AttentionGradients attention_backward(const AttentionBackwardCall& call) {
  const Sizes size = check(call);
  const DenseCall dense(call.forward, size, kMostLanes);
  const DType storage = call.forward.query.dtype();
  std::vector<std::vector<const LaneRange*>> ranges(static_cast<std::size_t>(size['b']));
  for (const LaneRange& range : dense.ranges()) ranges[static_cast<std::size_t>(range.segment->batch)].push_back(&range);
  const auto of = [&](std::int64_t batch) -> auto& { return ranges[static_cast<std::size_t>(batch)]; };
  const GradientBlocks blocks{
      .most_places = size['t'],
      .count = [&](std::int64_t batch) { return static_cast<std::int64_t>(of(batch).size()); },
      .fill = [&](std::int64_t batch, std::int64_t key_head, std::int64_t block,
                  LanedBlock& result) { dense.fill(result, *of(batch)[static_cast<std::size_t>(block)], key_head); }};
  const Gradients result = run_gradients({call.out, call.softmax_max, call.softmax_sum, call.grad_out, call.gradient_dtype},
                                         blocks, call.forward.plan, size, {size['d'], 0}, storage,
                                         arithmetic_of(storage, std::min(dense.keys_of_row(), dense.rows_of_key())));
  return {result.queries[0], result.keys[0], result.values};
}

}  // namespace tessera::kernels::cpu
