// Every fault that a config can have, with the whole text of what is said of it.
#include <gtest/gtest.h>

#include "core/program/check.h"
#include "core/program/read_program.h"
#include "tests/core/program/small_ops.h"

namespace tessera {
namespace {

struct FaultyConfig {
  const char* name;
  const char* config;
  const char* said;  // all diagnostics, an empty line between two
};

const FaultyConfig kFaultyConfigs[] = {
    {"empty", R"json()json",
     R"(the config is empty
  hint       begin with {"mesh": {"shape": [2, 4], "names": ["dp", "cp"]}})"},
    {"cut_off", R"json({
  "mesh": {"shape": [2], "names": ["dp"])json",
     R"(the config is no JSON: line 2, column 41: unexpected end of input; expected '}'
  line 2       "mesh": {"shape": [2], "names": ["dp"]
                                                     ^)"},
    {"stray_comma", R"json({
  "mesh": {"shape": [2], "names": ["dp"]},
})json",
     R"(the config is no JSON: line 3, column 1: unexpected '}'; expected string literal
  line 3     }
             ^)"},
    {"bare_word", R"json({"mesh": dp})json",
     R"(the config is no JSON: line 1, column 10: invalid literal
  line 1     {"mesh": dp}
                      ^)"},
    {"number_out_of_range",
     R"json({"mesh": {"shape": [2], "names": ["dp"], "links": {"dp": {"latency_us": 1e999, "bandwidth_gbps": 1}}}})json",
     R"(the config is no JSON: line 1, column 77: number out of range: '1e999'
  line 1     ": [2], "names": ["dp"], "links": {"dp": {"latency_us": 1e999, "bandwidth_gbps": 1}}}}
                                                                         ^)"},
    {"two_values", R"json({} {})json",
     R"(the config is no JSON: line 1, column 4: unexpected '{'; expected end of input
  line 1     {} {}
                ^)"},
    {"no_object", R"json([1, 2])json",
     R"(expected a config, an object with the keys "mesh", "tensors" and "ops", found a list)"},
    {"no_mesh", R"json({"tensors": {}})json",
     R"(key 'mesh' is missing
  hint       add "mesh": {"shape": [2, 4], "names": ["dp", "cp"]})"},
    {"unknown_key", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensor": {}, "opps": [], "zebra": 1})json",
     R"(unknown key 'opps'
  at         /opps
  hint       did you mean 'ops'?

unknown key 'tensor'
  at         /tensor
  hint       did you mean 'tensors'?

unknown key 'zebra'
  at         /zebra
  hint       known: mesh, tensors, ops, rules, expect)"},
    {"unknown_keys_below", R"json({"mesh": {"shape": [2], "names": ["dp"], "nmaes": 1},
 "tensors": {"x": {"shape": [2], "dtypes": "f32"}},
 "ops": [{"op": "matmul", "inputs": ["x", "x"], "output": ["y"]}]})json",
     R"(unknown key 'nmaes'
  at         /mesh/nmaes
  hint       did you mean 'names'?

unknown key 'dtypes'
  at         /tensors/x/dtypes
  hint       did you mean 'dtype'?

unknown key 'output'
  at         /ops/0/output
  hint       did you mean 'outputs'?

matmul: key 'outputs' is missing
  at         /ops/0)"},
    {"duplicate_keys", R"json({"mesh": {"shape": [2], "names": ["dp"]},
 "tensors": {"a/b": {"shape": [2], "shape": [4]}, "a/b": {"shape": [2]}}})json",
     R"(key 'shape' is given twice
  at         /tensors/a~1b/shape
  hint       only one of them can count: remove the other

key 'a/b' is given twice
  at         /tensors/a~1b
  hint       only one of them can count: remove the other)"},
    {"mesh_types",
     R"json({"mesh": {"shape": [2, "4"], "names": ["dp", "cp"]}, "tensors": {"x": {"shape": [2], "layout": ["nope"]}}})json",
     R"(expected the size of an axis, found "4"
  at         /mesh/shape/1)"},
    {"tensor_types", R"json({"mesh": {"shape": [2], "names": ["dp"]},
 "tensors": {"a": 1, "b": {"shape": 2}, "c": {"shape": [2.5]}, "d": {"shape": [2], "dtype": 4}, "e": {"shape": [2], "layout": 5}, "": {"shape": [1]}}})json",
     R"(a tensor's name is empty
  at         /tensors/

