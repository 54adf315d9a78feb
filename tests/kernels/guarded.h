// Tensors between pages that nobody may touch, and calls of such tensors: a kernel that reads outside an operand crashes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"
#include "kernels/attention.h"
#include "kernels/lightning_indexer.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels {

/// Which element touches a page that nobody may touch: nearer to it a read outside is caught. The other end has such a
/// page too, up to a page less one element away.
enum class Guard : std::uint8_t { kBehindLast, kBeforeFirst };

/// How to guard operands: at which end, and how many NaNs lie between their innermost rows.
struct Guarding {
  Guard guard = Guard::kBehindLast;
  std::int64_t gap = 0;
};

/// Every way that tests try, with a name for messages.
inline std::vector<std::pair<std::string, Guarding>> guardings() {
  return {{"guarded behind the last element", {Guard::kBehindLast, 0}},
          {"guarded before the first element", {Guard::kBeforeFirst, 0}},
          {"guarded behind the last element, with gaps", {Guard::kBehindLast, 3}}};
}

/// A copy of a tensor, its dims in the same order in memory, that can be read only between its first and its last element.
inline Tensor guarded(const Tensor& tensor, const Guarding& how) {
  if (tensor.count() == 0) return tensor;
  std::vector<int> order(tensor.shape().size());
  std::iota(order.begin(), order.end(), 0);
  const auto stride = [&](int dim) { return tensor.strides()[static_cast<std::size_t>(dim)]; };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return stride(a) > stride(b); });
  Shape shape;
  std::vector<int> back(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    shape.push_back(tensor.size(order[i]));
    back[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
  }
  const int last = tensor.rank() - 1;
  const std::int64_t row = tensor.rank() == 0 ? 1 : shape.back();
  if (tensor.rank() > 0) shape.back() += how.gap;

  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::int64_t count = element_count(shape);
  const auto bytes = static_cast<std::size_t>(count * size_of(tensor.dtype()));
  const std::size_t room = (bytes + page - 1) / page * page;
  void* const all = ::mmap(nullptr, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  const std::shared_ptr<void> owner(all, [size = room + 2 * page](void* begin) { ::munmap(begin, size); });
  std::byte* const inside = static_cast<std::byte*>(all) + page;
  const auto protect = [&](int access) {
    if (::mprotect(inside, room, access) != 0) throw std::system_error(errno, std::generic_category(), "mprotect");
  };
  protect(PROT_READ | PROT_WRITE);
  std::byte* const begin = how.guard == Guard::kBehindLast ? inside + (room - bytes) : inside;
  std::memset(begin, 0xff, bytes);  // NaN in every float
  Tensor copy = visit_dtype(tensor.dtype(), [&]<class T>(T) {
    return Tensor::view_of(std::span<T>(reinterpret_cast<T*>(begin), static_cast<std::size_t>(count)), shape, owner);
  });
  if (tensor.rank() > 0 && how.guard == Guard::kBehindLast) copy = copy.slice(last, how.gap, how.gap + row);
  if (tensor.rank() > 0 && how.guard == Guard::kBeforeFirst) copy = copy.slice(last, 0, row);
  copy = copy.permute(back);
  copy.copy_from(tensor);
  protect(PROT_READ);  // a kernel does not write to its operands either
  return copy;
}

inline std::optional<Tensor> guarded(const std::optional<Tensor>& tensor, const Guarding& how) {
  return tensor ? std::optional(guarded(*tensor, how)) : std::nullopt;
}

/// The same call, each of its operands guarded.
inline AttentionCall guarded(AttentionCall call, const Guarding& how) {
  call.query = guarded(call.query, how);
  call.key = guarded(call.key, how);
  call.value = guarded(call.value, how);
  call.mask = guarded(call.mask, how);
  call.block_table = guarded(call.block_table, how);
  return call;
}

inline SparseAttentionCall guarded(SparseAttentionCall call, const Guarding& how) {
  call.query = guarded(call.query, how);
  call.key = guarded(call.key, how);
  call.value = guarded(call.value, how);
  call.indices = guarded(call.indices, how);
  call.query_rope = guarded(call.query_rope, how);
  call.key_rope = guarded(call.key_rope, how);
  call.block_table = guarded(call.block_table, how);
  return call;
}

inline IndexerCall guarded(IndexerCall call, const Guarding& how) {
  call.query = guarded(call.query, how);
  call.key = guarded(call.key, how);
  call.weights = guarded(call.weights, how);
  call.block_table = guarded(call.block_table, how);
  return call;
}

inline IndexerLseCall guarded(IndexerLseCall call, const Guarding& how) {
  call.query = guarded(call.query, how);
  call.key = guarded(call.key, how);
  call.weights = guarded(call.weights, how);
  return call;
}

inline IndexerLossCall guarded(IndexerLossCall call, const Guarding& how) {
  for (Tensor* operand :
       {&call.query_index, &call.key_index, &call.weights, &call.query, &call.key, &call.softmax_max, &call.softmax_sum})
    *operand = guarded(*operand, how);
  call.indices = guarded(call.indices, how);
  call.query_rope = guarded(call.query_rope, how);
  call.key_rope = guarded(call.key_rope, how);
  return call;
}

/// Both backward calls have the same operands beside `forward`.
template <class BackwardCall>
requires requires(BackwardCall call) { call.forward; }
BackwardCall guarded(BackwardCall call, const Guarding& how) {
  call.forward = guarded(call.forward, how);
  for (Tensor* operand : {&call.out, &call.softmax_max, &call.softmax_sum, &call.grad_out})
    *operand = guarded(*operand, how);
  return call;
}

/// All tensors of a kernel's result.
inline std::vector<Tensor> tensors_of(const AttentionResult& r) { return {r.out, r.softmax_max, r.softmax_sum}; }
inline std::vector<Tensor> tensors_of(const AttentionGradients& r) { return {r.query, r.key, r.value}; }
inline std::vector<Tensor> tensors_of(const SparseAttentionGradients& r) {
  return {r.query, r.key, r.value, r.query_rope, r.key_rope};
}
inline std::vector<Tensor> tensors_of(const IndexerResult& r) { return {r.indices, r.values}; }
inline std::vector<Tensor> tensors_of(const LseResult& r) { return {r.softmax_max, r.softmax_sum}; }
inline std::vector<Tensor> tensors_of(const IndexerLossResult& r) { return {r.query, r.key, r.weights, r.loss}; }

}  // namespace tessera::kernels
