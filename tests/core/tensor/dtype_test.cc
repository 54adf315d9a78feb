// Names, sizes and C++ types of element types.
#include "core/tensor/dtype.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>

namespace tessera {
namespace {

using testing::Eq;
using testing::Optional;

constexpr std::array kAll{DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kBool};

TEST(DTypeTest, PrintsItsShortName) {
  const std::array<std::string_view, 7> names{"f32", "f64", "bf16", "f16", "i32", "i64", "bool"};
  for (std::size_t i = 0; i < kAll.size(); ++i) EXPECT_EQ(to_string(kAll[i]), names[i]);
}

TEST(DTypeTest, NamesOfNoDTypeAreUnknown) { EXPECT_EQ(to_string(DType{255}), "unknown"); }

TEST(DTypeTest, ParsesWhatItPrints) {
  for (DType dtype : kAll) EXPECT_THAT(parse_dtype(to_string(dtype)), Optional(dtype));
}

TEST(DTypeTest, ParsesLongForms) {
  const std::array<std::pair<std::string_view, DType>, 9> cases{{{"float32", DType::kF32},
                                                                 {"float64", DType::kF64},
                                                                 {"bfloat16", DType::kBF16},
                                                                 {"float16", DType::kF16},
                                                                 {"int32", DType::kI32},
                                                                 {"int64", DType::kI64},
                                                                 {"fp16", DType::kF16},
                                                                 {"fp32", DType::kF32},
                                                                 {"fp64", DType::kF64}}};
  for (const auto& [name, dtype] : cases) EXPECT_THAT(parse_dtype(name), Optional(dtype)) << name;
}

TEST(DTypeTest, OtherNamesAreNone) {
  for (std::string_view name : {"", "f", "f3", "f322", "F32", " f32", "float", "int8", "unknown"}) {
    EXPECT_THAT(parse_dtype(name), Eq(std::nullopt)) << name;
  }
}

TEST(DTypeTest, VisitsTheTypeThatHasItsSizeAndName) {
  for (DType dtype : kAll) {
    visit_dtype(dtype, [&]<class T>(T zero) {
      EXPECT_EQ(kDTypeOf<T>, dtype);
      EXPECT_EQ(static_cast<std::int64_t>(sizeof(T)), size_of(dtype));
      EXPECT_EQ(static_cast<double>(zero), 0.0);
    });
  }
}

TEST(DTypeTest, KnowsFloats) {
  for (DType dtype : kAll) {
    const bool floating = visit_dtype(dtype, []<class T>(T) { return static_cast<double>(T(0.5)) == 0.5; });
    EXPECT_EQ(is_floating(dtype), floating) << to_string(dtype);
  }
}

}  // namespace
}  // namespace tessera
