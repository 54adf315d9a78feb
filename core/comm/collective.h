// What a rank asks of the others, and whether the ranks' calls fit together: shared by the backends of Communicator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/comm/communicator.h"

namespace tessera {

/// The calls that a Communicator offers.
enum class Operation : std::uint8_t {
  kSend,
  kReceive,
  kBarrier,
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast
};

inline constexpr std::size_t kOperations = 8;

/// "send", "all_gather", ...
std::string_view to_string(Operation operation);

/// One rank's call of a collective, as far as the ranks have to agree on it. Fields that a collective lacks keep their defaults.
struct Call {
  Operation operation;
  DType dtype = DType::kF32;
  Shape shape{};
  int dim = -1;
  Reduction reduction = Reduction::kSum;
  int root = -1;
  std::vector<std::int64_t> counts{};
};

/// "[0, 1, 2]"; of more than 16 ranks the first eight, the last and how many there are.
std::string describe(const Group& group);

/// The place of rank `rank` in the group.
/// @throws Error "comm-rank" where the group names a rank outside [0, size), a rank twice, or not the caller
std::size_t place_in(const Group& group, int rank, int size, Operation operation);

/// @throws Error "comm-rank" where `peer` is not in [0, size)
void check_peer(int rank, int peer, int size, Operation operation);
/// @throws Error "comm-rank" where `root` is not in the group
void check_root(int root, const Group& group);
/// @throws Error "comm-dim" where the tensor has no such dim
void check_dim(const Tensor& tensor, int dim, Operation operation);
/// @throws Error "comm-counts" where there is not one count for each of `ranks`, one is negative, or their sum is not the dim's
/// size
void check_counts(const Tensor& tensor, int dim, std::span<const std::int64_t> counts, std::size_t ranks);
/// @throws Error "comm-counts" where there is not one piece for each of `ranks`
void check_pieces(std::size_t pieces, std::size_t ranks);

/// Does nothing where the calls of the group's ranks fit together: `calls[i]` is that of rank `group[i]`.
/// @throws Error "comm-mismatch" that names the first rank of the group and the next that differs from it, with both values
void check_fit(const Group& group, std::span<const Call* const> calls);

/// The tensors joined along a dim, in memory of its own: [2, 3] and [2, 1] along dim 1 give [2, 4].
/// @pre at least one, all of one dtype, shapes that differ only in that dim
Tensor join_along(std::span<const Tensor> tensors, int dim);

}  // namespace tessera
