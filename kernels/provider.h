// Who computes a kernel: providers by name, asked in order of preference whether they take a call.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::kernels {

/// One way to compute a kernel. `Call` is what the kernel takes, a struct with `kName` and `Result`: AttentionCall, ...
template <class Call>
struct Provider {
  std::string name;
  std::function<typename Call::Result(const Call&)> run;
  /// Why it does not take this call, "f64 queries" say; empty where it does. A provider without this takes every call.
  std::function<std::string(const Call&)> refuse{};
};

/// Adds a provider in front of those that are there: the last one added is asked first. Built in are `cpu`, then
/// `reference`, which takes everything. Ranks on threads call `refuse` and `run` at the same time.
/// @throws Error "duplicate-provider" where the kernel has one of that name, "provider-name" for a name that is empty or
/// has a comma or a space, "provider-run" for one without `run`
template <class Call>
void provide(Provider<Call> provider);

/// A provider that was asked and did not take the call.
struct PassedOver {
  std::string provider;
  std::string reason;

  friend bool operator==(const PassedOver&, const PassedOver&) = default;
};

/// Who takes a call, and who would have been preferred.
struct Choice {
  std::string provider;
  std::vector<PassedOver> passed_over{};

  friend bool operator==(const Choice&, const Choice&) = default;
};

/// "attention runs on reference; cpu: f64 queries".
std::string to_string(std::string_view kernel, const Choice& choice);

/// Asks the providers in order, up to the first one that takes the call. @throws what a provider's `refuse` throws
template <class Call>
Choice choose(const Call& call);

/// Has the chosen provider compute the call.
template <class Call>
typename Call::Result compute(const Call& call);

/// Has a named provider compute the call. @throws Error "unknown-provider" with the nearest name, "provider-refused" with
/// its reason
template <class Call>
typename Call::Result compute(const Call& call, std::string_view provider);

/// Names of a kernel's providers, in the order in which they are asked.
template <class Call>
std::vector<std::string> providers();

/// Providers to ask first, in this order, for all kernels and threads; the others follow in their own. At start the names
/// of the environment's TESSERA_KERNELS. Names that a kernel does not have are passed over.
void prefer(std::vector<std::string> names);

/// The names in a value of TESSERA_KERNELS: "mine, reference" -> {"mine", "reference"}.
std::vector<std::string> parse_preference(std::string_view text);

/// Where to tell what `compute(call)` chooses, each distinct `to_string` once; none by default, stderr where the
/// environment's TESSERA_LOG_KERNELS is 1. One thread at a time calls the sink, which must not compute kernels itself; an
/// empty one ends the log.
void log_choices(std::function<void(std::string_view)> sink);

/// Loads a user's shared library, which adds its providers in `extern "C" void tessera_provide()`.
/// @throws Error "library-open", "library-symbol", and what that function throws
void load_providers(const std::string& path);

}  // namespace tessera::kernels
