// Lists of key blocks, read into rows of the key tensor.
#include "kernels/key_lists.h"

#include <array>
#include <limits>

#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

using Rows = std::vector<std::int64_t>;
using Runs = std::vector<std::pair<std::int64_t, std::int64_t>>;

template <class Slot>
Runs runs(const KeyList<Slot>& list) {
  Runs result;
  for_each_listed(list, [&](std::int64_t begin, std::int64_t end) { result.emplace_back(begin, end); });
  return result;
}

TEST(KeyLists, WorkedExample) {
  const Rows slots = {1, 0, -1, 2};
  const KeyList<std::int64_t> list{.slots = slots, .block_size = 4, .keys = {2, 6}, .key_base = 10, .length = 9};
  EXPECT_EQ(runs(list), Runs({{14, 16}, {12, 14}}));
  EXPECT_EQ(listed_rows(list), Rows({14, 15, 12, 13}));
}

// A list as spec'd, key by key.
Rows expected_rows(const Rows& slots, std::int64_t block_size, const KeyRange& keys, std::int64_t key_base) {
  Rows rows;
  for (std::size_t slot = 0; slot < slots.size() && static_cast<std::int64_t>(slot) * block_size < keys.end; ++slot) {
    if (slots[slot] < 0) break;
    for (std::int64_t key = 0; key < keys.end; ++key) {
      if (key / block_size == slots[slot] && key >= keys.begin) rows.push_back(key_base + key);
    }
  }
  return rows;
}

TEST(KeyLists, EveryShortListReadsAsSpecified) {
  constexpr std::int64_t kLength = 5;
  for (std::int64_t block_size : {1, 2, 3, 5, 8}) {
    const std::int64_t blocks = (kLength + block_size - 1) / block_size;
    for (const Index& index : all_indices({blocks + 1, blocks + 1, blocks + 1})) {
      const Rows slots = {index[0] - 1, index[1] - 1, index[2] - 1};
      const std::vector<std::int32_t> narrow(slots.begin(), slots.end());
      for (std::int64_t begin = 0; begin <= kLength; ++begin) {
        for (std::int64_t end = 0; end <= kLength; ++end) {
          const KeyRange keys{begin, end};
          const Rows expected = expected_rows(slots, block_size, keys, 7);
          const KeyList<std::int64_t> list{
              .slots = slots, .block_size = block_size, .keys = keys, .key_base = 7, .length = kLength};
          ASSERT_EQ(listed_rows(list), expected) << to_string(Shape(slots.begin(), slots.end())) << " blocks of "
                                                 << block_size << ", keys " << begin << " to " << end;
          std::array<std::int32_t, 15> buffer{};
          const auto written = write_listed_rows(
              KeyList<std::int32_t>{
                  .slots = narrow, .block_size = block_size, .keys = keys, .key_base = 7, .length = kLength},
              buffer.begin());
          ASSERT_EQ(Rows(buffer.begin(), written), expected);
          ASSERT_LE(static_cast<std::int64_t>(expected.size()), most_listed_rows(3, block_size, end));
        }
      }
    }
  }
}

TEST(KeyLists, TheBoundIsReached) {
  EXPECT_EQ(most_listed_rows(3, 2, 5), 6);  // blocks 0, 0, 0
  EXPECT_EQ(most_listed_rows(9, 2, 5), 6);
  EXPECT_EQ(most_listed_rows(2, 1, 5), 2);
  EXPECT_EQ(most_listed_rows(4, 8, 5), 5);  // one slot is read, of 5 keys
  EXPECT_EQ(most_listed_rows(0, 2, 5), 0);
  EXPECT_EQ(most_listed_rows(3, 2, 0), 0);
  EXPECT_EQ(most_listed_rows(3, 2, -4), 0);
  const Rows slots = {0, 0, 0};
  const KeyList<std::int64_t> list{.slots = slots, .block_size = 2, .keys = {0, 5}, .key_base = 0, .length = 5};
  EXPECT_EQ(listed_rows(list), Rows({0, 1, 0, 1, 0, 1}));
}

TEST(KeyLists, BlocksMayBeLargerThanAnySequence) {
  const Rows slots = {0};
  const KeyList<std::int64_t> list{
      .slots = slots, .block_size = std::numeric_limits<std::int64_t>::max(), .keys = {1, 3}, .key_base = 4, .length = 3};
  EXPECT_EQ(runs(list), Runs({{5, 7}}));
  EXPECT_EQ(most_listed_rows(1, std::numeric_limits<std::int64_t>::max(), 3), 3);
}

TEST(KeyLists, ABlockBeyondTheSequenceIsAnError) {
  const Rows slots = {0, 3};
  const KeyList<std::int64_t> list{.slots = slots,
                                   .block_size = 2,
                                   .keys = {0, 5},
                                   .key_base = 0,
                                   .length = 5,
                                   .op = "sparse_attention",
                                   .batch = 4,
                                   .row = 9,
                                   .key_head = 2};
  expect_error(
      [&] { listed_rows(list); }, "index-out-of-range",
      "sparse_attention: slot 1 of row 9 (batch 4, key head 2) names block 3, but its sequence of 5 keys has 3 blocks "
      "of 2\n"
      "  hint       count blocks from the start of the row's own sequence, and end the list with -1");
  EXPECT_EQ(listed_rows(KeyList<std::int64_t>{.slots = slots, .block_size = 2, .keys = {0, 2}, .key_base = 0, .length = 5}),
            Rows({0, 1}));  // what is not read is not judged
}

}  // namespace
}  // namespace tessera::kernels