expected a tensor, as {"shape": [8, 16], "dtype": "f32", "layout": ["dp", null]}, found 1
  at         /tensors/a

expected a list of sizes, as [2, 4096], found 2
  at         /tensors/b/shape

expected the size of a dim, an integer, found 2.5
  at         /tensors/c/shape/0

expected an element type, as "f32", found 4
  at         /tensors/d/dtype

expected a layout, as ["dp", null], {"dims": ["dp", null]} or "[dp, -]", found 5
  at         /tensors/e/layout)"},
    {"shapes", R"json({"mesh": {"shape": [2], "names": ["dp"]},
 "tensors": {"a": {"shape": [2, -1]}, "b": {"shape": [4611686018427387904, 4]}, "c": {"shape": [4611686018427387904], "dtype": "f64"},
             "d": {"shape": [1,1,1,1,1,1,1,1,1,1,1,1,1]}, "e": {"shape": [9223372036854775808]}, "f": {"shape": [99999999999999999999]}, "g": {"layout": ["dp"]}}})json",
     R"(dim 1 has the negative size -1
  at         /tensors/a/shape/1

shape [4611686018427387904, 4] has more than 2^63-1 elements
  at         /tensors/b/shape

a tensor of shape [4611686018427387904] takes more than 2^63-1 bytes
  at         /tensors/c/shape

the shape has 13 dims, a tensor has 12 at most
  at         /tensors/d/shape

expected the size of a dim, an integer below 2^63, found 9223372036854775808
  at         /tensors/e/shape/0

expected the size of a dim, an integer, found 1e+20
  at         /tensors/f/shape/0

key 'shape' is missing: no op makes 'g'
  at         /tensors/g)"},
    {"dtypes", R"json({"mesh": {"shape": [2], "names": ["dp"]},
 "tensors": {"a": {"shape": [2], "dtype": "bf61"}, "b": {"shape": [2], "dtype": "complex128"}}})json",
     R"(no element type is called 'bf61'
  at         /tensors/a/dtype
  hint       did you mean 'bf16'?

no element type is called 'complex128'
  at         /tensors/b/dtype
  hint       known: f32, f64, bf16, f16, i32, i64, bool)"},
    {"layouts", R"json({"mesh": {"shape": [2, 4], "names": ["dp", "cp"]},
 "tensors": {"a": {"shape": [4, 4], "layout": ["dp", "pc"]}, "b": {"shape": [4, 4], "layout": ["dp"]}, "c": {"shape": [4, 4], "layout": ["dp", "dp"]},
             "d": {"shape": [4], "layout": [{"axes": ["dp"], "distribution": {"intervals": [[[0, 2]], [[2, 5]]]}}]}, "e": {"shape": [4], "layout": "[dp; -]"}}})json",
     R"(the mesh (dp=2 x cp=4) has no axis 'pc'
  at         /tensors/a/layout/1
  hint       did you mean 'cp'?

the layout is for 1 dims, the tensor has 2
  at         /tensors/b/layout
  hint       write one entry for each dim

axis 'dp' splits the tensor twice
  at         /tensors/c/layout/1
  hint       an axis splits one dim at most

d of shape [4] cannot have layout [dp:intervals(0-2 | 2-5)]: dim 0: the intervals cover 5 indices, the dim has 4
  at         /tensors/d/layout

