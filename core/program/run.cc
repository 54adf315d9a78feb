#include "core/program/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/comm/counting.h"
#include "core/comm/ranks.h"
#include "core/dtensor/dtensor.h"
#include "core/op/dispatcher.h"
#include "core/program/run_inputs.h"
#include "core/tensor/npy.h"
#include "support/text.h"

namespace tessera {
namespace {

using Tensors = std::map<std::string, Tensor>;
using DTensors = std::map<std::string, DTensor>;
using Counts = std::array<OperationCount, kOperations>;

Counts counts_of(const CountingCommunicator& comm) {
  Counts counts;
  std::copy(comm.counts().begin(), comm.counts().end(), counts.begin());
  return counts;
}

Counts since(const CountingCommunicator& comm, const Counts& before) {
  Counts counts = counts_of(comm);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i].calls -= before[i].calls;
    counts[i].bytes -= before[i].bytes;
  }
  return counts;
}

// What one rank did in one op.
struct OpRecord {
  Counts redistribution;
  Counts own;
  double work = 0;
};

std::int64_t local_size(const Plan& plan, std::size_t factor, const Coordinate& coordinate) {
  const DimSplit& split = plan.inference.factors[factor];
  const DeviceMesh mesh = plan.mesh;
  return owned_count(split.distribution, plan.inference.binding.sizes[factor], mesh.size(split.axes),
                     index_along(mesh, split.axes, coordinate));
}

double work_of(const LocalCall& call) {
  if (call.plan.op->work) return call.plan.op->work(call);
  double product = 1;
  for (std::size_t f = 0; f < call.plan.inference.factors.size(); ++f) {
    product *= static_cast<double>(local_size(call.plan, f, call.coordinate));
  }
  return product;
}

// Runs the ops of a checked program on one rank.
class RankRun {
 public:
  RankRun(const Program& program, const CheckReport& checked, Dispatcher& dispatcher, Communicator& comm,
          const Tensors& inputs)
      : program_(program), checked_(checked), dispatcher_(dispatcher), comm_(comm), counting_(comm) {
    for (const ProgramInput& input : program.inputs) {
      tensors_.emplace(input.name, DTensor::distribute(inputs.at(input.name), input.spec.layout, comm.rank()));
    }
  }

  OpRecord run_op(std::size_t index) {
    const ProgramOp& op = program_.ops[index];
    const CheckedOp& checked = checked_.ops[index];
    const Plan& plan = *checked.plan;
    OpRecord record;
    Counts before = counts_of(counting_);
    std::vector<std::optional<DTensor>> operands;
    std::vector<std::optional<Tensor>> local;
    for (std::size_t i = 0; i < plan.operands.size(); ++i) {
      operands.emplace_back();
      local.emplace_back();
      if (!plan.operands[i]) continue;
      const DTensor& tensor = tensors_.at(op.inputs[i]);
      const Layout& wanted = plan.operands[i]->layout;
      operands.back() = tensor.layout() == wanted ? tensor : redistribute(tensor, wanted, counting_);
      local.back() = operands.back()->to_local();
    }
    record.redistribution = since(counting_, before);
    before = counts_of(counting_);
    std::vector<DTensor> results = dispatcher_.dispatch(counting_, *op.op, operands, op.attributes);
    record.own = since(counting_, before);
    before = counts_of(counting_);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const std::string name = op.output(i);
      if (name.empty()) continue;
      const Layout& wanted = checked.outputs[i].spec.layout;
      if (results[i].layout() != wanted) results[i] = redistribute(results[i], wanted, counting_);
      tensors_.emplace(name, std::move(results[i]));
    }
    const Counts after = since(counting_, before);
    for (std::size_t i = 0; i < after.size(); ++i) {
      record.redistribution[i].calls += after[i].calls;
      record.redistribution[i].bytes += after[i].bytes;
    }
    record.work = work_of({local, plan, plan.mesh.coordinate_of(comm_.rank())});
    return record;
  }

  // The whole tensor, on every rank; not counted.
  [[nodiscard]] Tensor full(const std::string& name) { return tensors_.at(name).full_tensor(comm_); }

 private:
  const Program& program_;
  const CheckReport& checked_;
  Dispatcher& dispatcher_;
  Communicator& comm_;
  CountingCommunicator counting_;
  DTensors tensors_;
};

// The results of one run, by name, and what every rank did in every op.
struct Ran {
  Tensors results;
  std::vector<std::vector<OpRecord>> records;  // by op, by rank
};

