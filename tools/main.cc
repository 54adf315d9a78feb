// The tessera command.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "ops/catalogue.h"
#include "tools/command.h"

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    const char* no_color = std::getenv("NO_COLOR");
    const bool plain = no_color != nullptr && *no_color != '\0';
    tessera::tools::Console console{.in = std::cin,
                                    .out = std::cout,
                                    .err = std::cerr,
                                    .colour = isatty(STDOUT_FILENO) != 0 && !plain,
                                    .interactive = isatty(STDERR_FILENO) != 0};
    return tessera::tools::run_command(arguments, console, tessera::catalogue());
  } catch (const std::exception& error) {
    std::cerr << "tessera: " << error.what() << '\n';
  } catch (...) {
    std::cerr << "tessera: an unknown error\n";
  }
  return tessera::tools::kUsage;
}
