// Looking up rows of a table, whole or a part of a larger one.
#include <fmt/format.h>

#include <cstring>
#include <string>

#include "kernels/dense.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"

namespace tessera::kernels {

Tensor embedding(const Tensor& ids, const Tensor& table, std::int64_t first, std::int64_t total) {
  constexpr std::string_view kOp = "embedding";
  const Sizes size = bind_sizes(kOp, {{"table", table, "vd"}});
  require_integer(kOp, "ids", ids);
  Shape shape = ids.shape();
  if (shape.full()) {
    fail(
        {.code = "rank-too-large",
         .message = fmt::format("ids {} has {} dims, but the result would have one more than the {} that a tensor may have",
                                to_string(shape), shape.size(), kMaxRank),
         .op = std::string(kOp),
         .operand = "ids",
         .hint = "reshape ids to fewer dims"});
  }
  shape.push_back(size['d']);

  const Tensor numbers = ids.to(DType::kI64);
  const Tensor rows = table.contiguous();
  const auto row_bytes = static_cast<std::size_t>(size['d'] * size_of(table.dtype()));
  Tensor out = Tensor::zeros(shape, table.dtype());
  for (std::size_t i = 0; i < numbers.span<std::int64_t>().size(); ++i) {
    const std::int64_t id = numbers.span<std::int64_t>()[i];
    if (id < 0 || id >= total) {
      fail({.code = "index-out-of-range",
            .message = fmt::format("id {} (element {} of ids) names no row of a table of {} rows", id, i, total),
            .op = std::string(kOp),
            .operand = "ids",
            .hint = total > 0 ? fmt::format("ids go from 0 to {}", total - 1) : "an empty table has no row to name"});
    }
    if (id < first || id - first >= size['v']) continue;
    if (row_bytes == 0) continue;
    std::memcpy(out.bytes_begin() + i * row_bytes, rows.bytes_begin() + static_cast<std::size_t>(id - first) * row_bytes,
                row_bytes);
  }
  return out;
}

}  // namespace tessera::kernels