Ran run_program(const Program& program, const CheckReport& checked, const Registry& registry, const Tensors& inputs,
                const RunOptions& options, std::string_view what, std::size_t before) {
  const auto ranks = static_cast<int>(program.mesh.device_count());
  Dispatcher dispatcher(registry, options.policy);
  Ran ran;
  ran.records.resize(program.ops.size(), std::vector<OpRecord>(static_cast<std::size_t>(ranks)));
  run_ranks(ranks, [&](Communicator& comm) {
    RankRun rank(program, checked, dispatcher, comm, inputs);
    for (std::size_t i = 0; i < program.ops.size(); ++i) {
      const ProgramOp& op = program.ops[i];
      if (comm.rank() == 0 && options.progress) {
        options.progress(before + i, 2 * program.ops.size(), fmt::format("{}: {}", what, op.op->name));
      }
      try {
        ran.records[i][static_cast<std::size_t>(comm.rank())] = rank.run_op(i);
        for (const std::string& name : op.outputs) {
          if (name.empty()) continue;
          Tensor full = rank.full(name);
          if (comm.rank() == 0) ran.results.emplace(name, std::move(full));
        }
      } catch (const Error& error) {
        Diagnostic diagnostic = error.diagnostic();
        if (diagnostic.op.empty()) diagnostic.op = op.op->name;
        if (diagnostic.pointer.empty()) diagnostic.pointer = op.pointer;
        fail(std::move(diagnostic));
      }
    }
  });
  return ran;
}

// The same program on one device, floats in f64, without claims.
Program unsharded(Program program) {
  // One device, on a mesh with the same axes: ops may name them in their attributes.
  std::vector<MeshAxis> axes(program.mesh.axes().begin(), program.mesh.axes().end());
  for (MeshAxis& axis : axes) axis.size = 1;
  program.mesh = DeviceMesh(axes);
  program.links.clear();
  program.annotations.clear();
  program.expectations.clear();
  for (ProgramInput& input : program.inputs) {
    input.spec.layout = Layout::replicated(program.mesh, static_cast<int>(input.spec.shape.size()));
    if (is_floating(input.spec.dtype)) input.spec.dtype = DType::kF64;
  }
  return program;
}

std::vector<Diagnostic> why_not(const Program& program, const CheckReport& checked) {
  std::vector<Diagnostic> faults;
  const auto add = [&](std::string_view code, std::string message, std::string hint, const std::string& pointer) {
    Diagnostic diagnostic{.code = std::string(code), .message = std::move(message)};
    diagnostic.hint = std::move(hint);
    diagnostic.pointer = pointer;
    faults.push_back(std::move(diagnostic));
  };
  const std::int64_t ranks = program.mesh.device_count();
  if (ranks > kMaxRunRanks) {
    add("too-many-ranks",
        fmt::format("the mesh has {} devices, {} ranks at most are run in one process", ranks, kMaxRunRanks),
        "run on a smaller mesh; `check` takes any", "/mesh");
  }
  // Each tensor is there whole twice, once in f64, and as the parts of all ranks.
  double bytes = 0;
  for (const auto& [name, spec] : checked.tensors) {
    const auto elements = static_cast<double>(element_count(spec.shape));
    const auto parts =
        static_cast<double>(element_count(largest_local_shape(spec.layout, spec.shape))) * static_cast<double>(ranks);
    bytes += elements * 8 + (elements + parts) * static_cast<double>(size_of(spec.dtype));
  }
  if (ranks <= kMaxRunRanks && bytes > static_cast<double>(kMaxRunBytes)) {
    add("too-large",
        fmt::format("running needs about {}, {} at most are taken",
                    format_bytes(static_cast<std::int64_t>(std::min(bytes, 0x1p62))), format_bytes(kMaxRunBytes)),
        "run with smaller shapes; `check` takes any", "/tensors");
  }
  for (const ProgramOp& op : program.ops) {
    if (op.op->kernel || op.op->collective) continue;
    Diagnostic diagnostic{.code = "no-kernel", .message = "has no kernel: it can be checked, but not run"};
    diagnostic.op = op.op->name;
    diagnostic.pointer = op.pointer;
    faults.push_back(std::move(diagnostic));
  }
  return faults;
}

void add_communication(RunReport& report, const std::string& op, const std::string& schedule,
                       std::span<const Counts> by_rank) {
  for (std::size_t i = 0; i < kOperations; ++i) {
    OpCommunication row{.op = op, .schedule = schedule, .collective = std::string(to_string(static_cast<Operation>(i)))};
    for (const Counts& counts : by_rank) {
      row.calls = std::max(row.calls, counts[i].calls);
      row.bytes_per_rank = std::max(row.bytes_per_rank, counts[i].bytes);
    }
    if (row.calls > 0) report.communication.push_back(std::move(row));
  }
}

