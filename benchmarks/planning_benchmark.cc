// Planning and dispatch: what stands between a user's call and the kernel. Budgets (DESIGN "Speed"): cached dispatch beside
// the kernel < 100 ns; planning without a cache < 1 / 2 / 5 us on a mesh of 1 / 2 / 3 axes; nothing grows with the number
// of devices.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "core/op/dispatcher.h"
#include "layouts/notation.h"
#include "ops/catalogue.h"

namespace tessera {
namespace {

DeviceMesh mesh_of(std::int64_t axes, std::int64_t size) {
  static const char* const names[] = {"dp", "cp", "tp"};
  std::vector<MeshAxis> list;
  for (std::int64_t i = 0; i < axes; ++i) list.push_back({names[i], size});
  return DeviceMesh(list);
}

struct Case {
  std::vector<TensorSpec> specs;
  std::vector<const TensorSpec*> operands;
  Attributes attributes;

  explicit Case(std::vector<TensorSpec> given, Attributes with = {})
      : specs(std::move(given)), attributes(std::move(with)) {
    for (const TensorSpec& spec : specs) operands.push_back(spec.shape.empty() ? nullptr : &spec);
  }
  Case(const Case&) = delete;
};

// matmul with every axis of the mesh at work: rows over dp, the contraction over cp, columns over tp.
std::vector<TensorSpec> matmul_operands(DeviceMesh mesh) {
  const bool two = mesh.axis_count() > 1;
  const bool three = mesh.axis_count() > 2;
  return {{{4096, 8192}, DType::kBF16, parse_layout(mesh, two ? "[dp, cp]" : "[dp, -]")},
          {{8192, 4096},
           DType::kBF16,
           parse_layout(mesh, three ? "[cp, tp]"
                              : two ? "[cp, -]"
                                    : "[-, -]")}};
}

void plan_matmul(benchmark::State& state) {
  const Case call(matmul_operands(mesh_of(state.range(0), state.range(1))));
  const DistributedOp& op = catalogue().get("matmul");
  for (auto _ : state) benchmark::DoNotOptimize(make_plan(op, call.operands, call.attributes));
}
BENCHMARK(plan_matmul)->ArgNames({"axes", "size"})->Args({1, 8})->Args({2, 8})->Args({3, 8})->Args({3, 100});

void infer_matmul(benchmark::State& state) {
  const Case call(matmul_operands(mesh_of(state.range(0), 8)));
  const DistributedOp& op = catalogue().get("matmul");
  for (auto _ : state) benchmark::DoNotOptimize(infer(op.rule, call.operands));
}
BENCHMARK(infer_matmul)->ArgName("axes")->DenseRange(1, 3);

std::vector<TensorSpec> attention_operands(DeviceMesh mesh) {
  const Layout query = parse_layout(mesh, "[dp, cp, -, -]");
  const Layout key = parse_layout(mesh, "[dp, -, -, -]");
  return {{{2, 4096, 64, 512}, DType::kBF16, query},
          {{2, 4096, 1, 512}, DType::kBF16, key},
          {{2, 4096, 1, 512}, DType::kBF16, key},
          {{2, 4096, 1, 2048}, DType::kI32, query}};
}
Attributes attention_attributes() { return {{"scale_value", 0.0417}, {"attention_mode", std::int64_t{0}}}; }

void plan_sparse_flash_attention(benchmark::State& state) {
  const Case call(attention_operands(mesh_of(2, 4)), attention_attributes());
  const DistributedOp& op = catalogue().get("sparse_flash_attention");
  for (auto _ : state) benchmark::DoNotOptimize(make_plan(op, call.operands, call.attributes));
}
BENCHMARK(plan_sparse_flash_attention);

void cached_plan(benchmark::State& state) {
  const Case call(matmul_operands(mesh_of(state.range(0), 8)));
  Dispatcher dispatcher(catalogue());
  const DistributedOp& op = catalogue().get("matmul");
  for (auto _ : state) benchmark::DoNotOptimize(dispatcher.plan(op, call.operands, call.attributes));
}
BENCHMARK(cached_plan)->ArgName("axes")->DenseRange(1, 3);

void cached_plan_sparse_flash_attention(benchmark::State& state) {
  const Case call(attention_operands(mesh_of(2, 4)), attention_attributes());
  Dispatcher dispatcher(catalogue());
  const DistributedOp& op = catalogue().get("sparse_flash_attention");
  for (auto _ : state) benchmark::DoNotOptimize(dispatcher.plan(op, call.operands, call.attributes));
}
BENCHMARK(cached_plan_sparse_flash_attention);

void compare_and_hash_layouts(benchmark::State& state) {
  const DeviceMesh mesh = mesh_of(3, 8);
  const Layout a = parse_layout(mesh, "[dp, cp+tp, -]");
  const Layout b = parse_layout(mesh, "[dp, cp+tp, -]");
  for (auto _ : state) {
    benchmark::DoNotOptimize(a == b);
    benchmark::DoNotOptimize(a.hash());
  }
}
BENCHMARK(compare_and_hash_layouts);

}  // namespace
}  // namespace tessera

BENCHMARK_MAIN();