expected ',' or ']', found ';'
  text       [dp; -]
                ^
  at         /tensors/e/layout)"},
    {"links",
     R"json({"mesh": {"shape": [2, 4], "names": ["dp", "cp"], "links": {"dp": {"latency_us": -1, "bandwidth_gbps": 1}, "pc": {}, "cp": {"latency_us": 1, "bandwidth_gbps": 0, "speed": 2}}}})json",
     R"(unknown key 'speed'
  at         /mesh/links/cp/speed
  hint       known: latency_us, bandwidth_gbps

'bandwidth_gbps' is 0, it must be above 0
  at         /mesh/links/cp/bandwidth_gbps

'latency_us' is -1, it must be 0 or more
  at         /mesh/links/dp/latency_us

the mesh (dp=2 x cp=4) has no axis 'pc'
  at         /mesh/links/pc
  hint       did you mean 'cp'?)"},
    {"links_incomplete", R"json({"mesh": {"shape": [2], "names": ["dp"], "links": {"dp": {"latency_us": 1}}}})json",
     R"(key 'bandwidth_gbps' is missing
  at         /mesh/links/dp)"},
    {"rules",
     R"json({"mesh": {"shape": [2], "names": ["dp"]}, "rules": {"bad": "m k, k n -> m q |", "ugly": 3, "": "m -> m"}})json",
     R"(an operator's name is empty
  at         /rules/

bad rule: expected 'whole', 'linear', 'move', 'broadcast', 'size' or a reduction (sum, avg, max, min, prod, any, all, softmax)
  rule       m k, k n -> m q |
                              ^
  at         /rules/bad

expected a rule, as "m k, k n -> m n", found 3
  at         /rules/ugly)"},
    {"ops_types", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [7, {}, {"op": 3, "inputs": [], "outputs": []}, {"op": "matmul", "inputs": "x", "outputs": "y"},
         {"op": "softmax", "inputs": [4], "attrs": [], "outputs": [5]}]})json",
     R"(expected an op, as {"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}, found 7
  at         /ops/0

key 'op' is missing
  at         /ops/1

key 'inputs' is missing
  at         /ops/1

key 'outputs' is missing
  at         /ops/1

expected the name of an operator, as "matmul", found 3
  at         /ops/2/op

expected the operands, as {"x": "tensor"} or ["tensor"], found "x"
  at         /ops/3/inputs

expected a list of names for the results, as ["y"], found "y"
  at         /ops/3/outputs

expected the name of a tensor, or null for an absent one, found 4
  at         /ops/4/inputs/0

expected attributes, as {"axis": 1}, found an empty list
  at         /ops/4/attrs

expected the name of a tensor, or null for one that is not wanted, found 5
  at         /ops/4/outputs/0)"},
    {"ops_no_list", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "ops": {}, "expect": {"y": {"shape": [1]}}})json",
     R"(expected a list of ops, found an object
  at         /ops)"},
    {"unknown_op", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [{"op": "mamtul", "inputs": ["x", "y"], "outputs": ["z"]}, {"op": "zzz", "inputs": {"a": "z"}, "outputs": ["q"]}]})json",
     R"(no operator is called 'mamtul'
  at         /ops/0/op
  hint       did you mean 'matmul'?

no operator is called 'zzz'
  at         /ops/1/op
  hint       known: broken, liar, linear, matmul, mm, moments, pick, softmax

mamtul: no tensor is called 'y'
  at         /ops/0/inputs/1
  hint       did you mean 'x'?)"},
    {"operand_names",
     R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}}, "rules": {"plain": "m k, k n -> m n"},
 "ops": [{"op": "matmul", "inputs": {"x": "x", "wt": "x"}, "outputs": ["a"]},
         {"op": "matmul", "inputs": {"x": "x"}, "outputs": ["b"]},
         {"op": "plain", "inputs": {"x": "x"}, "outputs": ["c"]},
         {"op": "matmul", "inputs": ["x", "x", "x"], "outputs": ["d"]},
         {"op": "matmul", "inputs": ["x", null], "outputs": ["e"]},
         {"op": "matmul", "inputs": ["x", ""], "outputs": ["f"]}]})json",
     R"(matmul: has no operand 'wt'
  rule       x[m k], w[k n] -> out[m n] | linear x w
  at         /ops/0/inputs/wt
  hint       did you mean 'w'?

matmul: w is missing
  rule       x[m k], w[k n] -> out[m n] | linear x w
  at         /ops/1/inputs

plain: has no operand 'x'
  rule       m k, k n -> m n
  at         /ops/2/inputs/x
  hint       the rule does not name its operands: give a list

matmul: takes 2 operands, 3 are given
  rule       x[m k], w[k n] -> out[m n] | linear x w
  at         /ops/3/inputs/2

matmul: w is missing
  rule       x[m k], w[k n] -> out[m n] | linear x w
  at         /ops/4/inputs

matmul: a tensor's name is empty
  at         /ops/5/inputs/1)"},
    {"outputs", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [{"op": "moments", "inputs": ["x"], "outputs": ["mean", "size", "more"]},
         {"op": "softmax", "inputs": ["x"], "outputs": ["s", "t"]},
         {"op": "softmax", "inputs": ["x"]}]})json",
     R"(moments: has 2 results, 3 are named
  rule       x[b i] -> mean[b], size[b] | whole i
  at         /ops/0/outputs
  hint       name the results in their order; null for one that is not wanted

