// Checks configs from C++: what `tessera check` does, as values.
#include <fmt/format.h>

#include "core/program/check.h"
#include "core/program/read_program.h"
#include "layouts/notation.h"
#include "ops/catalogue.h"

int main() {
  using namespace tessera;

  const char* const config = R"({
    "mesh": { "shape": [2, 4], "names": ["dp", "tp"] },
    "tensors": {
      "x":      { "shape": [16, 64],  "dtype": "bf16", "layout": ["dp", null] },
      "w_up":   { "shape": [256, 64], "dtype": "bf16", "layout": ["tp", null] },
      "w_down": { "shape": [64, 256], "dtype": "bf16", "layout": [null, null] }
    },
    "ops": [
      { "op": "linear", "inputs": ["x", "w_up"], "outputs": ["h"] },
      { "op": "linear", "inputs": ["h", "w_down"], "outputs": ["y"] }
    ]
  })";

  // Strict: the first disagreement of an op is a diagnostic, which knows its place in the config and the nearest fix.
  const Program program = read_program(config, catalogue());
  const CheckReport strict = check(program, Policy::kStrict);
  for (const Diagnostic& diagnostic : strict.diagnostics) fmt::print("{}\n\n", to_string(diagnostic));

  // Repairing: the cheapest redistributions that make every op fit.
  const CheckReport repaired = check(program, Policy::kRepair);
  for (const CheckedOp& op : repaired.ops) {
    for (const Redistribution& move : op.redistributions) {
      fmt::print("{}: {} from {} to {}, {} bytes a rank\n", move.op, move.tensor, to_string(move.from), to_string(move.to),
                 move.bytes_per_rank);
    }
    for (const CheckedTensor& output : op.outputs)
      fmt::print("{}: {} is {}\n", op.op, output.tensor, to_string(output.spec.layout));
  }
  return strict.diagnostics.size() == 1 && repaired.ok() ? 0 : 1;
}
