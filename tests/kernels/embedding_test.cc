// Embedding lookups.
#include "kernels/dense.h"
#include "tests/kernels/samples.h"

namespace tessera::kernels {
namespace {

TEST(Embedding, CopiesRowsOfEveryDtypeBitForBit) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    const Tensor table = sample({5, 3}, dtype, 1);
    const Tensor ids = Tensor::of<std::int32_t>({2, 3}, {4, 0, 2, 2, 1, 3});
    for (const Tensor& numbers : {ids, restrided(ids), ids.to(DType::kI64)}) {
      const Tensor out = embedding(numbers, restrided(table), 0, 5);
      ASSERT_EQ(out.shape(), Shape({2, 3, 3}));
      for (const Index& i : all_indices({2, 3})) {
        EXPECT_TRUE(same_bits(out.select(0, i[0]).select(0, i[1]), table.select(0, ids.at<std::int32_t>({i[0], i[1]}))));
      }
    }
  }
}

TEST(Embedding, PartsOfATableAddUpToTheWhole) {
  const Tensor table = sample({7, 2}, DType::kF32, 1);
  const Tensor ids = Tensor::of<std::int64_t>({9}, {0, 1, 2, 3, 4, 5, 6, 6, 0});
  const Tensor whole = embedding(ids, table, 0, 7);
  for (std::int64_t cut = 0; cut <= 7; ++cut) {
    const Tensor head = embedding(ids, table.slice(0, 0, cut), 0, 7);
    const Tensor tail = embedding(ids, table.slice(0, cut, 7), cut, 7);
    EXPECT_TRUE(same_bits(zip(head, tail, [](double a, double b) { return a + b; }), whole)) << cut;
    for (const Index& i : all_indices({9, 2})) {
      const bool in_head = ids.at<std::int64_t>({i[0]}) < cut;
      EXPECT_EQ(number(in_head ? tail : head, i), 0) << cut;
    }
  }
}

TEST(Embedding, DimsMayBeEmptyOrMissing) {
  EXPECT_EQ(embedding(Tensor::zeros({0, 2}, DType::kI32), Tensor::zeros({4, 3}, DType::kF32), 0, 4).shape(),
            Shape({0, 2, 3}));
  EXPECT_EQ(embedding(Tensor::zeros({2}, DType::kI32), Tensor::zeros({4, 0}, DType::kF32), 0, 4).shape(), Shape({2, 0}));
  const Tensor table = Tensor::of<float>({2, 2}, {1, 2, 3, 4});
  EXPECT_TRUE(same_bits(embedding(Tensor::of<std::int64_t>({}, {1}), table, 0, 2), Tensor::of<float>({2}, {3, 4})));
}

TEST(Embedding, ErrorsNameIdsAndSizes) {
  const Tensor table = Tensor::zeros({4, 3}, DType::kF32);
  const auto look_up = [&](const Tensor& ids, std::int64_t total) { return [=] { embedding(ids, table, 0, total); }; };
  expect_error(look_up(Tensor::of<std::int32_t>({2, 2}, {0, 3, 8, 1}), 8), "index-out-of-range",
               "embedding: id 8 (element 2 of ids) names no row of a table of 8 rows\n"
               "  hint       ids go from 0 to 7");
  expect_error(look_up(Tensor::of<std::int64_t>({1}, {-1}), 4), "index-out-of-range",
               "embedding: id -1 (element 0 of ids) names no row of a table of 4 rows\n"
               "  hint       ids go from 0 to 3");
  expect_error(look_up(Tensor::of<std::int64_t>({1}, {0}), 0), "index-out-of-range",
               "embedding: id 0 (element 0 of ids) names no row of a table of 0 rows\n"
               "  hint       an empty table has no row to name");
  expect_error(look_up(Tensor::zeros({1}, DType::kF32), 4), "dtype",
               "embedding: ids is f32, but must be i32 or i64\n"
               "  hint       convert ids to i64");
  expect_error([] { embedding(Tensor::zeros({1}, DType::kI32), Tensor::zeros({4}, DType::kF32), 0, 4); }, "shape-mismatch",
               "embedding: table [4] has 1 dims, but must have 2: [v, d]\n"
               "  hint       reshape table to [v, d]");
  expect_error(look_up(Tensor::zeros(Shape(kMaxRank, 1), DType::kI32), 4), "rank-too-large",
               "embedding: ids [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] has 12 dims, but the result would have one more than "
               "the 12 that "
               "a tensor may have\n"
               "  hint       reshape ids to fewer dims");
}

}  // namespace
}  // namespace tessera::kernels