softmax: has 1 result, 2 are named
  rule       x[b i] -> out[b i] | whole i
  at         /ops/1/outputs
  hint       name the results in their order; null for one that is not wanted

softmax: key 'outputs' is missing
  at         /ops/2)"},
    {"attributes", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [{"op": "softmax", "inputs": ["x"], "attrs": {"axes": 1, "mode": "fats", "axis": "last"}, "outputs": ["s"]},
         {"op": "softmax", "inputs": ["x"], "attrs": {"axis": {"a": 1}, "mode": [1, 2.5]}, "outputs": ["t"]},
         {"op": "softmax", "inputs": ["x"], "attrs": {"axis": 1, "dim": 1}, "outputs": ["u"]}]})json",
     R"(softmax: has no attribute 'axes'
  at         /ops/0/attrs/axes
  hint       did you mean 'axis'?

softmax: attribute 'axis' is last, it takes an int
  at         /ops/0/attrs/axis
  hint       must be the last

softmax: attribute 'mode' is 'fats', it takes exact, fast
  at         /ops/0/attrs/mode
  hint       did you mean 'fast'?

expected a value of an attribute: null, a bool, a number, a text or a list of integers, found an object
  at         /ops/1/attrs/axis

expected an integer, found 2.5
  at         /ops/1/attrs/mode/1

softmax: attribute 'axis' is given twice
  at         /ops/2)"},
    {"unknown_tensor", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"query": {"shape": [2, 2]}},
 "ops": [{"op": "softmax", "inputs": ["qurey"], "outputs": ["s"]}, {"op": "softmax", "inputs": ["s"], "outputs": ["t"]}],
 "expect": {"u": {"shape": [2]}}})json",
     R"(softmax: no tensor is called 'qurey'
  at         /ops/0/inputs/0
  hint       did you mean 'query'?

no tensor is called 'u'
  at         /expect/u
  hint       did you mean 's'?)"},
    {"later", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [{"op": "softmax", "inputs": ["s"], "outputs": ["t"]}, {"op": "softmax", "inputs": ["x"], "outputs": ["s"]}]})json",
     R"(softmax: reads 's' before it is made
  made by    softmax   at /ops/1/outputs/0
  at         /ops/0/inputs/0
  hint       move /ops/0 behind /ops/1)"},
    {"cycles", R"json({"mesh": {"shape": [2], "names": ["dp"]},
 "ops": [{"op": "softmax", "inputs": ["c"], "outputs": ["a"]}, {"op": "softmax", "inputs": ["a"], "outputs": ["b"]},
         {"op": "softmax", "inputs": ["b"], "outputs": ["c"]}, {"op": "softmax", "inputs": ["d"], "outputs": ["d"]}]})json",
     R"(softmax: 'c' needs 'b', which needs 'a', which needs itself
  at         /ops/0/inputs/0
  hint       an op's results need names of their own

softmax: 'd' needs itself
  at         /ops/3/inputs/0
  hint       an op's results need names of their own)"},
    {"twice", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [2, 2]}},
 "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]}, {"op": "softmax", "inputs": ["x"], "outputs": ["s"]}]})json",
     R"(softmax: tensor 's' is made twice
  before     softmax   at /ops/0/outputs/0
  at         /ops/1/outputs/0
  hint       give one of the results another name)"},
    {"engine_pointers", R"json({"mesh": {"shape": [2, 4], "names": ["dp", "cp"]},
 "tensors": {"x": {"shape": [8, 8], "layout": ["dp", "cp"]}, "w": {"shape": [8, 8], "layout": {"dims": ["dp", null]}}, "v": {"shape": [4, 8]}},
 "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]},
         {"op": "softmax", "inputs": ["s"], "outputs": ["never"]},
         {"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]},
         {"op": "matmul", "inputs": ["x", "v"], "outputs": ["z"]},
         {"op": "matmul", "inputs": ["w", "w"], "outputs": ["p"]}]})json",
     R"(softmax: factor i must be whole, but x splits it over 'cp'
  rule       x[b i] -> out[b i] | whole i
  x          [dp, cp]   at /tensors/x/layout/1
  hint       reshard x to [dp, -]

