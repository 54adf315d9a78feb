// A vector of at most N elements that lives inside its owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <type_traits>

namespace tessera {

/// A contiguous sequence of at most `N` values, held in place: no allocation, trivially copyable where `T` is, usable in
/// constant expressions. Shapes, coordinates and the parts of a rule are such vectors.
///
/// @pre `push_back` on a full vector is a programming error: callers check `full()` where the length comes from outside.
template <class T, std::size_t N>
class StaticVector {
 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  constexpr StaticVector() = default;
  constexpr StaticVector(std::initializer_list<T> values) {
    for (const T& value : values) push_back(value);
  }
  template <class Iterator>
  constexpr StaticVector(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }
  constexpr StaticVector(std::size_t count, const T& value) {
    for (std::size_t i = 0; i < count; ++i) push_back(value);
  }

  static constexpr std::size_t capacity() { return N; }
  [[nodiscard]] constexpr std::size_t size() const { return size_; }
  [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
  [[nodiscard]] constexpr bool full() const { return size_ == N; }

  constexpr T* data() { return values_.data(); }
  constexpr const T* data() const { return values_.data(); }
  constexpr T* begin() { return values_.data(); }
  constexpr T* end() { return values_.data() + size_; }
  constexpr const T* begin() const { return values_.data(); }
  constexpr const T* end() const { return values_.data() + size_; }
  constexpr T& operator[](std::size_t i) { return values_[i]; }
  constexpr const T& operator[](std::size_t i) const { return values_[i]; }
  constexpr T& back() { return values_[size_ - 1]; }
  constexpr const T& back() const { return values_[size_ - 1]; }

  constexpr void push_back(const T& value) { values_[size_++] = value; }
  constexpr void pop_back() { --size_; }
  constexpr void clear() { size_ = 0; }
  constexpr void erase(std::size_t at) {
    for (std::size_t i = at + 1; i < size_; ++i) values_[i - 1] = values_[i];
    --size_;
  }
  constexpr void insert(std::size_t at, const T& value) {
    push_back(value);
    for (std::size_t i = size_ - 1; i > at; --i) values_[i] = values_[i - 1];
    values_[at] = value;
  }

  friend constexpr bool operator==(const StaticVector& a, const StaticVector& b) {
    if (a.size_ != b.size_) return false;
    for (std::size_t i = 0; i < a.size_; ++i) {
      if (!(a.values_[i] == b.values_[i])) return false;
    }
    return true;
  }

 private:
  std::array<T, N> values_{};
  std::conditional_t<(N < 256), std::uint8_t, std::uint32_t> size_ = 0;
};

}  // namespace tessera
