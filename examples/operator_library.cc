// Operators of your own for the tessera command, in a shared library:
//   tessera run --library operator_library.so examples/operator_library.json
#include "core/op/registry.h"
#include "kernels/dense.h"

namespace {

using namespace tessera;

// x times the mean of the squares of its row: rows may be split, a row may not.
std::vector<Tensor> scale_by_energy(const LocalCall& call) {
  const Tensor& x = call.input(0);
  const Tensor squares = kernels::map(x, [](double v) { return v * v; });
  const Tensor energy = kernels::reduce(squares, std::vector{x.rank() - 1}, kernels::Reduce::kMean, true);
  return {kernels::zip(x, energy, [](double v, double e) { return v * e; })};
}

}  // namespace

extern "C" void tessera_register(tessera::Registry& registry) {
  registry.add({.name = "scale_by_energy", .rule = "x[... d] -> out[... d] | whole d", .kernel = scale_by_energy});
}
