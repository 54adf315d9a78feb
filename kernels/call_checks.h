// What the attention kernels ask of a call, in one wording for all providers. Private to kernels/.
//
// `check(call)` looks at all that can be told without computing: ranks, sizes, kinds of numbers, attributes, the plan's
// rows and keys, and the entries of a block table that the plan reaches. What index lists name is left to
// kernels/key_lists.h.
#pragma once

#include <string_view>

#include "core/tensor/tensor.h"
#include "kernels/attention.h"
#include "kernels/lightning_indexer.h"
#include "kernels/operands.h"
#include "kernels/row_plan.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels {

/// Each gives the sizes by the letters of the call's comments (b, s, n, d, k, t, e, ...), and g, the query heads of a key
/// head (0 where there are none of either; of an indexer: index heads). Paged keys have also p, their blocks, l, the rows
/// of a block, and m, the entries of a row of the block table; t is then m * l.
/// @throws Error "shape-mismatch", "dtype", "attribute-range", "plan-out-of-range", "block-table" where an entry that the
/// plan reaches
///   names no block, or where a gradient is asked of a call with a block table; "rope-parts"
Sizes check(const AttentionCall& call);
Sizes check(const AttentionBackwardCall& call);
Sizes check(const SparseAttentionCall& call);  ///< also c, the slots, and r, the rope parts' width (0 without)
Sizes check(const SparseAttentionBackwardCall& call);
Sizes check(const IndexerCall& call);
Sizes check(const IndexerLseCall& call);
/// Index heads h of width i, f = h / k of them on a key head; main heads n of width d, g = n / k on a key head; c where
/// there are lists.
Sizes check(const IndexerLossCall& call);

/// Rows [begin, end) of the keys (of batch entry `segment.batch`) that a segment's rows see, all together; empty where they
/// see none.
KeyRange reached_rows(const RowSegment& segment);

/// @throws Error "plan-out-of-range" where a segment names rows or keys that queries [b, s, ...] and keys [b, t, ...] do
/// not have
void check_plan(std::string_view op, const RowPlan& plan, const Sizes& size);

/// What a mask adds to the scores [b, n, s, t]: a bool mask 0 where true and -inf where false, a float mask itself. Dims
/// that repeat have stride 0 and take no memory. @pre `check` took the call; `dtype` is f32 or f64
Tensor additive_mask(const Tensor& mask, const Sizes& size, DType dtype);

}  // namespace tessera::kernels
