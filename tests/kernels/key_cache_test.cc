// A cache of keys and values: decoding step by step is causal attention, and what does not fit is refused unwritten.
#include "kernels/key_cache.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/cpu.h"
#include "tests/kernels/cpu/agreement.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

constexpr std::int64_t kHeads = 4, kKeyHeads = 2, kWidth = 6, kValueWidth = 5;

Tensor filled(const Shape& shape, DType dtype, double value) {
  Tensor tensor = Tensor::uninitialized(shape, dtype);
  tensor.copy_from(Tensor::of<double>({1}, {value}).broadcast_to(shape));
  return tensor;
}

/// An empty cache of NaN, which no row may see; in blocks of `block_rows` rows (dense where that is 0) that no table entry
/// names yet.
KeyValueCache empty_cache(std::int64_t sequences, std::int64_t most, std::int64_t block_rows, DType dtype) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::int64_t entries = block_rows == 0 ? 0 : (most + block_rows - 1) / block_rows;
  const Shape rows = block_rows == 0 ? Shape{sequences, most} : Shape{sequences * entries + 1, block_rows};
  KeyValueCache cache{.key = filled({rows[0], rows[1], kKeyHeads, kWidth}, dtype, kNan),
                      .value = filled({rows[0], rows[1], kKeyHeads, kValueWidth}, dtype, kNan),
                      .lengths = std::vector<std::int64_t>(static_cast<std::size_t>(sequences), 0)};
  if (block_rows != 0) cache.block_table = filled({sequences, entries}, DType::kI32, -1);
  return cache;
}

/// Gives each sequence the blocks that its next rows need, the last free one first.
void deal_blocks(KeyValueCache& cache, const std::vector<std::int64_t>& counts) {
  if (!cache.block_table) return;
  const std::int64_t rows = cache.key.size(1);
  std::int64_t used = 0;
  const std::span<std::int32_t> entries = cache.block_table->span<std::int32_t>();
  for (const std::int32_t block : entries) used += block >= 0 ? 1 : 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t needed = (cache.lengths[i] + counts[i] + rows - 1) / rows;
    for (std::int64_t entry = 0; entry < needed; ++entry) {
      std::int32_t& block = cache.block_table->at<std::int32_t>({static_cast<std::int64_t>(i), entry});
      if (block < 0) block = static_cast<std::int32_t>(cache.key.size(0) - 1 - used++);
    }
  }
}

/// How a decoding goes: rows a step, whether sequences get fewer at random, blocks, and the window.
struct Decoding {
  std::int64_t step = 1;
  bool ragged = false;
  std::int64_t block_rows = 0;
  std::optional<std::int64_t> window{};
};

std::string to_string(const Decoding& how) {
  return std::to_string(how.step) + (how.ragged ? " rows or fewer" : " rows") + " a step, blocks of " +
         std::to_string(how.block_rows) + ", window " + (how.window ? std::to_string(*how.window) : "none");
}

