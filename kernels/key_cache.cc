// Appending to a cache of keys and values, and planning attention over it.
#include "kernels/key_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

// The cache's sizes: b, k, d, e and t, the capacity; in blocks also p blocks of l rows and m entries of a table's row.
Sizes check_cache(std::string_view op, const KeyValueCache& cache) {
  const bool paged = cache.block_table.has_value();
  Sizes size = bind_sizes(
      op, {{"cache.key", cache.key, paged ? "plkd" : "btkd"}, {"cache.value", cache.value, paged ? "plke" : "btke"}});
  require_float(op, "cache.key", cache.key);
  require_float(op, "cache.value", cache.value);
  if (paged) {
    const Sizes table = bind_sizes(op, {{"cache.block_table", *cache.block_table, "bm"}});
    require_integer(op, "cache.block_table", *cache.block_table);
    size['b'] = table['b'];
    size['m'] = table['m'];
    size['t'] = table['m'] * size['l'];
  }
  if (static_cast<std::int64_t>(cache.lengths.size()) != size['b']) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("{} lengths are given for {} sequences", cache.lengths.size(), size['b']),
          .op = std::string(op),
          .operand = "cache.lengths",
          .hint = "give each sequence the number of rows that it has"});
  }
  for (std::size_t i = 0; i < cache.lengths.size(); ++i) {
    if (cache.lengths[i] >= 0 && cache.lengths[i] <= size['t']) continue;
    fail({.code = "sequence-lengths",
          .message = fmt::format("sequence {} has {} rows, but a sequence of the cache has 0 to {}", i, cache.lengths[i],
                                 size['t']),
          .op = std::string(op),
          .operand = "cache.lengths",
          .hint = "set it to the rows that were appended"});
  }
  return size;
}

// As many counts as sequences, none below 0.
void check_counts(std::string_view op, std::span<const std::int64_t> counts, std::int64_t sequences) {
  if (static_cast<std::int64_t>(counts.size()) != sequences) {
    fail({.code = "row-counts",
          .message = fmt::format("{} counts are given for {} sequences", counts.size(), sequences),
          .op = std::string(op),
          .hint = "give each sequence its number of new rows"});
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] >= 0) continue;
    fail({.code = "row-counts",
          .message = fmt::format("sequence {} gets {} new rows", i, counts[i]),
          .op = std::string(op),
          .hint = "set it to 0 where there are none"});
  }
}

void require_dtype_of(std::string_view op, std::string_view name, const Tensor& rows, const Tensor& cached) {
  if (rows.dtype() == cached.dtype()) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but the cache's is {}", name, to_string(rows.dtype()), to_string(cached.dtype())),
        .op = std::string(op),
        .operand = std::string(name),
        .hint = fmt::format("convert {} to {}", name, to_string(cached.dtype()))});
}

// The sizes of new rows [b, r, k, d] and [b, r, k, e], which agree with the cache's.
Sizes bind_new_rows(const KeyValueCache& cache, const Tensor& key, const Tensor& value) {
  if (!cache.block_table) {
    return bind_sizes("append", {{"cache.key", cache.key, "btkd"},
                                 {"cache.value", cache.value, "btke"},
                                 {"key", key, "brkd"},
                                 {"value", value, "brke"}});
  }
  return bind_sizes("append", {{"cache.key", cache.key, "plkd"},
                               {"cache.value", cache.value, "plke"},
                               {"cache.block_table", *cache.block_table, "bm"},
                               {"key", key, "brkd"},
                               {"value", value, "brke"}});
}

// The block that an entry of the table [b, m] names.
std::int64_t block_at(const Tensor& table, std::int64_t sequence, std::int64_t entry) {
  return table.dtype() == DType::kI32 ? table.at<std::int32_t>({sequence, entry})
                                      : table.at<std::int64_t>({sequence, entry});
}

// What `append` gives a sequence fits behind its rows, and in blocks that there are.
void check_room(const KeyValueCache& cache, const Sizes& size, std::int64_t sequence, std::int64_t count) {
  const std::int64_t length = cache.lengths[static_cast<std::size_t>(sequence)];
  if (count > size['t'] - length) {
    fail({.code = "cache-full",
          .message = fmt::format("sequence {} has {} of the {} rows that the cache holds for it, and cannot get {} more",
                                 sequence, length, size['t'], count),
          .op = "append",
          .operand = cache.block_table ? "cache.block_table" : "cache.key",
          .dim = 1,
          .hint = cache.block_table ? fmt::format("widen the block table from {} to {} entries a sequence", size['m'],
                                                  size['l'] == 0 ? size['m'] : (length + count - 1) / size['l'] + 1)
                                    : fmt::format("make key and value for {} rows a sequence", length + count)});
  }
  if (!cache.block_table || count == 0) return;
  for (std::int64_t entry = length / size['l']; entry <= (length + count - 1) / size['l']; ++entry) {
    const std::int64_t block = block_at(*cache.block_table, sequence, entry);
    if (block >= 0 && block < size['p']) continue;
    fail({.code = "block-table",
          .message = fmt::format("entry {} of sequence {} names block {}, but the cache has {} blocks (dim 0)", entry,
                                 sequence, block, size['p']),
          .op = "append",
          .operand = "cache.block_table",
          .dim = 1,
          .hint = fmt::format("give the sequence a block for its rows {} to {}", std::max(length, entry * size['l']),
                              std::min(length + count, (entry + 1) * size['l']) - 1)});
  }
}

