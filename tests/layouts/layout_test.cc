// layouts/layout.h: the layout as a value, and what it refuses.
#include "layouts/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <unordered_set>

#include "layouts/notation.h"
#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::ElementsAre;

static_assert(sizeof(Layout) <= 56);
static_assert(std::is_trivially_copyable_v<Layout>);
static_assert(std::is_trivially_copyable_v<DimSplit>);
static_assert(sizeof(PartialMap) == 8);

const DeviceMesh& mesh() {
  static const DeviceMesh mesh({{"dp", 2}, {"cp", 4}, {"tp", 3}});
  return mesh;
}

PartialMap partial(int axis, Partial kind) {
  PartialMap partials;
  partials.set(axis, kind);
  return partials;
}

TEST(PartialMap, HoldsAKindForEachAxis) {
  PartialMap partials;
  EXPECT_TRUE(partials.empty());
  for (int axis = 0; axis < static_cast<int>(kMaxAxes); ++axis) {
    for (int kind = 1; kind <= static_cast<int>(Partial::kSoftmax); ++kind) {
      PartialMap one = partials;
      one.set(axis, static_cast<Partial>(kind));
      EXPECT_EQ(one[axis], static_cast<Partial>(kind));
      EXPECT_EQ(one.axes(), AxisList{axis});
      one.set(axis, Partial::kNone);
      EXPECT_EQ(one, partials);
    }
  }
  partials.set(14, Partial::kMax);
  partials.set(0, Partial::kSoftmax);
  EXPECT_EQ(partials.axes(), (AxisList{0, 14}));
  EXPECT_NE(partials, PartialMap());
}

TEST(Partial, HasNames) {
  EXPECT_THAT(partial_names(), ElementsAre("sum", "avg", "max", "min", "prod", "any", "all", "softmax"));
  for (const std::string& name : partial_names()) EXPECT_EQ(to_string(parse_partial(name).value()), name);
  EXPECT_EQ(parse_partial("none"), std::nullopt);
  EXPECT_EQ(parse_partial("Sum"), std::nullopt);
  EXPECT_EQ(parse_partial(""), std::nullopt);
  EXPECT_EQ(to_string(Partial::kNone), "none");
}

TEST(Layout, IsMadeOfDimsAndPartials) {
  const std::vector<DimSplit> dims{{{0, 1}, Distribution::cyclic(2)}, {}};
  const Layout layout(mesh(), dims, partial(2, Partial::kSum));
  EXPECT_EQ(layout.mesh(), mesh());
  EXPECT_EQ(layout.rank(), 2);
  EXPECT_EQ(layout.axes(0), (AxisList{0, 1}));
  EXPECT_TRUE(layout.axes(1).empty());
  EXPECT_EQ(layout.distribution(0), Distribution::cyclic(2));
  EXPECT_EQ(layout.distribution(1), Distribution::block());
  EXPECT_EQ(layout.dim(0), dims[0]);
  EXPECT_EQ(layout.partials(), partial(2, Partial::kSum));
  EXPECT_TRUE(layout.is_partial());
  EXPECT_FALSE(layout.is_replicated());
  EXPECT_EQ(layout.splitting_axes(), (AxisList{0, 1}));
}

TEST(Layout, OfAScalarOrReplicatedHasNoAxes) {
  EXPECT_EQ(Layout().rank(), 0);
  EXPECT_EQ(Layout().mesh(), DeviceMesh());
  EXPECT_TRUE(Layout().is_replicated());
  const Layout replicated = Layout::replicated(mesh(), 3);
  EXPECT_EQ(replicated.rank(), 3);
  EXPECT_TRUE(replicated.is_replicated());
  EXPECT_EQ(repeat_count(replicated), 24);
  EXPECT_FALSE(Layout::replicated(mesh(), 1).with_partials(partial(0, Partial::kMax)).is_replicated());
}

