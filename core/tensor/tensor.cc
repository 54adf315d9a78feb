// Making tensors and views of them.
#include "core/tensor/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "core/tensor/memory.h"
#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {
namespace {

std::string describe(const Shape& shape, DType dtype) { return fmt::format("{} {}", to_string(dtype), to_string(shape)); }

std::shared_ptr<std::byte[]> allocate(const Shape& shape, DType dtype) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const std::int64_t count = element_count(shape);
  if (count == 0) return nullptr;
  const bool countable = count <= kMost / size_of(dtype);
  const std::int64_t bytes = countable ? count * size_of(dtype) : kMost;
  auto memory = countable ? allocate_memory(bytes) : nullptr;
  if (memory == nullptr) {
    fail("out-of-memory",
         fmt::format("{} takes {}{}, which cannot be allocated", describe(shape, dtype), countable ? "" : "more than ",
                     format_bytes(bytes)),
         "check the shape, or split the tensor over more devices");
  }
  return memory;
}

void check_count(const Shape& shape, std::size_t given) {
  const std::int64_t count = element_count(shape);
  if (static_cast<std::size_t>(count) == given) return;
  fail("element-count", fmt::format("shape {} has {} elements, but {} are given", to_string(shape), count, given));
}

void check_dim(const Tensor& tensor, int dim) {
  if (dim >= 0 && dim < tensor.rank()) return;
  fail("dim", fmt::format("{} has no dim {}", to_string(tensor), dim),
       tensor.rank() == 0 ? "" : fmt::format("its dims are 0 to {}", tensor.rank() - 1));
}

// Strides that show the elements of (shape, strides) as `wanted`; nothing where only a copy can. Runs of dims that continue
// one another are cut anew: [4, 6] with strides [6, 1] as [2, 12] is [12, 1], with strides [12, 1] it is nothing.
// @pre as many elements in both, and not 0
std::optional<Shape> strides_in_shape(const Shape& shape, const Shape& strides, const Shape& wanted) {
  Shape result(wanted.size(), std::int64_t{1});
  std::size_t to = wanted.size();
  for (std::size_t dim = shape.size(); dim > 0;) {
    if (shape[--dim] == 1) continue;
    const std::int64_t stride = strides[dim];
    std::int64_t run = shape[dim], taken = 1;
    while (dim > 0 && (shape[dim - 1] == 1 || strides[dim - 1] == run * stride)) run *= shape[--dim];
    while (to > 0 && taken < run) {
      result[--to] = stride * taken;
      taken *= wanted[to];
    }
    if (taken != run) return std::nullopt;
  }
  return result;
}

}  // namespace

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size(), std::int64_t{1});
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<std::int64_t>(shape[i], 1);
  return strides;
}

std::string to_string(const Tensor& tensor) { return describe(tensor.shape(), tensor.dtype()); }

Tensor::Tensor() : shape_{0}, strides_{1} {}

// An empty tensor's memory is never read, so views of it all begin at its begin: no pointer leaves the memory.
Tensor::Tensor(std::shared_ptr<std::byte[]> memory, std::int64_t offset, const Shape& shape, const Shape& strides,
               DType dtype)
    : memory_(std::move(memory)), count_(element_count(shape)), shape_(shape), strides_(strides), dtype_(dtype) {
  offset_ = count_ == 0 ? 0 : offset;
}

Tensor Tensor::uninitialized(const Shape& shape, DType dtype) {
  return {allocate(shape, dtype), 0, shape, contiguous_strides(shape), dtype};
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor tensor = uninitialized(shape, dtype);
  if (tensor.count() > 0) std::memset(tensor.bytes_begin(), 0, static_cast<std::size_t>(tensor.bytes()));
  return tensor;
}

template <class T>
Tensor Tensor::of(const Shape& shape, std::span<const T> values) {
  check_count(shape, values.size());
  Tensor tensor = uninitialized(shape, kDTypeOf<T>);
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

template <class T>
Tensor Tensor::view_of(std::span<T> elements, const Shape& shape, std::shared_ptr<void> owner) {
  check_count(shape, elements.size());
  std::shared_ptr<std::byte[]> memory(std::move(owner), reinterpret_cast<std::byte*>(elements.data()));
  return {std::move(memory), 0, shape, contiguous_strides(shape), kDTypeOf<T>};
}

template Tensor Tensor::of(const Shape&, std::span<const float>);
template Tensor Tensor::of(const Shape&, std::span<const double>);
template Tensor Tensor::of(const Shape&, std::span<const BFloat16>);
template Tensor Tensor::of(const Shape&, std::span<const Half>);
template Tensor Tensor::of(const Shape&, std::span<const std::int32_t>);
template Tensor Tensor::of(const Shape&, std::span<const std::int64_t>);
template Tensor Tensor::of(const Shape&, std::span<const bool>);

template Tensor Tensor::view_of(std::span<float>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<double>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<BFloat16>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<Half>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<std::int32_t>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<std::int64_t>, const Shape&, std::shared_ptr<void>);
template Tensor Tensor::view_of(std::span<bool>, const Shape&, std::shared_ptr<void>);

bool Tensor::is_contiguous() const {
  if (count_ == 0) return true;
  std::int64_t stride = 1;
  for (std::size_t i = shape_.size(); i-- > 0;) {
    if (shape_[i] == 1) continue;
    if (strides_[i] != stride) return false;
    stride *= shape_[i];
  }
  return true;
}

std::int64_t Tensor::offset_of(std::span<const std::int64_t> index) const {
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < index.size(); ++i) offset += index[i] * strides_[i];
  return offset;
}

