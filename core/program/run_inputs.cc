#include "core/program/run_inputs.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/tensor/npy.h"
#include "core/tensor/random.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

bool is_integer(DType dtype) { return dtype == DType::kI32 || dtype == DType::kI64; }

// The file's numbers in the program's dtype: floats are rounded, integers must fit.
Tensor convert_input(const Tensor& loaded, const ProgramInput& input, const std::filesystem::path& path) {
  const auto refuse = [&](std::string_view code, std::string message, std::string hint) {
    Diagnostic diagnostic{.code = std::string(code), .message = std::move(message)};
    diagnostic.operand = input.name;
    diagnostic.hint = std::move(hint);
    diagnostic.pointer = input.pointer;
    fail(std::move(diagnostic));
  };
  const TensorSpec& spec = input.spec;
  if (loaded.shape() != spec.shape) {
    refuse("input-shape",
           fmt::format("{} has shape {}, '{}' has {}", path.string(), to_string(loaded.shape()), input.name,
                       to_string(spec.shape)),
           "change the file, or the shape in the config");
  }
  const bool floats = is_floating(loaded.dtype()) && is_floating(spec.dtype);
  const bool integers = is_integer(loaded.dtype()) && is_integer(spec.dtype);
  if (loaded.dtype() != spec.dtype && !floats && !integers) {
    refuse(
        "input-dtype",
        fmt::format("{} holds {}, '{}' is {}", path.string(), to_string(loaded.dtype()), input.name, to_string(spec.dtype)),
        "only floats become other floats, and integers other integers");
  }
  Tensor converted = loaded.to(spec.dtype);
  if (integers && spec.dtype == DType::kI32 && loaded.dtype() == DType::kI64) {
    const Tensor back = converted.to(DType::kI64);
    for (std::int64_t i = 0; i < back.count(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (back.span<std::int64_t>()[at] == loaded.span<std::int64_t>()[at]) continue;
      refuse("input-dtype", fmt::format("{} holds {}, which is no i32", path.string(), loaded.span<std::int64_t>()[at]),
             fmt::format("declare '{}' as i64", input.name));
    }
  }
  return converted;
}

// What the first op that reads the tensor as an operand with a sample gives for it.
std::optional<Tensor> sampled(const Program& program, const CheckReport& checked, const ProgramInput& input,
                              std::uint64_t seed) {
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const ProgramOp& op = program.ops[i];
    if (op.op == nullptr || !op.op->sample) continue;
    for (std::size_t operand = 0; operand < op.inputs.size(); ++operand) {
      if (op.inputs[operand] != input.name) continue;
      const Plan& plan = *checked.ops[i].plan;
      std::vector<const TensorSpec*> specs;
      for (std::size_t other = 0; other < plan.operands.size(); ++other) {
        // Operands that are one tensor are one to the op too: lengths that queries and keys share, say.
        const auto first =
            static_cast<std::size_t>(std::find(op.inputs.begin(), op.inputs.end(), op.inputs[other]) - op.inputs.begin());
        specs.push_back(plan.operands[other] ? &*plan.operands[first] : nullptr);
      }
      if (auto tensor = op.op->sample(CallSpec{specs, plan.attributes}, operand, seed)) return tensor;
    }
  }
  return std::nullopt;
}

Tensor generated(const Program& program, const CheckReport& checked, const ProgramInput& input, std::uint64_t seed) {
  if (const auto tensor = sampled(program, checked, input, seed)) return tensor->to(input.spec.dtype);
  if (is_floating(input.spec.dtype)) return random_normal(input.spec.shape, input.spec.dtype, seed, input.name);
  constexpr std::int64_t kSmall = 8;
  return random_integers(input.spec.shape, input.spec.dtype, 0, input.spec.dtype == DType::kBool ? 2 : kSmall, seed,
                         input.name);
}

}  // namespace

std::filesystem::path npy_path(const std::filesystem::path& folder, const std::string& name) {
  constexpr std::size_t kLongest = 200;
  if (name.find('/') != std::string::npos || name.find('\0') != std::string::npos || name.size() > kLongest) {
    fail("tensor-name", fmt::format("tensor '{}' cannot have a file: its name is no file name", name), "rename it");
  }
  return folder / (name + ".npy");
}

std::map<std::string, Tensor> make_inputs(const Program& program, const CheckReport& checked, const RunOptions& options) {
  std::map<std::string, Tensor> tensors;
  if (options.inputs && !std::filesystem::is_directory(*options.inputs)) {
    fail("npy-open", fmt::format("{} is no folder", options.inputs->string()));
  }
  for (const ProgramInput& input : program.inputs) {
    if (options.inputs) {
      const std::filesystem::path path = npy_path(*options.inputs, input.name);
      if (std::filesystem::exists(path)) {
        tensors.emplace(input.name, convert_input(load_npy(path), input, path));
        continue;
      }
    }
    tensors.emplace(input.name, generated(program, checked, input, options.seed));
  }
  return tensors;
}

}  // namespace tessera
