// The choice of the best keys against a stable sort: ties, both zeros, infinities and NaN, taken at once or in pieces.
#include "kernels/cpu/top_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace tessera::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<std::int32_t> best_by_sorting(const std::vector<float>& scores, std::size_t count) {
  std::vector<std::int32_t> keys(scores.size());
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::int32_t>(i);
  std::ranges::stable_sort(keys, [&](std::int32_t a, std::int32_t b) {
    const float x = scores[static_cast<std::size_t>(a)];
    const float y = scores[static_cast<std::size_t>(b)];
    return std::isnan(x) ? !std::isnan(y) : x > y;
  });
  keys.resize(std::min(count, keys.size()));
  return keys;
}

void take_all(TopKeys& top, const std::vector<float>& scores, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; i += TopKeys::kMostTaken)
    top.take(static_cast<std::int32_t>(i), {&scores[i], std::min(TopKeys::kMostTaken, end - i)});
}

void expect_best(std::span<const RankedKey> actual, const std::vector<float>& scores, std::size_t count) {
  const std::vector<std::int32_t> expected = best_by_sorting(scores, count);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(actual[i].key(), expected[i]) << "slot " << i;
    const float score = scores[static_cast<std::size_t>(expected[i])];
    ASSERT_TRUE(actual[i].score() == score || (std::isnan(actual[i].score()) && std::isnan(score))) << "slot " << i;
  }
}

/// Scores in which only some are unlike the others, or all.
std::vector<float> random_scores(std::mt19937& random, std::size_t size) {
  const int kind = static_cast<int>(random() % 4);
  std::normal_distribution<float> normal;
  std::vector<float> scores(size);
  for (float& score : scores) {
    score = normal(random);
    if (kind == 1) score = std::round(score);
    if (kind == 2) score = 0;
    const auto special = random() % 50;
    if (kind > 0 && special < 5) score = std::vector{0.0f, -0.0f, kInfinity, -kInfinity, kNan}[special];
  }
  if (kind == 3) std::ranges::sort(scores);  // each better than all before it
  return scores;
}

TEST(TopKeys, AreThoseOfAStableSort) {
  std::mt19937 random(1);
  TopKeys top;
  for (int i = 0; i < 600; ++i) {
    SCOPED_TRACE("choice " + std::to_string(i));
    const std::vector<float> scores = random_scores(random, random() % 1500);
    const std::size_t count = i % 3 == 0 ? random() % 8 : random() % 700;
    top.reset(static_cast<std::int64_t>(count), static_cast<std::int64_t>(scores.size()));
    take_all(top, scores, 0, scores.size());
    expect_best(top.sorted(), scores, count);
  }
}

TEST(TopKeys, OfPiecesAreThoseOfAll) {
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) {
    SCOPED_TRACE("choice " + std::to_string(i));
    const std::vector<float> scores = random_scores(random, 900);
    const std::size_t count = random() % 400;
    TopKeys all;
    all.reset(static_cast<std::int64_t>(count), 900);
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 300}, {300, 310}, {310, 900}}) {
      TopKeys piece;
      piece.reset(static_cast<std::int64_t>(count), static_cast<std::int64_t>(end - begin));
      take_all(piece, scores, begin, end);
      const std::span<const RankedKey> chosen = piece.chosen();
      EXPECT_TRUE(std::ranges::is_sorted(chosen, {}, &RankedKey::key));
      all.take(chosen);
    }
    expect_best(all.sorted(), scores, count);
  }
}

}  // namespace
}  // namespace tessera::kernels::cpu
