// layouts/json.h: every layout through JSON and back, and what a wrong value is told, and where.
#include "layouts/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "layouts/notation.h"
#include "support/text.h"
#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::StartsWith;
using Json = nlohmann::json;

const DeviceMesh& mesh() {
  static const DeviceMesh mesh({{"dp", 2}, {"cp", 4}, {"tp", 2}});
  return mesh;
}

Layout read(const std::string& json, int rank) { return layout_from_json(Json::parse(json), mesh(), rank, "/layout"); }

// A text of JSON, and all that is said about it and where.
struct Fault {
  std::string json;
  std::string pointer;
  int dim = -1;
  std::string axes;  // joined by '+'
  std::string said;
};

void expect_fault(const Fault& fault, const std::function<void(const Json&)>& read_it) {
  const Json json = Json::parse(fault.json);
  const Diagnostic found = fault_of([&] { read_it(json); });
  EXPECT_EQ(found.code + ": " + to_string(found), fault.said) << fault.json;
  EXPECT_EQ(found.pointer, fault.pointer) << fault.json;
  EXPECT_EQ(found.dim, fault.dim) << fault.json;
  EXPECT_EQ(join(found.axes, "+"), fault.axes) << fault.json;
}

// --- Meshes -----------------------------------------------------------------------------------------------------------------

TEST(MeshJson, IsReadAndWritten) {
  const Json json = Json::parse(R"({"shape": [2, 4], "names": ["dp", "cp"]})");
  EXPECT_EQ(mesh_from_json(json, "/mesh"), DeviceMesh({{"dp", 2}, {"cp", 4}}));
  EXPECT_EQ(to_json(DeviceMesh({{"dp", 2}, {"cp", 4}})), json);
  const Json listed = Json::parse(R"({"shape": [2, 2], "names": ["a", "b"], "devices": [3, 1, 2, 0]})");
  EXPECT_EQ(mesh_from_json(listed, ""), DeviceMesh({{"a", 2}, {"b", 2}}, std::vector<std::int64_t>{3, 1, 2, 0}));
  EXPECT_EQ(to_json(mesh_from_json(listed, "")), listed);
  EXPECT_EQ(mesh_from_json(Json::parse(R"({"shape": [], "names": []})"), ""), DeviceMesh());
  EXPECT_EQ(to_json(DeviceMesh()), Json::parse(R"({"shape": [], "names": []})"));
  EXPECT_EQ(mesh_from_json(Json::parse(R"({"shape": [2], "names": ["a"], "devices": [0, 1], "links": 7})"), ""),
            DeviceMesh({{"a", 2}}));
}

TEST(MeshJson, OfEveryOrderOfRanksIsReadBack) {
  std::vector<std::int64_t> ranks{0, 1, 2, 5};
  do {
    const DeviceMesh square({{"a", 2}, {"b", 2}}, ranks);
    EXPECT_EQ(mesh_from_json(to_json(square), ""), square);
  } while (std::next_permutation(ranks.begin(), ranks.end()));
}