/// Sequences of these lengths, decoded step by step: rows of every step equal those of attention over the whole sequence,
/// within `allowed`.
template <class Kernel>
void expect_decoding_is_causal_attention(const Decoding& how, DType dtype, Kernel kernel, double allowed) {
  SCOPED_TRACE(to_string(how) + ", " + std::string(tessera::to_string(dtype)));
  const std::vector<std::int64_t> totals = {19, 0, 7, 1};  // the second stays empty
  const auto sequences = static_cast<std::int64_t>(totals.size());
  const Tensor query = sample({sequences, 19, kHeads, kWidth}, dtype, 1);
  const Tensor key = sample({sequences, 19, kKeyHeads, kWidth}, dtype, 2);
  const Tensor value = sample({sequences, 19, kKeyHeads, kValueWidth}, dtype, 3);

  RowPlan causal;
  for (std::int64_t i = 0; i < sequences; ++i) {
    RowSegment all = segment(i, 0, totals[static_cast<std::size_t>(i)], 0, totals[static_cast<std::size_t>(i)], 1, 1);
    if (how.window) {
      all.first = 1 - *how.window;
      all.first_step = 1;
    }
    causal.segments.push_back(all);
  }
  const AttentionResult whole = reference::attention(
      {.query = query, .key = key, .value = value, .plan = causal, .scale = 0.4, .out_dtype = DType::kF64});

  Draw draw(static_cast<unsigned>(how.step));
  KeyValueCache cache = empty_cache(sequences, 19, how.block_rows, dtype);
  AttentionResult decoded{Tensor::zeros(whole.out.shape(), DType::kF64),
                          Tensor::zeros(whole.softmax_max.shape(), DType::kF64),
                          Tensor::zeros(whole.softmax_sum.shape(), DType::kF64)};
  while (cache.lengths != totals) {
    std::vector<std::int64_t> counts;
    for (std::size_t i = 0; i < totals.size(); ++i) {
      const std::int64_t left = std::min(how.step, totals[i] - cache.lengths[i]);
      counts.push_back(how.ragged ? draw.between(0, left) : left);
    }
    deal_blocks(cache, counts);
    // The next rows of each sequence, behind them NaN.
    const auto next = [&](const Tensor& rows) {
      Tensor step =
          filled({sequences, how.step, rows.size(2), rows.size(3)}, dtype, std::numeric_limits<double>::quiet_NaN());
      for (std::size_t i = 0; i < totals.size(); ++i) {
        const auto sequence = static_cast<std::int64_t>(i);
        step.select(0, sequence)
            .slice(0, 0, counts[i])
            .copy_from(rows.select(0, sequence).slice(0, cache.lengths[i], cache.lengths[i] + counts[i]));
      }
      return step;
    };
    const std::vector<std::int64_t> before = cache.lengths;
    const Tensor queries = next(query);
    append(cache, next(key), next(value), counts);
    const AttentionResult step = kernel({.query = queries,
                                         .key = cache.key,
                                         .value = cache.value,
                                         .plan = cache_plan(cache, counts, how.window),
                                         .scale = 0.4,
                                         .block_table = cache.block_table});
    for (std::size_t i = 0; i < totals.size(); ++i) {
      ASSERT_EQ(cache.lengths[i], before[i] + counts[i]);
      const auto sequence = static_cast<std::int64_t>(i);
      const auto keep = [&](Tensor to, const Tensor& from, int dim) {
        to.select(0, sequence)
            .slice(dim, before[i], cache.lengths[i])
            .copy_from(from.select(0, sequence).slice(dim, 0, counts[i]));
        const Tensor behind = from.select(0, sequence).slice(dim, counts[i], how.step).contiguous();
        EXPECT_TRUE(same_bits(behind, Tensor::zeros(behind.shape(), behind.dtype())));
      };
      keep(decoded.out, step.out, 0);
      keep(decoded.softmax_max, step.softmax_max, 1);
      keep(decoded.softmax_sum, step.softmax_sum, 1);
    }
  }
  expect_close("out", decoded.out, whole.out, allowed);
  expect_close("max", decoded.softmax_max, whole.softmax_max, std::min(allowed, 2e-6));
  expect_close("sum", decoded.softmax_sum, whole.softmax_sum, std::min(allowed, 4e-6));
}

std::vector<Decoding> decodings() {
  std::vector<Decoding> all;
  for (const std::int64_t step : {1, 3, 19}) {
    for (const bool ragged : {false, true}) {
      for (const std::int64_t block_rows : {0, 1, 3, 4, 16, 32}) {
        for (const std::optional<std::int64_t> window : {std::optional<std::int64_t>(), std::optional<std::int64_t>(1),
                                                         std::optional<std::int64_t>(5), std::optional<std::int64_t>(19)})
          all.push_back({step, ragged, block_rows, window});
      }
    }
  }
  return all;
}

TEST(KeyCache, DecodingIsCausalAttentionInTheReference) {
  for (const Decoding& how : decodings()) expect_decoding_is_causal_attention(how, DType::kF64, reference::attention, 0);
}

TEST(KeyCache, DecodingIsCausalAttentionInTheFastKernel) {
  for (const Decoding& how : decodings()) {
    for (const DType dtype : {DType::kF32, DType::kBF16})
      expect_decoding_is_causal_attention(how, dtype, cpu::attention, allowed_error(dtype));
  }
}

TEST(KeyCache, PlansTheNewestRows) {
  KeyValueCache cache = empty_cache(3, 19, 0, DType::kF32);
  cache.lengths = {7, 0, 3};
  const RowPlan three{{{.batch = 0, .count = 3, .sequence = 0, .position = 4, .length = 7, .limit = 5, .limit_step = 1},
                       {.batch = 2, .count = 3, .sequence = 2, .position = 0, .length = 3, .limit = 1, .limit_step = 1}}};
  EXPECT_EQ(cache_plan(cache, 3), three);
  EXPECT_EQ(cache_plan(cache, std::vector<std::int64_t>{3, 0, 3}), three);
  EXPECT_EQ(cache_plan(cache, 3, 7), three);
  RowPlan windowed = three;
  windowed.segments[0].first = 3;
  windowed.segments[0].first_step = 1;
  windowed.segments[1].first = -1;
  windowed.segments[1].first_step = 1;
  EXPECT_EQ(cache_plan(cache, 3, 2), windowed);
  EXPECT_EQ(cache_plan(cache, 0), RowPlan{});
  EXPECT_EQ(capacity(cache), 19);
  EXPECT_EQ(capacity(empty_cache(3, 19, 4, DType::kF32)), 20);
}

