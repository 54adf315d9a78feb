// Tensors: making them, views of them, and copies between any strides and dtypes.
#include "core/tensor/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "core/tensor/convert.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::StrEq;
using testing::ThrowsMessage;

// 0, 1, 2, ... in row-major order.
Tensor counted(const Shape& shape, DType dtype = DType::kI32) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(element_count(shape)));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::of<std::int32_t>(shape, std::span<const std::int32_t>(values)).to(dtype);
}

// The elements in row-major order, one by one through `offset_of`: what every other way of reading must agree with.
std::vector<std::int32_t> elements(const Tensor& tensor) {
  std::vector<std::int32_t> values;
  std::vector<std::int64_t> index(tensor.shape().size(), 0);
  for (std::int64_t i = 0; i < tensor.count(); ++i) {
    values.push_back(tensor.data<std::int32_t>()[tensor.offset_of(index)]);
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < tensor.shape()[d]) break;
      index[d] = 0;
    }
  }
  return values;
}

TEST(TensorTest, DefaultIsEmpty) {
  const Tensor tensor;
  EXPECT_EQ(tensor.shape(), Shape{0});
  EXPECT_EQ(tensor.dtype(), DType::kF32);
  EXPECT_EQ(tensor.count(), 0);
  EXPECT_EQ(tensor.rank(), 1);
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_EQ(tensor.clone().shape(), Shape{0});
  EXPECT_EQ(tensor.to(DType::kBool).dtype(), DType::kBool);
}

TEST(TensorTest, ZerosAreZero) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kBool}) {
    const Tensor tensor = Tensor::zeros({3, 5}, dtype);
    EXPECT_EQ(tensor.dtype(), dtype);
    EXPECT_EQ(tensor.bytes(), 15 * size_of(dtype));
    EXPECT_THAT(elements(tensor.to(DType::kI32)), Each(0));
  }
}

TEST(TensorTest, HoldsWhatItIsMadeOf) {
  const Tensor tensor = Tensor::of<double>({2, 3}, {1, 2, 3, 4, 5, 6.5});
  EXPECT_EQ(tensor.dtype(), DType::kF64);
  EXPECT_EQ(tensor.device(), Device::kCpu);
  EXPECT_EQ(tensor.at<double>({1, 2}), 6.5);
  EXPECT_EQ(tensor.at<double>({0, 2}), 3);
  EXPECT_THAT(tensor.span<double>(), ElementsAre(1, 2, 3, 4, 5, 6.5));
  EXPECT_EQ(to_string(tensor), "f64 [2, 3]");
  EXPECT_EQ(Tensor::of<bool>({}, {true}).at<bool>({}), true);
  EXPECT_EQ(Tensor::of<Half>({1}, {Half(0.5f)}).dtype(), DType::kF16);
  EXPECT_EQ(Tensor::of<BFloat16>({1}, {BFloat16(0.5f)}).dtype(), DType::kBF16);
  EXPECT_EQ(Tensor::of<std::int64_t>({0}, {}).count(), 0);
}

TEST(TensorTest, MemoryIsAligned) {
  for (std::int64_t size : {1, 3, 100, 5000}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(Tensor::uninitialized({size}, DType::kBool).bytes_begin()) % 64, 0u);
  }
}

TEST(TensorTest, SeesMemoryOfTheCallers) {
  std::vector<float> numbers{1, 2, 3, 4, 5, 6};
  Tensor tensor = Tensor::view_of(std::span(numbers), {2, 3});
  EXPECT_EQ(to_string(tensor), "f32 [2, 3]");
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_EQ(tensor.data<float>(), numbers.data());
  EXPECT_EQ(tensor.at<float>({1, 0}), 4);
  numbers[3] = 9;
  EXPECT_EQ(tensor.permute({1, 0}).at<float>({0, 1}), 9);
  tensor.slice(1, 0, 1).copy_from(Tensor::of<double>({2, 1}, {7, 8}));
  EXPECT_THAT(numbers, ElementsAre(7, 2, 3, 8, 5, 6));
  EXPECT_THAT(tensor.clone().span<float>(), ElementsAre(7, 2, 3, 8, 5, 6));
  EXPECT_EQ(Tensor::view_of(std::span<bool>(), {3, 0}).count(), 0);
  std::array<BFloat16, 1> one{BFloat16(0.5f)};
  EXPECT_EQ(Tensor::view_of(std::span<BFloat16>(one), {}).at<BFloat16>({}), BFloat16(0.5f));
  EXPECT_THAT(([&] {
                Tensor::view_of(std::span(numbers), {2, 2});
              }),
              ThrowsMessage<Error>(StrEq("shape [2, 2] has 4 elements, but 6 are given")));
}

