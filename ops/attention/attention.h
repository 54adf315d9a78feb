// What the attention operators share: from one rank's part of a call to the row plan of its kernel.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/op/op.h"
#include "kernels/row_plan.h"
#include "ops/attention/band.h"

namespace tessera {

class Registry;

/// Where an attention operator's sequences lie: operands by their number in the rule, dims by their number in the operand.
struct SequenceOperands {
  bool packed = false;  ///< TND: sequences one after the other, told by prefix sums
  std::size_t query = 0;
  std::size_t key = 1;
  int query_batch = 0;            ///< batch dim of the query; -1 where it has none
  int query_rows = 1;             ///< sequence dim of the query
  int key_rows = 1;               ///< sequence dim of the key
  std::size_t query_lengths = 0;  ///< operand with the queries' lengths; absent means all rows
  std::size_t key_lengths = 0;
};

/// The plan of the rows that this rank holds: what context parallelism adjusts. A kernel of one's own for an attention operator calls it
/// and gets the same window as the operator's own.
RowPlan row_plan(const LocalCall& call, const SequenceOperands& where, const Masking& masking);

/// A tensor of integers as a list. @throws Error "dtype" for a tensor of floats
std::vector<std::int64_t> integers_of(const Tensor& tensor);

/// A packed tensor [t, ...] seen as a batch of one, [1, t, ...], and back.
Tensor with_batch(const Tensor& packed);
Tensor without_batch(const Tensor& batched);

/// How many parts the keys' shards make of a packed batch: the size of the rule's outermost factor of T. Queries split over the same axes
/// in front keep their sequences' keys on their own rank.
/// @throws Error "packed-parts" where queries or keys do not divide into as many
std::int64_t packed_parts(const CallSpec& call, std::string_view op, const SequenceOperands& where);

/// An operand with the kind of numbers that it holds.
struct OperandKind {
  std::size_t operand = 0;
  std::string_view name;
  bool integers = false;  ///< i32 or i64; else any float
};
/// @throws Error "dtype" where a present operand holds the other kind
void check_kinds(const CallSpec& call, std::string_view op, std::initializer_list<OperandKind> operands);

/// Lengths of the sequences; none for an operand that is absent.
struct SequenceLengths {
  std::vector<std::int64_t> query;
  std::vector<std::int64_t> key;
};

/// Random lengths for runs without inputs: of padded sequences between half of the rows and all of them, of packed ones prefix sums that end
/// at the last row. Where one tensor gives both, queries and keys have the same. Packed keys that are split get sequences that end where their
/// shards do (with fewer sequences than shards the last shards hold padding only). The same numbers for the same arguments.
SequenceLengths sample_lengths(const CallSpec& call, const SequenceOperands& where, std::uint64_t seed);
/// The same as a tensor of the operand's dtype; nothing for an operand that is no length.
std::optional<Tensor> sample_lengths_of(const CallSpec& call, const SequenceOperands& where, std::size_t operand,
                                        std::uint64_t seed);

/// The dtype of an operator's statistics: f64 for f64 queries, else f32.
DType statistics_dtype(DType query);

/// Where the sequences of a sparse operator lie: [b, s, ...], or packed [t, ...]; query and key are operands 0 and 1.
SequenceOperands sparse_sequences(bool packed, std::size_t query_lengths, std::size_t key_lengths);
/// What sparse_mode says: 3 right-down causal, else everything.
Masking sparse_masking(const Attributes& attributes);
/// sparse_mode, pre_tokens and next_tokens.
std::vector<AttributeSpec> sparse_mask_attributes(std::string modes);

/// The pre_tokens and next_tokens of the sparse operators must not narrow anything. @throws Error "unsupported-attribute"
void check_tokens_unlimited(const CallSpec& call, std::string_view op);

void register_scaled_dot_product_attention(Registry& registry);
void register_sparse_flash_attention(Registry& registry);
void register_lightning_indexer(Registry& registry);

}  // namespace tessera
