#include "ops/attention/attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/tensor/random.h"
#include "ops/attention/row_plans.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"

namespace tessera {

void register_attention(Registry& registry) {
  register_scaled_dot_product_attention(registry);
  register_sparse_flash_attention(registry);
  register_lightning_indexer(registry);
}

std::vector<std::int64_t> integers_of(const Tensor& tensor) {
  if (is_floating(tensor.dtype()))
    fail("dtype", fmt::format("lengths are {}, they must be integers", to_string(tensor.dtype())));
  const Tensor wide = tensor.to(DType::kI64);
  return {wide.span<std::int64_t>().begin(), wide.span<std::int64_t>().end()};
}

RowPlan row_plan(const LocalCall& call, const SequenceOperands& where, const Masking& masking) {
  const std::int64_t rows = call.global_size(where.query, where.query_rows);
  const std::int64_t keys = call.global_size(where.key, where.key_rows);
  const IndexSet held_rows = call.indices(where.query, where.query_rows);
  std::vector<std::int64_t> query_lengths;
  std::vector<std::int64_t> key_lengths;
  if (call.has(where.query_lengths)) query_lengths = integers_of(call.input(where.query_lengths));
  if (call.has(where.key_lengths)) key_lengths = integers_of(call.input(where.key_lengths));
  if (where.packed) {
    if (!call.has(where.query_lengths)) query_lengths = {rows};  // one sequence
    if (!call.has(where.key_lengths)) key_lengths = {keys};
    return plan_packed({rows, keys, query_lengths, key_lengths}, held_rows, call.indices(where.key, where.key_rows),
                       masking);
  }
  const IndexSet entries = where.query_batch < 0 ? IndexSet{{0, 1}} : call.indices(where.query, where.query_batch);
  const std::int64_t batch = where.query_batch < 0 ? 1 : call.input(where.query).size(where.query_batch);
  return plan_padded({batch, rows, keys, query_lengths, key_lengths, entries}, held_rows, masking);
}

Tensor with_batch(const Tensor& packed) {
  Shape shape;
  shape.push_back(1);
  for (std::int64_t size : packed.shape()) shape.push_back(size);
  return packed.reshape(shape);
}

Tensor without_batch(const Tensor& batched) { return batched.select(0, 0); }

std::int64_t packed_parts(const CallSpec& call, std::string_view op, const SequenceOperands& where) {
  const TensorSpec& key = *call.operands[where.key];
  const std::int64_t parts = key.layout.rank() == 0 ? 1 : split_count(key.layout, 0);
  for (const std::size_t operand : {where.key, where.query}) {
    const Shape& shape = call.shape(operand);
    if (shape.empty() || shape[0] % parts == 0) continue;
    const bool of_keys = operand == where.key;
    fail(Diagnostic{.code = "packed-parts",
                    .message = fmt::format("the {}' {} packed rows are no multiple of {} {} shards",
                                           of_keys ? "keys" : "queries", shape[0], of_keys ? "their" : "the keys'", parts),
                    .op = std::string(op),
                    .hint = "split packed keys evenly, where documents end, or keep them whole"});
  }
  return parts;
}

void check_kinds(const CallSpec& call, std::string_view op, std::initializer_list<OperandKind> operands) {
  for (const OperandKind& kind : operands) {
    if (!call.has(kind.operand)) continue;
    const DType dtype = call.operands[kind.operand]->dtype;
    if (kind.integers ? dtype == DType::kI32 || dtype == DType::kI64 : is_floating(dtype)) continue;
    fail(Diagnostic{.code = "dtype",
                    .message = fmt::format("{} is {}, it must be {}", kind.name, to_string(dtype),
                                           kind.integers ? "i32 or i64" : "a float"),
                    .op = std::string(op),
                    .operand = std::string(kind.name)});
  }
}

SequenceLengths sample_lengths(const CallSpec& call, const SequenceOperands& where, std::uint64_t seed) {
  const auto total_of = [&](std::size_t operand, int dim) { return call.shape(operand)[static_cast<std::size_t>(dim)]; };
  const bool shared = call.has(where.query_lengths) && call.has(where.key_lengths) &&
                      call.operands[where.query_lengths] == call.operands[where.key_lengths];
  const std::int64_t parts = where.packed ? split_count(call.operands[where.key]->layout, where.key_rows) : 1;
  const auto draw = [&](std::size_t lengths, std::int64_t total, std::string_view name) {
    std::vector<std::int64_t> drawn;
    if (!call.has(lengths) || call.shape(lengths)[0] == 0) return drawn;
    if (shared) total = std::min(total_of(where.query, where.query_rows), total_of(where.key, where.key_rows));
    const std::int64_t count = call.shape(lengths)[0];
    const std::int64_t size = total / parts;
    const Tensor numbers = random_integers({count}, DType::kI64, where.packed ? 0 : size / 2, size + 1, seed,
                                           shared ? "actual_seq_lengths" : name);
    drawn.assign(numbers.span<std::int64_t>().begin(), numbers.span<std::int64_t>().end());
    if (!where.packed) return drawn;
    // Each part of the batch gets some of the sequences, the last of which ends where the part does.
    const auto part_of = [&](std::int64_t i) { return count < parts ? i : i * parts / count; };
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t& end = drawn[static_cast<std::size_t>(i)];
      end = (i + 1 == count || part_of(i + 1) != part_of(i)) ? (part_of(i) + 1) * size : part_of(i) * size + end;
    }
    std::sort(drawn.begin(), drawn.end());
    return drawn;
  };
  return {draw(where.query_lengths, total_of(where.query, where.query_rows), "actual_seq_lengths_query"),
          draw(where.key_lengths, total_of(where.key, where.key_rows), "actual_seq_lengths_kv")};
}

