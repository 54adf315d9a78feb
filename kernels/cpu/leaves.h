// What the fast kernels hand to the code of one instruction set: blocks of query rows and the keys that they meet, as
// pointers.
//
// A leaf works on one block on one thread; everything above it (checks, blocks, threads) is compiled once for every
// machine. `leaves()` are those of the best instruction set that the machine has. Private to kernels/cpu/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/dtype.h"

namespace tessera::kernels::cpu {

/// Rows of keys or values of one batch entry and head: row r lies at `base + r * row_stride`, or, in pages, row r %
/// page_rows of page `pages[r / page_rows]`. Strides count bytes, but `element_stride`, which counts elements.
struct KeyRows {
  const std::byte* base = nullptr;
  std::int64_t width = 0;  ///< elements of a row
  std::int64_t row_stride = 0;
  std::int64_t element_stride = 1;
  const std::int64_t* pages = nullptr;
  std::int64_t page_rows = 1;
  std::int64_t page_stride = 0;

  [[nodiscard]] const std::byte* row(std::int64_t r) const {
    return pages == nullptr ? base + r * row_stride
                            : base + pages[r / page_rows] * page_stride + r % page_rows * row_stride;
  }
  bool operator==(const KeyRows&) const = default;
};

/// The keys of a block: place p is row `list[p]` of keys and values, or without a list row p. A score is the sum of its
/// parts' (plain and rope).
struct BlockKeys {
  KeyRows parts[2];  ///< an absent one has width 0
  KeyRows values;
  const std::int64_t* list = nullptr;
  /// Places up to here may be asked for although no lane sees them: the thread's next blocks read those that follow.
  std::int64_t ahead_end = 0;

  [[nodiscard]] std::int64_t row(std::int64_t place) const { return list == nullptr ? place : list[place]; }
};

/// One query row of one head, a lane of the vectors.
struct QueryLane {
  const std::byte* parts[2] = {};  ///< its elements, `BlockQueries::element_strides` apart
  const std::byte* out = nullptr;  ///< of the result (forward: written) or the operand (backward)
  const std::byte* grad_out = nullptr;
  std::int64_t begin = 0;  ///< it sees places [begin, end)
  std::int64_t end = 0;
  const float* mask = nullptr;  ///< what is added to its score of place p lies at `mask[p * mask_stride]`
  float* max = nullptr;         ///< its statistics: written forward, null where they are not wanted; read backward
  float* sum = nullptr;
  std::uint32_t counter[3] = {};  ///< dropout: position, head, sequence
};

/// Dropout as a leaf needs it: the key's number is place - `first_place`; words below `threshold` drop.
struct LaneDropout {
  std::uint32_t threshold = 0;
  float keep_scale = 1;
  std::uint64_t seed = 0;
  std::int64_t first_place = 0;
};

constexpr std::int64_t rounded_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// Floats in the widest vector of any instruction set.
inline constexpr std::int64_t kWidestVector = 16;
/// At most this many lanes are a block.
inline constexpr std::int64_t kMaxLanes = 384;
/// At most this many blocks of few lanes take turns over the same places.
inline constexpr std::int64_t kMostTogether = 16;
/// Keys that a leaf takes at a time. Blocks of keys begin at multiples of it, whatever rows meet them.
inline constexpr std::int64_t kKeyBlock = 64;

struct AttentionBlock {
  std::span<const QueryLane> lanes;  ///< 1 to kMaxLanes
  BlockKeys keys;
  DType out_dtype = DType::kF32;  ///< f32, bf16 or f16
  std::int64_t element_strides[2] = {1, 1};
  std::int64_t out_stride = 1;  ///< elements
  std::int64_t mask_stride = 0;
  float scale = 1;
  bool write_out = true;
  LaneDropout dropout{};
};

/// Where the gradients of a block's keys add up: f32 rows like those of `BlockKeys` from `first` on, whole vectors wide.
struct GradientRows {
  float* base = nullptr;  ///< of row `first`
  std::int64_t first = 0;
  std::int64_t row_stride = 0;  ///< floats