TEST(Layout, GivesBackWhatItIsMadeOf) {
  // Every layout up to rank 3 of a mesh of three axes: dims read back, and remade one by one.
  int count = 0;
  std::set<std::string> texts;
  for (int rank = 0; rank <= 3; ++rank) {
    for_each_layout(mesh(), rank, [&](const Layout& layout) {
      ++count;
      texts.insert(to_string(layout));
      Layout remade = Layout::replicated(mesh(), rank);
      AxisList all;
      for (int dim = 0; dim < rank; ++dim) {
        remade = remade.with_dim(dim, layout.dim(dim));
        all.append(layout.axes(dim));
      }
      EXPECT_EQ(remade, layout);
      EXPECT_EQ(remade.hash(), layout.hash());
      EXPECT_EQ(layout.splitting_axes(), all);
    });
  }
  EXPECT_EQ(static_cast<std::size_t>(count), texts.size());
  EXPECT_GT(count, 100);
}

TEST(Layout, IsEqualHoweverItIsMadeAndItsHashToo) {
  std::vector<Layout> all;
  for_each_dealt_layout(DeviceMesh({{"a", 2}, {"b", 2}}), {4, 4}, [&](const Layout& layout) {
    for_each_partial(layout, [&](const Layout& with) { all.push_back(with); });
  });
  std::unordered_set<std::string> texts;
  std::unordered_set<std::size_t> hashes;
  for (const Layout& layout : all) {
    texts.insert(to_string(layout));
    hashes.insert(layout.hash());
    std::vector<DimSplit> dims;
    for (int dim = 0; dim < layout.rank(); ++dim) dims.push_back(layout.dim(dim));
    EXPECT_EQ(Layout(layout.mesh(), dims, layout.partials()), layout);
    EXPECT_EQ(std::hash<Layout>{}(Layout(layout.mesh(), dims, layout.partials())), layout.hash());
  }
  EXPECT_GT(texts.size(), 200U);
  EXPECT_EQ(hashes.size(), texts.size()) << "no two of these few share a hash";
  for (std::size_t i = 0; i < all.size(); i += 97) {
    for (const Layout& other : all) EXPECT_EQ(all[i] == other, to_string(all[i]) == to_string(other));
  }
}

TEST(Layout, DiffersWhereAnyPartDiffers) {
  const Layout layout = parse_layout(mesh(), "[dp, cp, -]");
  EXPECT_NE(layout, parse_layout(mesh(), "[cp, dp, -]"));
  EXPECT_NE(layout, parse_layout(mesh(), "[dp, cp]"));
  EXPECT_NE(layout, parse_layout(mesh(), "[dp+cp, -, -]"));
  EXPECT_NE(parse_layout(mesh(), "[dp+cp, -, -]"), parse_layout(mesh(), "[cp+dp, -, -]"));
  EXPECT_NE(layout, parse_layout(mesh(), "[dp, cp:balanced, -]"));
  EXPECT_NE(layout, parse_layout(mesh(), "[dp, cp, -] partial(tp: sum)"));
  EXPECT_NE(layout, parse_layout(DeviceMesh({{"dp", 2}, {"cp", 4}, {"tp", 4}}), "[dp, cp, -]"));
}

TEST(Layout, DealsADimThatIsNotCutInOneBlockWhateverIsSaid) {
  const DeviceMesh with_one({{"dp", 1}, {"cp", 2}});
  const std::vector<DimSplit> dims{{{0}, Distribution::balanced()}, {{}, Distribution::cyclic(3)}};
  const Layout layout(with_one, dims);
  EXPECT_TRUE(layout.distribution(0).is_block());
  EXPECT_TRUE(layout.distribution(1).is_block());
  EXPECT_EQ(layout, parse_layout(with_one, "[dp, -]"));
}

// --- Faults -----------------------------------------------------------------------------------------------------------------

