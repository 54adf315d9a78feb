// Calls of the indexer's loss to try kernels on, and the loss by plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/lightning_indexer.h"
#include "kernels/sparse_attention.h"
#include "tests/kernels/lists.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {

/// Heads of the main attention, key heads, index heads.
struct LossHeads {
  std::int64_t n, k, h;
};

/// The call with the statistics that attention over its keys gives.
inline IndexerLossCall with_statistics(IndexerLossCall call) {
  Tensor slots;
  if (call.indices) {
    slots = *call.indices;
  } else {  // complete lists, for attention has no rope parts of its own
    std::int64_t longest = 0;
    for (const RowSegment& part : call.plan.segments) longest = std::max(longest, part.length);
    slots = Tensor::zeros({call.key.size(0), call.query.size(1), call.key.size(2), longest}, DType::kI64);
    for (const Index& i : all_indices(slots.shape())) slots.data<std::int64_t>()[slots.offset_of(i)] = i[3];
  }
  const AttentionResult result = reference::sparse_attention({.query = call.query,
                                                              .key = call.key,
                                                              .value = call.key,
                                                              .indices = slots,
                                                              .plan = call.plan,
                                                              .scale = call.scale,
                                                              .query_rope = call.query_rope,
                                                              .key_rope = call.key_rope});
  call.softmax_max = result.softmax_max;
  call.softmax_sum = result.softmax_sum;
  return call;
}

/// A call of random operands, with lists of up to 4 keys or without, with rope parts or without.
inline IndexerLossCall loss_call(const PlanCase& plan, const LossHeads& heads, DType dtype, bool sparse, bool rope) {
  IndexerLossCall call{.query_index = sample({plan.b, plan.s, heads.h, 3}, dtype, 1),
                       .key_index = sample({plan.b, plan.t, heads.k, 3}, dtype, 2),
                       .weights = sample({plan.b, plan.s, heads.h}, dtype, 3),
                       .query = sample({plan.b, plan.s, heads.n, 4}, dtype, 4),
                       .key = sample({plan.b, plan.t, heads.k, 4}, dtype, 5),
                       .softmax_max = {},
                       .softmax_sum = {},
                       .plan = plan.plan,
                       .scale = 0.7};
  if (sparse) call.indices = random_lists(plan, heads.k, 4, 1, DType::kI32);
  if (rope) {
    call.query_rope = sample({plan.b, plan.s, heads.n, 2}, dtype, 6);
    call.key_rope = sample({plan.b, plan.t, heads.k, 2}, dtype, 7);
  }
  return with_statistics(call);
}

/// Rows of the key tensor that count for a row and key head.
inline std::vector<std::int64_t> expected_keys(const IndexerLossCall& call, std::int64_t b, std::int64_t row,
                                               std::int64_t kh) {
  const SeenBy seen = seen_by(call.plan, b, row);
  std::vector<std::int64_t> keys;
  if (!call.indices) {
    for (std::int64_t key = seen.begin; key < seen.end; ++key) keys.push_back(seen.base + key);
    return keys;
  }
  for (std::int64_t slot = 0; slot < call.indices->size(3) && slot < seen.end; ++slot) {
    const auto key = static_cast<std::int64_t>(number(*call.indices, {b, row, kh, slot}));
    if (key < 0) break;
    if (key >= seen.begin && key < seen.end) keys.push_back(seen.base + key);
  }
  return keys;
}

/// q . k of one head of a row and one row of the keys.
inline double dot(const Tensor& q, const Tensor& k, std::int64_t b, std::int64_t row, std::int64_t head, std::int64_t key,
                  std::int64_t kh) {
  double sum = 0;
  for (std::int64_t d = 0; d < q.size(3); ++d) sum += number(q, {b, row, head, d}) * number(k, {b, key, kh, d});
  return sum;
}

inline std::vector<double> softmax_of(const std::vector<double>& scores) {
  std::vector<double> weights;
  double sum = 0;
  for (double score : scores) sum += std::exp(score);
  for (double score : scores) weights.push_back(std::exp(score) / sum);
  return weights;
}

/// The loss by definition, without statistics.
inline double expected_loss(const IndexerLossCall& call) {
  const std::int64_t k = call.key.size(2);
  const std::int64_t g = call.query.size(2) / k;
  const std::int64_t f = call.query_index.size(2) / k;
  double loss = 0;
  for (const Index& i : all_indices({call.query.size(0), call.query.size(1), k})) {
    const std::vector<std::int64_t> keys = expected_keys(call, i[0], i[1], i[2]);
    std::vector<double> p(keys.size(), 0.0);
    for (std::int64_t head = i[2] * g; head < (i[2] + 1) * g; ++head) {
      std::vector<double> scores;
      for (std::int64_t key : keys) {
        scores.push_back(call.scale * dot(call.query, call.key, i[0], i[1], head, key, i[2]));
        if (call.query_rope) {
          scores.back() += call.scale * dot(*call.query_rope, *call.key_rope, i[0], i[1], head, key, i[2]);
        }
      }
      const std::vector<double> weights = softmax_of(scores);
      for (std::size_t j = 0; j < keys.size(); ++j) p[j] += weights[j] / static_cast<double>(g);
    }
    std::vector<double> scores(keys.size(), 0.0);
    for (std::int64_t head = i[2] * f; head < (i[2] + 1) * f; ++head) {
      for (std::size_t j = 0; j < keys.size(); ++j) {
        scores[j] += number(call.weights, {i[0], i[1], head}) *
                     std::max(0.0, dot(call.query_index, call.key_index, i[0], i[1], head, keys[j], i[2]));
      }
    }
    const std::vector<double> y = softmax_of(scores);
    for (std::size_t j = 0; j < keys.size(); ++j) {
      loss += std::max(p[j], 1e-8) * (std::log(std::max(p[j], 1e-8)) - std::log(std::max(y[j], 1e-8)));
    }
  }
  return loss;
}

}  // namespace tessera::kernels