std::optional<Tensor> sample_lengths_of(const CallSpec& call, const SequenceOperands& where, std::size_t operand,
                                        std::uint64_t seed) {
  if (operand != where.query_lengths && operand != where.key_lengths) return std::nullopt;
  const SequenceLengths lengths = sample_lengths(call, where, seed);
  const std::vector<std::int64_t>& own = operand == where.query_lengths ? lengths.query : lengths.key;
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(own.size())}, own).to(call.operands[operand]->dtype);
}

DType statistics_dtype(DType query) { return query == DType::kF64 ? DType::kF64 : DType::kF32; }

SequenceOperands sparse_sequences(bool packed, std::size_t query_lengths, std::size_t key_lengths) {
  SequenceOperands where{.packed = packed, .query_lengths = query_lengths, .key_lengths = key_lengths};
  if (packed) {
    where.query_batch = -1;
    where.query_rows = where.key_rows = 0;
  }
  return where;
}

Masking sparse_masking(const Attributes& attributes) {
  return attributes.get<std::int64_t>("sparse_mode") == 3 ? Masking{.next = 0, .right_down = true} : Masking{};
}

std::vector<AttributeSpec> sparse_mask_attributes(std::string modes) {
  const auto tokens = [](const char* name) {
    return AttributeSpec{.name = name,
                         .type = AttributeType::kInt,
                         .default_value = Masking::kAll,
                         .doc = "accepted for the vendor's interface: unlimited only"};
  };
  return {{.name = "sparse_mode", .type = AttributeType::kInt, .default_value = std::int64_t{3}, .doc = std::move(modes)},
          tokens("pre_tokens"),
          tokens("next_tokens")};
}

void check_tokens_unlimited(const CallSpec& call, std::string_view op) {
  constexpr std::int64_t kUnlimited = 2147483647;  // the gradient's "all"; the forward's is 2^63-1
  for (const char* name : {"pre_tokens", "next_tokens"}) {
    const auto tokens = call.attributes.get<std::int64_t>(name);
    if (tokens >= kUnlimited) continue;
    fail(Diagnostic{.code = "unsupported-attribute",
                    .message = fmt::format("{} is {}, only an unlimited one is defined", name, tokens),
                    .op = std::string(op),
                    .hint = fmt::format("leave {} out; sparse_mode 3 is causal, 0 sees all", name)});
  }
}

}  // namespace tessera
