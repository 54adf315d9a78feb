// Repair: the cheapest layouts in which a call can be made, against trying all of them.
#include "core/rule/repair.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/rule/projection.h"
#include "layouts/notation.h"
#include "testing/layout_space.h"
#include "testing/matchers.h"
#include "testing/parts.h"

namespace tessera {
namespace {

struct RepairCase {
  std::string name;
  Rule rule;
  std::vector<Shape> shapes;
};
void PrintTo(const RepairCase& c, std::ostream* out) { *out << to_string(c.rule); }

// Whether `part` is `whole` without some of its axes.
bool is_part(AxisList part, AxisList whole) {
  int next = 0;
  for (int k = 0; k < whole.size() && next < part.size(); ++k) next += part[next] == whole[k] ? 1 : 0;
  return next == part.size();
}

class Repairs : public ::testing::TestWithParam<RepairCase> {
 protected:
  // Calls `check` with every choice of layouts of the operands out of `layouts`.
  void for_each_choice(const std::vector<std::vector<Layout>>& layouts,
                       const std::function<void(const std::vector<TensorSpec>&)>& check) {
    std::vector<TensorSpec> specs;
    const std::function<void()> choose = [&] {
      const std::size_t i = specs.size();
      if (i == layouts.size()) return check(specs);
      for (const Layout& layout : layouts[i]) {
        specs.push_back({GetParam().shapes[i], DType::kF32, layout});
        choose();
        specs.pop_back();
      }
    };
    choose();
  }

  static std::vector<const TensorSpec*> pointers(const std::vector<TensorSpec>& specs) {
    std::vector<const TensorSpec*> all;
    for (const TensorSpec& spec : specs) all.push_back(&spec);
    return all;
  }

  static std::string describe(const std::vector<TensorSpec>& specs) {
    std::string text;
    for (const TensorSpec& spec : specs) text += to_string(spec.layout) + " ";
    return text;
  }