TEST(KeyCache, AppendsAllRowsWhereNoCountsAreGiven) {
  for (const std::int64_t block_rows : {0, 2}) {
    KeyValueCache cache = empty_cache(2, 5, block_rows, DType::kF16);
    deal_blocks(cache, {5, 5});
    const Tensor key = sample({2, 5, kKeyHeads, kWidth}, DType::kF16, 1);
    const Tensor value = sample({2, 5, kKeyHeads, kValueWidth}, DType::kF16, 2);
    append(cache, key.slice(1, 0, 2), value.slice(1, 0, 2));
    append(cache, key.slice(1, 2, 2), value.slice(1, 2, 2));  // no rows
    append(cache, key.slice(1, 2, 5), value.slice(1, 2, 5));
    EXPECT_EQ(cache.lengths, (std::vector<std::int64_t>{5, 5}));
    for (std::int64_t i = 0; i < 2; ++i) {
      for (std::int64_t row = 0; row < 5; ++row) {
        const std::int64_t block = block_rows == 0 ? i : cache.block_table->at<std::int32_t>({i, row / 2});
        const std::int64_t place = block_rows == 0 ? row : row % 2;
        EXPECT_TRUE(same_bits(cache.key.select(0, block).select(0, place), key.select(0, i).select(0, row)));
        EXPECT_TRUE(same_bits(cache.value.select(0, block).select(0, place), value.select(0, i).select(0, row)));
      }
    }
  }
}

// --- Refusals ------------------------------------------------------------------------------------------------------------

/// Expects `append` to throw and to leave the cache as it is.
void expect_refused(KeyValueCache cache, const Tensor& key, const Tensor& value, const std::vector<std::int64_t>& counts,
                    const std::string& code, const std::string& text) {
  const Tensor keys = cache.key.clone();
  const Tensor values = cache.value.clone();
  const std::vector<std::int64_t> lengths = cache.lengths;
  expect_error([&] { append(cache, key, value, counts); }, code, text);
  EXPECT_TRUE(same_bits(cache.key, keys));
  EXPECT_TRUE(same_bits(cache.value, values));
  EXPECT_EQ(cache.lengths, lengths);
}

class KeyCacheRefuses : public testing::Test {
 protected:
  Tensor rows(std::int64_t sequences, std::int64_t count, DType dtype = DType::kF32) const {
    return sample({sequences, count, kKeyHeads, kWidth}, dtype, 1);
  }
  Tensor value_rows(std::int64_t sequences, std::int64_t count, DType dtype = DType::kF32) const {
    return sample({sequences, count, kKeyHeads, kValueWidth}, dtype, 2);
  }
  KeyValueCache dense = empty_cache(2, 16, 0, DType::kF32);
  KeyValueCache paged = empty_cache(2, 16, 4, DType::kF32);
};

TEST_F(KeyCacheRefuses, RowsThatDoNotFit) {
  dense.lengths = {3, 14};
  expect_refused(dense, rows(2, 3), value_rows(2, 3), {}, "cache-full",
                 "append: sequence 1 has 14 of the 16 rows that the cache holds for it, and cannot get 3 more\n"
                 "  hint       make key and value for 17 rows a sequence");
  deal_blocks(paged, {16, 16});
  paged.lengths = {15, 14};
  expect_refused(paged, rows(2, 7), value_rows(2, 7), {1, 7}, "cache-full",
                 "append: sequence 1 has 14 of the 16 rows that the cache holds for it, and cannot get 7 more\n"
                 "  hint       widen the block table from 4 to 6 entries a sequence");
}

TEST_F(KeyCacheRefuses, EntriesThatNameNoBlock) {
  deal_blocks(paged, {16, 6});
  paged.lengths = {0, 6};
  expect_refused(paged, rows(2, 9), value_rows(2, 9), {9, 4}, "block-table",
                 "append: entry 2 of sequence 1 names block -1, but the cache has 9 blocks (dim 0)\n"
                 "  hint       give the sequence a block for its rows 8 to 9");
  paged.block_table->at<std::int32_t>({1, 1}) = 9;
  expect_refused(paged, rows(2, 1), value_rows(2, 1), {}, "block-table",
                 "append: entry 1 of sequence 1 names block 9, but the cache has 9 blocks (dim 0)\n"
                 "  hint       give the sequence a block for its rows 6 to 6");
}

