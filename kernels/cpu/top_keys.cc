#include "kernels/cpu/top_keys.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace tessera::kernels::cpu {
namespace {

constexpr std::uint32_t kSign = 0x80000000;
constexpr std::uint32_t kInfinity = 0x7F800000;
constexpr std::uint32_t kWorst = 0xFFFFFFFF;  // worse than -inf
constexpr int kDigitBits = 8;
constexpr std::uint32_t kDigits = std::uint32_t{1} << kDigitBits;

// Orders as scores do, the other way round: 0 for NaN, then from +inf up to -inf. Both zeros are one.
std::uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);
  const std::uint32_t rank = (bits & kSign) != 0 ? bits : ~bits & ~kSign;
  return (bits & ~kSign) > kInfinity ? 0 : rank;
}

struct RankRange {
  std::uint32_t least, most;
};

RankRange range_of(std::span<const std::uint32_t> ranks) {
  RankRange range{kWorst, 0};
  for (const std::uint32_t rank : ranks) range = {std::min(range.least, rank), std::max(range.most, rank)};
  return range;
}

}  // namespace

float RankedKey::score() const {
  const std::uint32_t own = rank();
  if (own == 0) return std::bit_cast<float>(std::uint32_t{0x7FC00000});
  return std::bit_cast<float>((own & kSign) != 0 ? own : ~own & ~kSign);
}

void TopKeys::reset(std::int64_t count, std::int64_t most_keys) {
  count_ = static_cast<std::size_t>(std::min(count, most_keys));
  size_ = 0;
  limit_ = kWorst;
  const std::size_t wanted = std::min(2 * count_ + kMostTaken, static_cast<std::size_t>(most_keys)) + kMostTaken;
  if (candidates_.size() < wanted) {
    candidates_.resize(wanted);
    other_.resize(wanted);
    ranks_.resize(wanted);
  }
}

void TopKeys::take(std::int32_t first, std::span<const float> scores) {
  std::array<std::uint32_t, kMostTaken> ranks;
  std::uint32_t better = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    ranks[i] = rank_of(scores[i]);
    better += ranks[i] < limit_ ? 1U : 0U;
  }
  if (better == 0 || count_ == 0) return;
  RankedKey* to = candidates_.data() + size_;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    *to = {ranks[i], first + static_cast<std::int32_t>(i)};
    to += ranks[i] < limit_ ? 1 : 0;  // written in any case: there is room for all
  }
  size_ += better;
  if (size_ > count_ && size_ + kMostTaken > candidates_.size()) prune();
}

void TopKeys::take(std::span<const RankedKey> keys) {
  if (count_ == 0) return;
  for (const RankedKey& key : keys) {
    if (key.rank() >= limit_) continue;
    candidates_[size_++] = key;
    if (size_ > count_ && size_ == candidates_.size()) prune();
  }
}

// Finds the rank of the count-th best among ever fewer ranks, then keeps those that are better and as many of that rank as
// there is room for.
void TopKeys::prune() {
  for (std::size_t i = 0; i < size_; ++i) ranks_[i] = candidates_[i].rank();
  std::size_t left = size_;
  std::size_t wanted = count_;  // the best of those left
  std::uint32_t limit = 0;
  while (true) {
    const auto [least, most] = range_of({ranks_.data(), left});
    limit = least;
    if (least == most) break;
    const int shift = std::max(static_cast<int>(std::bit_width(most - least)) - kDigitBits, 0);
    std::array<std::uint32_t, kDigits> counts{};
    for (std::size_t i = 0; i < left; ++i) ++counts[(ranks_[i] - least) >> shift];
    std::uint32_t found = 0;
    while (wanted > counts[found]) wanted -= counts[found++];
    const std::uint32_t first = least + (found << shift);
    const std::uint32_t width = std::uint32_t{1} << shift;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < left; ++i) {
      const std::uint32_t rank = ranks_[i];
      ranks_[kept] = rank;
      kept += rank - first < width ? 1 : 0;
    }
    left = kept;
  }
  RankedKey* to = candidates_.data();
  const bool all_tied = wanted == left;  // most often there is only one of that rank
  for (std::size_t i = 0; i < size_; ++i) {
    const RankedKey key = candidates_[i];
    *to = key;
    bool kept = key.rank() < limit;
    if (all_tied) {
      kept = key.rank() <= limit;
    } else if (key.rank() == limit && wanted > 0) {
      kept = true;
      --wanted;
    }
    to += kept ? 1 : 0;
  }
  size_ = count_;
  limit_ = limit;
}

std::span<const RankedKey> TopKeys::chosen() {
  if (size_ > count_) prune();
  return {candidates_.data(), size_};
}

// By digits from the last to the first, which leaves equal ranks in their order: that of their keys.
std::span<const RankedKey> TopKeys::sorted() {
  if (size_ > count_) prune();
  if (size_ == 0) return {};
  for (std::size_t i = 0; i < size_; ++i) ranks_[i] = candidates_[i].rank();
  const RankRange range = range_of({ranks_.data(), size_});
  for (int shift = 0; shift < static_cast<int>(std::bit_width(range.most - range.least)); shift += kDigitBits) {
    const auto digit = [&](const RankedKey& key) { return (key.rank() - range.least) >> shift & (kDigits - 1); };
    std::array<std::uint32_t, kDigits> places{};
    for (std::size_t i = 0; i < size_; ++i) ++places[digit(candidates_[i])];
    std::uint32_t before = 0;
    for (std::uint32_t& place : places) before += std::exchange(place, before);
    for (std::size_t i = 0; i < size_; ++i) other_[places[digit(candidates_[i])]++] = candidates_[i];
    std::swap(candidates_, other_);
  }
  return {candidates_.data(), size_};
}

}  // namespace tessera::kernels::cpu
