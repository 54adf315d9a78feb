// Counter-based random numbers: element i is a hash of (seed, name, i), so that no state is carried along.
#include "core/tensor/random.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <span>

#include "core/tensor/convert.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio: splitmix64's step

// The output function of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words that mixes all bits.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The stream of a name: FNV-1a of its bytes, mixed with the seed.
std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(mix(seed + kGolden) ^ hash);
}

// Word `i` of a stream. The stream is mixed in twice: two streams that overlapped somewhere would be one shifted otherwise.
constexpr std::uint64_t word(std::uint64_t stream, std::uint64_t i) {
  return mix(mix(stream + (i + 1) * kGolden) ^ stream);
}

struct Pair {
  double first;
  double second;
};

// Numbers 2 * i and 2 * i + 1 of a normal stream (Box and Muller 1958), from 53 random bits each.
Pair normal_pair(std::uint64_t stream, std::uint64_t i) {
  const double u = static_cast<double>((word(stream, 2 * i) >> 11) + 1) * 0x1p-53;  // in (0, 1]: it has a logarithm
  const double v = static_cast<double>(word(stream, 2 * i + 1) >> 11) * 0x1p-53;
  const double radius = std::sqrt(-2.0 * std::log(u));
  const double angle = 2.0 * std::numbers::pi * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// One of `range` numbers equally likely, from attempt after attempt until one is not among the last, incomplete run.
std::uint64_t below(std::uint64_t range, std::uint64_t stream, std::uint64_t i) {
  const std::uint64_t incomplete = (std::uint64_t{0} - range) % range;  // 2^64 mod range
  std::uint64_t value = word(stream, i);
  while (value > std::numeric_limits<std::uint64_t>::max() - incomplete) {
    stream = mix(stream + kGolden);
    value = word(stream, i);
  }
  return value % range;
}

// Integers up to this size, on both sides of 0, are exact in a dtype.
std::int64_t largest_exact(DType dtype) {
  switch (dtype) {
    case DType::kF64: return std::int64_t{1} << 53;
    case DType::kF32: return std::int64_t{1} << 24;
    case DType::kF16: return std::int64_t{1} << 11;
    case DType::kBF16: return std::int64_t{1} << 8;
    case DType::kI64: return std::numeric_limits<std::int64_t>::max();
    case DType::kI32: return std::numeric_limits<std::int32_t>::max();
    case DType::kBool: break;
  }
  return 1;
}

std::int64_t smallest_exact(DType dtype) {
  if (dtype == DType::kBool) return 0;
  return is_floating(dtype) ? -largest_exact(dtype) : -largest_exact(dtype) - 1;
}

}  // namespace

Tensor random_normal(const Shape& shape, DType dtype, std::uint64_t seed, std::string_view name) {
  if (!is_floating(dtype)) {
    fail("dtype", fmt::format("'{}' of dtype {} cannot hold normal numbers", name, to_string(dtype)),
         "use f64, f32, f16 or bf16, or draw integers");
  }
  Tensor tensor = Tensor::uninitialized(shape, dtype);
  const std::uint64_t stream = stream_of(seed, name);
  visit_dtype(dtype, [&]<class T>(T) {
    const std::span<T> elements = tensor.span<T>();
    for (std::size_t i = 0; i < elements.size(); i += 2) {
      const Pair pair = normal_pair(stream, i / 2);
      elements[i] = convert_to<T>(pair.first);
      if (i + 1 < elements.size()) elements[i + 1] = convert_to<T>(pair.second);
    }
  });
  return tensor;
}

Tensor random_integers(const Shape& shape, DType dtype, std::int64_t low, std::int64_t high, std::uint64_t seed,
                       std::string_view name) {
  if (low >= high) {
    fail("range", fmt::format("'{}' cannot be drawn from [{}, {}), which is empty", name, low, high),
         "low must be below high");
  }
  if (low < smallest_exact(dtype) || high - 1 > largest_exact(dtype)) {
    fail("range", fmt::format("'{}' of dtype {} cannot hold all integers of [{}, {})", name, to_string(dtype), low, high),
         fmt::format("its integers are exact from {} to {}", smallest_exact(dtype), largest_exact(dtype)));
  }
  Tensor tensor = Tensor::uninitialized(shape, dtype);
  const std::uint64_t stream = stream_of(seed, name);
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  visit_dtype(dtype, [&]<class T>(T) {
    const std::span<T> elements = tensor.span<T>();
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const std::uint64_t value = static_cast<std::uint64_t>(low) + below(range, stream, i);
      elements[i] = convert_to<T>(static_cast<std::int64_t>(value));
    }
  });
  return tensor;
}

}  // namespace tessera
