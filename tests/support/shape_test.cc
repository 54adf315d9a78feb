// support/shape.h: counting elements.
#include "support/shape.h"

#include <gtest/gtest.h>

#include <limits>

#include "support/diagnostic.h"

namespace tessera {
namespace {

std::string fault_of(const Shape& shape) {
  try {
    element_count(shape);
  } catch (const Error& error) {
    return error.diagnostic().code + ": " + error.what();
  }
  return "none";
}

TEST(Shape, CountsItsElements) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({2, 3, 4}), 24);
  EXPECT_EQ(element_count({2, 0, 4}), 0);
  EXPECT_EQ(element_count({std::numeric_limits<std::int64_t>::max()}), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(element_count({std::int64_t{1} << 31, std::int64_t{1} << 31}), std::int64_t{1} << 62);
}

TEST(Shape, RefusesWhatCannotBeCounted) {
  EXPECT_EQ(fault_of({std::int64_t{1} << 32, std::int64_t{1} << 31}),
            "shape-too-large: shape [4294967296, 2147483648] has more than 2^63-1 elements");
  EXPECT_EQ(fault_of({2, -1}), "shape-negative: shape [2, -1] has a negative size");
  EXPECT_EQ(fault_of({0, -1}), "shape-negative: shape [0, -1] has a negative size");
}

TEST(Shape, OfNoElementsMayStillBeTooLargeInItsOtherDimsWhereverTheZeroStands) {
  const std::int64_t large = std::int64_t{1} << 40;
  EXPECT_EQ(fault_of({0, large, large}),
            "shape-too-large: shape [0, 1099511627776, 1099511627776] has more than 2^63-1 elements");
  EXPECT_EQ(fault_of({large, large, 0}),
            "shape-too-large: shape [1099511627776, 1099511627776, 0] has more than 2^63-1 elements");
}

TEST(Shape, IsPrintedAsAList) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{2, 4096, 64}), "[2, 4096, 64]");
}

}  // namespace
}  // namespace tessera