TEST(TensorTest, HoldsTheOwnerOfTheCallersMemoryUntilTheLastViewIsGone) {
  auto numbers = std::make_shared<std::vector<std::int32_t>>(6, 1);
  const std::weak_ptr<std::vector<std::int32_t>> watch = numbers;
  Tensor row;
  {
    const Tensor tensor = Tensor::view_of(std::span(*numbers), {2, 3}, numbers);
    numbers.reset();
    row = tensor.select(0, 1);
  }
  EXPECT_FALSE(watch.expired());
  EXPECT_THAT(elements(row), ElementsAre(1, 1, 1));
  row = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(TensorTest, CopiesShareMemoryAndClonesDoNot) {
  Tensor tensor = counted({2, 2});
  Tensor shared = tensor;
  Tensor cloned = tensor.clone();
  tensor.at<std::int32_t>({0, 1}) = 9;
  EXPECT_EQ(shared.at<std::int32_t>({0, 1}), 9);
  EXPECT_EQ(cloned.at<std::int32_t>({0, 1}), 1);
}

TEST(TensorTest, RefusesWrongCounts) {
  EXPECT_THAT(([] {
                Tensor::of<float>({2, 3}, {1, 2, 3});
              }),
              ThrowsMessage<Error>(StrEq("shape [2, 3] has 6 elements, but 3 are given")));
}

TEST(TensorTest, RefusesAbsurdSizes) {
  EXPECT_THAT(([] {
                Tensor::uninitialized({1 << 20, 1 << 20, 1 << 10}, DType::kF32);
              }),
              ThrowsMessage<Error>(StrEq("f32 [1048576, 1048576, 1024] takes 4.0 PiB, which cannot be allocated\n"
                                         "  hint       check the shape, or split the tensor over more devices")));
  EXPECT_THAT(([] { Tensor::zeros({std::int64_t{1} << 62}, DType::kF64); }),
              ThrowsMessage<Error>(StrEq("f64 [4611686018427387904] takes more than 8192 PiB, which cannot be allocated\n"
                                         "  hint       check the shape, or split the tensor over more devices")));
  EXPECT_THAT(([] {
                Tensor::zeros({std::int64_t{1} << 62, 2}, DType::kBool);
              }),
              ThrowsMessage<Error>(StrEq("shape [4611686018427387904, 2] has more than 2^63-1 elements")));
  EXPECT_THAT(([] {
                Tensor::zeros({2, -1}, DType::kBool);
              }),
              ThrowsMessage<Error>(StrEq("shape [2, -1] has a negative size")));
}

TEST(TensorTest, OutOfMemoryHasItsCode) {
  try {
    Tensor::uninitialized({std::int64_t{1} << 60}, DType::kF64);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.diagnostic().code, "out-of-memory");
  }
}

TEST(TensorTest, ContiguousStrides) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Shape{12, 4, 1}));
  EXPECT_EQ(contiguous_strides({2, 0, 4}), (Shape{4, 4, 1}));
  EXPECT_EQ(contiguous_strides({}), Shape{});
}

TEST(TensorTest, SlicesAreViews) {
  const Tensor tensor = counted({3, 4});
  const Tensor slice = tensor.slice(0, 1, 3).slice(1, 1, 3);
  EXPECT_EQ(slice.shape(), (Shape{2, 2}));
  EXPECT_THAT(elements(slice), ElementsAre(5, 6, 9, 10));
  EXPECT_FALSE(slice.is_contiguous());
  EXPECT_EQ(slice.data<std::int32_t>(), tensor.data<std::int32_t>() + 5);
  EXPECT_TRUE(tensor.slice(0, 1, 3).is_contiguous());
  EXPECT_EQ(tensor.slice(1, 4, 4).count(), 0);
  EXPECT_EQ(tensor.slice(0, 3, 3).slice(0, 0, 0).data<std::int32_t>(), tensor.data<std::int32_t>());
}

