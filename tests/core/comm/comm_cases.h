// Tensors, groups and caught errors for the tests of communication.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/comm/communicator.h"
#include "core/comm/ranks.h"
#include "support/diagnostic.h"

namespace tessera::comm_cases {

inline const std::vector<DType> kDTypes{DType::kF32, DType::kF64, DType::kBF16, DType::kF16,
                                        DType::kI32, DType::kI64, DType::kBool};

inline const std::vector<Reduction> kReductions{Reduction::kSum,  Reduction::kAvg, Reduction::kMax, Reduction::kMin,
                                                Reduction::kProd, Reduction::kAny, Reduction::kAll};

/// The reductions that bools, integers and floats have, written out once more.
inline bool has(DType dtype, Reduction reduction) {
  const bool logical = reduction == Reduction::kAny || reduction == Reduction::kAll;
  const bool ordered = reduction == Reduction::kMax || reduction == Reduction::kMin;
  if (dtype == DType::kBool) return logical || ordered;
  if (dtype == DType::kI32 || dtype == DType::kI64) return !logical && reduction != Reduction::kAvg;
  return !logical;
}

/// Every group of ranks below `ranks`, in every order: 64 for 4 ranks.
inline std::vector<Group> all_groups(int ranks) {
  std::vector<Group> groups;
  const std::function<void(Group)> extend = [&](const Group& group) {
    if (!group.empty()) groups.push_back(group);
    for (int rank = 0; rank < ranks; ++rank) {
      if (std::find(group.begin(), group.end(), rank) != group.end()) continue;
      Group longer = group;
      longer.push_back(rank);
      extend(longer);
    }
  };
  extend({});
  return groups;
}

/// A tensor whose element at an index is `value(index)`.
inline Tensor filled(const Shape& shape, DType dtype, const std::function<double(const Shape&)>& value) {
  Tensor tensor = Tensor::zeros(shape, DType::kF64);
  for (std::int64_t i = 0; i < tensor.count(); ++i) {
    Shape index = shape;
    std::int64_t rest = i;
    for (std::size_t dim = shape.size(); dim-- > 0; rest /= shape[dim]) index[dim] = rest % shape[dim];
    tensor.data<double>()[i] = value(index);
  }
  return tensor.to(dtype);
}

/// What rank `rank` holds at an index: -2, -1, 0, 1 or 2, which every dtype but bool holds exactly; 0 or 1 for bool.
inline double value_of(int rank, const Shape& index, DType dtype) {
  std::int64_t mixed = 7 * rank + 3;
  for (std::int64_t i : index) mixed = mixed * 13 + i * i + 5 * i;
  const double value = static_cast<double>(mixed % 5) - 2;
  return dtype == DType::kBool ? (value > 0 ? 1 : 0) : value;
}

inline Tensor held_by(int rank, const Shape& shape, DType dtype) {
  return filled(shape, dtype, [&](const Shape& index) { return value_of(rank, index, dtype); });
}

/// Same dtype, shape and bits.
inline bool same(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  const Tensor x = a.contiguous();
  const Tensor y = b.contiguous();
  return x.count() == 0 || std::memcmp(x.bytes_begin(), y.bytes_begin(), static_cast<std::size_t>(x.bytes())) == 0;
}

/// "code: text" of the Error that `call` throws, "no error" where it throws none.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.diagnostic().code + ": " + error.what();
  }
  return "no error";
}

inline std::string error_of_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  return error_of([&] { run_ranks(ranks, body); });
}

using Body = std::function<void(Communicator&)>;

inline Tensor floats(const Shape& shape) { return Tensor::zeros(shape, DType::kF32); }

/// What two ranks get where rank 0 makes the first call and rank 1 the second; the same whichever comes last.
inline std::string error_of_pair(const Body& first, const Body& second) {
  std::string error;
  for (int late : {0, 1, 2}) {
    const std::string found = error_of_ranks(2, [&](Communicator& comm) {
      if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      (comm.rank() == 0 ? first : second)(comm);
    });
    if (error.empty()) error = found;
    EXPECT_EQ(found, error);
  }
  return error;
}

}  // namespace tessera::comm_cases
