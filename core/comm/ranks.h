// Ranks as threads of this process: the embedded default.
#pragma once

#include <functional>

#include "core/comm/communicator.h"

namespace tessera {

/// Runs `body` once for each of `ranks` ranks, each on a thread of its own, and returns when all have ended. Kernels that a rank calls
/// use `max(1, thread_count() / ranks)` threads (support/parallel.h), the rank's own included.
///
/// Where a rank throws, the others' pending and later calls of the communicator end with `RankAborted`, all threads are joined,
/// and the error of the rank that failed first is thrown here. Where every rank that still runs waits for something that can no
/// longer come (a collective that one rank left out, a receive without a send), the run ends with Error "comm-deadlock" that
/// says what each rank waits for: nothing hangs.
///
/// ```cpp
/// run_ranks(4, [](Communicator& comm) {
///   Tensor mine = Tensor::of<float>({1}, {float(comm.rank())});
///   Tensor all = comm.all_gather(mine, 0, {0, 1, 2, 3});   // [0, 1, 2, 3] on every rank
/// });
/// ```
/// @pre ranks >= 1
/// @throws Error "comm-ranks" where ranks is not in [1, 1024], "environment" where TESSERA_THREADS is no number of threads
void run_ranks(int ranks, const std::function<void(Communicator&)>& body);

}  // namespace tessera
