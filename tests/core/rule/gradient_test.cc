// Layouts of gradients, checked with numbers: each rank derives what it computes, and the parts must make the whole gradient.
#include <gmock/gmock.h>

#include <cmath>

#include "core/comm/reduce.h"
#include "core/dtensor/dtensor.h"
#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "support/diagnostic.h"
#include "testing/layout_space.h"
#include "testing/parts.h"
#include "tests/core/rule/einsum.h"

namespace tessera {
namespace {

double dot(const Tensor& a, const Tensor& b) {
  double total = 0;
  for (std::int64_t i = 0; i < a.count(); ++i) total += a.data<double>()[i] * b.data<double>()[i];
  return total;
}

// d (c . out) / d operand, of what is linear in each operand: a step of 1 gives the slope.
Tensor gradient(const Plan& plan, const Coordinate& coordinate, const std::vector<std::optional<Tensor>>& inputs,
                const std::vector<Tensor>& cotangents, std::size_t operand) {
  const auto loss = [&](const std::vector<std::optional<Tensor>>& at) {
    const std::vector<Tensor> out = run_local(plan, plan.op->kernel, coordinate, at);
    double total = 0;
    for (std::size_t r = 0; r < out.size(); ++r) total += dot(out[r], cotangents[r]);
    return total;
  };
  Tensor slopes = Tensor::zeros(inputs[operand]->shape(), DType::kF64);
  const double base = loss(inputs);
  for (std::int64_t i = 0; i < slopes.count(); ++i) {
    std::vector<std::optional<Tensor>> stepped = inputs;
    stepped[operand] = inputs[operand]->clone();
    stepped[operand]->data<double>()[i] += 1;
    slopes.data<double>()[i] = loss(stepped) - base;
  }
  return slopes;
}

struct GradientCase {
  std::string name;
  Rule rule;
  std::vector<Shape> shapes;
};
void PrintTo(const GradientCase& c, std::ostream* out) { *out << to_string(c.rule); }

class Gradients : public ::testing::TestWithParam<GradientCase> {
 protected:
  void SetUp() override {
    for (std::size_t i = 0; i < GetParam().shapes.size(); ++i) {
      globals_.push_back(random_normal(GetParam().shapes[i], DType::kF64, 3, "operand" + std::to_string(i)));
    }
    std::vector<TensorSpec> specs;
    for (const Shape& shape : GetParam().shapes) {
      specs.push_back({shape, DType::kF64, Layout::replicated(DeviceMesh(), static_cast<int>(shape.size()))});
    }
    std::vector<const TensorSpec*> pointers;
    for (const TensorSpec& spec : specs) pointers.push_back(&spec);
    unsharded_ = make_plan(op_, pointers, {});
    for (const TensorSpec& result : unsharded_->results)
      cotangents_.push_back(random_normal(result.shape, DType::kF64, 3, "cotangent"));
    const std::vector<std::optional<Tensor>> inputs(globals_.begin(), globals_.end());
    for (std::size_t i = 0; i < globals_.size(); ++i)
      expected_.push_back(gradient(*unsharded_, {}, inputs, cotangents_, i));
  }