  DeviceMesh mesh_{{{"dp", 2}, {"tp", 3}}};
};

TEST_P(Repairs, AreAcceptedAndTheCheapest) {
  const Rule& rule = GetParam().rule;
  std::vector<std::vector<Layout>> all;
  for (const Shape& shape : GetParam().shapes) all.push_back(all_layouts(mesh_, shape, {.partials = {Partial::kSum}}));

  // What strict inference accepts.
  std::vector<std::vector<TensorSpec>> accepted;
  std::vector<Inference> inferences;
  for_each_choice(all, [&](const std::vector<TensorSpec>& specs) {
    try {
      inferences.push_back(infer(rule, pointers(specs)));
      accepted.push_back(specs);
    } catch (const Error&) {
    }
  });
  ASSERT_GT(accepted.size(), 0u);

  int repaired = 0;
  for_each_choice(all, [&](const std::vector<TensorSpec>& given) {
    if (HasFailure()) return;
    SCOPED_TRACE(describe(given));
    const Inference repair = infer(rule, pointers(given), Policy::kRepair);
    std::vector<TensorSpec> taken;
    double cost = 0;
    bool same = true;
    for (std::size_t i = 0; i < given.size(); ++i) {
      taken.push_back({given[i].shape, given[i].dtype, repair.operands[i]});
      cost += redistribution_bytes(given[i], repair.operands[i]);
      same = same && given[i].layout == repair.operands[i];
    }
    const auto found = std::find(accepted.begin(), accepted.end(), taken);
    ASSERT_NE(found, accepted.end()) << "strict inference refuses " << describe(taken);
    EXPECT_EQ(repair.results, inferences[static_cast<std::size_t>(found - accepted.begin())].results);
    if (std::find(accepted.begin(), accepted.end(), given) != accepted.end()) {
      EXPECT_TRUE(same) << "was fine, and became " << describe(taken);
      EXPECT_EQ(cost, 0);
      return;
    }
    repaired += same ? 0 : 1;

    // No other accepted choice whose splits are parts of those given is cheaper.
    std::vector<AxisList> given_splits;
    for (const TensorSpec& spec : given) {
      for (int dim = 0; dim < spec.layout.rank(); ++dim) given_splits.push_back(spec.layout.axes(dim));
    }
    for (const auto& other : accepted) {
      double other_cost = 0;
      bool comparable = true;
      for (std::size_t i = 0; i < other.size(); ++i) {
        for (int dim = 0; dim < other[i].layout.rank(); ++dim) {
          comparable = comparable && std::any_of(given_splits.begin(), given_splits.end(),
                                                 [&](AxisList split) { return is_part(other[i].layout.axes(dim), split); });
        }
        for (int axis = 0; axis < mesh_.axis_count(); ++axis) {
          const Partial pending = other[i].layout.partials()[axis];
          comparable = comparable && (pending == Partial::kNone || pending == given[i].layout.partials()[axis]);
        }
        other_cost += redistribution_bytes(given[i], other[i].layout);
      }
      if (!comparable || other_cost >= cost - 1e-9) continue;
      // Splits of other factors than where they were are not looked for.
      const Inference cheaper = infer(rule, pointers(other));
      bool looked_for = true;
      for (std::size_t f = 0; f < cheaper.factors.size(); ++f) {
        bool somewhere = cheaper.factors[f].axes.empty();
        for (std::size_t i = 0; i < given.size(); ++i) {
          const RuleTensor& tensor = cheaper.binding.rule.operands[i];
          for (int dim = 0; dim < tensor.rank(); ++dim) {
            const auto factors = tensor.dim(dim);
            const bool has = std::find(factors.begin(), factors.end(), f) != factors.end();
            somewhere = somewhere || (has && is_part(cheaper.factors[f].axes, given[i].layout.axes(dim)));
          }
        }
        looked_for = looked_for && somewhere;
      }
      EXPECT_FALSE(looked_for) << describe(taken) << "costs " << cost << ", but " << describe(other) << "only "
                               << other_cost;
    }
  });
  EXPECT_GT(repaired, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, Repairs,
    ::testing::Values(RepairCase{"matmul", "x[m k], w[k n] -> out[m n] | linear x w", {{12, 6}, {6, 30}}},
                      RepairCase{"add", "x[...], y[...] -> out[...] | linear x + y", {{6, 12}, {12}}},
                      RepairCase{"relu", "x[m n] -> out[m n]", {{7, 12}}},
                      RepairCase{"softmax", "x[m n] -> out[m n] | whole n", {{7, 12}}},
                      RepairCase{"flatten", "x[a b] -> out[(a b)] | move x", {{6, 6}}},
                      RepairCase{"grouped", "q[(g r)], k[g] -> out[g r] | linear q k", {{36}, {6}}},
                      RepairCase{"concat", "x[m], y[m] -> out[m] | move x y", {{6}, {6}}}),
    [](const auto& tested) { return tested.param.name; });

TEST(Repair, WorkedExamples) {
  const DeviceMesh mesh({{"dp", 2}, {"tp", 2}});
  const Rule matmul = "x[m k], w[k n] -> out[m n] | linear x w";
  // Splitting what is whole moves nothing.
  EXPECT_THAT(infer_layouts_of(matmul, mesh, {{"[8, 4]", "[dp, tp]"}, {"[4, 6]", "[-, -]"}}, Policy::kRepair),
              OperandLayouts("[dp, tp]", "[tp, -]"));
  // An axis on two factors stays with the operand that is dearer to move.
  EXPECT_THAT(infer_layouts_of(matmul, mesh, {{"[800, 4]", "[dp, -]"}, {"[4, 6]", "[-, dp]"}}, Policy::kRepair),
              OperandLayouts("[dp, -]", "[-, -]"));
  EXPECT_THAT(infer_layouts_of(matmul, mesh, {{"[8, 4]", "[dp, -]"}, {"[4, 600]", "[-, dp]"}}, Policy::kRepair),
              OperandLayouts("[-, -]", "[-, dp]"));
  // A part of a split is given up, not all of it.
  EXPECT_THAT(infer_layouts_of(matmul, mesh, {{"[8, 4]", "[dp+tp, -]"}, {"[4, 600]", "[-, tp]"}}, Policy::kRepair),
              OperandLayouts("[dp, -]", "[-, tp]"));
  // Of two pending reductions one can pass.
  EXPECT_THAT(
      infer_layouts_of("x[m] -> out[m] | linear x", mesh, {{"[8]", "[-] partial(dp: sum, tp: max)"}}, Policy::kRepair),
      OperandLayouts("[-] partial(dp: sum)"));
  EXPECT_THAT(infer_layouts_of("x[m k] -> out[m] | avg k", mesh, {{"[8, 5]", "[tp, dp]"}}, Policy::kRepair),
              OperandLayouts("[tp, -]"));
}

TEST(Repair, WhatNoLayoutHelpsIsRefusedAsEver) {
  const DeviceMesh mesh({{"dp", 2}});
  EXPECT_THAT(infer_layouts_of("x[m], y[m] -> out[m]", mesh, {{"[8]", "[dp]"}, {"[7]", "[dp]"}}, Policy::kRepair),
              FailsWith("size-mismatch", "factor m is 8 in x (dim 0) but 7 in y (dim 0)"));
}

// Five dims, each split otherwise in either operand, and the axes in conflict throughout: more choices than are tried.
TEST(Repair, NeverGivesUp) {
  const DeviceMesh mesh({{"a", 2}, {"b", 2}, {"c", 2}, {"d", 2}, {"e", 2}, {"f", 2}});
  EXPECT_THAT(infer_layouts_of("x[i j k l m n], y[i j k l m n], z[n m l k j i] -> out[i j k l m n]", mesh,
                               {{"[4, 4, 4, 4, 4, 4]", "[a, b, c, d, e, f]"},
                                {"[4, 4, 4, 4, 4, 4]", "[f+e, d, c, b, a, -]"},
                                {"[4, 4, 4, 4, 4, 4]", "[a+b, -, c+d, -, e+f, -]"}},
                               Policy::kRepair),
              ::testing::Not(FailsWith("factor-conflict")));
}

TEST(RedistributionBytes, AreZeroOnlyWhereNothingMoves) {
  const DeviceMesh mesh({{"a", 2}, {"one", 1}, {"b", 3}});
  const std::vector<Distribution> distributions{Distribution::block(), Distribution::balanced(), Distribution::cyclic(1),
                                                Distribution::cyclic(2), Distribution::head_tail()};
  int free = 0;
  for (const std::int64_t n : {1, 5, 6, 7, 12}) {
    const Shape shape{n};
    const auto layouts = all_layouts(mesh, shape, {.distributions = distributions});
    for (const Layout& from : layouts) {
      for (const Layout& to : layouts) {
        bool moves = false;
        for (const Coordinate& coordinate : all_coordinates(mesh)) {
          const IndexSet held = shard_of(from, shape, coordinate)[0];
          const IndexSet needs = shard_of(to, shape, coordinate)[0];
          for (const Interval& needed : needs) {
            for (std::int64_t i = needed.begin; i < needed.end; ++i) {
              moves = moves || std::none_of(held.begin(), held.end(),
                                            [&](const Interval& own) { return own.begin <= i && i < own.end; });
            }
          }
        }
        const double bytes = redistribution_bytes({shape, DType::kF32, from}, to);
        ASSERT_GE(bytes, 0);
        EXPECT_TRUE(bytes > 0 || !moves) << n << ": " << to_string(from) << " to " << to_string(to);
        if (significant(from.axes(0), mesh) == significant(to.axes(0), mesh) && !moves) {
          ASSERT_EQ(bytes, 0) << n << ": " << to_string(from) << " to " << to_string(to);
        }
        free += moves ? 0 : 1;
      }
    }
  }
  EXPECT_GT(free, 100);
}

TEST(RedistributionBytes, CountWhatARankReceives) {
  const DeviceMesh mesh({{"dp", 2}, {"tp", 4}});
  const auto bytes = [&](const char* from, const char* to) {
    return redistribution_bytes({{16, 8}, DType::kF32, parse_layout(mesh, from)}, parse_layout(mesh, to));
  };
  EXPECT_EQ(bytes("[-, -]", "[dp, tp]"), 0);
  EXPECT_EQ(bytes("[dp, -]", "[-, -]"), 256);      // half of 512 bytes
  EXPECT_EQ(bytes("[tp, -]", "[-, tp]"), 96);      // three quarters of 128
  EXPECT_EQ(bytes("[dp+tp, -]", "[dp, -]"), 192);  // three quarters of 256
  EXPECT_EQ(bytes("[-, -] partial(dp: sum)", "[-, -]"), 512);
  EXPECT_EQ(bytes("[-, -] partial(dp: sum)", "[dp, -]"), 256);
  EXPECT_EQ(bytes("[-, -] partial(dp: sum)", "[-, tp] partial(dp: sum)"), 0);
}

}  // namespace
}  // namespace tessera
