// The local attention kernels: causal attention and its gradient, halves of the keys whose states are merged, decoding.
#include <fmt/format.h>

#include <cmath>

#include "core/tensor/random.h"
#include "kernels/attention.h"
#include "kernels/key_cache.h"
#include "kernels/provider.h"
#include "kernels/softmax_state.h"

namespace {

using namespace tessera;
using namespace tessera::kernels;

constexpr std::int64_t kRows = 96, kHeads = 8, kKeyHeads = 2, kWidth = 64;

Tensor normal(const Shape& shape, const char* name) { return random_normal(shape, DType::kF32, 1, name); }

// Whether two tensors of f32 are the same but for rounding: prints |a - b| / |b|, which a NaN anywhere makes NaN.
bool agree(const char* what, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  double apart = 0, all = 0;
  for (std::size_t i = 0; i < b.span<float>().size(); ++i) {
    apart += std::pow(double(a.span<float>()[i]) - double(b.span<float>()[i]), 2);
    all += std::pow(double(b.span<float>()[i]), 2);
  }
  fmt::print("{:28} {:.1e}\n", what, std::sqrt(apart / all));
  return std::sqrt(apart / all) <= 2e-6;
}

}  // namespace

int main() {
  const Tensor query = normal({1, kRows, kHeads, kWidth}, "query");  // batch, rows, heads, width
  const Tensor key = normal({1, kRows, kKeyHeads, kWidth}, "key");   // four query heads share a key head
  const Tensor value = normal({1, kRows, kKeyHeads, kWidth}, "value");
  const double scale = 1 / std::sqrt(double(kWidth));

  // Row 0 sees the keys before 1, and each row one more than the row before it.
  const RowPlan causal{{{.count = kRows, .length = kRows, .limit = 1, .limit_step = 1}}};
  const AttentionCall call{.query = query, .key = key, .value = value, .plan = causal, .scale = scale};
  const AttentionResult whole = attention(call);
  fmt::print("{}\n\n", to_string(AttentionCall::kName, choose(call)));  // attention runs on cpu
  bool good = agree("out and the reference's", whole.out, compute(call, "reference").out);

  // The gradient takes what attention returned.
  const AttentionBackwardCall backward{.forward = call,
                                       .out = whole.out,
                                       .softmax_max = whole.softmax_max,
                                       .softmax_sum = whole.softmax_sum,
                                       .grad_out = normal(whole.out.shape(), "grad_out")};
  const AttentionGradients gradients = attention_backward(backward);
  good &= agree("key's gradient, likewise", gradients.key, compute(backward, "reference").key);

  // Some of the keys, as a rank would hold them: key j of the sequence lies at row j + key_base of what the call is given.
  const auto over_keys = [&](std::int64_t begin, std::int64_t end) {
    AttentionCall part = call;
    part.key = key.slice(1, begin, end);
    part.value = value.slice(1, begin, end);
    part.plan.segments[0].key_base = -begin;
    part.plan.segments[0].first = begin;
    part.plan.segments[0].length = end;
    return state_of(attention(part));
  };
  const SoftmaxState merged = merge(over_keys(0, kRows / 2), over_keys(kRows / 2, kRows));
  good &= agree("halves, merged, and whole", finish(merged, DType::kF32).out, whole.out);

  // One row at a time; each sees all that the cache has by then.
  KeyValueCache cache{.key = Tensor::zeros({1, kRows, kKeyHeads, kWidth}, DType::kF32),
                      .value = Tensor::zeros({1, kRows, kKeyHeads, kWidth}, DType::kF32),
                      .lengths = {0}};
  Tensor decoded = Tensor::zeros(whole.out.shape(), DType::kF32);
  for (std::int64_t row = 0; row < kRows; ++row) {
    const auto newest = [&](const Tensor& x) { return x.slice(1, row, row + 1); };
    append(cache, newest(key), newest(value));
    const RowPlan plan = cache_plan(cache, 1);
    const AttentionResult step =
        attention({.query = newest(query), .key = cache.key, .value = cache.value, .plan = plan, .scale = scale});
    newest(decoded).copy_from(step.out);
  }
  good &= agree("decoded by row, and at once", decoded, whole.out);
  return good ? 0 : 1;
}
