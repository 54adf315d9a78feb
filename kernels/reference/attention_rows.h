// What the reference attention kernels share: a plan's rows, matrices inside tensors, and the attention of one row. Private
// to kernels/.
//
// All of them work row by row, each row over its own keys only. So a row's result is a function of that row: however a
// plan's rows are cut into calls, the numbers are the same bit for bit, and what a row does not see (NaN in padding, say)
// cannot reach it.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "core/tensor/eigen.h"
#include "core/tensor/tensor.h"
#include "kernels/attention.h"
#include "kernels/operands.h"
#include "kernels/row_plan.h"

namespace tessera::kernels {

using Matrix = RowMajorMatrix<double>;
using PackedMap = Eigen::Map<Matrix>;  // rows that follow one another in memory
using ConstPackedMap = Eigen::Map<const Matrix>;
using MatrixRef = Eigen::Ref<const Matrix>;

/// A query row that sees at least one key.
struct PlannedRow {
  std::int64_t batch = 0;
  std::int64_t row = 0;       ///< in that batch entry of the queries
  std::int64_t key_base = 0;  ///< row of the keys at which key 0 of the sequence lies
  std::int64_t length = 0;    ///< keys of the sequence
  KeyRange keys;              ///< what it sees, not empty
  std::int64_t sequence = 0;  ///< global number of its sequence
  std::int64_t position = 0;  ///< its global position in there
};

/// The rows of a plan that see keys. @pre `check` took the call
std::vector<PlannedRow> rows_of(const RowPlan& plan);

/// Keys or values as [b, t, k, d]: themselves, or gathered from the blocks that the plan reaches (zeros elsewhere) where
/// there is a block table. @pre `check` took the call and gave `size`
Tensor plain_keys(const Tensor& keys, const std::optional<Tensor>& block_table, const RowPlan& plan, const Sizes& size);

/// Keys or values [b, t, k, d] as contiguous f64 [b, k, t, d], in which the rows of a head lie together.
Tensor by_head(const Tensor& keys);

/// Where an element lies. @pre the tensor is of T; an empty tensor has one address
template <class T>
const T* address_of(const Tensor& tensor, std::initializer_list<std::int64_t> index) {
  return tensor.count() == 0 ? tensor.data<T>() : tensor.data<T>() + tensor.offset_of({index.begin(), index.size()});
}

/// The `rows` x `cols` numbers that lie together from `index` on. @pre the tensor is contiguous f64
ConstPackedMap matrix_at(const Tensor& tensor, std::initializer_list<std::int64_t> index, std::int64_t rows,
                         std::int64_t cols);

/// The named rows of a matrix, one below the other.
Matrix gather_rows(const MatrixRef& matrix, std::span<const std::int64_t> rows);

/// An f64 result of zeros for queries [b, s, n, *], keys [b, t, k, *] and values of width e.
AttentionResult zero_result(const Sizes& size);

/// Keys that a head of a row sees, in order.
struct VisibleKeys {
  std::vector<std::int64_t> rows;  ///< of the key tensor
  std::vector<double> added;       ///< to the score of each, finite or +inf or NaN
};

/// All that the plan lets a row see, less those that the mask hides. @param mask nothing, or f64 [b, n, s, t] from
/// `additive_mask`
VisibleKeys visible_keys(const std::optional<Tensor>& mask, const PlannedRow& row, std::int64_t head);

/// What dropout multiplies a row's weights of query heads [head, head + heads) for these keys with, [heads, m]: 0, or 1 /
/// (1 - probability); nothing where it drops nothing. @param rows of the key tensor
std::optional<Matrix> dropout_factors(const Dropout& dropout, const PlannedRow& row, std::int64_t head, std::int64_t heads,
                                      std::span<const std::int64_t> rows);

/// Softmax of `scores` [h, m], times `factors` [h, m] where there are any, times `values` [m, e], written as row `row` of
/// query heads [head, head + h), which share key head `key_head`. @pre `result` comes from `zero_result`
void write_row(AttentionResult& result, const PlannedRow& row, std::int64_t key_head, std::int64_t head,
               const Matrix& scores, const MatrixRef& values, const std::optional<Matrix>& factors = std::nullopt);

/// What a call asks for, rounded once: out in the queries' dtype or the one asked for, statistics in f32 (f64 for f64
/// queries).
template <class Call>
AttentionResult rounded(const AttentionResult& result, const Call& call) {
  const DType statistics = statistics_dtype(call.query.dtype());
  return {call.return_out ? result.out.to(call.out_dtype.value_or(call.query.dtype())) : Tensor(),
          call.return_statistics ? result.softmax_max.to(statistics) : Tensor(),
          call.return_statistics ? result.softmax_sum.to(statistics) : Tensor()};
}

}  // namespace tessera::kernels