TEST(MeshJsonFault, IsToldWithItsPointer) {
  const std::vector<Fault> faults{
      {R"(3)", "/mesh", -1, "",
       R"(json-type: expected a mesh, as {"shape": [2, 4], "names": ["dp", "cp"]}, found 3)"
       "\n"
       "  at         /mesh"},
      {R"([])", "/mesh", -1, "",
       R"(json-type: expected a mesh, as {"shape": [2, 4], "names": ["dp", "cp"]}, found an empty list)"
       "\n"
       "  at         /mesh"},
      {R"({})", "/mesh", -1, "",
       "json-missing: key 'shape' is missing\n"
       "  at         /mesh"},
      {R"({"shape":[2]})", "/mesh", -1, "",
       "json-missing: key 'names' is missing\n"
       "  at         /mesh"},
      {R"({"names":["a"]})", "/mesh", -1, "",
       "json-missing: key 'shape' is missing\n"
       "  at         /mesh"},
      {R"({"shape":2,"names":["a"]})", "/mesh/shape", -1, "",
       "json-type: expected a list of sizes, one for each axis, found 2\n"
       "  at         /mesh/shape"},
      {R"({"shape":[2.0],"names":["a"]})", "/mesh/shape/0", -1, "",
       "json-type: expected the size of an axis, found 2.0\n"
       "  at         /mesh/shape/0"},
      {R"({"shape":[true],"names":["a"]})", "/mesh/shape/0", -1, "",
       "json-type: expected the size of an axis, found true\n"
       "  at         /mesh/shape/0"},
      {R"({"shape":[18446744073709551615],"names":["a"]})", "/mesh/shape/0", -1, "",
       "json-type: expected the size of an axis below 2^63, found 18446744073709551615\n"
       "  at         /mesh/shape/0"},
      {R"({"shape":[2],"names":"a"})", "/mesh/names", -1, "",
       R"(json-type: expected a list of names, one for each axis, found "a")"
       "\n"
       "  at         /mesh/names"},
      {R"({"shape":[2],"names":[1]})", "/mesh/names/0", -1, "",
       "json-type: expected the name of an axis, found 1\n"
       "  at         /mesh/names/0"},
      {R"({"shape":[2],"names":["a","b"]})", "/mesh/names", -1, "",
       "mesh-axis-name: the mesh has 1 axes but 2 names\n"
       "  at         /mesh/names\n"
       "  hint       name each axis"},
      {R"({"shape":[2,2],"names":["a","a"]})", "/mesh/names/1", -1, "a",
       "mesh-axis-name: two mesh axes are called 'a'\n"
       "  at         /mesh/names/1\n"
       "  hint       give each axis its own name"},
      {R"({"shape":[2,2],"names":["a","b c"]})", "/mesh/names/1", -1, "b c",
       "mesh-axis-name: mesh axis 1 is called 'b c', which is no name\n"
       "  at         /mesh/names/1\n"
       "  hint       a name is letters, digits and '_', and does not begin with a digit"},
      {R"({"shape":[2,0],"names":["a","b"]})", "/mesh/shape/1", -1, "b",
       "mesh-axis-size: mesh axis 'b' has size 0, it needs at least 1\n"
       "  at         /mesh/shape/1"},
      {R"({"shape":[2],"names":["a"],"device":[0,1]})", "/mesh/device", -1, "",
       "json-unknown-key: unknown key 'device'\n"
       "  at         /mesh/device\n"
       "  hint       did you mean 'devices'?"},
      {R"({"shape":[2],"names":["a"],"devices":[0]})", "/mesh/devices", -1, "",
       "mesh-devices: the mesh has 2 places but 1 devices\n"
       "  at         /mesh/devices\n"
       "  hint       list one rank for each place, row major"},
      {R"({"shape":[2],"names":["a"],"devices":[0,"x"]})", "/mesh/devices/1", -1, "",
       R"(json-type: expected a rank, found "x")"
       "\n"
       "  at         /mesh/devices/1"},
      {R"({"shape":[2],"names":["a"],"devices":[0,0]})", "/mesh/devices", -1, "",
       "mesh-devices: the mesh lists device 0 twice\n"
       "  at         /mesh/devices\n"
       "  hint       each rank has one place"},
      {R"({"shape":[4294967296,4294967296],"names":["a","b"]})", "/mesh/shape", -1, "",
       "mesh-too-large: the mesh has more than 2^63-1 devices\n"
       "  at         /mesh/shape"},
  };
  for (const Fault& fault : faults) expect_fault(fault, [](const Json& json) { mesh_from_json(json, "/mesh"); });
}

// --- Layouts ----------------------------------------------------------------------------------------------------------------