matmul: factor k (contracted) is split over 'cp' in x but split over 'dp' in w
  rule       x[m k], w[k n] -> out[m n] | linear x w
  x          [dp, cp]   at /tensors/x/layout
  w          [dp, -]   at /tensors/w/layout/dims/0
  hint       reshard w to [cp, -]

matmul: factor k (contracted) is 8 in x (dim 1) but 4 in w (dim 0)
  rule       x[m k], w[k n] -> out[m n] | linear x w
  at         /ops/3/inputs/1

matmul: factor k (contracted) is whole in x but split over 'dp' in w
  rule       x[m k], w[k n] -> out[m n] | linear x w
  x          [dp, -]   at /tensors/w/layout
  w          [dp, -]   at /tensors/w/layout/dims/0
  hint       reshard w to [-, -])"},
    {"result_pointers", R"json({"mesh": {"shape": [2, 4], "names": ["dp", "cp"]},
 "tensors": {"x": {"shape": [8, 8], "layout": ["dp", "cp"]}, "w": {"shape": [8, 8], "layout": "[cp, -]"}},
 "ops": [{"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}, {"op": "softmax", "inputs": ["y"], "outputs": ["s"]},
         {"op": "softmax", "inputs": ["w"], "outputs": ["t"]}, {"op": "matmul", "inputs": {"x": "t", "w": "x"}, "outputs": ["u"]}]})json",
     R"(softmax: x has a pending sum over 'cp', which cannot pass through
  rule       x[b i] -> out[b i] | whole i
  x          [dp, -] partial(cp: sum)   at /ops/1/inputs/0
  hint       reduce it first: reshard x to [dp, -]

matmul: factor k (contracted) is whole in x but split over 'dp' in w
  rule       x[m k], w[k n] -> out[m n] | linear x w
  x          [cp, -]   at /ops/3/inputs/x
  w          [dp, cp]   at /tensors/x/layout/0
  hint       reshard x to [cp, dp])"},
    {"claims", R"json({"mesh": {"shape": [2, 4], "names": ["dp", "cp"]},
 "tensors": {"x": {"shape": [8, 8], "layout": ["dp", null]}, "s": {"layout": ["cp", null]}, "t": {"layout": {"placements": ["Shard(5)", "Replicate"]}}},
 "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]}, {"op": "softmax", "inputs": ["x"], "outputs": ["t"]}],
 "expect": {"s": {"shape": [8, 4], "dtype": "bf16", "layout": ["dp", null]}, "t": {"layout": {"placements": ["Replicate", "Replicate"]}}}})json",
     R"(the layout of 's' is not as annotated
  annotated  [cp, -]   at /tensors/s/layout
  inferred   [dp, -]
  hint       change the layouts of the inputs, or use --repair

dim 5 is out of bounds for a tensor of 2 dims
  text       Shard(5)
                   ^
  at         /tensors/t/layout
  hint       dims are -2 to 1

the shape of 's' is not as expected
  expected   [8, 4]   at /expect/s/shape
  inferred   [8, 8]

the dtype of 's' is not as expected
  expected   bf16   at /expect/s/dtype
  inferred   f32

the layout of 't' is not as expected
  expected   [-, -]   at /expect/t/layout
  inferred   [dp, -])"},
    {"bad_expectation", R"json({"mesh": {"shape": [2], "names": ["dp"]}, "tensors": {"x": {"shape": [8, 8]}},
 "ops": [{"op": "softmax", "inputs": ["x"], "outputs": ["s"]}],
 "expect": {"s": {"layout": {"placements": ["Shardy(0)"]}}, "x": {"layouts": []}}})json",
     R"(no placement is called 'Shardy'
  text       Shardy(0)
             ^^^^^^
  at         /expect/s/layout/placements/0
  hint       did you mean 'Shard'?

unknown key 'layouts'
  at         /expect/x/layouts
  hint       did you mean 'layout'?)"},
};

class FaultyConfigs : public testing::TestWithParam<FaultyConfig> {};

TEST_P(FaultyConfigs, are_told_of_in_full) {
  const CheckReport report = check(read_program(GetParam().config, small_ops::registry()), Policy::kStrict);
  std::string said;
  for (const Diagnostic& diagnostic : report.diagnostics) said += (said.empty() ? "" : "\n\n") + to_string(diagnostic);
  EXPECT_EQ(said, GetParam().said);
}

INSTANTIATE_TEST_SUITE_P(Program, FaultyConfigs, testing::ValuesIn(kFaultyConfigs),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace tessera
