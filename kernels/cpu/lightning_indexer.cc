// The lightning indexer: blocks of rows, with all index heads of a key head, over threads; where there are few blocks,
// their keys in pieces.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "core/tensor/convert.h"
#include "kernels/call_checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/operands.h"
#include "kernels/cpu/top_keys.h"
#include "support/parallel.h"

namespace tessera::kernels::cpu {

ScoreStatistics merged(const ScoreStatistics* parts, std::size_t count) {
  float max = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(parts[i].max)) return parts[i];
    if (parts[i].sum != 0) max = std::max(max, parts[i].max);
  }
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (parts[i].sum != 0)
      sum += static_cast<double>(parts[i].sum) * std::exp(static_cast<double>(parts[i].max) - static_cast<double>(max));
  }
  if (sum == 0) return {};
  return {max, static_cast<float>(sum)};
}

namespace {

// Rows of a call in blocks: range `r` of key head `h` is one.
class IndexerRows {
 public:
  /// @param count keys that each row keeps
  template <class Call>
  IndexerRows(const Call& call, const Sizes& size, std::int64_t count, std::optional<Tensor> table)
      : query_(call.query),
        key_(call.key),
        weights_(call.weights.to(DType::kF32)),
        table_(std::move(table)),
        heads_(size['g']),
        key_heads_(size['k']),
        most_keys_(size['t']),
        ranges_(lane_ranges(call.plan, 1, rows_of_block(size['g']))) {
    constexpr std::int64_t kLeastPlaces = 2048;  // of a piece: else merging costs more than it gains
    if (block_count() == 0) return;
    const std::int64_t most = most_keys_ / std::max(kLeastPlaces, 4 * std::min(count, most_keys_));
    pieces_ = std::clamp<std::int64_t>(kTasks / block_count(), 1, std::max<std::int64_t>(most, 1));
  }

  struct Block {
    const LaneRange* range;
    std::int64_t key_head;
  };
  [[nodiscard]] std::int64_t block_count() const { return static_cast<std::int64_t>(ranges_.size()) * key_heads_; }
  [[nodiscard]] Block block(std::int64_t number) const {
    const auto ranges = static_cast<std::int64_t>(ranges_.size());
    return {&ranges_[static_cast<std::size_t>(number % ranges)], number / ranges};
  }
  [[nodiscard]] std::int64_t pieces() const { return pieces_; }
  [[nodiscard]] std::int64_t most_keys() const { return most_keys_; }

  /// Piece `piece` of a block, all but what becomes of the scores; its rows are written to `rows`.
  [[nodiscard]] IndexerBlock leaf_block(const Block& block, std::int64_t piece, std::vector<IndexerRow>& rows) const {
    const std::int64_t batch = block.range->segment->batch;
    const std::int64_t head = block.key_head * heads_;
    rows.clear();
    KeyRange all{std::numeric_limits<std::int64_t>::max(), 0};
    for (std::int64_t i = 0; i < block.range->count; ++i) {
      const KeyRange places = block.range->places(i, 1);
      const std::int64_t row = block.range->row(i, 1);
      rows.push_back({.weights = weights_.data<float>() + (batch * weights_.size(1) + row) * weights_.size(2) + head,
                      .begin = places.begin,
                      .end = places.end});
      if (heads_ > 0) rows.back().query = element(query_, batch, row, head);
      all = {std::min(all.begin, places.begin), std::max(all.end, places.end)};
    }
    const std::int64_t begin = all.begin - all.begin % kKeyBlock;
    const std::int64_t taken = rounded_up(std::max<std::int64_t>(all.end - begin, 0), pieces_ * kKeyBlock) / pieces_;
    for (IndexerRow& row : rows) {
      row.begin = std::max(row.begin, begin + piece * taken);
      row.end = std::min(row.end, begin + (piece + 1) * taken);
    }
    const Shape& strides = query_.strides();
    return {.rows = rows,
            .heads = heads_,
            .head_stride = strides[2] * size_of(query_.dtype()),
            .element_stride = strides[3],
            .keys = {.parts = {key_rows(key_, batch, block.key_head, table_), {}}, .values = {}}};
  }

