// Merging partial attention, row by row.
#include "kernels/softmax_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include "core/tensor/convert.h"
#include "kernels/operands.h"
#include "support/diagnostic.h"
#include "support/parallel.h"

namespace tessera::kernels {
namespace {

// Elements that are worth a task of their own.
constexpr std::int64_t kTaskElements = 1 << 15;

// One query head of one row.
struct Place {
  std::int64_t batch, row, key_head, member;  // member: which query head of the key head
};

// Where an element lies; an empty tensor has one address.
template <class T, class AnyTensor>
auto* address(AnyTensor& tensor, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  if (tensor.count() == 0) return tensor.template data<T>();
  const Shape& strides = tensor.strides();
  return tensor.template data<T>() + (a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]);
}
// Where a row's statistic, or its first element, lies.
template <class T, class AnyTensor>
auto* statistic(AnyTensor& statistics, const Place& at) {
  return address<T>(statistics, at.batch, at.key_head, at.row, at.member);
}
template <class T, class AnyTensor>
auto* row_of(AnyTensor& rows, const Place& at, std::int64_t group) {
  return address<T>(rows, at.batch, at.row, at.key_head * group + at.member, 0);
}

// Calls `work(place)` for every row and query head, on the machine's threads.
template <class Work>
void for_each_row(const Sizes& size, const Work& work) {
  const std::int64_t heads = size['n'];
  const std::int64_t rows = size['b'] * size['s'] * heads;
  if (rows == 0) return;
  const std::int64_t of_task = std::max<std::int64_t>(1, kTaskElements / std::max<std::int64_t>(1, size['e']));
  const auto task = [&](std::int64_t number) {
    for (std::int64_t i = number * of_task; i < std::min(rows, (number + 1) * of_task); ++i) {
      const std::int64_t head = i % heads;
      const std::int64_t row = i / heads;
      work(Place{row / size['s'], row % size['s'], head / size['g'], head % size['g']});
    }
  };
  parallel_for((rows - 1) / of_task + 1, std::ref(task));
}

// Calls `f(T{})` for f32 and f64. @pre one of the two
template <class F>
void visit_state(DType dtype, F f) {
  if (dtype == DType::kF32) f(float{});
  else f(double{});
}

void require_state_dtype(std::string_view op, std::string_view name, DType dtype, std::string_view hint) {
  if (dtype == DType::kF32 || dtype == DType::kF64) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but parts are merged in f32 or f64", name, to_string(dtype)),
        .op = std::string(op),
        .operand = std::string(name),
        .hint = std::string(hint)});
}

void require_same_dtype(std::string_view op, std::string_view name, const Tensor& tensor, std::string_view first,
                        DType dtype) {
  if (tensor.dtype() == dtype) return;
  fail({.code = "dtype",
        .message = fmt::format("{} is {}, but {} is {}", name, to_string(tensor.dtype()), first, to_string(dtype)),
        .op = std::string(op),
        .operand = std::string(name),
        .hint = fmt::format("convert {} to {}", name, to_string(dtype))});
}

// What the three tensors of a state, or of attention's result, are called.
struct Names {
  std::string max, sum, weighted;
};

// The sizes of statistics [b, k, s, g] and rows [b, s, n, e] with n = k * g.
Sizes check_parts(std::string_view op, const Names& name, const Tensor& max, const Tensor& sum, const Tensor& weighted,
                  std::string_view dtype_hint) {
  const Sizes size = bind_sizes(op, {{name.weighted, weighted, "bsne"}, {name.max, max, "bksg"}, {name.sum, sum, "bksg"}});
  if (size['n'] != size['k'] * size['g']) {
    fail({.code = "shape-mismatch",
          .message =
              fmt::format("{} has {} heads (dim 2), but {} {} is of {} key heads (dim 1) with {} query heads each (dim 3)",
                          name.weighted, size['n'], name.max, to_string(max.shape()), size['k'], size['g']),
          .op = std::string(op),
          .operand = name.max,
          .hint = fmt::format("give statistics of {} query heads", size['n'])});
  }
  require_state_dtype(op, name.weighted, weighted.dtype(), dtype_hint);
  require_same_dtype(op, name.max, max, name.weighted, weighted.dtype());
  require_same_dtype(op, name.sum, sum, name.weighted, weighted.dtype());
  return size;
}

