// The kernels and their providers: those built in, and how one is chosen.
#include <atomic>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "kernels/attention.h"
#include "kernels/cpu/cpu.h"
#include "kernels/lightning_indexer.h"
#include "kernels/provider.h"
#include "kernels/provider_state.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels {
namespace {

/// What a kernel has from the start. `cpu` and `cpu_refusal` go together; a kernel may have neither.
template <class Call>
struct BuiltIn {
  typename Call::Result (*reference)(const Call&);
  typename Call::Result (*cpu)(const Call&) = nullptr;
  std::string (*cpu_refusal)(const Call&) = nullptr;
};

// Functions are found among their overloads by the call that they take: `.cpu = cpu::attention, .cpu_refusal =
// cpu::refusal`.
constexpr std::tuple kBuiltIn{
    BuiltIn<AttentionCall>{.reference = reference::attention, .cpu = cpu::attention, .cpu_refusal = cpu::refusal},
    BuiltIn<AttentionBackwardCall>{
        .reference = reference::attention_backward, .cpu = cpu::attention_backward, .cpu_refusal = cpu::refusal},
    BuiltIn<SparseAttentionCall>{
        .reference = reference::sparse_attention, .cpu = cpu::sparse_attention, .cpu_refusal = cpu::refusal},
    BuiltIn<SparseAttentionBackwardCall>{.reference = reference::sparse_attention_backward,
                                         .cpu = cpu::sparse_attention_backward,
                                         .cpu_refusal = cpu::refusal},
    BuiltIn<IndexerCall>{
        .reference = reference::lightning_indexer, .cpu = cpu::lightning_indexer, .cpu_refusal = cpu::refusal},
    BuiltIn<IndexerLseCall>{
        .reference = reference::indexer_softmax_lse, .cpu = cpu::indexer_softmax_lse, .cpu_refusal = cpu::refusal},
    BuiltIn<IndexerLossCall>{
        .reference = reference::indexer_kl_loss, .cpu = cpu::indexer_kl_loss, .cpu_refusal = cpu::refusal},
};

/// One kernel's providers: a list that grows at its front and is read without a lock.
template <class Call>
class Table {
 public:
  struct Entry {
    Provider<Call> provider;
    const Entry* next;
  };

  Table() {
    const auto& built_in = std::get<BuiltIn<Call>>(kBuiltIn);
    push({.name = "reference", .run = built_in.reference});
    if (built_in.cpu != nullptr) push({.name = "cpu", .run = built_in.cpu, .refuse = built_in.cpu_refusal});
  }

  void add(Provider<Call> provider) {
    const std::scoped_lock lock(mutex_);
    check_new_provider(Call::kName, provider.name, provider.run != nullptr, names_in_order({}));
    push(std::move(provider));
  }

  [[nodiscard]] const Provider<Call>* find(std::string_view name) const {
    const Entry* entry = first();
    while (entry != nullptr && entry->provider.name != name) entry = entry->next;
    return entry == nullptr ? nullptr : &entry->provider;
  }

  /// Shows the providers in the order in which they are asked to `visit`, until it returns true.
  template <class Visit>
  void visit_in_order(const std::vector<std::string>& preferred, const Visit& visit) const {
    for (const std::string& name : preferred) {
      const Provider<Call>* provider = find(name);
      if (provider != nullptr && visit(*provider)) return;
    }
    for (const Entry* entry = first(); entry != nullptr; entry = entry->next) {
      bool visited = false;
      for (const std::string& name : preferred) visited = visited || name == entry->provider.name;
      if (!visited && visit(entry->provider)) return;
    }
  }

  [[nodiscard]] std::vector<std::string> names_in_order(const std::vector<std::string>& preferred) const {
    std::vector<std::string> names;
    visit_in_order(preferred, [&](const Provider<Call>& provider) {
      names.push_back(provider.name);
      return false;
    });
    return names;
  }

 private:
  [[nodiscard]] const Entry* first() const { return first_.load(std::memory_order_acquire); }

