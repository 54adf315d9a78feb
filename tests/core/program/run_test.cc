// Running programs on in-process ranks.
#include "core/program/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/program/read_program.h"
#include "core/program/run_inputs.h"
#include "core/tensor/npy.h"
#include "tests/core/program/small_ops.h"

namespace tessera {
namespace {

using testing::SizeIs;

Program chain(const std::string& mesh, const std::string& dtype, const std::string& x, const std::string& w) {
  return read_program(R"({"mesh": )" + mesh + R"(, "tensors": {"x": {"shape": [7, 10], "dtype": ")" + dtype +
                          R"(", "layout": )" + x + R"(}, "w": {"shape": [10, 10], "dtype": ")" + dtype +
                          R"(", "layout": )" + w + R"(}},
    "ops": [{"op": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}, {"op": "matmul", "inputs": ["y", "w"], "outputs": ["z"]}]})",
                      small_ops::registry());
}

constexpr const char* kMesh = R"({"shape": [2, 3], "names": ["dp", "tp"]})";

class Folder {
 public:
  Folder()
      : path_(std::filesystem::path(testing::TempDir()) /
              ("tessera_run_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string said(const RunReport& report) {
  std::string text;
  for (const Diagnostic& diagnostic : report.diagnostics) text += (text.empty() ? "" : "\n\n") + to_string(diagnostic);
  return text;
}

TEST(Run, agrees_with_the_unsharded_computation_in_every_layout_and_dtype) {
  const std::vector<std::string> layouts{"[null, null]",
                                         R"(["dp", "tp"])",
                                         R"(["tp", "dp"])",
                                         R"([["tp", "dp"], null])",
                                         R"([null, {"axes": ["tp"], "distribution": "head_tail"}])",
                                         R"({"dims": ["dp", null], "partial": {"tp": "sum"}})"};
  for (const char* dtype : {"f64", "f32", "bf16", "f16", "i64"}) {
    for (const std::string& x : layouts) {
      for (const std::string& w : layouts) {
        const RunReport report = run(chain(kMesh, dtype, x, w), {.seed = 3, .policy = Policy::kRepair});
        ASSERT_EQ(said(report), "") << dtype << ' ' << x << ' ' << w;
        ASSERT_THAT(report.outputs, SizeIs(2));
        for (const RunOutput& output : report.outputs) {
          EXPECT_LE(output.max_rel_error, output.tolerance)
              << dtype << ' ' << x << ' ' << w << ' ' << output.tensor << ' ' << output.max_rel_error;
        }
      }
    }
  }
}

TEST(Run, counts_what_redistributions_send) {
  const RunReport report = run(chain(R"({"shape": [4], "names": ["tp"]})", "f32", R"([null, "tp"])", R"(["tp", null])"),
                               {.policy = Policy::kRepair});
  ASSERT_EQ(said(report), "");
  ASSERT_FALSE(report.communication.empty());
  for (const OpCommunication& row : report.communication) {
    EXPECT_EQ(row.op, "matmul");
    EXPECT_EQ(row.schedule, "redistribute");
    EXPECT_EQ(row.calls, 1);
  }
  EXPECT_TRUE(run(chain(kMesh, "f32", "[\"dp\", null]", "[null, null]"), {}).communication.empty());
}

TEST(Run, tells_the_balance) {
  // 7 rows over 2 ranks are 4 and 3.
  const RunReport report = run(chain(R"({"shape": [2], "names": ["dp"]})", "f32", R"(["dp", null])", "[null, null]"), {});
  EXPECT_DOUBLE_EQ(report.max_over_mean_work, 4 / 3.5);
}

TEST(Run, runs_on_any_ranks_of_a_mesh) {
  const RunReport report = run(chain(R"({"shape": [2, 2], "names": ["dp", "tp"], "devices": [900, 3, 77, 5]})", "f64",
                                     R"(["dp", "tp"])", R"(["tp", null])"),
                               {.policy = Policy::kRepair});
  EXPECT_EQ(said(report), "");
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.ranks, 4);
}

TEST(Run, generates_the_same_inputs_whatever_the_layouts) {
  const auto inputs = [](const std::string& x, std::uint64_t seed) {
    const Program program = chain(kMesh, "f32", x, "[null, null]");
    return make_inputs(program, check(program, Policy::kRepair), {.seed = seed}).at("x");
  };
  const Tensor whole = inputs("[null, null]", 5);
  const Tensor split = inputs(R"(["dp", null])", 5);
  EXPECT_EQ(errors_of(whole, split), (std::pair<double, double>{0, 0}));
  EXPECT_GT(errors_of(whole, inputs("[null, null]", 6)).first, 0.1);
}

TEST(Run, asks_the_op_for_numbers_that_fit) {
  const Program program = read_program(R"({"mesh": {"shape": [2], "names": ["dp"]},
    "tensors": {"table": {"shape": [3, 4], "layout": [null, null]}, "ids": {"shape": [50], "dtype": "i32", "layout": ["dp"]}, "flags": {"shape": [9], "dtype": "bool"}},
    "ops": [{"op": "pick", "inputs": ["table", "ids"], "outputs": ["rows"]}]})",
                                       small_ops::registry());
  const auto inputs = make_inputs(program, check(program, Policy::kStrict), {});
  for (std::int32_t id : inputs.at("ids").span<std::int32_t>()) EXPECT_TRUE(id >= 0 && id < 3) << id;
  EXPECT_EQ(inputs.at("flags").dtype(), DType::kBool);
  const RunReport report = run(program, {});
  EXPECT_EQ(said(report), "");
  EXPECT_TRUE(report.ok());
}