  [[nodiscard]] float* row(std::int64_t r) const { return base + (r - first) * row_stride; }
};

/// The gradient of a block: lanes have `out`, `grad_out`, `max` and `sum` of the whole attention.
struct GradientBlock {
  AttentionBlock forward{};
  std::int64_t grad_out_stride = 1;
  DType out_dtype = DType::kF32;             ///< of the lanes' out
  std::span<std::byte* const> queries[2]{};  ///< by lane: where its gradient goes, contiguous
  DType gradient_dtype = DType::kF32;        ///< of those
  GradientRows parts[2]{};                   ///< of the keys
  GradientRows values{};
};

/// -127, below which exp2 gives 0. Not a constant to the compiler: GCC makes a comparison and a selection of the maximum
/// with a constant.
extern const float kLeastPower;

/// A lane's weights are exp2(score - base): the base follows its maximum only when that has grown by more than this, so
/// that weights stay below 2^8 and what was gathered is seldom scaled.
inline constexpr float kSlack = 8.0f;

/// Writes what a lane has gathered as its statistics, if they are wanted: `max` and `base` in the log2 domain, `sum` of
/// exp2(score - base).
void write_statistics(const QueryLane& lane, float max, float base, float sum);

/// Dropout's factor of one weight: 0 or `keep_scale`.
float dropout_factor(const LaneDropout& dropout, const QueryLane& lane, std::int64_t place);

/// Memory for a leaf's intermediate numbers, the thread's own, reused from block to block.
class Scratch {
 public:
  /// @returns `count` elements at a multiple of 64 bytes, not initialised, valid until the thread's next `Scratch` is made
  template <class T>
  T* take(std::int64_t count) {
    return reinterpret_cast<T*>(bytes(count * static_cast<std::int64_t>(sizeof(T))));
  }

 private:
  std::byte* bytes(std::int64_t count);
  std::size_t chunk_ = 0;
  std::int64_t used_ = 0;
};

/// What numbers are stored as and multiplied as: an index into the tables of `Leaves`.
enum class Arithmetic : std::uint8_t { kF32, kBF16, kF16, kBF16AsF32 };
inline constexpr std::size_t kArithmetics = 4;

/// How to multiply numbers of this storage. Pairs of bf16 need weights and gradients of scores in bf16 too; that rounding
/// is lost in sums over many keys and rows, but shows in sums of a few, which are multiplied as floats.
/// @param terms rows or keys that a sum goes over, on average
/// @pre f32, bf16 or f16
constexpr Arithmetic arithmetic_of(DType dtype, double terms) {
  constexpr double kFew = 64;
  if (dtype == DType::kBF16) return terms < kFew ? Arithmetic::kBF16AsF32 : Arithmetic::kBF16;
  return dtype == DType::kF32 ? Arithmetic::kF32 : Arithmetic::kF16;
}

struct IndexerBlock;  // of kernels/cpu/indexer_blocks.h
struct IndexerLossBlock;

template <class Block>
using LeafTable = std::array<void (*)(const Block&), kArithmetics>;

/// The code of one instruction set, by arithmetic.
struct Leaves {
  std::string_view name;   ///< "avx512"
  std::int64_t lanes = 1;  ///< floats in a vector
  LeafTable<AttentionBlock> attention{};
  /// Of at most `few()` lanes, at the speed of memory: up to kMostTogether blocks over the same places, the first with the
  /// most lanes.
  std::array<void (*)(std::span<const AttentionBlock* const>), kArithmetics> attention_of_few{};
  LeafTable<GradientBlock> gradient{};
  LeafTable<IndexerBlock> index_scores{};
  LeafTable<IndexerBlock> index_statistics{};
  LeafTable<IndexerLossBlock> index_loss{};
  /// Writes floats, readable to whole vectors, as elements of f32, bf16 or f16, `stride` elements apart.
  void (*narrow)(DType dtype, const float* from, std::byte* to, std::int64_t stride, std::int64_t count) = nullptr;

  /// So few lanes leave most of a vector empty: keys then lie in lanes instead.
  [[nodiscard]] std::int64_t few() const { return lanes / 2; }
  /// Parts of at most `few()` lanes that a block of `count` is best cut into: one, or two, which take turns with its keys and
  /// are still faster than tiles most of whose lanes are empty; 0 where tiles are.
  [[nodiscard]] std::int64_t parts_of_few(std::int64_t count) const {
    return count <= few() ? 1 : count <= 2 * few() ? 2 : 0;
  }
};

/// Those of the best instruction set that this machine has, or of the one that the environment's TESSERA_ISA names.
/// @throws Error "environment" where that is unknown, or this machine does not have it
const Leaves& leaves();
/// The instruction sets that this machine has, best first.
std::vector<const Leaves*> available_leaves();
/// Has all threads take these from now on, for tests and benchmarks. @returns those taken before
const Leaves& use_leaves(const Leaves& chosen);

}  // namespace tessera::kernels::cpu