TEST_F(KeyCacheRefuses, OtherDTypes) {
  expect_refused(dense, rows(2, 1, DType::kBF16), value_rows(2, 1), {}, "dtype",
                 "append: key is bf16, but the cache's is f32\n  hint       convert key to f32");
  expect_refused(paged, rows(2, 1), value_rows(2, 1, DType::kF64), {}, "dtype",
                 "append: value is f64, but the cache's is f32\n  hint       convert value to f32");
  KeyValueCache integers = dense;
  integers.value = dense.value.to(DType::kI32);
  expect_refused(integers, rows(2, 1), value_rows(2, 1), {}, "dtype",
                 "append: cache.value is i32, but must hold floats\n  hint       convert cache.value to f32");
  paged.block_table = paged.block_table->to(DType::kF32);
  expect_refused(paged, rows(2, 1), value_rows(2, 1), {}, "dtype",
                 "append: cache.block_table is f32, but must be i32 or i64\n  hint       convert cache.block_table to i64");
}

TEST_F(KeyCacheRefuses, OtherShapes) {
  expect_refused(dense, value_rows(2, 1), value_rows(2, 1), {}, "shape-mismatch",
                 "append: key has size 5 in dim 3 (d), but cache.key has size 6 in its dim 3\n"
                 "  hint       cache.key is [b, t, k, d] and key is [b, r, k, d]: give both the same d");
  expect_refused(dense, rows(2, 2), value_rows(2, 1), {}, "shape-mismatch",
                 "append: value has size 1 in dim 1 (r), but key has size 2 in its dim 1\n"
                 "  hint       key is [b, r, k, d] and value is [b, r, k, e]: give both the same r");
  expect_refused(paged, rows(3, 1), value_rows(3, 1), {}, "shape-mismatch",
                 "append: key has size 3 in dim 0 (b), but cache.block_table has size 2 in its dim 0\n"
                 "  hint       cache.block_table is [b, m] and key is [b, r, k, d]: give both the same b");
  dense.lengths = {1, 2, 3};
  expect_refused(
      dense, rows(2, 1), value_rows(2, 1), {}, "shape-mismatch",
      "append: 3 lengths are given for 2 sequences\n  hint       give each sequence the number of rows that it has");
  expect_error(
      [&] { (void)capacity(dense); }, "shape-mismatch",
      "capacity: 3 lengths are given for 2 sequences\n  hint       give each sequence the number of rows that it has");
}

TEST_F(KeyCacheRefuses, LengthsBeyondTheCache) {
  for (const std::int64_t length : {-1, 17}) {
    dense.lengths = {0, length};
    expect_error([&] { (void)cache_plan(dense, 1); }, "sequence-lengths",
                 "cache_plan: sequence 1 has " + std::to_string(length) +
                     " rows, but a sequence of the cache has 0 to 16\n" +
                     "  hint       set it to the rows that were appended");
  }
}

TEST_F(KeyCacheRefuses, OtherCounts) {
  expect_refused(dense, rows(2, 3), value_rows(2, 3), {3}, "row-counts",
                 "append: 1 counts are given for 2 sequences\n  hint       give each sequence its number of new rows");
  expect_refused(dense, rows(2, 3), value_rows(2, 3), {3, -1}, "row-counts",
                 "append: sequence 1 gets -1 new rows\n  hint       set it to 0 where there are none");
  expect_refused(dense, rows(2, 3), value_rows(2, 3), {4, 1}, "row-counts",
                 "append: sequence 0 gets 4 new rows, but key has 3 (dim 1)\n"
                 "  hint       give key and value as many rows as the largest count");
  dense.lengths = {4, 2};
  expect_error(
      [&] { (void)cache_plan(dense, 3); }, "row-counts",
      "cache_plan: sequence 1 has 2 rows, of which 3 cannot be new\n"
      "  hint       append the rows before they are planned, and give each sequence its own count where these differ");
  expect_error([&] { (void)cache_plan(dense, -1); }, "row-counts",
               "cache_plan: sequence 0 gets -1 new rows\n  hint       set it to 0 where there are none");
  expect_error([&] { (void)cache_plan(dense, std::vector<std::int64_t>{1}); }, "row-counts",
               "cache_plan: 1 counts are given for 2 sequences\n  hint       give each sequence its number of new rows");
  expect_error([&] { (void)cache_plan(dense, 1, 0); }, "attribute-range",
               "cache_plan: window is 0, but a row sees at least its own key\n"
               "  hint       leave window out where rows see all keys before them");
}

}  // namespace
}  // namespace tessera::kernels
