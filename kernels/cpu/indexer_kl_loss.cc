// The loss that trains the indexer: each part of the rows of a key head goes through its rows in order, on one thread.
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "kernels/call_checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/key_gradients.h"
#include "kernels/cpu/operands.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {
namespace {

struct LossRow {
  const RowSegment* segment;
  std::int64_t row;
  KeyRange keys;
};

// By batch entry, those that see keys.
std::vector<std::vector<LossRow>> rows_by_batch(const RowPlan& plan, std::int64_t batches) {
  std::vector<std::vector<LossRow>> rows(static_cast<std::size_t>(batches));
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange keys = keys_of(segment, i);
      if (keys.begin < keys.end) rows[static_cast<std::size_t>(segment.batch)].push_back({&segment, segment.row + i, keys});
    }
  }
  return rows;
}

// How many keys a row's sums go over at most, on average over rows.
double keys_of_row(const std::vector<std::vector<LossRow>>& rows, const IndexerLossCall& call) {
  const std::int64_t most = call.indices ? call.indices->size(3) : std::numeric_limits<std::int64_t>::max();
  double keys = 0;
  double count = 0;
  for (const auto& of_batch : rows) {
    for (const LossRow& row : of_batch) keys += static_cast<double>(std::min(row.keys.end - row.keys.begin, most));
    count += static_cast<double>(of_batch.size());
  }
  return keys / std::max(count, 1.0);
}

}  // namespace

std::string refusal(const IndexerLossCall& call) {
  std::vector<NamedTensor> operands = {
      {"query_index", &call.query_index}, {"key_index", &call.key_index}, {"query", &call.query}, {"key", &call.key}};
  if (call.query_rope) operands.push_back({"query_rope", &*call.query_rope});
  if (call.key_rope) operands.push_back({"key_rope", &*call.key_rope});
  std::string reason = storage_refusal(operands);
  if (reason.empty()) reason = storage_refusal(std::array<NamedTensor, 1>{{{"weights", &call.weights}}});
  if (reason.empty() && call.query.size(2) == 0) reason = "query has no heads";
  if (reason.empty() && call.query_index.size(2) == 0) reason = "query_index has no heads";
  return reason;
}

IndexerLossResult indexer_kl_loss(const IndexerLossCall& call) {
  const Sizes size = check(call);
  const std::int64_t group = size['g'];
  const std::int64_t index_group = size['f'];
  const DType storage = call.query_index.dtype();
  const std::int64_t bytes = size_of(storage);
  const DType dtype = call.gradient_dtype.value_or(storage);
  const DType leaf_dtype = dtype == DType::kF64 ? DType::kF32 : dtype;
  const Tensor weights = call.weights.to(DType::kF32);
  const Tensor max = call.softmax_max.to(DType::kF32);
  const Tensor sum = call.softmax_sum.to(DType::kF32);
  const std::optional<Tensor> indices = call.indices ? std::optional(call.indices->contiguous()) : std::nullopt;
  const std::vector<std::vector<LossRow>> rows = rows_by_batch(call.plan, size['b']);
  const auto leaf = leaves().index_loss[static_cast<std::size_t>(arithmetic_of(storage, keys_of_row(rows, call)))];

  std::size_t most = 0;
  for (const auto& of_batch : rows) most = std::max(most, of_batch.size());
  const std::int64_t key_heads = size['b'] * size['k'];
  const DType key_dtype = call.gradient_dtype.value_or(call.key_index.dtype());
  const GradientCuts cuts = cut_gradients(
      {.heads = key_heads, .blocks = static_cast<std::int64_t>(most), .key_numbers = key_heads * size['t'] * size['i']});
  Tensor grad_query = Tensor::zeros(call.query_index.shape(), leaf_dtype);
  Tensor grad_weights = Tensor::zeros(call.weights.shape(), DType::kF32);
  KeyGradients grad_key(cuts, size['b'], size['k'], size['t'], size['i'],
                        key_dtype == DType::kF64 ? DType::kF32 : key_dtype);
  std::vector<double> losses(static_cast<std::size_t>(key_heads * cuts.parts), 0.0);
  parallel_for(std::ssize(losses), [&](std::int64_t index) {
    const GradientTask task = gradient_task(index, cuts, size['k'], size['t']);
    const std::int64_t batch = task.batch;
    const std::int64_t key_head = task.key_head;
    const KeyGradients::Sums key_sums = grad_key.begin(task);
    const auto& own = rows[static_cast<std::size_t>(batch)];
    std::vector<std::int64_t> list;
    double loss = 0;
    for (auto r = static_cast<std::size_t>(task.part); r < own.size(); r += static_cast<std::size_t>(cuts.parts)) {
      const LossRow& row = own[r];
      const std::int64_t head = key_head * group;
      const std::int64_t index_head = key_head * index_group;
      IndexerLossBlock block{
          .keys = {.parts = {key_rows(call.key, batch, key_head, std::nullopt), {}}, .values = {}},
          .index_keys = key_rows(call.key_index, batch, key_head, std::nullopt),
          .begin = row.segment->key_base + row.keys.begin,
          .end = row.segment->key_base + row.keys.end,
          .heads = group,
          .queries = {element(call.query, batch, row.row, head), nullptr},
          .head_strides = {call.query.strides()[2] * bytes, 0},
          .element_strides = {call.query.strides()[3], 1},
          .scale = static_cast<float>(call.scale),
          .index_heads = index_group,
          .index_query = element(call.query_index, batch, row.row, index_head),
          .index_head_stride = call.query_index.strides()[2] * bytes,
          .index_element_stride = call.query_index.strides()[3],
          .weights = weights.data<float>() + (batch * size['s'] + row.row) * size['h'] + index_head,
          .grad_query = element(grad_query, batch, row.row, index_head),
          .gradient_dtype = leaf_dtype,
          .grad_weights = grad_weights.data<float>() + (batch * size['s'] + row.row) * size['h'] + index_head,
          .grad_keys = key_sums.rows,
          .loss = &loss};
      if (call.query_rope) {
        block.keys.parts[1] = key_rows(*call.key_rope, batch, key_head, std::nullopt);
        block.queries[1] = element(*call.query_rope, batch, row.row, head);
        block.head_strides[1] = call.query_rope->strides()[2] * bytes;
        block.element_strides[1] = call.query_rope->strides()[3];
      }
      const std::int64_t statistics = ((batch * size['k'] + key_head) * size['s'] + row.row) * group;
      block.max = max.data<float>() + statistics;
      block.sum = sum.data<float>() + statistics;
      if (indices) {
        list_rows(IndexerLossCall::kName, *indices, 1, *row.segment, row.row, key_head, list);
        block.keys.list = list.data();
        block.begin = 0;
        block.end = static_cast<std::int64_t>(list.size());
      }
      if (block.begin < block.end) leaf(block);
    }
    grad_key.end(task, key_sums);
    losses[static_cast<std::size_t>(index)] = loss;
  });
  const double loss = std::accumulate(losses.begin(), losses.end(), 0.0);
  return {.query = grad_query.to(dtype),
          .key = grad_key.result().to(key_dtype),
          .weights = grad_weights.to(call.gradient_dtype.value_or(call.weights.dtype())),
          .loss = Tensor::of<float>({1}, {static_cast<float>(loss)})};
}

}  // namespace tessera::kernels::cpu
