// A kernel of your own for the tessera command, in a shared library; attention then runs on it wherever it takes the call:
//   TESSERA_LOG_KERNELS=1 tessera run --library kernel_library.so examples/kernel_library.json
#include "kernels/attention.h"
#include "kernels/dense.h"
#include "kernels/provider.h"

namespace {

using namespace tessera;
using namespace tessera::kernels;

std::string refuse(const AttentionCall& call) {
  if (call.mask || call.block_table || call.dropout.probability != 0) return "a mask, paged keys or dropout";
  return call.return_statistics ? "statistics" : "";
}

// Two matrix products for each row of the queries, over the keys that the plan lets it see.
AttentionResult attend(const AttentionCall& call) {
  const std::int64_t heads = call.query.size(2), key_heads = call.key.size(2), width = call.value.size(3);
  Tensor out =
      Tensor::zeros({call.query.size(0), call.query.size(1), heads, width}, call.out_dtype.value_or(call.query.dtype()));
  for (const RowSegment& segment : call.plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const KeyRange seen = keys_of(segment, i);
      if (seen.begin >= seen.end) continue;
      const auto row_of = [&](const Tensor& x) { return x.select(0, segment.batch).select(0, segment.row + i); };
      const auto seen_of = [&](const Tensor& x) {  // [k, keys, d]
        return x.select(0, segment.batch)
            .slice(0, segment.key_base + seen.begin, segment.key_base + seen.end)
            .permute({1, 0, 2});
      };
      const Tensor query = row_of(call.query).reshape({key_heads, heads / key_heads, call.query.size(3)});
      const Tensor scores =
          map(matmul(query, seen_of(call.key), false, true), [&](double score) { return call.scale * score; });
      row_of(out).copy_from(matmul(softmax(scores, 2), seen_of(call.value)).reshape({heads, width}));
    }
  }
  return {.out = out};
}

}  // namespace

extern "C" void tessera_provide() { provide<AttentionCall>({.name = "two_products", .run = attend, .refuse = refuse}); }