Sizes check_state(std::string_view op, const std::string& name, const SoftmaxState& state) {
  const Names names{name + ".max", name + ".sum", name + ".weighted"};
  return check_parts(op, names, state.max, state.sum, state.weighted, "convert it to f32");
}

Tensor uninitialized_statistics(const Sizes& size, DType dtype) {
  return Tensor::uninitialized({size['b'], size['k'], size['s'], size['g']}, dtype);
}
Tensor uninitialized_rows(const Sizes& size, DType dtype) {
  return Tensor::uninitialized({size['b'], size['s'], size['n'], size['e']}, dtype);
}
SoftmaxState uninitialized_state(const Sizes& size, DType dtype) {
  return {uninitialized_statistics(size, dtype), uninitialized_statistics(size, dtype), uninitialized_rows(size, dtype)};
}

template <class T>
void write_empty(T* max, T* sum, T* weighted, std::int64_t width) {
  *max = -std::numeric_limits<T>::infinity();
  *sum = 0;
  std::fill_n(weighted, width, T{0});
}

// to += from * factor. A loop over neighbours is vector code.
template <class T>
void add_scaled(T* to, const T* from, std::int64_t stride, T factor, std::int64_t width) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < width; ++i) to[i] += from[i] * factor;
  } else {
    for (std::int64_t i = 0; i < width; ++i) to[i] += from[i * stride] * factor;
  }
}
template <class T>
void copy_row(T* to, const T* from, std::int64_t stride, std::int64_t width) {
  for (std::int64_t i = 0; i < width; ++i) to[i] = from[i * stride];
}

// One row of all parts. The sums begin with the first part of the largest maximum, whose factor is 1, and the others are
// added in their order: of two parts one product at most is rounded, so that their order changes no bit even where
// products and sums are fused.
template <class T>
void merge_row(std::span<const SoftmaxState> parts, SoftmaxState& result, const Place& at, const Sizes& size) {
  T* const max = statistic<T>(result.max, at);
  T* const sum = statistic<T>(result.sum, at);
  T* const weighted = row_of<T>(result.weighted, at, size['g']);
  const std::int64_t width = size['e'];
  const SoftmaxState* largest = nullptr;
  for (const SoftmaxState& part : parts) {
    if (*statistic<T>(part.sum, at) == 0) continue;
    const T own = *statistic<T>(part.max, at);
    const bool exceeds = largest == nullptr || own > *max || (std::isnan(own) && !std::isnan(*max));
    if (!exceeds) continue;
    largest = &part;
    *max = own;
  }
  if (largest == nullptr) return write_empty(max, sum, weighted, width);
  *sum = *statistic<T>(largest->sum, at);
  copy_row(weighted, row_of<T>(largest->weighted, at, size['g']), largest->weighted.strides()[3], width);
  for (const SoftmaxState& part : parts) {
    const T own = *statistic<T>(part.sum, at);
    if (&part == largest || own == 0) continue;
    const T factor = std::exp(*statistic<T>(part.max, at) - *max);
    *sum += own * factor;
    add_scaled(weighted, row_of<T>(part.weighted, at, size['g']), part.weighted.strides()[3], factor, width);
  }
}

}  // namespace

SoftmaxState empty_state(const Shape& out, std::int64_t key_heads, DType dtype) {
  constexpr std::string_view kOp = "empty_state";
  if (out.size() != 4) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("out {} has {} dims, but must have 4: [b, s, n, e]", to_string(out), out.size()),
          .op = std::string(kOp),
          .operand = "out",
          .hint = "give the shape of attention's result"});
  }
  if (key_heads < 0 || (key_heads == 0 ? out[2] != 0 : out[2] % key_heads != 0)) {
    fail({.code = "shape-mismatch",
          .message = fmt::format("out's {} heads (dim 2) are no multiple of {} key heads", out[2], key_heads),
          .op = std::string(kOp),
          .operand = "out",
          .dim = 2,
          .hint = fmt::format("give a number of key heads that divides {}", out[2])});
  }
  require_state_dtype(kOp, "dtype", dtype, "use f32");
  const Shape statistics = {out[0], key_heads, out[1], key_heads == 0 ? 0 : out[2] / key_heads};
  SoftmaxState state{Tensor::uninitialized(statistics, dtype), Tensor::zeros(statistics, dtype), Tensor::zeros(out, dtype)};
  visit_state(dtype, [&]<class T>(T) { std::ranges::fill(state.max.span<T>(), -std::numeric_limits<T>::infinity()); });
  return state;
}

