// The dispatcher: plans calls, remembers the plans, and runs them on a rank.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/comm/communicator.h"
#include "core/dtensor/dtensor.h"
#include "core/op/op.h"
#include "core/op/registry.h"

namespace tessera {

struct CacheCounters {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::size_t entries = 0;
};

/// Runs calls: normalise, plan (or find the plan of an equal call), redistribute (where it repairs), localise, kernel, wrap.
/// One dispatcher serves all ranks of a process, which may be threads.
///
/// ```cpp
/// Dispatcher dispatcher(catalogue());
/// DTensor y = dispatcher.dispatch(comm, "matmul", {x, w})[0];
/// ```
class Dispatcher {
 public:
  /// @param capacity plans remembered at most; the oldest goes first
  explicit Dispatcher(const Registry& registry, Policy policy = Policy::kStrict, std::size_t capacity = 4096);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// The plan of a call, from the cache where an equal call was planned before (same operator, and operands and attributes equal by
  /// value). @throws as make_plan
  std::shared_ptr<const Plan> plan(const DistributedOp& op, OperandSpecs operands, const Attributes& attributes);

  /// Runs a call. All ranks of the operands' mesh make it. Operands in the rule's order; trailing optional ones may be left out.
  /// @throws Error of planning, of the kernel
  std::vector<DTensor> dispatch(Communicator& comm, const DistributedOp& op,
                                std::span<const std::optional<DTensor>> operands, const Attributes& attributes = {});
  std::vector<DTensor> dispatch(Communicator& comm, std::string_view op,
                                std::initializer_list<std::optional<DTensor>> operands, const Attributes& attributes = {});

  [[nodiscard]] const Registry& registry() const { return registry_; }
  [[nodiscard]] CacheCounters counters() const;

 private:
  class Cache;
  const Registry& registry_;
  Policy policy_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace tessera