TEST(TensorTest, RefusesSlicesOutside) {
  const Tensor tensor = counted({3, 4});
  EXPECT_THAT([&] { (void)tensor.slice(1, 2, 5); }, ThrowsMessage<Error>(StrEq("[2, 5) is no range of dim 1 of i32 [3, 4]\n"
                                                                               "  hint       it must lie in [0, 4)")));
  EXPECT_THAT([&] { (void)tensor.slice(0, 2, 1); }, ThrowsMessage<Error>(StrEq("[2, 1) is no range of dim 0 of i32 [3, 4]\n"
                                                                               "  hint       it must lie in [0, 3)")));
  EXPECT_THAT([&] { (void)tensor.slice(0, -1, 1); },
              ThrowsMessage<Error>(StrEq("[-1, 1) is no range of dim 0 of i32 [3, 4]\n"
                                         "  hint       it must lie in [0, 3)")));
  EXPECT_THAT([&] { (void)tensor.slice(2, 0, 1); }, ThrowsMessage<Error>(StrEq("i32 [3, 4] has no dim 2\n"
                                                                               "  hint       its dims are 0 to 1")));
  EXPECT_THAT([&] { (void)counted({}).slice(-1, 0, 1); }, ThrowsMessage<Error>(StrEq("i32 [] has no dim -1")));
}

TEST(TensorTest, SelectsOneIndex) {
  const Tensor tensor = counted({2, 3, 2});
  EXPECT_EQ(tensor.select(1, 2).shape(), (Shape{2, 2}));
  EXPECT_THAT(elements(tensor.select(1, 2)), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(elements(tensor.select(0, 1).select(0, 0).select(0, 1)), ElementsAre(7));
  EXPECT_THAT([&] { (void)tensor.select(1, 3); }, ThrowsMessage<Error>(StrEq("3 is no index of dim 1 of i32 [2, 3, 2]\n"
                                                                             "  hint       it must lie in [0, 3)")));
  EXPECT_THAT([&] { (void)tensor.select(3, 0); }, ThrowsMessage<Error>(StrEq("i32 [2, 3, 2] has no dim 3\n"
                                                                             "  hint       its dims are 0 to 2")));
  EXPECT_THAT([&] { (void)Tensor().select(0, 0); }, ThrowsMessage<Error>(StrEq("0 is no index of dim 0 of f32 [0]\n"
                                                                               "  hint       the dim is empty")));
}

TEST(TensorTest, PermutesDims) {
  const Tensor tensor = counted({2, 3, 4});
  const Tensor permuted = tensor.permute({2, 0, 1});
  EXPECT_EQ(permuted.shape(), (Shape{4, 2, 3}));
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      for (std::int64_t k = 0; k < 4; ++k) {
        EXPECT_EQ(permuted.at<std::int32_t>({k, i, j}), tensor.at<std::int32_t>({i, j, k}));
      }
    }
  }
  EXPECT_FALSE(permuted.is_contiguous());
  EXPECT_TRUE(permuted.permute({1, 2, 0}).is_contiguous());
  EXPECT_TRUE(counted({5, 1}).permute({1, 0}).is_contiguous());
}

TEST(TensorTest, RefusesWhatIsNoPermutation) {
  const Tensor tensor = counted({2, 3});
  EXPECT_THAT(
      [&] {
        (void)tensor.permute({0, 0});
      },
      ThrowsMessage<Error>(StrEq("(0, 0) is no order of the dims of i32 [2, 3]\n"
                                 "  hint       name each of its dims 0 to 1 once")));
  EXPECT_THAT([&] { (void)tensor.permute({1}); },
              ThrowsMessage<Error>(StrEq("(1) is no order of the dims of i32 [2, 3]\n"
                                         "  hint       name each of its dims 0 to 1 once")));
  EXPECT_THAT(
      [&] {
        (void)tensor.permute({0, 2});
      },
      ThrowsMessage<Error>(StrEq("(0, 2) is no order of the dims of i32 [2, 3]\n"
                                 "  hint       name each of its dims 0 to 1 once")));
  EXPECT_THAT(
      [&] {
        (void)tensor.permute({-1, 0});
      },
      ThrowsMessage<Error>(StrEq("(-1, 0) is no order of the dims of i32 [2, 3]\n"
                                 "  hint       name each of its dims 0 to 1 once")));
  EXPECT_THAT([&] { (void)counted({}).permute({0}); }, ThrowsMessage<Error>(StrEq("(0) is no order of the dims of i32 []\n"
                                                                                  "  hint       it has no dims")));
}