// Writes rows [count, k, d] behind the first `length` of a sequence.
void write_rows(Tensor cached, const std::optional<Tensor>& table, std::int64_t sequence, std::int64_t length,
                const Tensor& rows) {
  const std::int64_t count = rows.size(0);
  if (!table) {
    cached.select(0, sequence).slice(0, length, length + count).copy_from(rows);
    return;
  }
  const std::int64_t block_rows = cached.size(1);
  for (std::int64_t written = 0; written < count;) {
    const std::int64_t in_block = (length + written) % block_rows;
    const std::int64_t now = std::min(count - written, block_rows - in_block);
    cached.select(0, block_at(*table, sequence, (length + written) / block_rows))
        .slice(0, in_block, in_block + now)
        .copy_from(rows.slice(0, written, written + now));
    written += now;
  }
}

}  // namespace

std::int64_t capacity(const KeyValueCache& cache) { return check_cache("capacity", cache)['t']; }

void append(KeyValueCache& cache, const Tensor& key, const Tensor& value, std::span<const std::int64_t> counts) {
  constexpr std::string_view kOp = "append";
  const Sizes size = check_cache(kOp, cache);
  const std::int64_t rows_given = bind_new_rows(cache, key, value)['r'];
  require_dtype_of(kOp, "key", key, cache.key);
  require_dtype_of(kOp, "value", value, cache.value);
  std::vector<std::int64_t> all;
  if (counts.empty()) {
    all.assign(cache.lengths.size(), rows_given);
    counts = all;
  }
  check_counts(kOp, counts, size['b']);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > rows_given) {
      fail({.code = "row-counts",
            .message = fmt::format("sequence {} gets {} new rows, but key has {} (dim 1)", i, counts[i], rows_given),
            .op = std::string(kOp),
            .operand = "key",
            .dim = 1,
            .hint = "give key and value as many rows as the largest count"});
    }
    check_room(cache, size, static_cast<std::int64_t>(i), counts[i]);
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto sequence = static_cast<std::int64_t>(i);
    const auto rows = [&](const Tensor& tensor) { return tensor.select(0, sequence).slice(0, 0, counts[i]); };
    write_rows(cache.key, cache.block_table, sequence, cache.lengths[i], rows(key));
    write_rows(cache.value, cache.block_table, sequence, cache.lengths[i], rows(value));
    cache.lengths[i] += counts[i];
  }
}

RowPlan cache_plan(const KeyValueCache& cache, std::span<const std::int64_t> counts, std::optional<std::int64_t> window) {
  constexpr std::string_view kOp = "cache_plan";
  const Sizes size = check_cache(kOp, cache);
  check_counts(kOp, counts, size['b']);
  if (window && *window < 1) {
    fail({.code = "attribute-range",
          .message = fmt::format("window is {}, but a row sees at least its own key", *window),
          .op = std::string(kOp),
          .hint = "leave window out where rows see all keys before them"});
  }
  RowPlan plan;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t length = cache.lengths[i];
    if (counts[i] > length) {
      fail({.code = "row-counts",
            .message = fmt::format("sequence {} has {} rows, of which {} cannot be new", i, length, counts[i]),
            .op = std::string(kOp),
            .hint = "append the rows before they are planned, and give each sequence its own count where these differ"});
    }
    if (counts[i] == 0) continue;
    const std::int64_t position = length - counts[i];
    RowSegment segment{.batch = static_cast<std::int64_t>(i),
                       .count = counts[i],
                       .sequence = static_cast<std::int64_t>(i),
                       .position = position,
                       .length = length,
                       .limit = position + 1,
                       .limit_step = 1};
    if (window && *window < length) {  // a wider one hides nothing
      segment.first = position + 1 - *window;
      segment.first_step = 1;
    }
    plan.segments.push_back(segment);
  }
  return plan;
}

RowPlan cache_plan(const KeyValueCache& cache, std::int64_t new_rows, std::optional<std::int64_t> window) {
  std::vector<std::int64_t> counts;
  for (const std::int64_t length : cache.lengths)
    counts.push_back(length == 0 ? std::min<std::int64_t>(0, new_rows) : new_rows);
  return cache_plan(cache, counts, window);
}

}  // namespace tessera::kernels