  void push(Provider<Call> provider) {
    entries_.push_back(std::make_unique<Entry>(Entry{std::move(provider), first_.load(std::memory_order_relaxed)}));
    first_.store(entries_.back().get(), std::memory_order_release);
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;  // owners; none is ever removed
  std::atomic<const Entry*> first_{nullptr};
};

/// Not destroyed: kernels may run until the process ends.
template <class Call>
Table<Call>& table() {
  static Table<Call>& table = *new Table<Call>;
  return table;
}

template <class Call>
std::string reason_against(const Provider<Call>& provider, const Call& call) {
  return provider.refuse ? provider.refuse(call) : std::string();
}

template <class Call>
struct Chosen {
  const Provider<Call>* provider = nullptr;
  std::vector<PassedOver> passed_over{};
};

template <class Call>
Chosen<Call> choose_provider(const Call& call) {
  Chosen<Call> chosen;
  table<Call>().visit_in_order(preference(), [&](const Provider<Call>& provider) {
    std::string reason = reason_against(provider, call);
    if (reason.empty()) {
      chosen.provider = &provider;
      return true;
    }
    chosen.passed_over.push_back({provider.name, std::move(reason)});
    return false;
  });
  return chosen;  // the reference at last
}

}  // namespace

template <class Call>
void provide(Provider<Call> provider) {
  table<Call>().add(std::move(provider));
}

template <class Call>
Choice choose(const Call& call) {
  Chosen<Call> chosen = choose_provider(call);
  return {chosen.provider->name, std::move(chosen.passed_over)};
}

template <class Call>
typename Call::Result compute(const Call& call) {
  Chosen<Call> chosen = choose_provider(call);
  if (log_is_on()) tell(Call::kName, {chosen.provider->name, std::move(chosen.passed_over)});
  return chosen.provider->run(call);
}

template <class Call>
typename Call::Result compute(const Call& call, std::string_view provider) {
  const Provider<Call>* named = table<Call>().find(provider);
  if (named == nullptr) fail_unknown_provider(Call::kName, provider, providers<Call>());
  if (std::string reason = reason_against(*named, call); !reason.empty()) {
    fail_refused(Call::kName, {named->name, std::move(reason)});
  }
  return named->run(call);
}

template <class Call>
std::vector<std::string> providers() {
  return table<Call>().names_in_order(preference());
}

// Here and nowhere else, so that a program and the libraries that it loads have one table of each.
template void provide(Provider<AttentionCall> provider);
template void provide(Provider<AttentionBackwardCall> provider);
template void provide(Provider<SparseAttentionCall> provider);
template void provide(Provider<SparseAttentionBackwardCall> provider);
template void provide(Provider<IndexerCall> provider);
template void provide(Provider<IndexerLseCall> provider);
template void provide(Provider<IndexerLossCall> provider);
template Choice choose(const AttentionCall& call);
template Choice choose(const AttentionBackwardCall& call);
template Choice choose(const SparseAttentionCall& call);
template Choice choose(const SparseAttentionBackwardCall& call);
template Choice choose(const IndexerCall& call);
template Choice choose(const IndexerLseCall& call);
template Choice choose(const IndexerLossCall& call);
template AttentionCall::Result compute(const AttentionCall& call);
template AttentionBackwardCall::Result compute(const AttentionBackwardCall& call);
template SparseAttentionCall::Result compute(const SparseAttentionCall& call);
template SparseAttentionBackwardCall::Result compute(const SparseAttentionBackwardCall& call);
template IndexerCall::Result compute(const IndexerCall& call);
template IndexerLseCall::Result compute(const IndexerLseCall& call);
template IndexerLossCall::Result compute(const IndexerLossCall& call);
template AttentionCall::Result compute(const AttentionCall& call, std::string_view provider);
template AttentionBackwardCall::Result compute(const AttentionBackwardCall& call, std::string_view provider);
template SparseAttentionCall::Result compute(const SparseAttentionCall& call, std::string_view provider);
template SparseAttentionBackwardCall::Result compute(const SparseAttentionBackwardCall& call, std::string_view provider);
template IndexerCall::Result compute(const IndexerCall& call, std::string_view provider);
template IndexerLseCall::Result compute(const IndexerLseCall& call, std::string_view provider);
template IndexerLossCall::Result compute(const IndexerLossCall& call, std::string_view provider);
template std::vector<std::string> providers<AttentionCall>();
template std::vector<std::string> providers<AttentionBackwardCall>();
template std::vector<std::string> providers<SparseAttentionCall>();
template std::vector<std::string> providers<SparseAttentionBackwardCall>();
template std::vector<std::string> providers<IndexerCall>();
template std::vector<std::string> providers<IndexerLseCall>();
template std::vector<std::string> providers<IndexerLossCall>();

AttentionResult attention(const AttentionCall& call) { return compute(call); }
AttentionGradients attention_backward(const AttentionBackwardCall& call) { return compute(call); }
AttentionResult sparse_attention(const SparseAttentionCall& call) { return compute(call); }
SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call) { return compute(call); }
IndexerResult lightning_indexer(const IndexerCall& call) { return compute(call); }
LseResult indexer_softmax_lse(const IndexerLseCall& call) { return compute(call); }
IndexerLossResult indexer_kl_loss(const IndexerLossCall& call) { return compute(call); }

}  // namespace tessera::kernels
