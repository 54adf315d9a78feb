// Checks of collective calls, alone and against those of the other ranks.
#include "core/comm/collective.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "support/diagnostic.h"

namespace tessera {
namespace {

// What two calls disagree on, and what each says.
struct Difference {
  std::string what;
  std::string first;
  std::string second;
  std::string hint;
};

std::string hint_same(std::string_view what) { return fmt::format("name the same {} on every rank of the group", what); }

bool fits_outside(const Shape& a, const Shape& b, int dim) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (static_cast<int>(i) != dim && a[i] != b[i]) return false;
  }
  return true;
}

std::optional<Difference> difference(const Call& a, const Call& b) {
  if (a.root != b.root) return Difference{"root", fmt::to_string(a.root), fmt::to_string(b.root), hint_same("root")};
  if (a.dtype != b.dtype) {
    return Difference{"dtype", std::string(to_string(a.dtype)), std::string(to_string(b.dtype)),
                      "convert the tensors to one dtype before the call"};
  }
  if (a.dim != b.dim) return Difference{"dim", fmt::to_string(a.dim), fmt::to_string(b.dim), hint_same("dim")};
  if (a.reduction != b.reduction) {
    return Difference{"reduction", std::string(to_string(a.reduction)), std::string(to_string(b.reduction)),
                      hint_same("reduction")};
  }
  if (a.operation == Operation::kAllGather) {
    if (!fits_outside(a.shape, b.shape, a.dim)) {
      return Difference{fmt::format("shape outside dim {}", a.dim), to_string(a.shape), to_string(b.shape),
                        "gather tensors whose shapes differ only in that dim"};
    }
  } else if (a.shape != b.shape) {
    return Difference{"shape", to_string(a.shape), to_string(b.shape), "reduce tensors of one shape"};
  }
  if (a.counts != b.counts) {
    return Difference{"counts", fmt::format("{}", a.counts), fmt::format("{}", b.counts), hint_same("counts")};
  }
  return std::nullopt;
}

[[noreturn]] void fail_call(std::string_view code, Operation operation, std::string message, std::string hint) {
  fail({.code = std::string(code),
        .message = std::move(message),
        .op = std::string(to_string(operation)),
        .hint = std::move(hint)});
}

}  // namespace

std::string_view to_string(Operation operation) {
  switch (operation) {
    case Operation::kSend: return "send";
    case Operation::kReceive: return "receive";
    case Operation::kBarrier: return "barrier";
    case Operation::kAllReduce: return "all_reduce";
    case Operation::kAllGather: return "all_gather";
    case Operation::kReduceScatter: return "reduce_scatter";
    case Operation::kAllToAll: return "all_to_all";
    case Operation::kBroadcast: return "broadcast";
  }
  return "unknown";
}

std::string describe(const Group& group) {
  constexpr std::size_t kMany = 16;
  constexpr std::ptrdiff_t kShown = 8;
  if (group.size() <= kMany) return fmt::format("{}", group);
  return fmt::format("[{}, ..., {}] ({} ranks)", fmt::join(group.begin(), group.begin() + kShown, ", "), group.back(),
                     group.size());
}

std::size_t place_in(const Group& group, int rank, int size, Operation operation) {
  std::vector<bool> named(static_cast<std::size_t>(size));
  for (int member : group) {
    if (member < 0 || member >= size) {
      fail_call("comm-rank", operation, fmt::format("group {} names rank {}, which is not there", describe(group), member),
                fmt::format("name ranks from 0 to {}", size - 1));
    }
    const auto at = static_cast<std::size_t>(member);
    if (named[at]) {
      fail_call("comm-rank", operation, fmt::format("group {} names rank {} twice", describe(group), member),
                "name every rank of the group once");
    }
    named[at] = true;
  }
  const auto found = std::find(group.begin(), group.end(), rank);
  if (found == group.end()) {
    fail_call("comm-rank", operation, fmt::format("rank {} calls over group {}, which lacks it", rank, describe(group)),
              "only the ranks of a group call its collectives");
  }
  return static_cast<std::size_t>(found - group.begin());
}

