// Reads configs: JSON text to a program. The format is described in docs/config.md.
#pragma once

#include <string_view>

#include "core/program/program.h"

namespace tessera {

/// Reads a config. Never throws for what the text says: everything wrong with it is in the program's `faults`, each with its JSON
/// pointer; what they concern is left out of the program, so that the rest can still be checked.
/// @param registry must outlive the program, whose ops point into it; the config's own "rules" are looked at first
Program read_program(std::string_view text, const Registry& registry);

}  // namespace tessera
