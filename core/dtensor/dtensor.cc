#include "core/dtensor/dtensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "layouts/notation.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

void check_fit(const Layout& layout, const Shape& shape) {
  if (const auto why = misfit(layout, shape)) {
    fail("layout-misfit",
         fmt::format("a tensor of shape {} cannot have layout {}: {}", to_string(shape), to_string(layout), *why));
  }
}

// Visits the innermost runs of a box of indices: f(offset into the box in elements, offset into the whole tensor, length).
template <class F>
void for_each_run(std::span<const IndexSet> indices, const Shape& box_strides, const Shape& whole_strides, std::size_t dim,
                  std::int64_t box_offset, std::int64_t whole_offset, F&& f) {
  std::int64_t at = 0;
  for (const Interval& interval : indices[dim]) {
    if (dim + 1 == indices.size()) {
      f(box_offset + at * box_strides[dim], whole_offset + interval.begin * whole_strides[dim], interval.size());
    } else {
      for (std::int64_t i = interval.begin; i < interval.end; ++i) {
        for_each_run(indices, box_strides, whole_strides, dim + 1,
                     box_offset + (at + i - interval.begin) * box_strides[dim], whole_offset + i * whole_strides[dim], f);
      }
    }
    at += interval.size();
  }
}

Shape box_shape(std::span<const IndexSet> indices) {
  Shape shape;
  for (const IndexSet& set : indices) {
    std::int64_t count = 0;
    for (const Interval& interval : set) count += interval.size();
    shape.push_back(count);
  }
  return shape;
}

}  // namespace

Tensor gather_indices(const Tensor& source, std::span<const IndexSet> indices) {
  const Tensor whole = source.contiguous();
  Tensor box = Tensor::uninitialized(box_shape(indices), source.dtype());
  const auto element = static_cast<std::size_t>(size_of(source.dtype()));
  if (indices.empty()) return whole.clone();
  if (box.count() == 0) return box;
  for_each_run(
      indices, box.strides(), whole.strides(), 0, 0, 0, [&](std::int64_t to, std::int64_t from, std::int64_t count) {
        std::copy_n(whole.bytes_begin() + from * static_cast<std::int64_t>(element),
                    static_cast<std::size_t>(count) * element, box.bytes_begin() + to * static_cast<std::int64_t>(element));
      });
  return box;
}

void scatter_indices(const Tensor& part, Tensor& target, std::span<const IndexSet> indices) {
  const Tensor box = part.contiguous();
  const auto element = size_of(part.dtype());
  if (indices.empty()) {
    target.copy_from(box);
    return;
  }
  if (box.count() == 0) return;
  for_each_run(indices, box.strides(), target.strides(), 0, 0, 0,
               [&](std::int64_t from, std::int64_t to, std::int64_t count) {
                 std::copy_n(box.bytes_begin() + from * element, static_cast<std::size_t>(count * element),
                             target.bytes_begin() + to * element);
               });
}

Reduction reduction_of(Partial partial) {
  switch (partial) {
    case Partial::kAvg: return Reduction::kAvg;
    case Partial::kMax: return Reduction::kMax;
    case Partial::kMin: return Reduction::kMin;
    case Partial::kProd: return Reduction::kProd;
    case Partial::kAny: return Reduction::kAny;
    case Partial::kAll: return Reduction::kAll;
    case Partial::kSoftmax:
      fail("partial-softmax",
           "a pending softmax is a bundle of max, sum and weighted value, which no single tensor's reduction merges");
    case Partial::kNone:
    case Partial::kSum: break;
  }
  return Reduction::kSum;
}

Tensor identity_tensor(Partial partial, const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::zeros(shape, dtype);
  if (partial == Partial::kSum || partial == Partial::kAny) return tensor;
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    T value = static_cast<T>(1);
    if constexpr (!std::is_same_v<T, bool>) {
      using Limits = std::numeric_limits<T>;
      if (partial == Partial::kMax) value = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
      if (partial == Partial::kMin) value = Limits::has_infinity ? Limits::infinity() : Limits::max();
    } else if (partial == Partial::kMax) {
      value = false;
    }
    for (T& element : tensor.span<T>()) element = value;
  });
  return tensor;
}

DTensor DTensor::from_local(Tensor local, const Layout& layout, const Shape& shape, std::int64_t rank) {
  check_fit(layout, shape);
  const Shape expected = local_shape(layout, shape, layout.mesh().coordinate_of(rank));
  if (local.shape() != expected) {
    fail("local-shape",
         fmt::format("rank {} holds {} of a tensor of shape {} in layout {}, not {}", rank, to_string(expected),
                     to_string(shape), to_string(layout), to_string(local.shape())),
         "pass the rank's own part, or use distribute with the whole tensor");
  }
  const DType dtype = local.dtype();
  return {std::move(local), TensorSpec{shape, dtype, layout}};
}

DTensor DTensor::distribute(const Tensor& global, const Layout& layout, std::int64_t rank) {
  check_fit(layout, global.shape());
  const Coordinate coordinate = layout.mesh().coordinate_of(rank);
  Tensor local = gather_indices(global, shard_of(layout, global.shape(), coordinate));
  const AxisList pending = layout.partials().axes();
  for (int k = 0; k < pending.size(); ++k) {
    const Partial partial = layout.partials()[pending[k]];
    reduction_of(partial);  // throws for softmax
    const bool first = coordinate[static_cast<std::size_t>(pending[k])] == 0;
    if (!first && (partial == Partial::kSum || partial == Partial::kProd)) {
      local = identity_tensor(partial, local.shape(), local.dtype());
    }
  }
  return {std::move(local), TensorSpec{global.shape(), global.dtype(), layout}};
}

Tensor DTensor::full_tensor(Communicator& comm) const {
  return redistribute(*this, Layout::replicated(layout().mesh(), layout().rank()), comm).to_local();
}

}  // namespace tessera
