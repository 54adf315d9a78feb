// Element-wise operators: their numbers, dtypes, layouts and errors.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/ops/calls.h"

namespace tessera {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::Pointwise;

constexpr const char* kMesh = "dp=2 x tp=4";
constexpr const char* kCube = "dp=2 x sp=2 x mp=2";

Tensor f64(std::initializer_list<double> values) {
  return Tensor::of<double>({static_cast<std::int64_t>(values.size())}, values);
}
Tensor i64(std::initializer_list<std::int64_t> values) {
  return Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

TEST(Unary, ComputesItsFunction) {
  const std::vector<double> xs{-1.5, -0.25, 0.5, 2};
  const std::pair<const char*, double (*)(double)> functions[] = {
      {"relu", [](double x) { return std::max(x, 0.0); }},
      {"silu", [](double x) { return x / (1 + std::exp(-x)); }},
      {"sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"tanh", [](double x) { return std::tanh(x); }},
      {"exp", [](double x) { return std::exp(x); }},
      {"sin", [](double x) { return std::sin(x); }},
      {"cos", [](double x) { return std::cos(x); }},
      {"erf", [](double x) { return std::erf(x); }},
      {"reciprocal", [](double x) { return 1 / x; }},
      {"abs", [](double x) { return std::abs(x); }},
      {"sign", [](double x) { return x > 0 ? 1.0 : -1.0; }},
      {"square", [](double x) { return x * x; }},
      {"neg", [](double x) { return -x; }},
      {"zeros_like", [](double) { return 0.0; }},
      {"ones_like", [](double) { return 1.0; }},
      {"clone", [](double x) { return x; }},
      {"gelu", [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }}};
  for (const auto& [name, f] : functions) {
    std::vector<double> expected;
    for (double x : xs) expected.push_back(f(x));
    const Tensor out = compute(name, {Tensor::of<double>({4}, std::span(xs))})[0];
    EXPECT_THAT(numbers(out), Pointwise(::testing::DoubleNear(1e-15), expected)) << name;
  }
  EXPECT_THAT(numbers(compute("log", {f64({1, 2})})[0]), ElementsAre(0, DoubleEq(std::log(2.0))));
  EXPECT_THAT(numbers(compute("sqrt", {f64({4, 2})})[0]), ElementsAre(2, DoubleEq(std::sqrt(2.0))));
  EXPECT_THAT(numbers(compute("rsqrt", {f64({4, 16})})[0]), ElementsAre(0.5, 0.25));
}

TEST(Unary, ApproximatesGeluWhereAsked) {
  const double exact = numbers(compute("gelu", {f64({1})})[0])[0];
  const double near = numbers(compute("gelu", {f64({1})}, {{"approximate", std::string("tanh")}})[0])[0];
  EXPECT_NEAR(exact, 0.8413447460685429, 1e-15);
  EXPECT_NEAR(near, 0.8411919906082768, 1e-15);
}

TEST(Unary, TellsNumbersThatAreNone) {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor x = f64({0, std::nan(""), -inf});
  EXPECT_THAT(numbers(compute("isnan", {x})[0]), ElementsAre(0, 1, 0));
  EXPECT_THAT(numbers(compute("isinf", {x})[0]), ElementsAre(0, 0, 1));
  EXPECT_THAT(numbers(compute("isfinite", {x})[0]), ElementsAre(1, 0, 0));
  EXPECT_TRUE(std::isnan(numbers(compute("relu", {x})[0])[1]));
  EXPECT_THAT(numbers(compute("logical_not", {i64({0, 3})})[0]), ElementsAre(1, 0));
}

TEST(Unary, HasTheDtypeThatFits) {
  const auto dtype = [](const char* op, const Tensor& x, const std::vector<Attributes::Entry>& attributes = {}) {
    return compute(op, {x}, attributes)[0].dtype();
  };
  EXPECT_EQ(dtype("relu", i64({-1, 2})), DType::kI64);
  EXPECT_EQ(dtype("exp", i64({-1, 2})), DType::kF32);
  EXPECT_EQ(dtype("exp", f64({1}).to(DType::kBF16)), DType::kBF16);
  EXPECT_EQ(dtype("isnan", f64({1})), DType::kBool);
  EXPECT_EQ(dtype("cast", f64({1}), {{"dtype", std::string("int32")}}), DType::kI32);
  EXPECT_EQ(dtype("long", f64({1})), DType::kI64);
  EXPECT_EQ(dtype("add_scalar", i64({1}), {{"other", integer(2)}}), DType::kI64);
  EXPECT_EQ(dtype("add_scalar", i64({1}), {{"other", 0.5}}), DType::kF32);
  EXPECT_EQ(dtype("div_scalar", i64({1}), {{"other", integer(2)}}), DType::kF32);
  EXPECT_EQ(dtype("mul_scalar", Tensor::of<bool>({1}, {true}), {{"other", integer(2)}}), DType::kI64);
  EXPECT_THAT(numbers(compute("neg", {i64({5, -7})})[0]), ElementsAre(-5, 7));
  EXPECT_THAT(numbers(compute("bitwise_not", {i64({0, 5})})[0]), ElementsAre(-1, -6));
  EXPECT_THAT(numbers(compute("bitwise_not", {Tensor::of<bool>({2}, {true, false})})[0]), ElementsAre(0, 1));
}

TEST(Binary, ComputesItsFunction) {
  const Tensor x = f64({7, -7, 3});
  const Tensor y = f64({2, 2, 3});
  const auto out = [&](const char* op, const std::vector<Attributes::Entry>& attributes = {}) {
    return numbers(compute(op, {x, y}, attributes)[0]);
  };
  EXPECT_THAT(out("add"), ElementsAre(9, -5, 6));
  EXPECT_THAT(out("add", {{"alpha", 0.5}}), ElementsAre(8, -6, 4.5));
  EXPECT_THAT(out("sub", {{"alpha", integer(2)}}), ElementsAre(3, -11, -3));
  EXPECT_THAT(out("rsub", {{"alpha", integer(2)}}), ElementsAre(-12, 16, -3));
  EXPECT_THAT(out("mul"), ElementsAre(14, -14, 9));
  EXPECT_THAT(out("div"), ElementsAre(3.5, -3.5, 1));
  EXPECT_THAT(out("floor_div"), ElementsAre(3, -4, 1));
  EXPECT_THAT(out("remainder"), ElementsAre(1, 1, 0));
  EXPECT_THAT(out("pow"), ElementsAre(49, 49, 27));
  EXPECT_THAT(out("maximum"), ElementsAre(7, 2, 3));
  EXPECT_THAT(out("minimum"), ElementsAre(2, -7, 3));
  EXPECT_THAT(out("eq"), ElementsAre(0, 0, 1));
  EXPECT_THAT(out("ne"), ElementsAre(1, 1, 0));
  EXPECT_THAT(out("lt"), ElementsAre(0, 1, 0));
  EXPECT_THAT(out("le"), ElementsAre(0, 1, 1));
  EXPECT_THAT(out("gt"), ElementsAre(1, 0, 0));
  EXPECT_THAT(out("ge"), ElementsAre(1, 0, 1));
  const Tensor a = i64({0, 1, 6});
  const Tensor b = i64({0, 0, 3});
  const auto bits = [&](const char* op) { return numbers(compute(op, {a, b})[0]); };
  EXPECT_THAT(bits("logical_and"), ElementsAre(0, 0, 1));
  EXPECT_THAT(bits("logical_or"), ElementsAre(0, 1, 1));
  EXPECT_THAT(bits("logical_xor"), ElementsAre(0, 1, 0));
  EXPECT_THAT(bits("bitwise_and"), ElementsAre(0, 0, 2));
  EXPECT_THAT(bits("bitwise_or"), ElementsAre(0, 1, 7));
  EXPECT_THAT(bits("bitwise_xor"), ElementsAre(0, 1, 5));
  EXPECT_EQ(compute("div", {a, b})[0].dtype(), DType::kF32);
  EXPECT_EQ(compute("add", {a, x})[0].dtype(), DType::kF64);
  EXPECT_EQ(compute("lt", {a, x})[0].dtype(), DType::kBool);
  EXPECT_THAT(numbers(compute("maximum", {f64({std::nan(""), 1}), f64({1, std::nan("")})})[0]),
              ElementsAre(::testing::IsNan(), ::testing::IsNan()));
}

TEST(Binary, ComputesWithANumber) {
  const auto out = [](const char* op) { return numbers(compute(op, {f64({3, -4})}, {{"other", integer(2)}})[0]); };
  EXPECT_THAT(out("add_scalar"), ElementsAre(5, -2));
  EXPECT_THAT(out("sub_scalar"), ElementsAre(1, -6));
  EXPECT_THAT(out("mul_scalar"), ElementsAre(6, -8));
  EXPECT_THAT(out("div_scalar"), ElementsAre(1.5, -2));
  EXPECT_THAT(out("pow_scalar"), ElementsAre(9, 16));
}

TEST(Choices, FillAndChoose) {
  const Tensor mask = Tensor::of<bool>({3}, {true, false, true});
  EXPECT_THAT(numbers(compute("masked_fill", {f64({1, 2, 3}), mask}, {{"value", -1.0}})[0]), ElementsAre(-1, 2, -1));
  EXPECT_THAT(numbers(compute("where", {mask, f64({1, 2, 3}), f64({std::nan(""), 5, 6})})[0]), ElementsAre(1, 5, 3));
  EXPECT_EQ(compute("where", {mask, i64({1, 2, 3}), i64({4, 5, 6})})[0].dtype(), DType::kI64);
}

// What the peer's tests expect.
TEST(ElementWise, InfersAsOthersDo) {
  const char* op = "element_wise_with_partial";
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [dp, sp, mp]", "-"}), "[dp, sp, mp]");
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [-, -, -] partial(dp: sum)"}), "[-, -, -] partial(dp: sum)");
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [dp, -, mp]", "f32 [4, 8, 16] [dp, -, mp]"}), "[dp, -, mp]");
  EXPECT_EQ(results_of("element_wise", kCube, {"f32 [4, 8, 16] [dp, -, -]", "f32 [4, 8, 16] [sp, -, -]"}),
            "factor-conflict");
  EXPECT_EQ(results_of("element_wise", kCube, {"f32 [1, 8, 16] [dp, -, -]", "f32 [4, 8, 16] [-, -, -]"}), "repeated-split");
  EXPECT_EQ(results_of(op, kCube, {"f32 [1, 8, 16] [-, -, -]", "f32 [4, 8, 16] [dp, -, -]"}), "[dp, -, -]");
  EXPECT_EQ(results_of(op, kCube, {"f32 [] []", "f32 [4, 8, 16] [dp, sp, mp]"}), "[dp, sp, mp]");
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [-, -, -] partial(dp: sum)", "f32 [4, 8, 16] [-, -, -]"}),
            "[-, -, -] partial(dp: sum)");
  EXPECT_EQ(
      results_of(op, kCube, {"f32 [4, 8, 16] [-, -, -] partial(dp: sum)", "f32 [4, 8, 16] [-, -, -] partial(dp: sum)"}),
      "[-, -, -] partial(dp: sum)");
  EXPECT_EQ(
      results_of(op, kCube, {"f32 [4, 8, 16] [-, -, -] partial(dp: sum)", "f32 [4, 8, 16] [-, -, -] partial(dp: max)"}),
      "partial-operand");
  EXPECT_EQ(results_of(op, kCube, {"f32 [1, 8, 16] [-, -, -] partial(dp: sum)", "f32 [4, 8, 16] [dp, -, -]"}),
            "partial-conflict");
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [dp, -, -]", "f32 [4, 7, 16] [-, -, -]"}), "size-mismatch");
  EXPECT_EQ(results_of(op, kCube, {"f32 [4, 8, 16] [dp+sp, -, -]", "f32 [4, 8, 16] [dp+sp, -, -]"}), "[dp+sp, -, -]");
  EXPECT_EQ(results_of(op, kCube, {"f32 [16] [mp]", "f32 [4, 8, 16] [dp, sp, -]"}),
            "factor-conflict");  // mp splits one of two equal dims
  EXPECT_EQ(results_of(op, kCube, {"f32 [16] [mp]", "f32 [4, 8, 1] [dp, sp, -]"}), "[dp, sp, mp]");
}

TEST(ElementWise, LetsPendingReductionsPassWhereTheyMay) {
  const std::string pending = "f32 [8, 16] [-, -] partial(dp: sum)";
  const std::string whole = "f32 [8, 16] [-, -]";
  const std::string average = "f32 [8, 16] [-, -] partial(dp: avg)";
  const std::string maximum = "f32 [8, 16] [-, -] partial(dp: max)";
  for (const char* op : {"add", "sub", "rsub", "mul", "div"}) {
    EXPECT_EQ(results_of(op, kMesh, {pending, whole}), "[-, -] partial(dp: sum)") << op;
    EXPECT_EQ(results_of(op, kMesh, {average, whole}), "[-, -] partial(dp: avg)") << op;
    EXPECT_EQ(results_of(op, kMesh, {maximum, whole}), "partial-operand") << op;
  }
  EXPECT_EQ(results_of("mul", kMesh, {whole, pending}), "[-, -] partial(dp: sum)");
  EXPECT_EQ(results_of("div", kMesh, {whole, pending}), "partial-operand");
  EXPECT_EQ(results_of("where", kMesh, {"bool [8, 16] [-, -]", whole, pending}), "[-, -] partial(dp: sum)");
  for (const char* op : {"pow", "maximum", "minimum", "floor_div", "remainder", "eq", "lt", "logical_or"}) {
    EXPECT_EQ(results_of(op, kMesh, {pending, whole}), "partial-operand") << op;
  }
  for (const char* op : {"relu", "exp", "square", "abs", "isnan", "zeros_like", "int", "long"}) {
    EXPECT_EQ(results_of(op, kMesh, {pending}), "partial-operand") << op;
  }
  EXPECT_EQ(results_of("neg", kMesh, {pending}), "[-, -] partial(dp: sum)");
  EXPECT_EQ(results_of("neg", kMesh, {maximum}), "partial-operand");
  EXPECT_EQ(results_of("clone", kMesh, {maximum}), "[-, -] partial(dp: max)");
  const std::vector<Attributes::Entry> two{{"other", 2.0}};
  EXPECT_EQ(results_of("mul_scalar", kMesh, {pending}, two), "[-, -] partial(dp: sum)");
  EXPECT_EQ(results_of("add_scalar", kMesh, {pending}, two), "partial-operand");
}

// Rounded one by one, parts sum up to another number than the rounded sum.
TEST(Cast, LetsWhatIsPendingPassIfNothingIsRounded) {
  const auto cast = [](const std::string& from, const char* to) {
    return results_of("cast", kMesh, {from + " [8] [-] partial(dp: sum)"}, {{"dtype", std::string(to)}});
  };
  EXPECT_EQ(cast("bf16", "f32"), "[-] partial(dp: sum)");
  EXPECT_EQ(cast("f32", "float64"), "[-] partial(dp: sum)");
  EXPECT_EQ(cast("f16", "f16"), "[-] partial(dp: sum)");
  EXPECT_EQ(cast("f32", "bf16"), "partial-operand");
  EXPECT_EQ(cast("bf16", "f16"), "partial-operand");
  EXPECT_EQ(cast("f32", "i32"), "partial-operand");
  EXPECT_EQ(results_of("double", kMesh, {"f32 [8] [-] partial(dp: max)"}), "[-] partial(dp: max)");
}

TEST(Add, CountsAWholeTermOnceAndPendingTermsOverTwoAxesRight) {
  EXPECT_EQ(results_of("add", kMesh, {"f32 [8] [-] partial(dp: sum)", "f32 [8] [-] partial(tp: sum)"}),
            "[-] partial(dp: sum, tp: sum)");
  expect_sound("add", {TensorCase{{3, 5}}, TensorCase{{3, 5}}});
}

TEST(Binary, SaysWhatDisagrees) {
  EXPECT_EQ(error_of("add", kMesh, {"f32 [4, 16] [dp, tp]", "f32 [4, 16] [dp, -]"}),
            "add: factor ...[-1] is split over 'tp' in x but whole in y\n"
            "  rule       x[...], y[...] -> out[...] | linear x + y\n"
            "  x          [dp, tp]\n"
            "  y          [dp, -]\n"
            "  hint       reshard y to [dp, tp]");
  EXPECT_EQ(error_of("sub", kMesh, {"f32 [8, 16] [dp+tp, -]", "f32 [8, 16] [tp+dp, -]"}),
            "sub: factor ...[-2] is split over 'dp+tp' in x but split over 'tp+dp' in y\n"
            "  rule       x[...], y[...] -> out[...] | linear x + y\n"
            "  x          [dp+tp, -]\n"
            "  y          [tp+dp, -]\n"
            "  hint       reshard y to [dp+tp, -]");
  EXPECT_EQ(error_of("mul", kMesh, {"f32 [8] [-] partial(dp: sum)", "f32 [8] [-] partial(dp: sum)"}),
            "mul: x and y are multiplied and both pending over 'dp': a product of sums is no sum of products\n"
            "  rule       x[...], y[...] -> out[...] | linear x y\n"
            "  x          [-] partial(dp: sum)\n"
            "  y          [-] partial(dp: sum)\n"
            "  hint       reduce one first: reshard y to [-]");
  EXPECT_EQ(error_of("add", kMesh, {"f32 [8] [-] partial(dp: sum)", "f32 [8] [-] partial(dp: avg)"}),
            "add: x is a pending sum over 'dp' but y is a pending avg\n"
            "  rule       x[...], y[...] -> out[...] | linear x + y\n"
            "  x          [-] partial(dp: sum)\n"
            "  y          [-] partial(dp: avg)\n"
            "  hint       reduce what is pending first");
  EXPECT_EQ(error_of("masked_fill", kMesh, {"f32 [4] [dp]", "bool [4] [-]"}, {{"value", integer(0)}}),
            "masked_fill: factor ...[-1] is split over 'dp' in x but whole in mask\n"
            "  rule       x[...], mask[...] -> out[...]\n"
            "  x          [dp]\n"
            "  mask       [-]\n"
            "  hint       reshard mask to [dp]");
}

TEST(Attributes, AreChecked) {
  EXPECT_EQ(error_of("bitwise_and", kMesh, {"i64 [4] [-]", "f32 [4] [-]"}),
            "bitwise_and: y is f32, it takes integers or bools\n  hint       cast y to i64");
  EXPECT_EQ(error_of("bitwise_not", kMesh, {"f32 [4] [-]"}),
            "bitwise_not: x is f32, it takes integers or bools\n  hint       cast x to i64");
  EXPECT_EQ(error_of("cast", kMesh, {"f32 [4] [-]"}, {{"dtype", std::string("flot32")}}),
            "cast: attribute 'dtype' is 'flot32', it takes f32, f64, bf16, f16, i32, i64, bool, float32, float64, "
            "bfloat16, float16, int32, int64\n"
            "  hint       did you mean 'float32'?");
  EXPECT_EQ(error_of("gelu", kMesh, {"f32 [4] [-]"}, {{"approximate", std::string("tan")}}),
            "gelu: attribute 'approximate' is 'tan', it takes none, tanh\n"
            "  hint       did you mean 'tanh'?");
  EXPECT_EQ(error_of("mul_scalar", kMesh, {"f32 [4] [-]"}),
            "mul_scalar: attribute 'other' is missing\n  hint       the number");
}

// Uneven and empty shards, dims that repeat, missing dims, scalars.
TEST(ElementWise, IsProvedWithUnevenShards) {
  for (const char* op : {"relu", "neg", "clone", "isnan", "exp"}) expect_sound(op, {TensorCase{{3, 5}}});
  for (const char* op : {"add", "sub", "rsub", "mul", "div", "pow", "maximum", "lt"}) {
    expect_sound(op, {TensorCase{{3, 1}}, TensorCase{{5}}});
    expect_sound(op, {TensorCase{{3, 5}}, TensorCase{{}}});
    expect_sound(op, {TensorCase{{2, 1, 3}}, TensorCase{{1, 5, 1}}});
  }
  expect_sound("masked_fill", {TensorCase{{3, 5}}, TensorCase{{5}, DType::kBool}}, {{"value", 0.5}});
  expect_sound("where", {TensorCase{{3}, DType::kBool}, TensorCase{{3}}, TensorCase{{1}}});
  expect_sound("where", {TensorCase{{3}, DType::kBool}, TensorCase{{3}}, TensorCase{{3}}});
}

}  // namespace
}  // namespace tessera
