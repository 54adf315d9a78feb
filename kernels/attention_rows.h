// What the attention kernels share: a plan's rows, matrices inside tensors, and the attention of one row. Private to kernels/.
//
// All of them work row by row, each row over its own keys only. So a row's result is a function of that row: however a plan's rows
// are cut into calls, the numbers are the same bit for bit, and what a row does not see (NaN in padding, say) cannot reach it.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensor/eigen.h"
#include "core/tensor/tensor.h"
#include "kernels/attention.h"
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
};

/// The rows of a plan that see keys, for queries [batches, rows, ...] and keys [batches, key_rows, ...].
/// @throws Error "plan-out-of-range" where a segment names rows or keys that those do not have
std::vector<PlannedRow> rows_of(std::string_view op, const RowPlan& plan, std::int64_t batches, std::int64_t rows,
                                std::int64_t key_rows);

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
AttentionResult zero_result(std::int64_t b, std::int64_t s, std::int64_t n, std::int64_t k, std::int64_t e);

/// Softmax of `scores` [h, m] times `values` [m, e], written as row `row` of query heads [head, head + h), which share key head
/// `key_head`. @pre `result` comes from `zero_result`
void write_row(AttentionResult& result, const PlannedRow& row, std::int64_t key_head, std::int64_t head,
               const Matrix& scores, const MatrixRef& values);

/// The result in the dtypes that callers see: the queries', and f32 (f64 for f64 queries) for the statistics.
AttentionResult rounded(const AttentionResult& result, DType query_dtype);

}  // namespace tessera::kernels
