// Attention of few query rows, as in decoding: the elements of a key lie in lanes, and each key and value is read once for
// all rows.
//
// So few rows are bound by memory, and what counts is how many reads are under way at once: each vector of a key or value is
// asked for before it is read (`Requests`), or they are streams (few_streams.h). Keys go by in turns: those of some tokens,
// then their values. Key heads that lie side by side take turns over the same tokens, so that memory is read in its order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cpu/leaves.h"
#include "kernels/cpu/simd/few_queries.h"
#include "kernels/cpu/simd/few_rows.h"
#include "kernels/cpu/simd/few_streams.h"

namespace tessera::kernels::cpu {

/// Goes through the keys of blocks of as many rows, kHeads of them side by side at a time.
template <class Isa, DType kType, int kHeads, int kRowsOfHead>
class FewTurns {
 public:
  /// @param blocks a multiple of kHeads; their keys differ in nothing but where they begin
  explicit FewTurns(std::span<const AttentionBlock* const> blocks) {
    for (std::size_t first = 0; first < blocks.size(); first += std::size_t{kHeads}) {
      Group& group = groups_[count_++];
      group.prepare(scratch_, blocks.subspan(first, std::size_t{kHeads}));
      begin_ = std::min(begin_, group.begin);
      end_ = std::max(end_, group.end);
    }
    in_order_ = Isa::kLosesRequests && kHeads == 1 && rows(kFirstPart, count_ - 1).base != rows(kFirstPart, 0).base;
    if constexpr (kStreams) streams_ = kHeads > 1 || (!in_order_ && are_streams<Isa, kType>(groups_[0].heads, kRowsOfHead));
    rows_ = streams_ ? kStreamRows : rows_of_turn();
    tokens_ = rows_ / kHeads;
    weights_ = scratch_.take<float>(together() * (rows_ * kRowsOfHead + Isa::kLanes));
    for (const Operand operand : kAllOperands) {
      for (std::int64_t g = 0; g < count_; ++g) distances_[operand][g] = rows(operand, g).base - rows(operand, 0).base;
      for (TurnOfKeys& turn : turns_)
        turn.in_order[operand] = scratch_.take<const std::byte*>(in_order_ ? tokens_ * count_ : 0);
    }
  }

  void attend() {
    if (begin_ < end_) attend_turns();
    for (std::int64_t g = 0; g < count_; ++g) groups_[g].finish();
  }

 private:
  using Group = FewRows<Isa, kType, kHeads, kRowsOfHead>;
  static constexpr bool kStreams = Isa::kLosesRequests && kRowsOfHead <= kMostStreamRows<kType, (kHeads > 1)>;

  [[nodiscard]] const KeyRows& rows(Operand operand, std::int64_t group) const {
    return rows_of<Isa>(groups_[group].block().keys, operand);
  }

  void attend_turns() {
    find(turns_[0], begin_);
    for (std::int64_t i = 0;; ++i) {
      TurnOfKeys& turn = turns_[i % 2];
      TurnOfKeys& next = turns_[(i + 1) % 2];
      find(next, turn.first + turn.count);
      for (std::int64_t first = 0; first < count_; first += together()) {
        const std::int64_t behind = first + together();
        for (std::int64_t g = first; g < behind; ++g) multiply(g, turn, next);
        for (std::int64_t g = first; g < behind; ++g) add(g, turn, next);
      }
      if (turn.first + turn.count == end_) return;
    }
  }

  /// The first group's turn over the tokens from `first` on. Behind those that rows see come others that may be asked for, and
  /// then the last one again.
  void find(TurnOfKeys& turn, std::int64_t first) const {
    const BlockKeys& keys = groups_[0].block().keys;
    const std::int64_t end = first < end_ ? end_ : std::max(end_, keys.ahead_end);
    turn.first = std::min(first, end - 1);
    turn.count = std::min(end, turn.first - turn.first % tokens_ + tokens_) - turn.first;
    if (streams_) return;  // addresses are counted on
    for (const Operand operand : kAllOperands) {
      if (rows(operand, 0).width == 0) continue;
      find_rows<Isa>(rows(operand, 0), keys, turn.first, turn.count, turn.rows[operand]);
      repeat_last<Isa>(turn.rows[operand], turn.count, tokens_);
      if (!in_order_) continue;
      const std::byte** at = turn.in_order[operand];
      for (std::int64_t t = 0; t < tokens_; ++t, at += count_) {
        const std::byte* row = turn.rows[operand][t];
        for (std::int64_t g = 0; g < count_; ++g) at[g] = row + distances_[operand][g];
      }
    }
  }

  /// From group `group` on to the next one, if there is one.
  void pass_on(TurnOfKeys& turn, Operand operand, std::int64_t group) const {
    if (group + 1 == count_ || rows(operand, 0).width == 0) return;
    const std::int64_t distance = distances_[operand][group + 1] - distances_[operand][group];
    for (std::int64_t t = 0; t < tokens_; ++t) turn.rows[operand][t] += distance;
  }

  /// Groups whose keys are multiplied before their values are added. In memory's order all are, so that it is read in longer
  /// runs.
  [[nodiscard]] std::int64_t together() const { return in_order_ ? count_ : 1; }

  /// Those of a group [tokens][rows], whole vectors.
  [[nodiscard]] float* weights(std::int64_t group) const {
    return weights_ + (in_order_ ? group : 0) * (rows_ * kRowsOfHead + Isa::kLanes);
  }

