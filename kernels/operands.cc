// Checks of operands' shapes and dtypes.
#include "kernels/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "support/diagnostic.h"

namespace tessera::kernels {
namespace {

// "bsnd" -> "[b, s, n, d]".
std::string bracketed(std::string_view dims) { return fmt::format("[{}]", fmt::join(dims.begin(), dims.end(), ", ")); }

// Where a letter was met first.
struct Origin {
  const Operand* operand = nullptr;
  std::size_t dim = 0;
};

}  // namespace

Sizes bind_sizes(std::string_view op, std::initializer_list<Operand> operands) {
  Sizes sizes;
  std::array<Origin, 26> origins{};
  for (const Operand& operand : operands) {
    const Shape& shape = operand.tensor.shape();
    if (shape.size() != operand.dims.size()) {
      fail({.code = "shape-mismatch",
            .message = fmt::format("{} {} has {} dims, but must have {}: {}", operand.name, to_string(shape), shape.size(),
                                   operand.dims.size(), bracketed(operand.dims)),
            .op = std::string(op),
            .operand = std::string(operand.name),
            .hint = fmt::format("reshape {} to {}", operand.name, bracketed(operand.dims))});
    }
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      const char letter = operand.dims[dim];
      Origin& origin = origins[static_cast<std::size_t>(letter - 'a')];
      if (origin.operand == nullptr) {
        origin = {&operand, dim};
        sizes[letter] = shape[dim];
      } else if (sizes[letter] != shape[dim]) {
        fail({.code = "shape-mismatch",
              .message = fmt::format("{} has size {} in dim {} ({}), but {} has size {} in its dim {}", operand.name,
                                     shape[dim], dim, letter, origin.operand->name, sizes[letter], origin.dim),
              .op = std::string(op),
              .operand = std::string(operand.name),
              .dim = static_cast<int>(dim),
              .hint = fmt::format("{} is {} and {} is {}: give both the same {}", origin.operand->name,
                                  bracketed(origin.operand->dims), operand.name, bracketed(operand.dims), letter)});
      }
    }
  }
  return sizes;
}

std::int64_t heads_per_key_head(std::string_view op, std::int64_t query_heads, std::int64_t key_heads,
                                std::string_view query, std::string_view key) {
  if (key_heads == 0 ? query_heads != 0 : query_heads % key_heads != 0) {
    fail({.code = "shape-mismatch",
          .message =
              fmt::format("{}'s {} heads (dim 2) are no multiple of {}'s {} (dim 2)", query, query_heads, key, key_heads),
          .op = std::string(op),
          .operand = std::string(key),
          .dim = 2,
          .hint = fmt::format("give {} a number of heads that divides {}", key, query_heads)});
  }
  return key_heads == 0 ? 0 : query_heads / key_heads;
}

void require_float(std::string_view op, std::string_view name, const Tensor& tensor) {
  if (is_floating(tensor.dtype())) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but must hold floats", name, to_string(tensor.dtype())),
        .op = std::string(op),
        .operand = std::string(name),
        .hint = fmt::format("convert {} to f32", name)});
}

void require_integer(std::string_view op, std::string_view name, const Tensor& tensor) {
  if (tensor.dtype() == DType::kI32 || tensor.dtype() == DType::kI64) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but must be i32 or i64", name, to_string(tensor.dtype())),
        .op = std::string(op),
        .operand = std::string(name),
        .hint = fmt::format("convert {} to i64", name)});
}

void require_dim(std::string_view op, std::string_view name, const Tensor& tensor, int dim) {
  if (dim >= 0 && dim < tensor.rank()) return;
  fail({.code = "dim-out-of-range",
        .message = fmt::format("{} {} has no dim {}", name, to_string(tensor.shape()), dim),
        .op = std::string(op),
        .operand = std::string(name),
        .dim = dim,
        .hint = tensor.rank() == 0 ? "a tensor without dims has none to name"
                                   : fmt::format("name a dim from 0 to {}", tensor.rank() - 1)});
}

Shape broadcast_shape(std::string_view op, std::string_view x_name, const Shape& x, std::string_view y_name,
                      const Shape& y) {
  const std::size_t rank = std::max(x.size(), y.size());
  Shape shape(rank, 1);
  for (std::size_t back = 1; back <= rank; ++back) {  // counted from the last dim
    const std::int64_t x_size = back <= x.size() ? x[x.size() - back] : 1;
    const std::int64_t y_size = back <= y.size() ? y[y.size() - back] : 1;
    if (x_size != y_size && x_size != 1 && y_size != 1) {
      fail({.code = "broadcast",
            .message = fmt::format("{} has size {} in dim {}, but {} has size {} in its dim {}, and neither is 1", x_name,
                                   x_size, x.size() - back, y_name, y_size, y.size() - back),
            .op = std::string(op),
            .operand = std::string(y_name),
            .dim = static_cast<int>(y.size() - back),
            .hint = "make the two sizes equal, or one of them 1"});
    }
    shape[rank - back] = x_size == 1 ? y_size : x_size;
  }
  return shape;
}

}  // namespace tessera::kernels