TEST(LayoutFault, IsAnAxisUsedTwice) {
  const std::vector<DimSplit> twice{{{0}, {}}, {{1, 0}, {}}};
  const Diagnostic fault = fault_of([&] { Layout layout(mesh(), twice); });
  EXPECT_EQ(fault.code, "duplicate-axis");
  EXPECT_EQ(to_string(fault), "axis 'dp' splits the tensor twice\n  hint       an axis splits one dim at most");
  EXPECT_EQ(fault.dim, 1);
  EXPECT_THAT(fault.axes, ElementsAre("dp"));

  const std::vector<DimSplit> once{{{0}, {}}};
  const Diagnostic both = fault_of([&] { Layout layout(mesh(), once, partial(0, Partial::kSum)); });
  EXPECT_EQ(both.code, "duplicate-axis");
  EXPECT_EQ(to_string(both),
            "axis 'dp' both splits the tensor and is partial\n  hint       an axis either splits a dim or has a pending "
            "reduction");
  EXPECT_THAT(both.axes, ElementsAre("dp"));
  EXPECT_EQ(fault_text([&] {
              (void)Layout(mesh(), once).with_dim(0, {{1, 1}, {}});
            }),
            "duplicate-axis: axis 'cp' splits the tensor twice\n  hint       an axis splits one dim at most");
}

TEST(LayoutFault, IsAnAxisBeyondTheMesh) {
  const std::vector<DimSplit> dims{{{3}, {}}};
  EXPECT_EQ(fault_text([&] { Layout layout(mesh(), dims); }),
            "unknown-axis: axis number 3 is not on the mesh (dp=2 x cp=4 x tp=3)");
  EXPECT_EQ(fault_text([&] { Layout layout(mesh(), {}, partial(5, Partial::kSum)); }),
            "unknown-axis: axis number 5 is not on the mesh (dp=2 x cp=4 x tp=3)");
}

TEST(LayoutFault, IsARankThatIsTooLarge) {
  EXPECT_EQ(Layout::replicated(mesh(), 12).rank(), 12);
  EXPECT_EQ(fault_text([&] { Layout::replicated(mesh(), 13); }),
            "rank-too-large: a tensor has at most 12 dims, this layout is for 13");
}

TEST(LayoutFault, IsIntervalsForAnotherNumberOfShards) {
  const std::vector<DimSplit> dims{{}, {{1}, Distribution::intervals({{{0, 3}}, {{3, 5}}})}};
  const Diagnostic fault = fault_of([&] { Layout layout(mesh(), dims); });
  EXPECT_EQ(fault.code, "distribution-intervals");
  EXPECT_EQ(to_string(fault),
            "dim 1 lists intervals for 2 shards, its axes make 4\n  hint       list one set of intervals for each shard");
  EXPECT_EQ(fault.dim, 1);
  EXPECT_THAT(fault.axes, ElementsAre("cp"));
}

TEST(Layout, RefusesIntervalsThatOnlyReorder) {
  const Distribution turned = Distribution::intervals({{{5, 9}, {0, 5}}});
  for (const AxisList axes : {AxisList{}, AxisList{1}}) {
    EXPECT_EQ(fault_text([&] {
                Layout(DeviceMesh({{"dp", 2}, {"one", 1}}), std::vector<DimSplit>{{axes, turned}});
              }),
              "distribution-intervals: dim 0 is not split, but lists its indices in another order\n"
              "  hint       leave the intervals out, or split the dim over an axis of more than one device");
  }
}

TEST(LayoutMisfit, IsAShapeThatItCannotBeOf) {
  const Layout layout = parse_layout(mesh(), "[dp:intervals(0-5 | 5-7), -]");
  EXPECT_EQ(misfit(layout, {7, 3}), std::nullopt);
  EXPECT_EQ(misfit(layout, {7}), "the layout is for 2 dims, the shape [7] has 1");
  EXPECT_EQ(misfit(layout, {8, 3}), "dim 0: the intervals cover 7 indices, the dim has 8");
  EXPECT_EQ(misfit(parse_layout(mesh(), "[dp+cp]"), {1}), std::nullopt);
}

}  // namespace
}  // namespace tessera