TEST(TensorTest, BroadcastsSizesOfOne) {
  const Tensor tensor = counted({2, 1, 3});
  const Tensor wide = tensor.broadcast_to({2, 2, 2, 3});
  EXPECT_THAT(elements(wide), ElementsAre(0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5));
  EXPECT_EQ(wide.strides(), (Shape{0, 3, 0, 1}));
  EXPECT_THAT(elements(wide.clone()), ElementsAreArray(elements(wide)));
  EXPECT_EQ(counted({}).broadcast_to({1000000, 1000000}).count(), 1000000000000);
  EXPECT_EQ(counted({1}).broadcast_to({0}).count(), 0);
}

TEST(TensorTest, RefusesOtherBroadcasts) {
  EXPECT_THAT(
      [] {
        (void)counted({2, 3}).broadcast_to({4, 2, 4});
      },
      ThrowsMessage<Error>(StrEq("i32 [2, 3] cannot be broadcast to [4, 2, 4]: its dim 1 has size 3, not 4\n"
                                 "  hint       sizes must be equal, counted from the last dim, or 1 in the tensor")));
  EXPECT_THAT(
      [] {
        (void)counted({1, 3}).broadcast_to({3});
      },
      ThrowsMessage<Error>(StrEq("i32 [1, 3] cannot be broadcast to [3]: it has more dims")));
  EXPECT_THAT([] { (void)counted({1}).broadcast_to({-2}); }, ThrowsMessage<Error>(StrEq("shape [-2] has a negative size")));
}

// All shapes of up to `rank` dims whose sizes have the product `count`.
std::vector<Shape> shapes_of(std::int64_t count, std::size_t rank) {
  std::vector<Shape> shapes;
  if (count == 1) shapes.emplace_back();
  if (rank == 0) return shapes;
  for (std::int64_t size = 1; size <= count; ++size) {
    if (count % size != 0) continue;
    for (const Shape& rest : shapes_of(count / size, rank - 1)) {
      Shape shape{size};
      for (std::int64_t s : rest) shape.push_back(s);
      shapes.push_back(shape);
    }
  }
  return shapes;
}

// Views of 12 elements of every shape: all orders of the dims, dense and with gaps.
std::vector<Tensor> views_of_twelve() {
  std::vector<Tensor> views;
  for (const Shape& shape : shapes_of(12, 3)) {
    Shape wider = shape;
    if (!wider.empty()) wider.back() += 2;
    const Tensor dense = counted(shape);
    const Tensor gaps = counted(wider).slice(static_cast<int>(shape.size()) - 1, 1, 1 + shape.back());
    std::vector<int> order(shape.size());
    std::iota(order.begin(), order.end(), 0);
    do {
      views.push_back(dense.permute(order));
      views.push_back(gaps.permute(order));
    } while (std::next_permutation(order.begin(), order.end()));
  }
  views.push_back(counted({3}).broadcast_to({4, 3}));
  views.push_back(counted({4, 1}).broadcast_to({4, 3}));
  views.push_back(counted({1}).broadcast_to({2, 6}));
  return views;
}

TEST(TensorTest, ReshapeKeepsTheOrderOfElements) {
  const std::vector<Shape> shapes = shapes_of(12, 4);
  int views = 0, copies = 0;
  for (const Tensor& tensor : views_of_twelve()) {
    for (const Shape& shape : shapes) {
      const Tensor reshaped = tensor.reshape(shape);
      ASSERT_EQ(reshaped.shape(), shape);
      ASSERT_EQ(elements(reshaped), elements(tensor)) << to_string(tensor) << " to " << to_string(shape);
      (reshaped.data<std::int32_t>() == tensor.data<std::int32_t>() ? views : copies) += 1;
    }
  }
  EXPECT_GT(views, 0);
  EXPECT_GT(copies, 0);
}