  // The gradients of all ranks' operands assemble, in the layouts said, to the gradients of the whole.
  void check(const Plan& plan) {
    const auto layouts = gradient_layouts(plan.inference);
    const auto coordinates = all_coordinates(mesh_);
    std::vector<std::vector<Tensor>> held;
    for (std::size_t i = 0; i < globals_.size(); ++i)
      held.push_back(distribute_parts(globals_[i], plan.operands[i]->layout));
    std::vector<std::vector<Tensor>> cotangents;
    for (std::size_t r = 0; r < cotangents_.size(); ++r) {
      cotangents.push_back(distribute_parts(cotangents_[r], plan.results[r].layout.with_partials({})));
    }
    for (std::size_t i = 0; i < globals_.size(); ++i) {
      SCOPED_TRACE("the gradient of operand " + std::to_string(i) + " in " + to_string(layouts[i]));
      std::vector<Tensor> parts;
      for (std::size_t rank = 0; rank < coordinates.size(); ++rank) {
        std::vector<std::optional<Tensor>> inputs;
        for (const auto& of_operand : held) inputs.emplace_back(of_operand[rank]);
        std::vector<Tensor> seen;
        for (const auto& of_result : cotangents) seen.push_back(of_result[rank]);
        parts.push_back(gradient(plan, coordinates[rank], inputs, seen, i));
      }
      const auto shards = distribute_parts(expected_[i], layouts[i].with_partials({}));
      for (std::size_t rank = 0; rank < parts.size(); ++rank) {
        Tensor total = Tensor::zeros(parts[rank].shape(), DType::kF64);  // of the ranks along the pending axes
        for (std::size_t other = 0; other < parts.size(); ++other) {
          bool along = true;
          for (int axis = 0; axis < mesh_.axis_count(); ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            along =
                along && (coordinates[rank][a] == coordinates[other][a] || layouts[i].partials()[axis] != Partial::kNone);
          }
          if (along) total = reduce(std::vector{total, parts[other]}, Reduction::kSum);
        }
        for (std::int64_t k = 0; k < total.count(); ++k) {
          ASSERT_NEAR(total.data<double>()[k], shards[rank].data<double>()[k], 1e-11)
              << "rank " << rank << ", element " << k;
        }
      }
    }
  }

  DistributedOp op_ = einsum_op(GetParam().rule);
  DeviceMesh mesh_{{{"dp", 2}, {"tp", 2}}};
  std::vector<Tensor> globals_;
  std::vector<Tensor> cotangents_;
  std::vector<Tensor> expected_;
  std::shared_ptr<const Plan> unsharded_;
};

TEST_P(Gradients, AssembleToTheWholeGradient) {
  std::vector<std::vector<TensorSpec>> specs;
  for (const Shape& shape : GetParam().shapes) {
    specs.emplace_back();
    for (const Layout& layout : all_layouts(mesh_, shape, {.partials = {Partial::kSum}}))
      specs.back().push_back({shape, DType::kF64, layout});
  }
  std::vector<const TensorSpec*> chosen(specs.size());
  int checked = 0;
  const std::function<void(std::size_t)> choose = [&](std::size_t operand) {
    if (HasFatalFailure()) return;
    if (operand < specs.size()) {
      for (const TensorSpec& spec : specs[operand]) {
        chosen[operand] = &spec;
        choose(operand + 1);
      }
      return;
    }
    std::shared_ptr<const Plan> plan;
    try {
      plan = make_plan(op_, chosen, {});
    } catch (const Error&) {
      return;
    }
    std::string layouts;
    for (const TensorSpec* spec : chosen) layouts += " " + to_string(spec->layout);
    SCOPED_TRACE("operands in" + layouts);
    check(*plan);
    ++checked;
  };
  choose(0);
  EXPECT_GT(checked, 10);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, Gradients,
    ::testing::Values(GradientCase{"matmul", "x[m k], w[k n] -> out[m n] | linear x w", {{2, 3}, {3, 2}}},
                      GradientCase{"linear", "x[m k], w[k n], b[n] -> out[m n] | linear x w + b", {{2, 3}, {3, 2}, {2}}},
                      GradientCase{"add", "x[...], y[...] -> out[...] | linear x + y", {{2, 3}, {1, 3}}},
                      GradientCase{"mul", "x[...], y[...] -> out[...] | linear x y", {{2, 3}, {3}}},
                      GradientCase{"sum", "x[m k] -> out[k] | linear x", {{3, 3}}},
                      GradientCase{"two_results", "x[m k], w[k] -> a[m], b[k] | linear x w", {{3, 2}, {2}}},
                      GradientCase{"grouped", "q[(g r)], k[g] -> out[(g r)] | linear q k", {{6}, {2}}}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace tessera
