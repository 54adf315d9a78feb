// Conversion of one element from any element type to any other, rounded once.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/tensor/dtype.h"

namespace tessera {

/// The float nearest to `value`, but where `value` is no float the one of its two neighbours whose last bit is 1 ("round to
/// odd"). Rounding that to nearest even in any format of at most 22 bits gives what rounding `value` itself gives, which
/// rounding by way of the nearest float does not: 1 + 2^-8 + 2^-40 is above the middle of the bf16 neighbours 1 and 1 + 2^-7,
/// but its nearest float is that middle, and would go down to 1.
inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  const auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (back == value || std::isnan(value) || (bits & 1u) != 0) return nearest;
  return std::bit_cast<float>(std::abs(back) > std::abs(value) ? bits - 1u : bits + 1u);
}

/// A double that is `value`, or, where no double is, one that rounds to bf16 and f16 as `value` does.
inline double round_to_odd(std::int64_t value) {
  constexpr std::uint64_t kLow = (1u << 11) - 1;  // 63 bits less these are fewer than a double's 53
  const bool negative = value < 0;
  std::uint64_t magnitude =
      negative ? std::uint64_t{0} - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  if (magnitude >> 53 != 0 && (magnitude & kLow) != 0) magnitude = (magnitude & ~kLow) | (kLow + 1);
  const double rounded = static_cast<double>(magnitude);
  return negative ? -rounded : rounded;
}

/// To nearest even; NaN stays NaN. Free of branches, so that loops over it become vector code.
inline BFloat16 bfloat16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return Eigen::numext::bit_cast<BFloat16>(static_cast<std::uint16_t>(is_nan ? quiet_nan : rounded));
}

/// `value` towards zero; the nearest end of `To`'s range where it is outside, 0 where it is NaN.
template <class To>
To saturated(double value) {
  constexpr double kEnd = -static_cast<double>(std::numeric_limits<To>::min());  // one above the largest To
  if (!(value < kEnd)) return std::isnan(value) ? To{0} : std::numeric_limits<To>::max();
  if (value < -kEnd) return std::numeric_limits<To>::min();
  return static_cast<To>(value);
}

/// An element as another element type: between floats to nearest even, rounded once; from floats to integers towards zero,
/// saturating, NaN becoming 0; between integers saturating; to bool `!= 0`, so that NaN is true; from bool 0 or 1.
template <class To, class From>
To convert_to(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, BFloat16> || std::is_same_v<From, Half>) {
    return convert_to<To>(static_cast<float>(value));  // exact
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != From{0};
  } else if constexpr (std::is_same_v<From, bool>) {
    return convert_to<To>(std::int32_t{value});
  } else if constexpr (std::is_same_v<To, float> || std::is_same_v<To, double>) {
    return static_cast<To>(value);
  } else if constexpr (std::is_same_v<To, BFloat16> || std::is_same_v<To, Half>) {
    if constexpr (std::is_same_v<From, float>) {
      if constexpr (std::is_same_v<To, BFloat16>) return bfloat16_of(value);
      else return To(value);
    } else if constexpr (std::is_same_v<From, std::int64_t>) {
      return convert_to<To>(round_to_odd(value));
    } else {
      return convert_to<To>(round_to_odd(static_cast<double>(value)));
    }
  } else if constexpr (std::is_floating_point_v<From>) {
    return saturated<To>(static_cast<double>(value));
  } else if constexpr (sizeof(To) < sizeof(From)) {  // i64 to i32
    if (value > std::numeric_limits<To>::max()) return std::numeric_limits<To>::max();
    if (value < std::numeric_limits<To>::min()) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else {
    return To{value};
  }
}

}  // namespace tessera
