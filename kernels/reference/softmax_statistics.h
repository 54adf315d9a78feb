// Maximum and sum of a softmax over scores: the one place that decides what rows without scores give. Private to kernels/.
#pragma once

#include <cmath>
#include <limits>
#include <span>

namespace tessera::kernels {

/// Of scores s: max = max_j s_j and sum = sum_j exp(s_j - max). Both 0 where there are no scores, or all are -inf.
struct SoftmaxStatistics {
  double max = 0;
  double sum = 0;

  friend bool operator==(const SoftmaxStatistics&, const SoftmaxStatistics&) = default;
};

/// Summed from the first score to the last. A NaN among the scores makes both NaN.
inline SoftmaxStatistics softmax_statistics(std::span<const double> scores) {
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  double max = kHidden;
  for (double score : scores) {
    if (score > max || std::isnan(score)) max = score;
  }
  if (max == kHidden) return {};
  double sum = 0;
  for (double score : scores) sum += std::exp(score - max);
  return {max, sum};
}

/// The weight of one score: exp(score - max) / sum, 0 where the sum is 0.
inline double softmax_weight(double score, const SoftmaxStatistics& statistics) {
  return statistics.sum == 0 ? 0 : std::exp(score - statistics.max) / statistics.sum;
}

}  // namespace tessera::kernels
