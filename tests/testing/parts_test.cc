// Tensors taken apart: the parts reduce to the tensor, and none of them tells it.
#include "testing/parts.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/comm/reduce.h"
#include "core/dtensor/dtensor.h"
#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "testing/matchers.h"

namespace tessera {
namespace {

const std::vector<Partial>& kinds() {
  static const std::vector<Partial> all{Partial::kSum,  Partial::kAvg, Partial::kMax, Partial::kMin,
                                        Partial::kProd, Partial::kAny, Partial::kAll};
  return all;
}

TEST(TakeApart, ThePartsReduceToTheTensor) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI32, DType::kI64, DType::kBool}) {
    const Tensor tensor =
        is_floating(dtype) ? random_normal({50}, dtype, 1, "x") : random_integers({50}, dtype, 0, 2, 1, "x");
    for (const Partial kind : kinds()) {
      const bool reducible = [&] {
        try {
          check_reduction(reduction_of(kind), dtype);
          return true;
        } catch (const Error&) {
          return false;
        }
      }();
      if (!reducible) {
        EXPECT_THAT([&] { take_apart(tensor, kind, 2, 1); }, FailsWith("comm-reduction"));
        continue;
      }
      for (const std::int64_t count : {1, 2, 3}) {
        const auto parts = take_apart(tensor, kind, count, 5);
        ASSERT_EQ(parts.size(), static_cast<std::size_t>(count));
        const Tensor reduced = reduce(parts, reduction_of(kind)).to(DType::kF64);
        const Tensor expected = tensor.to(DType::kF64);
        const double allowed = dtype == DType::kF64    ? 1e-14
                               : dtype == DType::kF32  ? 1e-6
                               : dtype == DType::kBF16 ? 0.05
                                                       : 0;
        bool hides = false;
        for (std::int64_t i = 0; i < 50; ++i) {
          EXPECT_LE(std::abs(reduced.data<double>()[i] - expected.data<double>()[i]), allowed)
              << to_string(dtype) << to_string(kind);
          hides = hides || parts[0].to(DType::kF64).data<double>()[i] != expected.data<double>()[i];
        }
        EXPECT_EQ(hides, count > 1) << to_string(dtype) << " " << to_string(kind);
      }
    }
  }
}

TEST(TakeApart, ExtremesStayInRange) {
  const Tensor lowest =
      Tensor::of<std::int32_t>({2}, {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()});
  for (const Partial kind : {Partial::kSum, Partial::kMax, Partial::kMin, Partial::kProd}) {
    const Tensor reduced = reduce(take_apart(lowest, kind, 3, 1), reduction_of(kind));
    EXPECT_EQ(reduced.at<std::int32_t>({0}), lowest.at<std::int32_t>({0}));
    EXPECT_EQ(reduced.at<std::int32_t>({1}), lowest.at<std::int32_t>({1}));
  }
}

TEST(TakeApart, ABundleIsNoTensor) {
  EXPECT_THAT([] { take_apart(Tensor::zeros({1}, DType::kF64), Partial::kSoftmax, 2, 1); }, FailsWith("partial-softmax"));
}

TEST(DistributeParts, RepliesWithWhatEveryRankHolds) {
  const DeviceMesh mesh({{"dp", 2}, {"tp", 2}, {"cp", 2}});
  const Tensor tensor = random_normal({5}, DType::kF64, 1, "x");
  const auto held = distribute_parts(tensor, parse_layout(mesh, "[dp] partial(tp: sum)"));
  ASSERT_EQ(held.size(), 8u);
  for (std::size_t rank = 0; rank < 8; ++rank) {
    const bool first = (rank & 4) == 0;
    ASSERT_EQ(held[rank].count(), first ? 3 : 2);
    for (std::int64_t i = 0; i < held[rank].count(); ++i) {
      EXPECT_EQ(held[rank].data<double>()[i], held[rank ^ 1].data<double>()[i]) << "cp repeats";
      EXPECT_NEAR(held[rank].data<double>()[i] + held[rank ^ 2].data<double>()[i],
                  tensor.data<double>()[i + (first ? 0 : 3)], 1e-15);
    }
  }
}

}  // namespace
}  // namespace tessera
