// What the providers of all kernels share: preference, log and errors. See kernels/provider.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/provider.h"

namespace tessera::kernels {

/// Names to ask first, each once. The reference stays good when another preference replaces this one.
const std::vector<std::string>& preference();

/// Whether choices are to be told.
bool log_is_on();
/// Tells the log of a choice, unless it knows it.
void tell(std::string_view kernel, const Choice& choice);

/// @throws Error as `provide` does
void check_new_provider(std::string_view kernel, const std::string& name, bool runs, const std::vector<std::string>& known);

[[noreturn]] void fail_unknown_provider(std::string_view kernel, std::string_view name,
                                        const std::vector<std::string>& known);
[[noreturn]] void fail_refused(std::string_view kernel, const PassedOver& provider);

}  // namespace tessera::kernels
