// Runs the command in this process.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "tests/core/program/small_ops.h"
#include "tools/command.h"

namespace tessera::tools {

struct Ran {
  int status = 0;
  std::string out;
  std::string err;
};

/// The command with these arguments, and with the small operators of the tests.
inline Ran run_tool(const std::vector<std::string>& arguments, const std::string& input = "", bool colour = false) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Console console{.in = in, .out = out, .err = err, .colour = colour};
  const int status = run_command(arguments, console, small_ops::registry());
  return {status, out.str(), err.str()};
}

inline const std::string kConfig = R"({
  "mesh": {"shape": [2, 2], "names": ["dp", "tp"]},
  "tensors": {
    "x": {"shape": [8, 16], "layout": ["dp", "tp"]},
    "w": {"shape": [16, 4], "layout": ["tp", null]}
  },
  "ops": [{"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}]
})";

inline const std::string kFaulty = R"({
  "mesh": {"shape": [2, 2], "names": ["dp", "tp"]},
  "tensors": {"x": {"shape": [8, 16], "layout": ["dp", "tp"]}},
  "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["y"]}]
})";

}  // namespace tessera::tools