TEST(TensorTest, ReshapeIsAViewWhereverStridesCanSayIt) {
  // A reshape is a view exactly where some strides reach all elements: tried with every combination of strides.
  for (const Tensor& tensor : views_of_twelve()) {
    const std::vector<std::int32_t> wanted = elements(tensor);
    for (const Shape& shape : shapes_of(12, 2)) {
      if (shape.size() != 2) continue;
      const auto value = [&](std::int64_t i) { return wanted[static_cast<std::size_t>(i)]; };
      const std::int32_t first = value(0);
      const std::int32_t outer = shape[0] > 1 ? value(shape[1]) - first : 0;
      const std::int32_t inner = shape[1] > 1 ? value(1) - first : 0;
      bool sayable = outer >= 0 && inner >= 0;
      for (std::int64_t i = 0; i < 12; ++i) sayable &= value(i) == first + i / shape[1] * outer + i % shape[1] * inner;
      const bool view = tensor.reshape(shape).data<std::int32_t>() == tensor.data<std::int32_t>();
      EXPECT_EQ(view, sayable) << to_string(tensor) << " " << to_string(tensor.strides()) << " to " << to_string(shape);
    }
  }
}

TEST(TensorTest, ReshapesEmptyAndRefusesOtherCounts) {
  EXPECT_EQ(counted({0, 3}).permute({1, 0}).reshape({5, 0, 2}).shape(), (Shape{5, 0, 2}));
  EXPECT_THAT(
      [] {
        (void)counted({2, 3}).reshape({4});
      },
      ThrowsMessage<Error>(StrEq("i32 [2, 3] has 6 elements and cannot become [4], which has 4")));
  EXPECT_THAT([] { (void)counted({2, 3}).reshape({-1}); }, ThrowsMessage<Error>(StrEq("shape [-1] has a negative size")));
}

TEST(TensorTest, ClonesAndConvertsEveryView) {
  for (const Tensor& tensor : views_of_twelve()) {
    const std::vector<std::int32_t> wanted = elements(tensor);
    const Tensor clone = tensor.clone();
    EXPECT_TRUE(clone.is_contiguous());
    EXPECT_THAT(clone.span<std::int32_t>(), ElementsAreArray(wanted));
    for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI64}) {
      const Tensor converted = tensor.to(dtype);
      EXPECT_TRUE(converted.is_contiguous());
      EXPECT_EQ(elements(converted.to(DType::kI32)), wanted);
      EXPECT_EQ(elements(converted.to(DType::kBool).to(DType::kI32)), elements(tensor.to(DType::kBool).to(DType::kI32)));
    }
  }
}

TEST(TensorTest, CopiesBetweenAllPairsOfViews) {
  const std::vector<Tensor> views = views_of_twelve();
  for (const Tensor& source : views) {
    for (const Tensor& like : views) {
      if (source.shape() != like.shape()) continue;
      if (std::find(like.strides().begin(), like.strides().end(), 0) != like.strides().end()) continue;
      // A fresh destination with the strides of `like`, all of whose memory is -1.
      Tensor memory = Tensor::uninitialized({36}, DType::kI32);
      std::fill_n(memory.data<std::int32_t>(), 36, -1);
      std::vector<int> order(like.shape().size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return like.strides()[static_cast<std::size_t>(a)] > like.strides()[static_cast<std::size_t>(b)];
      });
      Shape sorted;
      for (int dim : order) sorted.push_back(like.size(dim));
      std::vector<int> back(order.size());
      for (std::size_t i = 0; i < order.size(); ++i) back[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
      Tensor destination = memory.slice(0, 0, 12).reshape(sorted).permute(back);
      destination.copy_from(source);
      ASSERT_EQ(elements(destination), elements(source)) << to_string(source.strides()) << to_string(like.strides());
      EXPECT_THAT(memory.slice(0, 12, 36).span<std::int32_t>(), Each(-1));
    }
  }
}

TEST(TensorTest, TransposesLargerThanATile) {
  for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{33, 65}, {100, 31}, {1, 70}, {64, 64}}) {
    const Tensor tensor = counted({rows, 3, columns});
    for (const std::array<int, 3>& order : {std::array{2, 1, 0}, {2, 0, 1}, {1, 2, 0}, {0, 2, 1}, {1, 0, 2}}) {
      const Tensor permuted = tensor.permute(order);
      EXPECT_EQ(elements(permuted.clone()), elements(permuted));
      EXPECT_EQ(elements(permuted.to(DType::kF64).to(DType::kI32)), elements(permuted));
    }
  }
}