TEST(Run, reads_and_writes_files) {
  const Folder folder;
  save_npy(Tensor::of<double>({7, 10}, std::vector<double>(70, 0.5)), folder.path() / "x.npy");
  const Program program = chain(kMesh, "f32", R"(["dp", null])", "[null, null]");
  const RunReport report = run(program, {.inputs = folder.path(), .outputs = folder.path() / "results" / "deep"});
  ASSERT_EQ(said(report), "");
  EXPECT_EQ(make_inputs(program, check(program, Policy::kStrict), {.inputs = folder.path()}).at("x").at<float>({6, 9}),
            0.5F);
  const Tensor y = load_npy(folder.path() / "results" / "deep" / "y.npy");
  EXPECT_EQ(y.shape(), (Shape{7, 10}));
  EXPECT_EQ(y.dtype(), DType::kF32);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "results" / "deep" / "z.npy"));
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Run, refuses_files_that_do_not_fit) {
  const Folder folder;
  const auto try_file = [&](const Tensor& tensor, const std::string& dtype) {
    const auto path = folder.path() / "x.npy";
    save_npy(tensor, path);
    std::string text =
        error_of([&] { run(chain(kMesh, dtype, "[null, null]", "[null, null]"), {.inputs = folder.path()}); });
    for (std::size_t at = text.find(path.string()); at != std::string::npos; at = text.find(path.string()))
      text.replace(at, path.string().size(), "FILE");
    return text;
  };
  EXPECT_EQ(try_file(Tensor::zeros({7, 9}, DType::kF32), "f32"),
            "FILE has shape [7, 9], 'x' has [7, 10]\n  at         /tensors/x\n  hint       change the file, or the shape "
            "in the config");
  EXPECT_EQ(try_file(Tensor::zeros({7, 10}, DType::kI32), "f32"),
            "FILE holds i32, 'x' is f32\n  at         /tensors/x\n  hint       only floats become other floats, and "
            "integers other integers");
  Tensor large = Tensor::zeros({7, 10}, DType::kI64);
  large.at<std::int64_t>({3, 3}) = std::int64_t{1} << 40;
  EXPECT_EQ(try_file(large, "i32"),
            "FILE holds 1099511627776, which is no i32\n  at         /tensors/x\n  hint       declare 'x' as i64");
  EXPECT_EQ(try_file(Tensor::zeros({7, 10}, DType::kI64), "i32"), "no error");
  EXPECT_EQ(error_of([&] { run(chain(kMesh, "f32", "[null, null]", "[null, null]"), {.inputs = "no/such/folder"}); }),
            "no/such/folder is no folder");
  EXPECT_EQ(error_of([] { npy_path(".", "../x"); }),
            "tensor '../x' cannot have a file: its name is no file name\n  hint       rename it");
}

TEST(Run, refuses_what_is_too_large_or_cannot_run) {
  const auto text = [](const std::string& mesh, const std::string& shape, const std::string& op) {
    return said(run(read_program(R"({"mesh": {"shape": )" + mesh + R"(, "names": ["dp"]}, "tensors": {"x": {"shape": )" +
                                     shape + R"(}}, "ops": [{"op": ")" + op + R"(", "inputs": ["x"], "outputs": ["y"]}]})",
                                 small_ops::registry()),
                    {}));
  };
  EXPECT_EQ(text("[65]", "[4]", "broken"),
            "the mesh has 65 devices, 64 ranks at most are run in one process\n  at         /mesh\n  hint       run on a "
            "smaller mesh; `check` takes any");
  EXPECT_EQ(text("[2]", "[1000000000]", "broken"),
            "running needs about 37 GiB, 4.0 GiB at most are taken\n  at         /tensors\n  hint       run with smaller "
            "shapes; `check` takes any");
  EXPECT_EQ(text("[2]", "[4, 4]", "softmax"),
            "softmax: has no kernel: it can be checked, but not run\n  at         /ops/0");
  EXPECT_EQ(text("[2]", "[4]", "broken"),
            "broken: the kernel returned out as f32 [3, 1], the plan wants f32 [4]\n"
            "  at         /ops/0\n"
            "  hint       a kernel returns one tensor for each result of the rule, of its local shape and dtype");
  EXPECT_EQ(text("[2]", "[4]", "brokn"),
            "no operator is called 'brokn'\n  at         /ops/0/op\n  hint       did you mean 'broken'?");
}

TEST(Run, measures_errors_against_the_largest_magnitude) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto errors = [](std::initializer_list<double> a, std::initializer_list<double> b) {
    const Shape shape{static_cast<std::int64_t>(a.size())};
    return errors_of(Tensor::of<double>(shape, a), Tensor::of<double>(shape, b));
  };
  using Errors = std::pair<double, double>;
  EXPECT_EQ(errors({1, 2.5}, {1, 2}), (Errors{0.5, 0.25}));
  EXPECT_EQ(errors({inf, nan, -inf}, {inf, nan, -inf}), (Errors{0, 0}));
  EXPECT_EQ(errors({nan}, {1}), (Errors{inf, inf}));
  EXPECT_EQ(errors({1}, {inf}).first, inf);
  EXPECT_EQ(errors({1, inf}, {4, inf}), (Errors{3, 0.75}));
  EXPECT_EQ(errors({1e-300}, {0}).second, inf);
  EXPECT_EQ(errors({}, {}), (Errors{0, 0}));
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  EXPECT_EQ(errors_of(Tensor::of<std::int64_t>({1}, {large}), Tensor::of<std::int64_t>({1}, {large - 1})).first, 1);
  EXPECT_EQ(run_tolerance(DType::kBF16), 0.005859375);
  EXPECT_EQ(run_tolerance(DType::kI64), 0);
}

}  // namespace
}  // namespace tessera