 private:
  // Rows that share each reading of the keys: so many that memory keeps up, and few enough for the queries to stay in the
  // second cache.
  static std::int64_t rows_of_block(std::int64_t heads) {
    constexpr std::int64_t kLanes = 384;
    constexpr std::int64_t kRows = 48;  // each has candidates
    return std::clamp<std::int64_t>(kLanes / std::max<std::int64_t>(heads, 1), 1, kRows);
  }

  const Tensor& query_;
  const Tensor& key_;
  Tensor weights_;  // contiguous
  std::optional<Tensor> table_;
  std::int64_t heads_;
  std::int64_t key_heads_;
  std::int64_t most_keys_;
  std::vector<LaneRange> ranges_;
  std::int64_t pieces_ = 1;
};

template <class Call>
std::string refusal_of(const Call& call) {
  std::string reason = storage_refusal(std::array<NamedTensor, 2>{{{"query", &call.query}, {"key", &call.key}}});
  if (reason.empty()) reason = storage_refusal(std::array<NamedTensor, 1>{{{"weights", &call.weights}}});
  return reason;
}

std::size_t arithmetic_for(const Tensor& query) {
  return static_cast<std::size_t>(
      arithmetic_of(query.dtype(), std::numeric_limits<double>::infinity()));  // scores are exact products, summed in f32
}

// What rows without keys get.
void write_none(IndexerResult& result) {
  std::ranges::fill(result.indices.span<std::int32_t>(), -1);
  Tensor& values = result.values;
  const Tensor none = Tensor::of<float>({1}, {-std::numeric_limits<float>::infinity()}).to(values.dtype());
  values.copy_from(none.broadcast_to(values.shape()));
}

}  // namespace

std::string refusal(const IndexerCall& call) { return refusal_of(call); }
std::string refusal(const IndexerLseCall& call) { return refusal_of(call); }

