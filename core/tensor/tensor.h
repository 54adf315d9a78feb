// A local tensor: what one rank holds in its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "support/shape.h"

namespace tessera {

/// Where a tensor's memory lies. Today there is one kind of device.
enum class Device : std::uint8_t { kCpu };

/// Elements of one type in memory, seen through a shape and strides. Copying a Tensor shares its memory; views (slice,
/// permute, ...) share it too; `clone` copies the elements. Strides count elements and may be 0 (broadcast) but not negative.
class Tensor {
 public:
  /// An empty f32 tensor of shape [0].
  Tensor();

  /// A zeroed tensor.
  /// @throws Error "shape-too-large", "shape-negative", or "out-of-memory" where it is larger than the machine's memory or
  /// cannot be allocated
  static Tensor zeros(const Shape& shape, DType dtype);

  /// A tensor whose elements are not set yet; they begin at a multiple of 64 bytes. @throws as `zeros`
  static Tensor uninitialized(const Shape& shape, DType dtype);

  /// A tensor with these elements, row major; `T` is one of the types of `kDTypeOf`.
  /// @throws Error "element-count" where the counts differ
  template <class T>
  static Tensor of(const Shape& shape, std::span<const T> values);
  template <class T>
  static Tensor of(const Shape& shape, std::initializer_list<T> values) {
    return of<T>(shape, std::span<const T>(values.begin(), values.size()));
  }

  /// A tensor over memory of the caller's own, in which `elements` lie row major: it and its views read and write them there.
  /// `owner` keeps that memory alive and is let go with the last of them; without one the caller keeps it for as long.
  ///
  /// Worked example: `Tensor::view_of(std::span(numbers), {2, 3})` for a `std::vector<float> numbers(6)` that outlives it.
  /// @throws Error "element-count" where the counts differ
  template <class T>
  static Tensor view_of(std::span<T> elements, const Shape& shape, std::shared_ptr<void> owner = nullptr);

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] const Shape& strides() const { return strides_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] Device device() const { return Device::kCpu; }
  [[nodiscard]] int rank() const { return static_cast<int>(shape_.size()); }
  [[nodiscard]] std::int64_t size(int dim) const { return shape_[static_cast<std::size_t>(dim)]; }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t bytes() const { return count_ * size_of(dtype_); }
  [[nodiscard]] bool is_contiguous() const;

  /// First element. @pre T is the C++ type of dtype()
  template <class T>
  [[nodiscard]] T* data() {
    return reinterpret_cast<T*>(memory_.get()) + offset_;
  }
  template <class T>
  [[nodiscard]] const T* data() const {
    return reinterpret_cast<const T*>(memory_.get()) + offset_;
  }
  [[nodiscard]] std::byte* bytes_begin() { return memory_.get() + offset_ * size_of(dtype_); }
  [[nodiscard]] const std::byte* bytes_begin() const { return memory_.get() + offset_ * size_of(dtype_); }

  /// All elements of a contiguous tensor. @pre is_contiguous(), T is the C++ type of dtype()
  template <class T>
  [[nodiscard]] std::span<T> span() {
    return {data<T>(), static_cast<std::size_t>(count_)};
  }
  template <class T>
  [[nodiscard]] std::span<const T> span() const {
    return {data<T>(), static_cast<std::size_t>(count_)};
  }

  /// One element, by its index in every dim. @pre T is the C++ type of dtype(), the index is inside the shape
  template <class T>
  [[nodiscard]] T& at(std::initializer_list<std::int64_t> index) {
    return data<T>()[offset_of({index.begin(), index.size()})];
  }
  template <class T>
  [[nodiscard]] const T& at(std::initializer_list<std::int64_t> index) const {
    return data<T>()[offset_of({index.begin(), index.size()})];
  }
  /// Elements from the first one to the one at `index`.
  [[nodiscard]] std::int64_t offset_of(std::span<const std::int64_t> index) const;

  /// A view of [begin, end) of a dim. @throws Error "slice" where the range is not inside the dim, "dim" where there is none
  [[nodiscard]] Tensor slice(int dim, std::int64_t begin, std::int64_t end) const;
  /// A view with dims reordered: result dim i is dim order[i].
  /// @throws Error "permutation" where `order` does not name each dim once
  [[nodiscard]] Tensor permute(std::span<const int> order) const;
  [[nodiscard]] Tensor permute(std::initializer_list<int> order) const {
    return permute(std::span<const int>(order.begin(), order.size()));
  }
  /// The same elements in another shape of as many elements; a view where the strides allow it, else a copy.
  /// @throws Error "element-count"
  [[nodiscard]] Tensor reshape(const Shape& shape) const;
  /// A view in which dims of size 1 repeat, and missing leading dims are added, so that it has `shape`.
  /// @throws Error "broadcast"
  [[nodiscard]] Tensor broadcast_to(const Shape& shape) const;
  /// A view of index `index` of `dim`, without that dim. @throws Error "slice", "dim"
  [[nodiscard]] Tensor select(int dim, std::int64_t index) const;

  /// A contiguous copy that shares no memory with this one.
  [[nodiscard]] Tensor clone() const;
  /// This tensor if it is contiguous, else a contiguous copy.
  [[nodiscard]] Tensor contiguous() const;
  /// A contiguous tensor with the elements converted, as `convert_to` in core/tensor/convert.h says: to nearest even between
  /// floats, towards zero to integers (saturating), `!= 0` to bool. This tensor itself if it has that dtype and is contiguous.
  [[nodiscard]] Tensor to(DType dtype) const;
  /// Copies the elements of `source`, of the same shape, into this tensor's memory, converting them as `to` does. The two may
  /// overlap in memory: the result is as if `source` had been copied first.
  /// @throws Error "shape-mismatch"; "broadcast-write" where this tensor repeats elements (a stride of 0)
  void copy_from(const Tensor& source);

 private:
  Tensor(std::shared_ptr<std::byte[]> memory, std::int64_t offset, const Shape& shape, const Shape& strides, DType dtype);

  std::shared_ptr<std::byte[]> memory_;
  std::int64_t offset_ = 0;  // elements
  std::int64_t count_ = 0;
  Shape shape_;
  Shape strides_;
  DType dtype_ = DType::kF32;
};

/// Strides of a contiguous tensor, in elements: [2, 3, 4] -> [12, 4, 1]. Sizes of 0 count as 1: [2, 0, 4] -> [4, 4, 1].
Shape contiguous_strides(const Shape& shape);

/// "f32 [2, 3]".
std::string to_string(const Tensor& tensor);

}  // namespace tessera