TEST(TensorTest, CopiesIntoSlicesOnly) {
  Tensor tensor = Tensor::zeros({3, 4}, DType::kI32);
  tensor.slice(0, 1, 3).slice(1, 1, 3).copy_from(Tensor::of<float>({2, 2}, {1.9f, -2.9f, 3, 4}));
  EXPECT_THAT(elements(tensor), ElementsAre(0, 0, 0, 0, 0, 1, -2, 0, 0, 3, 4, 0));
}

TEST(TensorTest, OverlappingCopiesReadBeforeTheyWrite) {
  Tensor tensor = counted({3, 3});
  tensor.copy_from(tensor.permute({1, 0}));
  EXPECT_THAT(elements(tensor), ElementsAre(0, 3, 6, 1, 4, 7, 2, 5, 8));
  Tensor line = counted({6});
  line.slice(0, 1, 6).copy_from(line.slice(0, 0, 5));
  EXPECT_THAT(elements(line), ElementsAre(0, 0, 1, 2, 3, 4));
  line.slice(0, 0, 3).copy_from(line.slice(0, 3, 6));
  EXPECT_THAT(elements(line), ElementsAre(2, 3, 4, 2, 3, 4));
  line.copy_from(line);
  EXPECT_THAT(elements(line), ElementsAre(2, 3, 4, 2, 3, 4));
  line.slice(0, 1, 4).copy_from(line.slice(0, 2, 3).broadcast_to({3}));
  EXPECT_THAT(elements(line), ElementsAre(2, 4, 4, 4, 3, 4));
}

TEST(TensorTest, OverlappingCopiesOfMemoryOfTheCallersReadBeforeTheyWrite) {
  std::vector<std::int32_t> numbers{0, 1, 2, 3, 4, 5};
  const std::span<std::int32_t> all(numbers);
  Tensor::view_of(all.subspan(1), {5}).copy_from(Tensor::view_of(all.first(5), {5}));
  EXPECT_THAT(numbers, ElementsAre(0, 0, 1, 2, 3, 4));
  Tensor::view_of(all, {2, 3}).copy_from(Tensor::view_of(all, {3, 2}).permute({1, 0}));
  EXPECT_THAT(numbers, ElementsAre(0, 1, 3, 0, 2, 4));
}

TEST(TensorTest, RefusesCopiesOfOtherShapesAndIntoRepeatedElements) {
  Tensor tensor = counted({2, 3});
  EXPECT_THAT(
      [&] {
        tensor.copy_from(counted({3, 2}, DType::kF16));
      },
      ThrowsMessage<Error>(StrEq("f16 [3, 2] cannot be copied into i32 [2, 3]\n"
                                 "  hint       slice, reshape or broadcast the source to the destination's shape")));
  EXPECT_THAT(
      [&] {
        counted({3}).broadcast_to({2, 3}).copy_from(tensor);
      },
      ThrowsMessage<Error>(StrEq("i32 [2, 3] cannot be written to: it repeats its elements along dim 0\n"
                                 "  hint       clone it first")));
}

TEST(TensorTest, ConversionToItsOwnDTypeIsNoCopy) {
  const Tensor tensor = counted({2, 3});
  EXPECT_EQ(tensor.to(DType::kI32).data<std::int32_t>(), tensor.data<std::int32_t>());
  EXPECT_EQ(tensor.contiguous().data<std::int32_t>(), tensor.data<std::int32_t>());
  EXPECT_NE(tensor.permute({1, 0}).contiguous().data<std::int32_t>(), tensor.data<std::int32_t>());
}

TEST(TensorTest, ConvertsElementsAsOneByOne) {
  const std::vector<double> values{0.0, -0.5, 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-11 + 0x1p-40, -3e9, 70000, 1e-9, 255.7};
  const Tensor tensor = Tensor::of<double>({8}, std::span<const double>(values));
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kBool}) {
    const Tensor converted = tensor.to(dtype);
    visit_dtype(dtype, [&]<class T>(T) {
      for (std::size_t i = 0; i < values.size(); ++i)
        EXPECT_EQ(converted.span<T>()[i], convert_to<T>(values[i])) << values[i];
    });
  }
}

}  // namespace
}  // namespace tessera