IndexerResult lightning_indexer(const IndexerCall& call) {
  const Sizes size = check(call);
  const IndexerRows rows(call, size, call.count,
                         call.block_table ? std::optional(call.block_table->to(DType::kI64)) : std::nullopt);
  const auto leaf = leaves().index_scores[arithmetic_for(call.query)];
  const Shape shape = {size['b'], size['s'], size['k'], call.count};
  IndexerResult result{Tensor::uninitialized(shape, DType::kI32), Tensor::uninitialized(shape, call.query.dtype())};
  if (!covers_all_rows(call.plan, size['b'], size['s'])) write_none(result);
  if (call.count == 0) return result;

  // Chooses the keys of a piece of a block, by row.
  const auto choose = [&](const IndexerRows::Block& block, std::int64_t piece, std::vector<TopKeys>& chosen) {
    struct Taker {
      std::vector<TopKeys>& chosen;
      std::int64_t key_base;
    } taker{chosen, block.range->segment->key_base};
    thread_local std::vector<IndexerRow> leaf_rows;
    IndexerBlock leaf_block = rows.leaf_block(block, piece, leaf_rows);
    if (chosen.size() < leaf_rows.size()) chosen.resize(leaf_rows.size());
    for (std::size_t r = 0; r < leaf_rows.size(); ++r)
      chosen[r].reset(call.count, std::max<std::int64_t>(leaf_rows[r].end - leaf_rows[r].begin, 0));
    leaf_block.take = {[](void* to, std::int64_t row, std::int64_t place, const float* scores, std::int64_t count) {
                         auto& [tops, key_base] = *static_cast<Taker*>(to);
                         tops[static_cast<std::size_t>(row)].take(static_cast<std::int32_t>(place - key_base),
                                                                  {scores, static_cast<std::size_t>(count)});
                       },
                       &taker};
    leaf(leaf_block);
  };
  const auto write = [&](const IndexerRows::Block& block, std::int64_t row, std::span<const RankedKey> best) {
    const std::int64_t place = block.range->segment->batch * size['s'] + block.range->row(row, 1);
    const std::int64_t first = (place * size['k'] + block.key_head) * call.count;
    std::int32_t* indices = result.indices.data<std::int32_t>() + first;
    std::ranges::transform(best, indices, &RankedKey::key);
    std::fill(indices + best.size(), indices + call.count, -1);
    visit_dtype(call.query.dtype(), [&]<class T>(T) {
      T* values = result.values.data<T>() + first;
      std::ranges::transform(best, values, [](const RankedKey& key) { return convert_to<T>(key.score()); });
      std::fill(values + best.size(), values + call.count, convert_to<T>(-std::numeric_limits<float>::infinity()));
    });
  };

  const std::int64_t pieces = rows.pieces();
  if (pieces == 1) {
    parallel_for(rows.block_count(), [&](std::int64_t task) {
      thread_local std::vector<TopKeys> chosen;
      const IndexerRows::Block block = rows.block(task);
      choose(block, 0, chosen);
      for (std::int64_t r = 0; r < block.range->count; ++r) write(block, r, chosen[static_cast<std::size_t>(r)].sorted());
    });
    return result;
  }
  std::vector<std::vector<TopKeys>> parts(static_cast<std::size_t>(rows.block_count() * pieces));
  parallel_for(rows.block_count() * pieces, [&](std::int64_t task) {
    choose(rows.block(task / pieces), task % pieces, parts[static_cast<std::size_t>(task)]);
  });
  parallel_for(rows.block_count(), [&](std::int64_t task) {
    thread_local TopKeys all;
    const IndexerRows::Block block = rows.block(task);
    for (std::int64_t r = 0; r < block.range->count; ++r) {
      all.reset(call.count, rows.most_keys());
      for (std::int64_t piece = 0; piece < pieces; ++piece)
        all.take(parts[static_cast<std::size_t>(task * pieces + piece)][static_cast<std::size_t>(r)].chosen());
      write(block, r, all.sorted());
    }
  });
  return result;
}

LseResult indexer_softmax_lse(const IndexerLseCall& call) {
  const Sizes size = check(call);
  const IndexerRows rows(call, size, 0, std::nullopt);
  const auto leaf = leaves().index_statistics[arithmetic_for(call.query)];
  const Shape shape = {size['b'], size['k'], size['s']};
  LseResult result{Tensor::zeros(shape, DType::kF32), Tensor::zeros(shape, DType::kF32)};
  const std::int64_t pieces = rows.pieces();
  std::vector<std::vector<ScoreStatistics>> parts(static_cast<std::size_t>(rows.block_count() * pieces));
  parallel_for(rows.block_count() * pieces, [&](std::int64_t task) {
    thread_local std::vector<IndexerRow> leaf_rows;
    IndexerBlock block = rows.leaf_block(rows.block(task / pieces), task % pieces, leaf_rows);
    std::vector<ScoreStatistics>& own = parts[static_cast<std::size_t>(task)];
    own.resize(leaf_rows.size());
    block.statistics = own;
    leaf(block);
  });
  for (std::int64_t number = 0; number < rows.block_count(); ++number) {
    const IndexerRows::Block block = rows.block(number);
    for (std::int64_t r = 0; r < block.range->count; ++r) {
      std::vector<ScoreStatistics> of_row;
      for (std::int64_t piece = 0; piece < pieces; ++piece)
        of_row.push_back(parts[static_cast<std::size_t>(number * pieces + piece)][static_cast<std::size_t>(r)]);
      const ScoreStatistics all = merged(of_row.data(), of_row.size());
      const std::int64_t at =
          (block.range->segment->batch * size['k'] + block.key_head) * size['s'] + block.range->row(r, 1);
      result.softmax_max.data<float>()[at] = all.max;
      result.softmax_sum.data<float>()[at] = all.sum;
    }
  }
  return result;
}

}  // namespace tessera::kernels::cpu
