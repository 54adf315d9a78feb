// One line registers an operator: from it come validation, layout inference, execution on ranks and the errors that a user reads.
#include <fmt/format.h>

#include <cmath>

#include "core/comm/ranks.h"
#include "core/op/dispatcher.h"
#include "kernels/dense.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"

namespace {

using namespace tessera;

// A kernel sees one rank's local tensors; it need not know that there are others.
std::vector<Tensor> gated_product(const LocalCall& call) {
  const Tensor gate = kernels::map(call.input(1), [](double x) { return 1 / (1 + std::exp(-x)); });
  return {kernels::matmul(kernels::zip(call.input(0), gate, [](double x, double g) { return x * g; }), call.input(2))};
}

}  // namespace

int main() {
  Registry registry;
  registry.add({"gated_product", "x[m k], gate[m k], w[k n] -> out[m n] | linear x w", gated_product});

  // What it infers: rows over dp stay split; splitting k over tp leaves a pending sum.
  const DeviceMesh mesh({{"dp", 2}, {"tp", 2}});
  Dispatcher dispatcher(registry);
  run_ranks(4, [&](Communicator& comm) {
    const auto part = [&](const Shape& shape, double start, const char* layout) {
      Tensor whole = Tensor::zeros(shape, DType::kF64);
      for (double& element : whole.span<double>()) element = std::sin(start += 0.1);
      return DTensor::distribute(whole, parse_layout(mesh, layout), comm.rank());
    };
    const DTensor x = part({4, 6}, 1, "[dp, tp]");
    const DTensor gate = part({4, 6}, 2, "[dp, tp]");
    const DTensor w = part({6, 3}, 3, "[tp, -]");
    const DTensor out = dispatcher.dispatch(comm, "gated_product", {x, gate, w})[0];
    const Tensor full = out.full_tensor(comm);
    if (comm.rank() == 0) {
      fmt::print("out has layout {} and begins with {:.6f}\n", to_string(out.layout()), full.at<double>({0, 0}));
    }
  });

  // What it refuses, and how it says so.
  const TensorSpec x{{4, 6}, DType::kF64, parse_layout(mesh, "[dp, tp]")};
  const TensorSpec w{{6, 3}, DType::kF64, parse_layout(mesh, "[-, -]")};
  const std::vector<const TensorSpec*> operands{&x, &x, &w};
  try {
    dispatcher.plan(registry.get("gated_product"), operands, {});
  } catch (const Error& error) {
    fmt::print("\n{}\n", error.what());
    return 0;
  }
  return 1;  // the call must have been refused
}
