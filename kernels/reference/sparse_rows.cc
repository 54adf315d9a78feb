// What the kernels over index lists share.
#include "kernels/reference/sparse_rows.h"

#include "kernels/key_lists.h"
#include "kernels/reference/softmax_statistics.h"

namespace tessera::kernels {

Tensor with_rope(const Tensor& x, const std::optional<Tensor>& rope) {
  if (!rope) return x.to(DType::kF64);
  const std::int64_t d = x.size(3);
  const std::int64_t both = d + rope->size(3);
  Tensor joined = Tensor::uninitialized({x.size(0), x.size(1), x.size(2), both}, DType::kF64);
  joined.slice(3, 0, d).copy_from(x);
  joined.slice(3, d, both).copy_from(*rope);
  return joined;
}

std::vector<std::int64_t> listed_rows(std::string_view op, const Tensor& slots, const PlannedRow& row,
                                      std::int64_t key_head, std::int64_t block_size) {
  const std::int64_t* list = address_of<std::int64_t>(slots, {row.batch, row.row, key_head, 0});
  return listed_rows(KeyList<std::int64_t>{.slots = {list, static_cast<std::size_t>(slots.size(3))},
                                           .block_size = block_size,
                                           .keys = row.keys,
                                           .key_base = row.key_base,
                                           .length = row.length,
                                           .op = op,
                                           .batch = row.batch,
                                           .row = row.row,
                                           .key_head = key_head});
}

Matrix weights_of(const Matrix& scores, const Tensor& max, const Tensor& sum, const PlannedRow& row,
                  std::int64_t key_head) {
  const double* max_of = address_of<double>(max, {row.batch, key_head, row.row, 0});
  const double* sum_of = address_of<double>(sum, {row.batch, key_head, row.row, 0});
  Matrix weights(scores.rows(), scores.cols());
  for (Eigen::Index h = 0; h < scores.rows(); ++h) {
    for (Eigen::Index j = 0; j < scores.cols(); ++j) weights(h, j) = softmax_weight(scores(h, j), {max_of[h], sum_of[h]});
  }
  return weights;
}

PackedMap writable_at(Tensor& tensor, std::initializer_list<std::int64_t> index, std::int64_t rows, std::int64_t cols) {
  double* first = tensor.data<double>();
  return {tensor.count() == 0 ? first : first + tensor.offset_of({index.begin(), index.size()}), rows, cols};
}

void scatter_add(PackedMap target, std::span<const std::int64_t> rows, const Matrix& added) {
  for (std::size_t i = 0; i < rows.size(); ++i) target.row(rows[i]) += added.row(static_cast<Eigen::Index>(i));
}

}  // namespace tessera::kernels
