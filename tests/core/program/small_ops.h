// A few operators for tests of programs and of the command.
#pragma once

#include "core/op/registry.h"
#include "core/tensor/random.h"
#include "kernels/dense.h"

namespace tessera::small_ops {

/// matmul, linear (optional bias), softmax (attributes, no kernel), moments (two results), pick (an operand with a sample),
/// broken (a kernel that returns another shape), liar (two f32 that are 1 where the call is sharded, else 0).
inline Registry& registry() {
  static Registry& filled = *[] {
    auto* registry = new Registry;
    const Kernel multiply = [](const LocalCall& call) {
      return std::vector<Tensor>{kernels::matmul(call.input(0), call.input(1), false, false)};
    };
    registry->add({.name = "matmul",
                   .rule = "x[m k], w[k n] -> out[m n] | linear x w",
                   .kernel = multiply,
                   .aliases = {"mm"},
                   .summary = "matrix product",
                   .factors = {{"m", "rows"}, {"k", "contracted"}, {"n", "columns"}},
                   .examples = {{.operands = {"f32 [8, 16] [dp, tp]", "f32 [16, 4] [tp, -]"}}}});
    registry->add(
        {.name = "linear", .rule = "x[m k], w[k n], bias[n]? -> out[m n] | linear x w + bias", .kernel = nullptr});
    registry->add({.name = "softmax",
                   .rule = "x[b i] -> out[b i] | whole i",
                   .kernel = nullptr,
                   .attributes = {{.name = "axis",
                                   .type = AttributeType::kInt,
                                   .default_value = std::int64_t{-1},
                                   .doc = "must be the last",
                                   .aliases = {"dim"}},
                                  {.name = "mode",
                                   .type = AttributeType::kString,
                                   .default_value = std::string("exact"),
                                   .choices = {"exact", "fast"}}}});
    registry->add({.name = "moments", .rule = "x[b i] -> mean[b], size[b] | whole i", .kernel = [](const LocalCall& call) {
                     const TensorSpec& spec = call.plan.results[0];
                     const Shape shape = local_shape(spec.layout, spec.shape, call.coordinate);
                     return std::vector<Tensor>{Tensor::zeros(shape, spec.dtype), Tensor::zeros(shape, spec.dtype)};
                   }});
    registry->add({.name = "pick",
                   .rule = "table[v d], ids[n] -> out[n d] | whole v",
                   .kernel =
                       [](const LocalCall& call) {
                         const Tensor table = call.input(0).contiguous();
                         const Tensor ids = call.input(1).to(DType::kI64);
                         Tensor out = Tensor::zeros({ids.size(0), table.size(1)}, table.dtype());
                         for (std::int64_t i = 0; i < ids.size(0); ++i) {
                           const std::int64_t id = ids.at<std::int64_t>({i});
                           out.slice(0, i, i + 1).copy_from(table.slice(0, id, id + 1));
                         }
                         return std::vector<Tensor>{out};
                       },
                   .sample = [](const CallSpec& call, std::size_t operand, std::uint64_t seed) -> std::optional<Tensor> {
                     if (operand != 1) return std::nullopt;
                     return random_integers(call.shape(1), DType::kI64, 0, call.shape(0)[0], seed, "ids");
                   }});
    registry->add({.name = "broken", .rule = "x[m] -> out[m]", .kernel = [](const LocalCall&) {
                     return std::vector<Tensor>{Tensor::zeros({3, 1}, DType::kF32)};
                   }});
    registry->add({.name = "liar", .rule = "x[m] -> out[m]", .kernel = [](const LocalCall& call) {
                     Tensor out = Tensor::zeros(call.input(0).shape(), call.input(0).dtype());
                     if (call.plan.mesh.device_count() > 1) out = Tensor::of<float>({2}, {1.F, 1.F});
                     return std::vector<Tensor>{out};
                   }});
    return registry;
  }();
  return filled;
}

}  // namespace tessera::small_ops