void add_records(RunReport& report, const Program& program, const std::vector<std::vector<OpRecord>>& records) {
  std::vector<double> work(static_cast<std::size_t>(report.ranks), 0);
  for (std::size_t i = 0; i < records.size(); ++i) {
    std::vector<Counts> redistribution;
    std::vector<Counts> own;
    for (std::size_t rank = 0; rank < records[i].size(); ++rank) {
      redistribution.push_back(records[i][rank].redistribution);
      own.push_back(records[i][rank].own);
      work[rank] += records[i][rank].work;
    }
    add_communication(report, program.ops[i].op->name, "redistribute", redistribution);
    add_communication(report, program.ops[i].op->name, "op", own);
  }
  double sum = 0;
  double most = 0;
  for (double of_rank : work) {
    sum += of_rank;
    most = std::max(most, of_rank);
  }
  if (sum > 0) report.max_over_mean_work = most * static_cast<double>(work.size()) / sum;
}

}  // namespace

bool RunReport::ok() const {
  return diagnostics.empty() &&
         std::all_of(outputs.begin(), outputs.end(), [](const RunOutput& output) { return output.ok(); });
}

double run_tolerance(DType dtype, int depth) {
  switch (dtype) {
    case DType::kF64: return 1e-12;
    case DType::kF32: return 2e-6;
    case DType::kBF16: return 1.5 * 0x1p-8 * depth;
    case DType::kF16: return 1.5 * 0x1p-11 * depth;
    case DType::kI32:
    case DType::kI64:
    case DType::kBool: break;
  }
  return 0;
}

std::pair<double, double> errors_of(const Tensor& result, const Tensor& reference) {
  double error = 0;
  double magnitude = 0;
  if (result.dtype() == DType::kI64 && reference.dtype() == DType::kI64) {  // more digits than a double has
    const Tensor a = result.contiguous();
    const Tensor b = reference.contiguous();
    for (std::size_t i = 0; i < a.span<std::int64_t>().size(); ++i) {
      const std::int64_t x = a.span<std::int64_t>()[i];
      const std::int64_t y = b.span<std::int64_t>()[i];
      magnitude = std::max(magnitude, std::abs(static_cast<double>(y)));
      if (x != y) error = std::max(error, std::max(1.0, std::abs(static_cast<double>(x) - static_cast<double>(y))));
    }
  } else {
    const Tensor a = result.to(DType::kF64);
    const Tensor b = reference.to(DType::kF64);
    for (std::size_t i = 0; i < a.span<double>().size(); ++i) {
      const double x = a.span<double>()[i];
      const double y = b.span<double>()[i];
      if (std::isfinite(y)) magnitude = std::max(magnitude, std::abs(y));
      if (x == y || (std::isnan(x) && std::isnan(y))) continue;
      error =
          std::max(error, std::isfinite(x) && std::isfinite(y) ? std::abs(x - y) : std::numeric_limits<double>::infinity());
    }
  }
  if (error == 0) return {0, 0};
  return {error, magnitude == 0 ? std::numeric_limits<double>::infinity() : error / magnitude};
}

RunReport run(const Program& given, const RunOptions& options) {
  RunReport report;
  report.ranks = given.mesh.device_count();
  CheckReport checked = check(given, options.policy);
  report.diagnostics = checked.diagnostics;
  if (checked.ok()) report.diagnostics = why_not(given, checked);
  if (!report.diagnostics.empty()) return report;

  const Program program = with_dense_ranks(given);
  checked = check(program, options.policy);
  const Program reference = unsharded(program);
  const CheckReport reference_checked = check(reference, Policy::kStrict);
  report.diagnostics = reference_checked.diagnostics;
  if (!reference_checked.ok()) return report;

  const Registry none;  // ops are called by address
  const auto inputs = make_inputs(program, checked, options);
  try {
    const Ran ran = run_program(program, checked, none, inputs, options, fmt::format("{} ranks", report.ranks), 0);
    Tensors exact = inputs;
    for (const ProgramInput& input : reference.inputs) exact.at(input.name) = exact.at(input.name).to(input.spec.dtype);
    const Ran truth = run_program(reference, reference_checked, none, exact, options, "unsharded", program.ops.size());
    std::map<std::string, int> depths;  // ops on the longest way to a tensor
    for (const ProgramOp& op : program.ops) {
      int depth = 1;
      for (const std::string& name : op.inputs) depth = std::max(depth, depths[name] + 1);
      for (const std::string& name : op.outputs) {
        if (name.empty()) continue;
        depths[name] = depth;
        const Tensor& result = ran.results.at(name);
        const auto [abs, rel] = errors_of(result, truth.results.at(name));
        report.outputs.push_back({name, abs, rel, run_tolerance(result.dtype(), depth)});
        if (options.outputs) {
          std::filesystem::create_directories(*options.outputs);
          save_npy(result, npy_path(*options.outputs, name));
        }
      }
    }
    add_records(report, program, ran.records);
  } catch (const Error& error) {
    if (error.diagnostic().pointer.empty()) throw;  // of files
    report.diagnostics.push_back(error.diagnostic());
  }
  return report;
}

}  // namespace tessera