  /// Multiplies keys: products go where weights will be. Passes keys on to the next group.
  void multiply(std::int64_t group, TurnOfKeys& turn, const TurnOfKeys& next) {
    const Group& own = groups_[group];
    if constexpr (kStreams) {
      if (streams_)
        return multiply_stream<Isa, kType, kHeads, kRowsOfHead>(own.block().keys.parts[0], turn.first, turn.count,
                                                                own.queries[0], weights(group));
    }
    if constexpr (kHeads == 1) {
      const RowsInTurn& then = turn.rows[kValues];
      Requests<Isa> second = requests(group, kSecondPart, turn, next, then);
      if (!in_order_) second.far = second.near;  // narrow: once is enough
      own.multiply(turn, requests(group, kFirstPart, turn, next, then), second, weights(group));
      pass_on(turn, kFirstPart, group);
      pass_on(turn, kSecondPart, group);
    }
  }

  /// Makes weights of products, and adds values. Passes these on to the next group.
  void add(std::int64_t group, TurnOfKeys& turn, const TurnOfKeys& next) {
    Group& own = groups_[group];
    own.weigh(turn, weights(group));
    if constexpr (kStreams) {
      if (streams_)
        return add_stream<Isa, kType, kHeads, kRowsOfHead>(own.block().keys.values, turn.first, turn.count, weights(group),
                                                           own.out);
    }
    if constexpr (kHeads == 1) {
      const bool last = group + 1 == count_;
      own.add(turn, weights(group), requests(group, kValues, turn, next, (last ? next : turn).rows[kFirstPart]));
      pass_on(turn, kValues, group);
    }
  }

  /// What is asked for while a turn's rows are read, before those of `then`: into the second cache those, or where requests
  /// get lost, the next turn's, so that memory is read in long runs. In memory's order nothing is asked for into the first
  /// cache (but the row itself): what lies so far apart would push itself out of it again.
  Requests<Isa> requests(std::int64_t group, Operand operand, TurnOfKeys& turn, const TurnOfKeys& next,
                         const RowsInTurn& then) const {
    RowsInTurn& own = turn.rows[operand];
    if (in_order_) return {own, next.in_order[operand] + group * tokens_};
    follow<Isa>(own, rows_, then);
    return {own + kNearRows, Isa::kLosesRequests ? next.rows[operand] : then};
  }

  /// Rows of a turn, if they are no streams: few, so that what is asked for stays in the second cache, and values keep streaming
  /// beside keys. Where requests get lost many, so that memory is read in long runs; fewer of heads in order, all of which
  /// have a turn before the next one, but enough to be worth it, and whole vectors of scores. Measured.
  [[nodiscard]] std::int64_t rows_of_turn() const {
    if (!Isa::kLosesRequests) return 32;
    const std::int64_t least = in_order_ ? Isa::kLanes : 64;
    const std::int64_t most_bytes = in_order_ ? 8192 : 49152;
    const std::int64_t bytes_of_row = rows(kFirstPart, 0).width * std::int64_t{sizeof(Bits<kType>)};
    std::int64_t count = kMostTurnRows;
    while (count > least && count * bytes_of_row > most_bytes) count /= 2;
    return count;
  }

  Scratch scratch_;
  Group groups_[std::size_t{kMostTogether / kHeads}];
  std::int64_t count_ = 0;          // of groups
  std::int64_t begin_ = INT64_MAX;  // of the places that rows see
  std::int64_t end_ = 0;
  std::int64_t rows_ = 0;    // of keys in a turn
  std::int64_t tokens_ = 0;  // that is, of each head
  float* weights_ = nullptr;
  bool streams_ = false;  // several heads always are
  // Where requests get lost, those of heads side by side (not of the parts of one) go in memory's order: while a head's keys
  // or values are read, as many rows of those are asked for that lie next, of all heads.
  bool in_order_ = false;
  std::int64_t distances_[kOperands][std::size_t{kMostTogether / kHeads}];  // from the first group's rows, bytes
  TurnOfKeys turns_[2];                                                     // one and the next
};

/// @param blocks of at most kRowsOfHead lanes
template <class Isa, DType kType, int kRowsOfHead>
void attend_rows(std::span<const AttentionBlock* const> blocks) {
  if constexpr (Isa::kLosesRequests && kRowsOfHead <= kMostStreamRows<kType, true>) {
    if (blocks.size() % 2 == 0 && are_streams<Isa, kType>(blocks, kRowsOfHead)) {
      if (blocks.size() % 8 == 0) return FewTurns<Isa, kType, 8, kRowsOfHead>(blocks).attend();
      if (blocks.size() % 4 == 0) return FewTurns<Isa, kType, 4, kRowsOfHead>(blocks).attend();
      return FewTurns<Isa, kType, 2, kRowsOfHead>(blocks).attend();
    }
  }
  FewTurns<Isa, kType, 1, kRowsOfHead>(blocks).attend();
}

/// @param blocks none of more lanes than the first
template <class Isa, DType kType>
void attend_few(std::span<const AttentionBlock* const> blocks) {
  const std::size_t rows = blocks[0]->lanes.size();
  if (rows == 1) return attend_rows<Isa, kType, 1>(blocks);
  if (rows == 2) return attend_rows<Isa, kType, 2>(blocks);
  if constexpr (Isa::kLanes >= 8) {
    if (rows <= 4) return attend_rows<Isa, kType, 4>(blocks);
  }
  if constexpr (Isa::kLanes >= 16) return attend_rows<Isa, kType, 8>(blocks);
}

}  // namespace tessera::kernels::cpu