SoftmaxState state_of(const AttentionResult& part) {
  const Names names{"softmax_max", "softmax_sum", "out"};
  const Sizes size = check_parts("state_of", names, part.softmax_max, part.softmax_sum, part.out,
                                 "ask attention for out in f32 (out_dtype)");
  SoftmaxState state = uninitialized_state(size, part.out.dtype());
  visit_state(part.out.dtype(), [&]<class T>(T) {
    for_each_row(size, [&](const Place& at) {
      T* const max = statistic<T>(state.max, at);
      T* const sum = statistic<T>(state.sum, at);
      T* const weighted = row_of<T>(state.weighted, at, size['g']);
      *max = *statistic<T>(part.softmax_max, at);
      *sum = *statistic<T>(part.softmax_sum, at);
      if (*sum == 0) return write_empty(max, sum, weighted, size['e']);
      const T* const out = row_of<T>(part.out, at, size['g']);
      const std::int64_t stride = part.out.strides()[3];
      for (std::int64_t i = 0; i < size['e']; ++i) weighted[i] = out[i * stride] * *sum;
    });
  });
  return state;
}

SoftmaxState merge(const SoftmaxState& a, const SoftmaxState& b) {
  const SoftmaxState parts[] = {a, b};
  return merge(parts);
}

SoftmaxState merge(std::span<const SoftmaxState> parts) {
  constexpr std::string_view kOp = "merge";
  if (parts.empty()) {
    fail({.code = "no-parts",
          .message = "there is nothing to merge",
          .op = std::string(kOp),
          .hint = "begin with empty_state(out, key_heads)"});
  }
  const auto name = [](std::size_t number) { return fmt::format("part {}", number); };
  const SoftmaxState& first = parts.front();
  const Sizes size = check_state(kOp, name(0), first);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const SoftmaxState& part = parts[i];
    check_state(kOp, name(i), part);
    bind_sizes(kOp, {{"part 0.weighted", first.weighted, "bsne"}, {name(i) + ".weighted", part.weighted, "bsne"}});
    bind_sizes(kOp, {{"part 0.max", first.max, "bksg"}, {name(i) + ".max", part.max, "bksg"}});
    require_same_dtype(kOp, name(i), part.weighted, name(0), first.weighted.dtype());
  }
  SoftmaxState result = uninitialized_state(size, first.weighted.dtype());
  visit_state(first.weighted.dtype(),
              [&]<class T>(T) { for_each_row(size, [&](const Place& at) { merge_row<T>(parts, result, at, size); }); });
  return result;
}

AttentionResult finish(const SoftmaxState& state, DType dtype) {
  constexpr std::string_view kOp = "finish";
  const Sizes size = check_state(kOp, "state", state);
  if (!is_floating(dtype)) {
    fail({.code = "dtype",
          .message = fmt::format("out is to be {}, but holds floats", to_string(dtype)),
          .op = std::string(kOp),
          .operand = "out",
          .hint = "ask for f32, or for the queries' dtype"});
  }
  const DType own = state.weighted.dtype();
  AttentionResult result{uninitialized_rows(size, dtype), uninitialized_statistics(size, own),
                         uninitialized_statistics(size, own)};
  visit_state(own, [&]<class T>(T) {
    visit_dtype(dtype, [&]<class To>(To) {
      for_each_row(size, [&](const Place& at) {
        const T sum = *statistic<T>(state.sum, at);
        *statistic<T>(result.softmax_sum, at) = sum;
        *statistic<T>(result.softmax_max, at) = sum == 0 ? T{0} : *statistic<T>(state.max, at);
        To* const out = row_of<To>(result.out, at, size['g']);
        if (sum == 0) {
          std::fill_n(out, size['e'], To(0));
          return;
        }
        const T* const weighted = row_of<T>(state.weighted, at, size['g']);
        const std::int64_t stride = state.weighted.strides()[3];
        const auto total =
            static_cast<double>(sum);  // f32 divided in double and rounded is f32 divided: one rounding in any dtype
        for (std::int64_t i = 0; i < size['e']; ++i)
          out[i] = convert_to<To>(static_cast<double>(weighted[i * stride]) / total);
      });
    });
  });
  return result;
}

}  // namespace tessera::kernels
