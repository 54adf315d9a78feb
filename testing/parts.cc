#include "testing/parts.h"

#include <cmath>
#include <type_traits>

#include "core/comm/reduce.h"
#include "core/dtensor/dtensor.h"
#include "core/tensor/convert.h"

namespace tessera {
namespace {

// SplitMix64's output function: independent bits for every combination of the arguments.
std::uint64_t noise(std::uint64_t seed, std::uint64_t part, std::uint64_t element) {
  std::uint64_t z = (seed * 0x9e3779b97f4a7c15U + part) * 0xbf58476d1ce4e5b9U + element + 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// In [-1, 1), never 0.
double centred(std::uint64_t bits) { return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-51 - 1.0; }

// One value as `parts.size()` parts.
template <class T>
void take_apart_value(T value, Partial partial, std::uint64_t seed, std::uint64_t element, std::span<T> parts) {
  const std::size_t n = parts.size();
  const std::size_t owner = noise(seed, n, element) % n;  // whose part is what the others leave
  if constexpr (std::is_same_v<T, bool>) {
    // any and max; all and min: the owner has the value, and the others hide nothing of it.
    const bool neutral = partial == Partial::kAll || partial == Partial::kMin;
    for (std::size_t i = 0; i < n; ++i) parts[i] = value == neutral ? value : (noise(seed, i, element) & 1) != 0;
    parts[owner] = value;
  } else if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;  // sums and products wrap
    auto rest = static_cast<Unsigned>(value);
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t bits = noise(seed, i, element);
      const T small = static_cast<T>(bits % 8 + 1);
      if (i == owner) continue;
      if (partial == Partial::kMax) {
        parts[i] = value < std::numeric_limits<T>::min() + small ? value : static_cast<T>(value - small);
      } else if (partial == Partial::kMin) {
        parts[i] = value > std::numeric_limits<T>::max() - small ? value : static_cast<T>(value + small);
      } else if (partial == Partial::kProd) {
        parts[i] = (bits & 8) != 0 ? T{1} : T{-1};
        rest = static_cast<Unsigned>(rest * static_cast<Unsigned>(parts[i]));
      } else {
        parts[i] = static_cast<T>(small - 4);
        rest = static_cast<Unsigned>(rest - static_cast<Unsigned>(parts[i]));
      }
    }
    parts[owner] = partial == Partial::kMax || partial == Partial::kMin ? value : static_cast<T>(rest);
  } else {
    const auto number = convert_to<double>(value);
    double rest = partial == Partial::kAvg ? number * static_cast<double>(n) : number;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t bits = noise(seed, i, element);
      const double step = centred(bits);
      if (i == owner) continue;
      double part = step;
      if (partial == Partial::kMax) part = number - std::abs(step);
      if (partial == Partial::kMin) part = number + std::abs(step);
      if (partial == Partial::kAvg) part = number + step;
      if (partial == Partial::kProd)
        part = (step < 0 ? -1.0 : 1.0) * ((bits & 1) != 0 ? 2.0 : 0.5);  // exact in every float
      parts[i] = convert_to<T>(part);
      const auto rounded = convert_to<double>(parts[i]);
      if (partial == Partial::kProd) rest /= rounded;
      else rest -= rounded;
    }
    parts[owner] = partial == Partial::kMax || partial == Partial::kMin ? value : convert_to<T>(rest);
  }
}

}  // namespace

std::vector<Tensor> take_apart(const Tensor& tensor, Partial partial, std::int64_t count, std::uint64_t seed) {
  check_reduction(reduction_of(partial), tensor.dtype());
  const Tensor whole = tensor.contiguous();
  std::vector<Tensor> parts;
  for (std::int64_t i = 0; i < count; ++i) parts.push_back(Tensor::uninitialized(tensor.shape(), tensor.dtype()));
  visit_dtype(tensor.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::span<const T> values = whole.span<T>();
    const auto values_of_element = std::make_unique<T[]>(static_cast<std::size_t>(count));
    const std::span<T> taken(values_of_element.get(), static_cast<std::size_t>(count));
    for (std::size_t element = 0; element < values.size(); ++element) {
      take_apart_value<T>(values[element], partial, seed, element, taken);
      for (std::size_t i = 0; i < taken.size(); ++i) parts[i].span<T>()[element] = taken[i];
    }
  });
  return parts;
}

std::vector<Coordinate> all_coordinates(DeviceMesh mesh) {
  std::vector<Coordinate> all;
  for (std::int64_t rank : mesh.ranks()) all.push_back(mesh.coordinate_of(rank));
  return all;
}

std::vector<Tensor> distribute_parts(const Tensor& global, const Layout& layout, std::uint64_t seed) {
  const DeviceMesh mesh = layout.mesh();
  const Layout whole = layout.with_partials({});
  const AxisList pending = layout.partials().axes();
  std::vector<Tensor> held;
  for (std::int64_t rank : mesh.ranks()) {
    const Coordinate coordinate = mesh.coordinate_of(rank);
    Tensor local = DTensor::distribute(global, whole, rank).to_local();
    // Reductions are made from the first axis to the last, so the last is taken apart first.
    for (int k = pending.size() - 1; k >= 0; --k) {
      const int axis = pending[k];
      local = take_apart(local, layout.partials()[axis], mesh.size(axis),
                         seed * kMaxAxes + static_cast<std::uint64_t>(
                                               axis))[static_cast<std::size_t>(coordinate[static_cast<std::size_t>(axis)])];
    }
    held.push_back(std::move(local));
  }
  return held;
}

}  // namespace tessera
