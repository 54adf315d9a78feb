#include "core/op/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "support/diagnostic.h"
#include "support/hash.h"

namespace tessera {
namespace {

std::uint64_t hash_of(const DistributedOp& op, OperandSpecs operands, const Attributes& attributes) {
  std::uint64_t h = mix_hash(reinterpret_cast<std::uintptr_t>(&op), attributes.hash());
  for (const TensorSpec* operand : operands) {
    if (operand == nullptr) {
      h = mix_hash(h, 1);
      continue;
    }
    h = mix_hash(h, operand->layout.hash());
    std::uint64_t shape = static_cast<std::uint64_t>(operand->dtype);
    for (std::int64_t size : operand->shape) shape = shape * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(size);
    h = mix_hash(h, shape);
  }
  return h;
}

}  // namespace

// Plans by the value of the call. Readers share the lock; a plan is made outside of it.
class Dispatcher::Cache {
 public:
  explicit Cache(std::size_t capacity) : capacity_(capacity) {}

  std::shared_ptr<const Plan> find(std::uint64_t hash, const DistributedOp& op, OperandSpecs operands,
                                   const Attributes& attributes) {
    const std::shared_lock lock(mutex_);
    const auto [begin, end] = by_hash_.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
      if (!it->second->is_of(op, operands, attributes)) continue;
      hits_.fetch_add(1, std::memory_order_relaxed);
      return it->second->plan;
    }
    misses_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }

  void add(std::uint64_t hash, OperandSpecs operands, const Attributes& attributes, std::shared_ptr<const Plan> plan) {
    if (capacity_ == 0) return;
    Entry entry{hash, attributes, {}, std::move(plan)};
    for (const TensorSpec* operand : operands)
      entry.operands.push_back(operand == nullptr ? std::optional<TensorSpec>() : *operand);
    const std::unique_lock lock(mutex_);
    // Two ranks may have planned the same call at once: the second entry is never found, and ages like any other.
    if (entries_.size() >= capacity_) drop_oldest();
    entries_.push_back(std::move(entry));
    by_hash_.emplace(hash, std::prev(entries_.end()));
  }

  [[nodiscard]] CacheCounters counters() const {
    const std::shared_lock lock(mutex_);
    return {hits_.load(), misses_.load(), entries_.size()};
  }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    Attributes attributes;  // as the caller gave them
    std::vector<std::optional<TensorSpec>> operands;
    std::shared_ptr<const Plan> plan;

    [[nodiscard]] bool is_of(const DistributedOp& op, OperandSpecs specs, const Attributes& given) const {
      if (plan->op != &op || operands.size() != specs.size() || !(attributes == given)) return false;
      for (std::size_t i = 0; i < specs.size(); ++i) {
        if ((specs[i] != nullptr) != operands[i].has_value()) return false;
        if (specs[i] != nullptr && !(*specs[i] == *operands[i])) return false;
      }
      return true;
    }
  };

  void drop_oldest() {
    const auto [begin, end] = by_hash_.equal_range(entries_.front().hash);
    by_hash_.erase(std::find_if(begin, end, [&](const auto& known) { return known.second == entries_.begin(); }));
    entries_.pop_front();
  }

  const std::size_t capacity_;
  mutable std::shared_mutex mutex_;
  std::list<Entry> entries_;  // the oldest first
  std::unordered_multimap<std::uint64_t, std::list<Entry>::iterator> by_hash_;
  std::atomic<std::uint64_t> hits_{0};
  std::atomic<std::uint64_t> misses_{0};
};

Dispatcher::Dispatcher(const Registry& registry, Policy policy, std::size_t capacity)
    : registry_(registry), policy_(policy), cache_(std::make_unique<Cache>(capacity)) {}
Dispatcher::~Dispatcher() = default;

CacheCounters Dispatcher::counters() const { return cache_->counters(); }

std::shared_ptr<const Plan> Dispatcher::plan(const DistributedOp& op, OperandSpecs operands, const Attributes& attributes) {
  const std::uint64_t hash = hash_of(op, operands, attributes);
  if (auto known = cache_->find(hash, op, operands, attributes)) return known;
  std::shared_ptr<const Plan> plan = make_plan(op, operands, attributes, policy_);
  cache_->add(hash, operands, attributes, plan);
  return plan;
}

std::vector<DTensor> Dispatcher::dispatch(Communicator& comm, const DistributedOp& op,
                                          std::span<const std::optional<DTensor>> operands, const Attributes& attributes) {
  if (operands.size() > kMaxTensors) {
    fail(Diagnostic{.code = "too-many-operands",
                    .message = fmt::format("takes {} operands at most, {} are given", kMaxTensors, operands.size()),
                    .op = op.name});
  }
  StaticVector<const TensorSpec*, kMaxTensors> specs;
  for (const auto& operand : operands) specs.push_back(operand ? &operand->spec() : nullptr);
  const std::shared_ptr<const Plan> plan = this->plan(op, specs, attributes);
  std::vector<std::optional<Tensor>> inputs;
  inputs.reserve(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i]) {
      inputs.emplace_back();
    } else if (operands[i]->layout() == plan->operands[i]->layout) {
      inputs.emplace_back(operands[i]->to_local());
    } else {
      inputs.emplace_back(redistribute(*operands[i], plan->operands[i]->layout, comm).to_local());
    }
  }
  const Coordinate coordinate = plan->mesh.coordinate_of(comm.rank());
  const auto together = [&](const LocalCall& call) { return op.collective(call, comm); };
  std::vector<Tensor> local =
      op.collective ? run_local(*plan, together, coordinate, inputs) : run_local(*plan, op.kernel, coordinate, inputs);
  std::vector<DTensor> results;
  results.reserve(local.size());
  for (std::size_t i = 0; i < local.size(); ++i) {
    results.push_back(
        DTensor::from_local(std::move(local[i]), plan->results[i].layout, plan->results[i].shape, comm.rank()));
  }
  return results;
}

std::vector<DTensor> Dispatcher::dispatch(Communicator& comm, std::string_view op,
                                          std::initializer_list<std::optional<DTensor>> operands,
                                          const Attributes& attributes) {
  return dispatch(comm, registry_.get(op), {operands.begin(), operands.size()}, attributes);
}

}  // namespace tessera