void check_peer(int rank, int peer, int size, Operation operation) {
  if (peer >= 0 && peer < size) return;
  const std::string_view call = operation == Operation::kSend ? "sends to" : "receives from";
  fail_call("comm-rank", operation, fmt::format("rank {} {} rank {}, which is not there", rank, call, peer),
            fmt::format("name a rank from 0 to {}", size - 1));
}

void check_root(int root, const Group& group) {
  if (std::find(group.begin(), group.end(), root) != group.end()) return;
  fail_call("comm-rank", Operation::kBroadcast, fmt::format("root {} is not in group {}", root, describe(group)),
            "name a rank of the group as root");
}

void check_dim(const Tensor& tensor, int dim, Operation operation) {
  if (dim >= 0 && dim < tensor.rank()) return;
  fail_call(
      "comm-dim", operation, fmt::format("{} has no dim {}", to_string(tensor), dim),
      tensor.rank() == 0 ? "reshape the tensor to [1] first" : fmt::format("name a dim from 0 to {}", tensor.rank() - 1));
}

void check_counts(const Tensor& tensor, int dim, std::span<const std::int64_t> counts, std::size_t ranks) {
  if (counts.size() != ranks) {
    fail_call("comm-counts", Operation::kReduceScatter,
              fmt::format("{} counts [{}] for a group of {} ranks", counts.size(), fmt::join(counts, ", "), ranks),
              "give one count for each rank of the group");
  }
  const std::int64_t size = tensor.size(dim);
  std::int64_t left = size;
  bool fits = true;
  for (std::int64_t count : counts) {
    fits = fits && count >= 0 && count <= left;
    if (fits) left -= count;
  }
  if (fits && left == 0) return;
  fail_call("comm-counts", Operation::kReduceScatter,
            fmt::format("counts [{}] do not cut dim {} of {} into pieces", fmt::join(counts, ", "), dim, to_string(tensor)),
            fmt::format("give counts of 0 or more that sum up to {}", size));
}

void check_pieces(std::size_t pieces, std::size_t ranks) {
  if (pieces == ranks) return;
  fail_call("comm-counts", Operation::kAllToAll, fmt::format("{} pieces for a group of {} ranks", pieces, ranks),
            "give one piece for each rank of the group, empty where it gets nothing");
}

void check_fit(const Group& group, std::span<const Call* const> calls) {
  const Call& first = *calls[0];
  for (std::size_t i = 1; i < calls.size(); ++i) {
    const Call& other = *calls[i];
    if (other.operation != first.operation) {
      fail("comm-mismatch",
           fmt::format("ranks {} disagree on the collective: rank {} calls {}, rank {} calls {}", describe(group), group[0],
                       to_string(first.operation), group[i], to_string(other.operation)),
           "make the same calls in the same order on every rank of the group");
    }
    if (std::optional<Difference> found = difference(first, other)) {
      fail_call("comm-mismatch", first.operation,
                fmt::format("ranks {} disagree on the {}: rank {} has {}, rank {} has {}", describe(group), found->what,
                            group[0], found->first, group[i], found->second),
                found->hint);
    }
  }
}

Tensor join_along(std::span<const Tensor> tensors, int dim) {
  Shape shape = tensors[0].shape();
  std::int64_t& size = shape[static_cast<std::size_t>(dim)];
  size = 0;
  for (const Tensor& tensor : tensors) size += tensor.size(dim);
  Tensor joined = Tensor::uninitialized(shape, tensors[0].dtype());
  std::int64_t begin = 0;
  for (const Tensor& tensor : tensors) {
    const std::int64_t end = begin + tensor.size(dim);
    joined.slice(dim, begin, end).copy_from(tensor);
    begin = end;
  }
  return joined;
}

}  // namespace tessera
