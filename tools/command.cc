#include "tools/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <new>
#include <set>

#include "kernels/provider.h"
#include "support/shared_library.h"
#include "support/text.h"

namespace tessera::tools {
namespace {

struct Subcommand {
  const char* name;
  const char* summary;
  Action (*add)(CLI::App&, Context);
};

constexpr std::array kSubcommands{
    Subcommand{"check", "Check configs: layouts, rules, expectations", add_check},
    Subcommand{"run", "Run a config on in-process ranks and compare it with the unsharded computation", add_run},
    Subcommand{"ops", "Show the operators: rules, attributes, examples", add_ops},
    Subcommand{"conformance", "Replay cases from other systems' tests", add_conformance},
};

std::vector<std::string> subcommand_names() {
  std::vector<std::string> names;
  names.reserve(kSubcommands.size());
  for (const Subcommand& subcommand : kSubcommands) names.emplace_back(subcommand.name);
  return names;
}

// A message on standard error, with where to read on.
int refuse(const Console& console, const std::string& message, const std::string& hint, const std::string& command = {}) {
  console.err << "tessera: " << message << '\n';
  if (!hint.empty()) console.err << "  hint       " << hint << '\n';
  console.err << fmt::format("  usage      `tessera {}--help` tells more\n", command.empty() ? "" : command + " ");
  return kUsage;
}

// "--repare": the nearest option.
std::string option_hint(const CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::set<std::string> names(known.begin(), known.end());
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (name.size() > 1 && name.starts_with("-") && !names.contains(name)) return did_you_mean(name, known);
  }
  return "";
}

// A user's library: operators, kernels or both.
void load(Registry& registry, const std::string& path) {
  const SharedLibrary library(path);
  const bool registers = library.find<void(Registry&)>("tessera_register") != nullptr;
  const bool provides = library.find<void()>("tessera_provide") != nullptr;
  if (!registers && !provides) {
    fail("library-symbol", fmt::format("{} has neither a function tessera_register nor tessera_provide", path),
         "define extern \"C\" void tessera_register(tessera::Registry&) for operators, void tessera_provide() for kernels");
  }
  if (registers) load_library(registry, path);
  if (provides) kernels::load_providers(path);
}

int run_parsed(std::span<const std::string> arguments, Console& console, Registry& registry) {
  CLI::App app("Tells which tile of which tensor every device holds, and checks, runs and explains distributed operators.",
               "tessera");
  app.footer("Exit status: 0 fine, 1 the input is at fault, 2 usage or files.");
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, Action>> subcommands;
  std::vector<std::string> libraries;
  for (const Subcommand& subcommand : kSubcommands) {
    CLI::App* added = app.add_subcommand(subcommand.name, subcommand.summary);
    added->add_option("--library", libraries, "Shared library with operators or kernels of your own; may be given again")
        ->type_name("FILE")
        ->allow_extra_args(false);
    subcommands.emplace_back(added, subcommand.add(*added, {console, registry}));
  }
  if (arguments.empty()) return refuse(console, "no command is given", fmt::format("known: {}", join(subcommand_names())));
  const std::string& first = arguments.front();
  const std::vector<std::string> names = subcommand_names();
  if (!first.starts_with("-") && std::find(names.begin(), names.end(), first) == names.end()) {
    return refuse(console, fmt::format("no command is called '{}'", first), did_you_mean(first, names));
  }
  const auto chosen = [&]() -> const CLI::App* {
    for (const auto& [subcommand, action] : subcommands) {
      if (subcommand->parsed()) return subcommand;
    }
    return nullptr;
  };
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    const CLI::App* subcommand = chosen();
    console.out << (subcommand == nullptr ? app.help() : subcommand->help("tessera"));
    return kFine;
  } catch (const CLI::ParseError& error) {
    const CLI::App* subcommand = chosen();
    const CLI::App& at = subcommand == nullptr ? app : *subcommand;
    return refuse(console, error.what(), option_hint(at, {arguments.begin(), arguments.end()}),
                  subcommand == nullptr ? "" : subcommand->get_name());
  }
  for (const std::string& library : libraries) load(registry, library);
  for (const auto& [subcommand, action] : subcommands) {
    if (subcommand->parsed()) return action();
  }
  return kUsage;
}

}  // namespace

int run_command(std::span<const std::string> arguments, Console& console, Registry& registry) {
  int status = kUsage;
  try {
    status = run_parsed(arguments, console, registry);
  } catch (const Error& error) {
    console.err << "tessera: " << error.what() << '\n';
    status = is_about_files(error.diagnostic()) ? kUsage : kFault;
  } catch (const std::bad_alloc&) {
    console.err << "tessera: out of memory\n";
  } catch (const std::exception& error) {
    console.err << "tessera: " << error.what() << '\n';
  }
  console.out.flush();
  if (!console.out) {
    console.err << "tessera: cannot write to standard output\n";
    return kUsage;
  }
  return status;
}

Source read_source(const std::string& file, Console& console) {
  const auto refuse_file = [&](const std::string& why) { fail("file-open", fmt::format("cannot read {}: {}", file, why)); };
  if (file == "-") {
    Source source{"standard input", {std::istreambuf_iterator<char>(console.in), {}}};
    if (console.in.bad()) fail("file-read", "cannot read standard input");
    return source;
  }
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) refuse_file("it is a folder");
  std::ifstream in(file, std::ios::binary);
  if (!in) refuse_file(std::strerror(errno));
  Source source{file, {std::istreambuf_iterator<char>(in), {}}};
  if (in.bad()) fail("file-read", fmt::format("cannot read {} to its end", file));
  return source;
}

bool is_about_files(const Diagnostic& diagnostic) {
  static const std::set<std::string, std::less<>> codes{"file-open", "file-read", "npy-open", "npy-write", "library-open"};
  return codes.contains(diagnostic.code);
}

}  // namespace tessera::tools