Tensor Tensor::slice(int dim, std::int64_t begin, std::int64_t end) const {
  check_dim(*this, dim);
  const auto d = static_cast<std::size_t>(dim);
  if (begin < 0 || begin > end || end > shape_[d]) {
    fail("slice", fmt::format("[{}, {}) is no range of dim {} of {}", begin, end, dim, to_string(*this)),
         fmt::format("it must lie in [0, {})", shape_[d]));
  }
  Shape shape = shape_;
  shape[d] = end - begin;
  return {memory_, offset_ + begin * strides_[d], shape, strides_, dtype_};
}

Tensor Tensor::select(int dim, std::int64_t index) const {
  check_dim(*this, dim);
  const auto d = static_cast<std::size_t>(dim);
  if (index < 0 || index >= shape_[d]) {
    fail("slice", fmt::format("{} is no index of dim {} of {}", index, dim, to_string(*this)),
         shape_[d] == 0 ? "the dim is empty" : fmt::format("it must lie in [0, {})", shape_[d]));
  }
  Shape shape = shape_, strides = strides_;
  shape.erase(d);
  strides.erase(d);
  return {memory_, offset_ + index * strides_[d], shape, strides, dtype_};
}

Tensor Tensor::permute(std::span<const int> order) const {
  Shape shape, strides;
  std::vector<bool> seen(shape_.size(), false);
  bool valid = order.size() == shape_.size();
  for (std::size_t i = 0; valid && i < order.size(); ++i) {
    valid = order[i] >= 0 && order[i] < rank() && !seen[static_cast<std::size_t>(order[i])];
    if (!valid) break;
    const auto from = static_cast<std::size_t>(order[i]);
    seen[from] = true;
    shape.push_back(shape_[from]);
    strides.push_back(strides_[from]);
  }
  if (!valid) {
    fail("permutation", fmt::format("({}) is no order of the dims of {}", fmt::join(order, ", "), to_string(*this)),
         rank() == 0 ? "it has no dims" : fmt::format("name each of its dims 0 to {} once", rank() - 1));
  }
  return {memory_, offset_, shape, strides, dtype_};
}

Tensor Tensor::reshape(const Shape& shape) const {
  if (const std::int64_t count = element_count(shape); count != count_) {
    fail("element-count", fmt::format("{} has {} elements and cannot become {}, which has {}", to_string(*this), count_,
                                      to_string(shape), count));
  }
  if (is_contiguous()) return {memory_, offset_, shape, contiguous_strides(shape), dtype_};
  if (const auto strides = strides_in_shape(shape_, strides_, shape)) return {memory_, offset_, shape, *strides, dtype_};
  return clone().reshape(shape);
}

Tensor Tensor::broadcast_to(const Shape& shape) const {
  if (shape.size() < shape_.size()) {
    fail("broadcast", fmt::format("{} cannot be broadcast to {}: it has more dims", to_string(*this), to_string(shape)));
  }
  const std::size_t added = shape.size() - shape_.size();
  Shape strides(shape.size(), std::int64_t{0});
  for (std::size_t i = 0; i < shape_.size(); ++i) {
    if (shape_[i] == shape[added + i]) {
      strides[added + i] = strides_[i];
    } else if (shape_[i] != 1) {
      fail("broadcast",
           fmt::format("{} cannot be broadcast to {}: its dim {} has size {}, not {}", to_string(*this), to_string(shape),
                       i, shape_[i], shape[added + i]),
           "sizes must be equal, counted from the last dim, or 1 in the tensor");
    }
  }
  return {memory_, offset_, shape, strides, dtype_};
}

Tensor Tensor::clone() const {
  Tensor copy = uninitialized(shape_, dtype_);
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return contiguous();
  Tensor converted = uninitialized(shape_, dtype);
  converted.copy_from(*this);
  return converted;
}

}  // namespace tessera