TEST(LayoutJson, MeansTheSameInEveryNotation) {
  const Layout layout = parse_layout(mesh(), "[dp, cp+tp, -]");
  for (const char* json :
       {R"(["dp", ["cp", "tp"], null])", R"([["dp"], ["cp", "tp"], []])", R"(["dp", ["cp", "tp"], "None"])",
        R"({"dims": ["dp", ["cp", "tp"], null]})", R"({"dims": ["dp", ["cp", "tp"], null], "partial": {}})",
        R"([{"axes": ["dp"]}, {"axes": ["cp", "tp"], "distribution": "block"}, {"axes": []}])",
        R"([{"axes": "dp"}, ["cp", "tp"], {"axes": null}])", R"-({"placements": ["S(0)", "S(1)", "S(-2)"]})-",
        R"({"tensor_map": [2, [1, 0], -1]})", R"({"tensor_map": [[2], [1, 0], []]})", R"("[dp, cp+tp, -]")",
        R"("<@mesh, [{\"dp\"}, {\"cp\", \"tp\"}, {}]>")"}) {
    EXPECT_EQ(read(json, 3), layout) << json;
  }
  const Layout partial = parse_layout(mesh(), "[dp, -] partial(tp: sum)");
  for (const char* json :
       {R"({"dims": ["dp", null], "partial": {"tp": "sum"}})", R"-({"placements": ["Shard(0)", "R", "Partial(sum)"]})-",
        R"({"tensor_map": [2, -1], "partial": {"tp": "sum"}})", R"-("[dp, -] partial(tp: sum)")-"}) {
    EXPECT_EQ(read(json, 2), partial) << json;
  }
}

TEST(LayoutJson, SaysHowADimIsDealt) {
  EXPECT_EQ(read(R"([{"axes": ["cp"], "distribution": "head_tail"}])", 1), parse_layout(mesh(), "[cp:head_tail]"));
  EXPECT_EQ(read(R"([{"axes": ["cp"], "distribution": "balanced"}])", 1), parse_layout(mesh(), "[cp:balanced]"));
  EXPECT_EQ(read(R"([{"axes": ["cp"], "distribution": {"cyclic": 128}}])", 1), parse_layout(mesh(), "[cp:cyclic(128)]"));
  EXPECT_EQ(read(R"-([{"axes": ["cp"], "distribution": "cyclic(128)"}])-", 1), parse_layout(mesh(), "[cp:cyclic(128)]"));
  EXPECT_EQ(read(R"([{"axes": ["dp"], "distribution": {"intervals": [[[0, 5], [9, 12]], [[5, 9]]]}}])", 1),
            parse_layout(mesh(), "[dp:intervals(0-5 9-12 | 5-9)]"));
}

TEST(LayoutJson, TakesNoneForAnAxisWhereOneIsCalledSo) {
  const DeviceMesh odd({{"None", 2}});
  EXPECT_EQ(layout_from_json(Json::parse(R"(["None"])"), odd, 1, ""), parse_layout(odd, "[None]"));
}

TEST(LayoutJson, IsWrittenInTheShortestForm) {
  const auto written = [](const char* text) { return to_json(parse_layout(mesh(), text)).dump(); };
  EXPECT_EQ(written("[]"), "[]");
  EXPECT_EQ(written("[dp, cp+tp, -]"), R"(["dp",["cp","tp"],null])");
  EXPECT_EQ(written("[dp, -] partial(tp: sum)"), R"({"dims":["dp",null],"partial":{"tp":"sum"}})");
  EXPECT_EQ(written("[cp:head_tail]"), R"([{"axes":["cp"],"distribution":"head_tail"}])");
  EXPECT_EQ(written("[cp:cyclic(3)]"), R"([{"axes":["cp"],"distribution":{"cyclic":3}}])");
  EXPECT_EQ(written("[dp:intervals(0-5 9-12 | 5-9)]"),
            R"([{"axes":["dp"],"distribution":{"intervals":[[[0,5],[9,12]],[[5,9]]]}}])");
  EXPECT_EQ(to_json(Distribution::block()), "block");
  EXPECT_EQ(to_json(Distribution::balanced()), "balanced");
  EXPECT_EQ(to_json(Distribution::intervals({{{0, 1}}})).dump(), R"({"intervals":[[[0,1]]]})");
}

TEST(LayoutJson, OfEveryLayoutIsReadBack) {
  int count = 0;
  for (const DeviceMesh small : {DeviceMesh({{"a", 2}, {"b", 2}}), DeviceMesh({{"a", 2}, {"b", 3}, {"c", 1}})}) {
    for (const Shape& shape : {Shape{}, Shape{7}, Shape{4, 3}}) {
      for_each_dealt_layout(small, shape, [&](const Layout& layout) {
        for_each_partial(layout, [&](const Layout& with) {
          if (HasFailure()) return;
          ++count;
          const std::string text = to_json(with).dump();
          EXPECT_EQ(layout_from_json(Json::parse(text), small, with.rank(), ""), with) << text;
        });
      });
    }
  }
  EXPECT_GT(count, 5000);
}

TEST(LayoutJsonFault, IsToldWithItsPointer) {
  const std::vector<Fault> faults{
      {R"(3)", "/tensors/q/layout", -1, "",
       R"(json-type: expected a layout, as ["dp", null], {"dims": ["dp", null]} or "[dp, -]", found 3)"
       "\n"
       "  at         /tensors/q/layout"},
      {R"(null)", "/tensors/q/layout", -1, "",
       R"(json-type: expected a layout, as ["dp", null], {"dims": ["dp", null]} or "[dp, -]", found null)"
       "\n"
       "  at         /tensors/q/layout"},
      {R"({})", "/tensors/q/layout", -1, "",
       "json-missing: key 'dims', 'placements' or 'tensor_map' is missing\n"
       "  at         /tensors/q/layout"},
      {R"([])", "/tensors/q/layout", -1, "",
       "layout-rank: the layout is for 0 dims, the tensor has 2\n"
       "  at         /tensors/q/layout\n"
       "  hint       write one entry for each dim"},
      {R"(["dp"])", "/tensors/q/layout", -1, "",
       "layout-rank: the layout is for 1 dims, the tensor has 2\n"
       "  at         /tensors/q/layout\n"
       "  hint       write one entry for each dim"},
      {R"(["dp",3])", "/tensors/q/layout/1", 1, "",
       R"(json-type: expected the axes of a dim, as null, "dp", ["dp", "cp"] or {"axes": ["cp"], "distribution": "head_tail"}, found 3)"
       "\n"
       "  at         /tensors/q/layout/1"},
      {R"(["dp","qp"])", "/tensors/q/layout/1", 1, "qp",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'qp'\n"
       "  at         /tensors/q/layout/1\n"
       "  hint       did you mean 'dp'?"},
      {R"([["dp","cq"],null])", "/tensors/q/layout/0/1", 0, "cq",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'cq'\n"
       "  at         /tensors/q/layout/0/1\n"
       "  hint       did you mean 'cp'?"},
      {R"([["dp",1],null])", "/tensors/q/layout/0/1", 0, "",
       "json-type: expected the name of an axis, found 1\n"
       "  at         /tensors/q/layout/0/1"},
      {R"(["dp",["cp","dp"]])", "/tensors/q/layout/1/1", 1, "dp",
       "duplicate-axis: axis 'dp' splits the tensor twice\n"
       "  at         /tensors/q/layout/1/1\n"
       "  hint       an axis splits one dim at most"},
      {R"(["dp","dp"])", "/tensors/q/layout/1", 1, "dp",
       "duplicate-axis: axis 'dp' splits the tensor twice\n"
       "  at         /tensors/q/layout/1\n"
       "  hint       an axis splits one dim at most"},
      {R"([null,{"axes":["cp"],"distribution":"head_tial"}])", "/tensors/q/layout/1/distribution", 1, "",
       "distribution-unknown: no distribution is called 'head_tial'\n"
       "  text       head_tial\n"
       "             ^^^^^^^^^\n"
       "  at         /tensors/q/layout/1/distribution\n"
       "  hint       did you mean 'head_tail'?"},
      {R"([null,{"axis":["cp"]}])", "/tensors/q/layout/1/axis", 1, "",
       "json-unknown-key: unknown key 'axis'\n"
       "  at         /tensors/q/layout/1/axis\n"
       "  hint       did you mean 'axes'?"},
      {R"([null,{"distribution":"block"}])", "/tensors/q/layout/1", 1, "",
       "json-missing: key 'axes' is missing\n"
       "  at         /tensors/q/layout/1"},
      {R"([null,{"axes":3}])", "/tensors/q/layout/1/axes", 1, "",
       "json-type: expected a name or a list of names, found 3\n"
       "  at         /tensors/q/layout/1/axes"},
      {R"([null,{"axes":["cp"],"distribution":3}])", "/tensors/q/layout/1/distribution", 1, "",
       R"(json-type: expected a distribution, as "head_tail", {"cyclic": 128} or {"intervals": [[[0, 5]], [[5, 9]]]}, found 3)"
       "\n"
       "  at         /tensors/q/layout/1/distribution"},
      {R"([null,{"axes":["cp"],"distribution":{}}])", "/tensors/q/layout/1/distribution", 1, "",
       R"(json-type: expected a distribution, as "head_tail", {"cyclic": 128} or {"intervals": [[[0, 5]], [[5, 9]]]}, found an object)"
       "\n"
       "  at         /tensors/q/layout/1/distribution"},
      {R"([null,{"axes":["cp"],"distribution":{"cycle":2}}])", "/tensors/q/layout/1/distribution/cycle", 1, "",
       "json-unknown-key: unknown key 'cycle'\n"
       "  at         /tensors/q/layout/1/distribution/cycle\n"
       "  hint       known: cyclic, intervals"},
      {R"([null,{"axes":["cp"],"distribution":{"cyclic":2,"intervals":[]}}])", "/tensors/q/layout/1/distribution", 1, "",
       R"(json-type: expected a distribution, as "head_tail", {"cyclic": 128} or {"intervals": [[[0, 5]], [[5, 9]]]}, found an object)"
       "\n"
       "  at         /tensors/q/layout/1/distribution"},
      {R"([null,{"axes":["cp"],"distribution":{"cyclic":0}}])", "/tensors/q/layout/1/distribution/cyclic", 1, "",
       "distribution-block: cyclic(0) needs a block of at least 1\n"
       "  at         /tensors/q/layout/1/distribution/cyclic"},
      {R"([null,{"axes":["cp"],"distribution":{"cyclic":"x"}}])", "/tensors/q/layout/1/distribution/cyclic", 1, "",
       R"(json-type: expected the size of a block, found "x")"
       "\n"
       "  at         /tensors/q/layout/1/distribution/cyclic"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":3}}])", "/tensors/q/layout/1/distribution/intervals", 1, "",
       "json-type: expected a list of intervals for each shard, found 3\n"
       "  at         /tensors/q/layout/1/distribution/intervals"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":[3]}}])", "/tensors/q/layout/1/distribution/intervals/0", 1, "",
       "json-type: expected the intervals of a shard, as [[0, 5], [9, 12]], found 3\n"
       "  at         /tensors/q/layout/1/distribution/intervals/0"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":[[[0]]]}}])", "/tensors/q/layout/1/distribution/intervals/0/0",
       1, "",
       "json-type: expected an interval, as [0, 5], found a list\n"
       "  at         /tensors/q/layout/1/distribution/intervals/0/0"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":[[["a",1]]]}}])",
       "/tensors/q/layout/1/distribution/intervals/0/0/0", 1, "",
       R"(json-type: expected a bound of an interval, found "a")"
       "\n"
       "  at         /tensors/q/layout/1/distribution/intervals/0/0/0"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":[[[0,1]],[[2,3]]]}}])",
       "/tensors/q/layout/1/distribution/intervals", 1, "",
       "distribution-intervals: no shard owns indices [1, 2)\n"
       "  at         /tensors/q/layout/1/distribution/intervals\n"
       "  hint       each index belongs to one shard"},
      {R"([null,{"axes":["dp"],"distribution":{"intervals":[[[0,1]]]}}])", "/tensors/q/layout/1", 1, "dp",
       "distribution-intervals: dim 1 lists intervals for 1 shards, its axes make 2\n"
       "  at         /tensors/q/layout/1\n"
       "  hint       list one set of intervals for each shard"},
      {R"("[dp, qp]")", "/tensors/q/layout", 1, "qp",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'qp'\n"
       "  text       [dp, qp]\n"
       "                  ^^\n"
       "  at         /tensors/q/layout\n"
       "  hint       did you mean 'dp'?"},
      {R"("[dp]")", "/tensors/q/layout", -1, "",
       "layout-rank: the layout is for 1 dims, the tensor has 2\n"
       "  at         /tensors/q/layout\n"
       "  hint       write one entry for each dim"},
      {R"({"dim":["dp",null]})", "/tensors/q/layout/dim", -1, "",
       "json-unknown-key: unknown key 'dim'\n"
       "  at         /tensors/q/layout/dim\n"
       "  hint       did you mean 'dims'?"},
      {R"({"partial":{"dp":"sum"}})", "/tensors/q/layout", -1, "",
       "json-missing: key 'dims', 'placements' or 'tensor_map' is missing\n"
       "  at         /tensors/q/layout"},
      {R"({"dims":["dp",null],"placements":[]})", "/tensors/q/layout/placements", -1, "",
       "json-unknown-key: key 'placements' does not go with 'dims'\n"
       "  at         /tensors/q/layout/placements"},
      {R"({"placements":["R","R","R"],"partial":{}})", "/tensors/q/layout/partial", -1, "",
       "json-unknown-key: key 'partial' does not go with 'placements'\n"
       "  at         /tensors/q/layout/partial"},
      {R"({"dims":3})", "/tensors/q/layout/dims", -1, "",
       "json-type: expected a list, one entry a dim, found 3\n"
       "  at         /tensors/q/layout/dims"},
      {R"({"dims":["dp"]})", "/tensors/q/layout/dims", -1, "",
       "layout-rank: the layout is for 1 dims, the tensor has 2\n"
       "  at         /tensors/q/layout/dims\n"
       "  hint       write one entry for each dim"},
      {R"({"dims":["dp",null],"partial":["tp"]})", "/tensors/q/layout/partial", -1, "",
       R"(json-type: expected pending reductions, as {"tp": "sum"}, found a list)"
       "\n"
       "  at         /tensors/q/layout/partial"},
      {R"({"dims":["dp",null],"partial":{"dp":"sum"}})", "/tensors/q/layout/partial/dp", -1, "dp",
       "duplicate-axis: axis 'dp' both splits the tensor and is partial\n"
       "  at         /tensors/q/layout/partial/dp\n"
       "  hint       an axis either splits a dim or has a pending reduction"},
      {R"({"dims":["dp",null],"partial":{"tq":"sum"}})", "/tensors/q/layout/partial/tq", -1, "tq",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'tq'\n"
       "  at         /tensors/q/layout/partial/tq\n"
       "  hint       did you mean 'tp'?"},
      {R"({"dims":["dp",null],"partial":{"tp":"summ"}})", "/tensors/q/layout/partial/tp", -1, "tp",
       "unknown-partial: no reduction is called 'summ'\n"
       "  at         /tensors/q/layout/partial/tp\n"
       "  hint       did you mean 'sum'?"},
      {R"({"dims":["dp",null],"partial":{"tp":1}})", "/tensors/q/layout/partial/tp", -1, "",
       "json-type: expected a reduction, found 1\n"
       "  at         /tensors/q/layout/partial/tp"},
      {R"({"dims":["dp",null],"partial":{"a/b~c":"sum"}})", "/tensors/q/layout/partial/a~1b~0c", -1, "a/b~c",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'a/b~c'\n"
       "  at         /tensors/q/layout/partial/a~1b~0c\n"
       "  hint       known: dp, cp, tp"},
      {R"({"placements":["R","R"]})", "/tensors/q/layout/placements", -1, "",
       "placement-count: 2 placements for the 3 axes of the mesh (dp=2 x cp=4 x tp=2)\n"
       "  at         /tensors/q/layout/placements\n"
       "  hint       write one placement for each mesh axis"},
      {R"({"placements":"R"})", "/tensors/q/layout/placements", -1, "",
       R"-(json-type: expected a list, one placement a mesh axis, as ["Shard(0)", "Replicate"], found "R")-"
       "\n"
       "  at         /tensors/q/layout/placements"},
      {R"({"placements":["R",1,"R"]})", "/tensors/q/layout/placements/1", -1, "",
       R"-(json-type: expected a placement, as "Shard(0)", found 1)-"
       "\n"
       "  at         /tensors/q/layout/placements/1"},
      {R"-({"placements":["R","Shard(5)","R"]})-", "/tensors/q/layout/placements/1", -1, "cp",
       "placement-dim: dim 5 is out of bounds for a tensor of 2 dims\n"
       "  text       Shard(5)\n"
       "                   ^\n"
       "  at         /tensors/q/layout/placements/1\n"
       "  hint       dims are -2 to 1"},
      {R"-({"placements":["Shrd(0)","R","R"]})-", "/tensors/q/layout/placements/0", -1, "dp",
       "placement-syntax: no placement is called 'Shrd'\n"
       "  text       Shrd(0)\n"
       "             ^^^^\n"
       "  at         /tensors/q/layout/placements/0\n"
       "  hint       did you mean 'Shard'?"},
      {R"({"tensor_map":1})", "/tensors/q/layout/tensor_map", -1, "",
       "json-type: expected a list, one entry a dim, as [1, -1, [2, 0]], found 1\n"
       "  at         /tensors/q/layout/tensor_map"},
      {R"({"tensor_map":[1]})", "/tensors/q/layout/tensor_map", -1, "",
       "layout-rank: the layout is for 1 dims, the tensor has 2\n"
       "  at         /tensors/q/layout/tensor_map\n"
       "  hint       write one entry for each dim"},
      {R"({"tensor_map":[1,"x"]})", "/tensors/q/layout/tensor_map/1", 1, "",
       R"(json-type: expected the number of an axis, counted from the last, or -1, found "x")"
       "\n"
       "  at         /tensors/q/layout/tensor_map/1"},
      {R"({"tensor_map":[1,[0,"x"]]})", "/tensors/q/layout/tensor_map/1/1", 1, "",
       R"(json-type: expected the number of an axis, counted from the last, or -1, found "x")"
       "\n"
       "  at         /tensors/q/layout/tensor_map/1/1"},
      {R"({"tensor_map":[1,7]})", "/tensors/q/layout/tensor_map/1", 1, "",
       "unknown-axis: tensor map number 7 is no axis of the mesh (dp=2 x cp=4 x tp=2)\n"
       "  at         /tensors/q/layout/tensor_map/1\n"
       "  hint       numbers count from the last axis: 0 is 'tp', 1 is 'cp', 2 is 'dp'"},
      {R"({"tensor_map":[1,[0,-1]]})", "/tensors/q/layout/tensor_map/1", 1, "",
       "layout-syntax: tensor map entry [0, -1] has -1 beside other numbers\n"
       "  at         /tensors/q/layout/tensor_map/1\n"
       "  hint       -1 alone is a dim that is whole"},
      {R"({"tensor_map":[1,1]})", "/tensors/q/layout/tensor_map/1", 1, "cp",
       "duplicate-axis: axis 'cp' splits the tensor twice\n"
       "  at         /tensors/q/layout/tensor_map/1\n"
       "  hint       an axis splits one dim at most"},
      {R"({"tensor_map":[1,-1],"partial":{"cp":"sum"}})", "/tensors/q/layout/partial/cp", -1, "cp",
       "duplicate-axis: axis 'cp' both splits the tensor and is partial\n"
       "  at         /tensors/q/layout/partial/cp\n"
       "  hint       an axis either splits a dim or has a pending reduction"},
      {R"({"tensor_map":[1,-1],"partial":{"cq":"sum"}})", "/tensors/q/layout/partial/cq", -1, "cq",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'cq'\n"
       "  at         /tensors/q/layout/partial/cq\n"
       "  hint       did you mean 'cp'?"},
  };
  for (const Fault& fault : faults) {
    expect_fault(fault, [](const Json& json) { layout_from_json(json, mesh(), 2, "/tensors/q/layout"); });
  }
}

TEST(LayoutJsonFault, IsARankThatIsTooLarge) {
  const Diagnostic fault = fault_of([] { layout_from_json(Json(std::vector<Json>(13)), mesh(), 13, "/layout"); });
  EXPECT_EQ(fault.code, "rank-too-large");
  EXPECT_EQ(to_string(fault), "a tensor has at most 12 dims, this layout is for 13\n  at         /layout");
}

TEST(LayoutJsonFault, IsToldInShortOfADeepOrLongValue) {
  Json deep = Json::array();
  for (int i = 0; i < 10'000; ++i) deep = Json::array({std::move(deep)});
  EXPECT_EQ(fault_text([&] { layout_from_json(deep, mesh(), 1, ""); }),
            "json-type: expected the name of an axis, found a list\n"
            "  at         /0/0");
  EXPECT_EQ(fault_text([&] { mesh_from_json(deep, ""); }),
            "json-type: expected a mesh, as {\"shape\": [2, 4], \"names\": [\"dp\", \"cp\"]}, found a list");
  EXPECT_EQ(fault_text([&] { mesh_from_json(Json(std::string(100'000, 'x')), "/mesh"); }),
            "json-type: expected a mesh, as {\"shape\": [2, 4], \"names\": [\"dp\", \"cp\"]}, found "
            "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"...\n"
            "  at         /mesh");
}

// Every value inside the document replaced by each of these, or taken away.
void for_each_mutation(const Json& json, const std::function<void(const Json&)>& check) {
  const std::vector<Json> values{nullptr,
                                 true,
                                 -1,
                                 0,
                                 3,
                                 1.5,
                                 18446744073709551615ULL,
                                 "",
                                 "dp",
                                 "nosuch",
                                 "[",
                                 "\xff",
                                 Json::array(),
                                 Json::object(),
                                 Json::array({nullptr}),
                                 Json::array({"dp", "dp"}),
                                 Json{{"axes", {"cp"}}}};
  const Json flat = json.flatten();
  std::vector<Json::json_pointer> places{Json::json_pointer("")};
  for (const auto& [key, value] : flat.items()) {
    for (Json::json_pointer place(key); !place.empty(); place.pop_back()) places.push_back(place);
  }
  for (const Json::json_pointer& place : places) {
    for (const Json& value : values) {
      Json changed = json;
      changed[place] = value;
      check(changed);
    }
    if (place.empty()) continue;
    Json changed = json;
    Json& parent = changed[place.parent_pointer()];
    if (parent.is_object()) {
      parent.erase(place.back());
      parent["nosuch"] = 1;
    } else {
      parent.erase(std::stoul(place.back()));
    }
    check(changed);
  }
}

TEST(LayoutJson, IsReadOrRefusedWithAPointerWhateverItIs) {
  int refused = 0;
  const auto check = [&](const std::string& pointer, const std::function<void()>& read_it, const Json& json) {
    const Diagnostic fault = fault_of(read_it);
    if (fault.code == "none") return;
    ++refused;
    EXPECT_THAT(fault.pointer, StartsWith(pointer)) << json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  for (const char* text :
       {R"(["dp", ["cp", "tp"], {"axes": [], "distribution": "head_tail"}])",
        R"({"dims": [{"axes": ["cp"], "distribution": {"cyclic": 128}}, "dp", null], "partial": {"tp": "sum"}})",
        R"([{"axes": ["dp"], "distribution": {"intervals": [[[0, 5], [9, 12]], [[5, 9]]]}}, null, null])",
        R"-({"placements": ["_StridedShard(0, 4)", "Shard(0)", "Partial(sum)"]})-",
        R"({"tensor_map": [1, -1, [2, 0]], "partial": {}})"}) {
    for_each_mutation(Json::parse(text), [&](const Json& json) {
      check(
          "/layout", [&] { layout_from_json(json, mesh(), 3, "/layout"); }, json);
    });
  }
  for_each_mutation(Json::parse(R"({"shape": [2, 2], "names": ["a", "b"], "devices": [3, 1, 2, 0]})"),
                    [&](const Json& json) {
                      check(
                          "/mesh", [&] { mesh_from_json(json, "/mesh"); }, json);
                    });
  EXPECT_GT(refused, 500);
}

// --- Helpers ----------------------------------------------------------------------------------------------------------------

TEST(JsonPointer, EscapesItsKeys) {
  EXPECT_EQ(escape_pointer("plain"), "plain");
  EXPECT_EQ(escape_pointer("a/b~c"), "a~1b~0c");
  EXPECT_EQ(escape_pointer("~1"), "~01");
}

TEST(CheckKeys, KnowsTheNearest) {
  const std::vector<std::string> known{"mesh", "tensors"};
  check_keys(Json::parse(R"({"mesh": 1})"), known, "");
  EXPECT_EQ(fault_text([&] { check_keys(Json::parse(R"({"mesh": 1, "tensor": 2})"), known, ""); }),
            "json-unknown-key: unknown key 'tensor'\n  at         /tensor\n  hint       did you mean 'tensors'?");
  EXPECT_EQ(fault_text([&] { check_keys(Json(3), known, "/a"); }),
            "json-type: expected an object, found 3\n  at         /a");
}

TEST(FailJsonType, SaysWhatIsThere) {
  const auto said = [](const char* json) {
    return fault_of([&] { fail_json_type(Json::parse(json), "", "a number"); }).message;
  };
  EXPECT_EQ(said("null"), "expected a number, found null");
  EXPECT_EQ(said("{\"a\": 1}"), "expected a number, found an object");
  EXPECT_EQ(said("[]"), "expected a number, found an empty list");
  EXPECT_EQ(said("[1]"), "expected a number, found a list");
  EXPECT_EQ(said("1.5"), "expected a number, found 1.5");
  EXPECT_EQ(said("false"), "expected a number, found false");
  EXPECT_EQ(said(R"("a\nb")"), R"(expected a number, found "a\nb")");
}

}  // namespace
}  // namespace tessera
