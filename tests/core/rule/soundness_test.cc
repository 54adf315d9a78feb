// What the engine accepts is right: rules of every kind, proved by trying all layouts.
#include <gmock/gmock.h>

#include "testing/matchers.h"
#include "tests/core/rule/einsum.h"

namespace tessera {
namespace {

using ::testing::Not;

struct SoundCase {
  std::string name;
  Rule rule;
  std::vector<Shape> shapes;
  std::int64_t accepted;  // on a mesh of 2 x 2 with pending sums
};

void PrintTo(const SoundCase& c, std::ostream* out) { *out << to_string(c.rule); }

std::vector<std::optional<TensorCase>> cases_of(const std::vector<Shape>& shapes) {
  std::vector<std::optional<TensorCase>> cases;
  for (const Shape& shape : shapes) cases.emplace_back(TensorCase{.shape = shape});
  return cases;
}

DeviceMesh mesh_2x2() { return DeviceMesh({{"dp", 2}, {"tp", 2}}); }

class SoundRules : public ::testing::TestWithParam<SoundCase> {};

TEST_P(SoundRules, EveryAcceptedLayoutComputesTheUnshardedResult) {
  const SoundCase& c = GetParam();
  const DistributedOp op = einsum_op(c.rule);
  const Proof proof = prove(op, cases_of(c.shapes), {}, mesh_2x2(), {.find_missed = false});
  EXPECT_THAT(proof, IsSound());
  EXPECT_EQ(proof.accepted, c.accepted) << to_string(proof);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, SoundRules,
    ::testing::Values(
        SoundCase{"matmul", "x[m k], w[k n] -> out[m n] | linear x w", {{4, 6}, {6, 5}}, 39},
        SoundCase{"matmul_uneven", "x[m k], w[k n] -> out[m n] | linear x w", {{3, 5}, {5, 7}}, 39},
        SoundCase{"linear", "x[m k], w[k n], bias[n]? -> out[m n] | linear x w + bias", {{3, 5}, {5, 2}, {2}}, 84},
        SoundCase{"batch", "x[... m k], w[... k n] -> out[... m n] | linear x w", {{2, 3, 3}, {1, 3, 2}}, 53},
        SoundCase{"add", "x[...], y[...] -> out[...] | linear x + y", {{3, 4}, {1, 4}}, 38},
        SoundCase{"mul", "x[...], y[...] -> out[...] | linear x y", {{3, 4}, {4}}, 27},
        SoundCase{
            "sum_of_products", "x[m k], w[k], y[m j], v[j] -> out[m] | linear x w + y v", {{3, 3}, {3}, {3, 2}, {2}}, 147},
        SoundCase{"max", "x[m k], y[m] -> out[m] | max k", {{3, 5}, {3}}, 11},
        SoundCase{"mean_plus", "x[m k], y[m] -> out[m] | avg k | linear x + y", {{3, 4}, {3}}, 38},
        SoundCase{"max_of_sums", "x[m j k] -> out[m] | max j | whole k", {{2, 3, 4}}, 11},
        SoundCase{"mean_of_sums", "x[m j k] -> out[m] | avg j | linear x", {{2, 4, 3}}, 28},
        SoundCase{"sum_and_max", "x[m k] -> total[m], largest[m] | max k", {{3, 4}}, 11},
        SoundCase{"transpose", "x[a b c] -> out[c a b] | move x", {{2, 3, 4}}, 28},
        SoundCase{"flatten", "x[a b c] -> out[a (b c)] | move x", {{2, 4, 3}}, 18},
        SoundCase{"flatten_uneven", "x[a b c] -> out[(a b c)] | move x", {{3, 4, 2}}, 4},
        SoundCase{"unflatten", "x[(a b)] -> out[a b] | move x | size b=2", {{8}}, 10},
        SoundCase{"regroup", "x[(a b) c] -> out[a (b c)] | move x | size b=2", {{8, 3}}, 10},
        SoundCase{"grouped_heads", "q[(g r) d], k[g d] -> out[(g r)] | linear q k", {{8, 3}, {4, 3}}, 27},
        SoundCase{"broadcast", "x[m n], y[m n] -> out[m n] | broadcast y | linear x + y", {{3, 4}, {3, 1}}, 38},
        SoundCase{"whole", "x[m k] -> out[m k] | whole k | linear x", {{3, 4}}, 10},
        SoundCase{"ones", "x[m 1], y[1 n] -> out[m 1 n] | linear x y", {{3, 1}, {1, 4}}, 27},
        SoundCase{"product", "x[m k] -> out[m] | prod k", {{3, 5}}, 11}),
    [](const auto& tested) { return tested.param.name; });

// Every distribution, a mesh with an axis of size 1 and one that divides nothing.
class SoundDistributions : public ::testing::TestWithParam<SoundCase> {};

TEST_P(SoundDistributions, EveryAcceptedLayoutComputesTheUnshardedResult) {
  const SoundCase& c = GetParam();
  const DeviceMesh mesh({{"dp", 2}, {"one", 1}, {"cp", 3}});
  const LayoutSpace space{
      .partials = {Partial::kSum, Partial::kAvg},
      .distributions = {Distribution::block(), Distribution::balanced(), Distribution::cyclic(1), Distribution::cyclic(2),
                        Distribution::head_tail(), Distribution::intervals({{{3, 5}, {0, 1}}, {{5, 6}, {1, 3}}}),
                        Distribution::intervals({{{4, 6}}, {{0, 1}}, {{1, 4}}})}};
  const Proof proof = prove(einsum_op(c.rule), cases_of(c.shapes), {}, mesh, {.space = space, .find_missed = false});
  EXPECT_THAT(proof, IsSound());
  EXPECT_EQ(proof.accepted, c.accepted) << to_string(proof);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, SoundDistributions,
    ::testing::Values(SoundCase{"sum", "x[m k] -> out[m] | linear x", {{5, 6}}, 1417},
                      SoundCase{"mean", "x[m k] -> out[m] | avg k | linear x", {{5, 6}}, 1200},
                      SoundCase{"dot", "x[k], y[k] -> out[] | linear x y", {{6}, {6}}, 4104},
                      SoundCase{"flatten", "x[a b] -> out[(a b)] | move x", {{6, 6}}, 535},
                      SoundCase{"unflatten", "x[(a b)] -> out[a b] | move x | size b=2", {{12}}, 213},
                      SoundCase{"unflatten_small", "x[(a b)] -> out[a b] | move x | size b=2", {{6}}, 171},
                      SoundCase{"unflatten_3", "x[(a b c)] -> out[a b c] | move x | size a=2 c=3", {{36}}, 114}),
    [](const auto& tested) { return tested.param.name; });

// The same letters, but the kernel does what the rule does not say.
struct UnsoundCase {
  std::string name;
  Rule claimed;
  Rule computed;  // with the same factors and operands
  std::vector<Shape> shapes;
};
void PrintTo(const UnsoundCase& c, std::ostream* out) { *out << to_string(c.claimed); }

class UnsoundRules : public ::testing::TestWithParam<UnsoundCase> {};

TEST_P(UnsoundRules, AreFound) {
  const UnsoundCase& c = GetParam();
  DistributedOp op = einsum_op(c.claimed);
  op.kernel = einsum_kernel(c.computed);
  EXPECT_THAT(prove(op, cases_of(c.shapes), {}, mesh_2x2(), {.find_missed = false}), Not(IsSound()));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, UnsoundRules,
    ::testing::Values(
        UnsoundCase{
            "bias_added_by_every_rank", "x[m k], b[m] -> out[m]", "x[m k], b[m] -> out[m] | linear x + b", {{3, 4}, {3}}},
        UnsoundCase{
            "product_called_sum", "x[m], y[m] -> out[m] | linear x + y", "x[m], y[m] -> out[m] | linear x y", {{3}, {3}}},
        UnsoundCase{
            "sum_called_product", "x[m], y[m] -> out[m] | linear x y", "x[m], y[m] -> out[m] | linear x + y", {{3}, {3}}},
        UnsoundCase{"max_called_sum", "x[m k] -> out[m]", "x[m k] -> out[m] | max k", {{3, 4}}},
        UnsoundCase{"mean_called_sum", "x[m k] -> out[m]", "x[m k] -> out[m] | avg k", {{3, 4}}},
        UnsoundCase{"sum_called_mean", "x[m k] -> out[m] | avg k", "x[m k] -> out[m]", {{3, 4}}}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace tessera
