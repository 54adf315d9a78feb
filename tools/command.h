// The tessera command: `tessera COMMAND [FILE|-] [options]`. What users are told of it stands in docs/config.md.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "core/op/registry.h"
#include "tools/output.h"

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's
class App;
}

namespace tessera::tools {

/// Everything was fine.
inline constexpr int kFine = 0;
/// The input was understood and is at fault.
inline constexpr int kFault = 1;
/// The command was called wrongly, or a file could not be read or written.
inline constexpr int kUsage = 2;

/// What a subcommand works with.
struct Context {
  Console& console;
  Registry& registry;  ///< the operators that configs may call
};

/// Does what a subcommand does, once its options are read; the exit status.
using Action = std::function<int()>;

/// Each adds the options of one subcommand to its parser, and returns what it does. @pre the app lives until the action has ended
Action add_check(CLI::App& app, Context context);
Action add_run(CLI::App& app, Context context);
Action add_ops(CLI::App& app, Context context);
Action add_conformance(CLI::App& app, Context context);

/// Runs the command with these arguments (without the program's name) and returns its exit status. Never throws.
int run_command(std::span<const std::string> arguments, Console& console, Registry& registry);

/// A file, or what stands on standard input for "-".
struct Source {
  std::string name;  ///< "standard input" for "-"
  std::string text;
};
/// @throws Error "file-open", "file-read"
Source read_source(const std::string& file, Console& console);

/// Whether an error is about files rather than about what stands in them: status 2.
bool is_about_files(const Diagnostic& diagnostic);

}  // namespace tessera::tools
