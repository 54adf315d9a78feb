// Runs a program on in-process ranks and compares it with the unsharded computation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/program/check.h"
#include "core/program/program.h"

namespace tessera {

struct RunOptions {
  std::uint64_t seed = 0;
  std::optional<std::filesystem::path>
      inputs{};  ///< folder with NAME.npy files of inputs; those without a file are generated
  std::optional<std::filesystem::path> outputs{};  ///< folder, made if need be, where every result is written as NAME.npy
  Policy policy = Policy::kStrict;
  /// Told before each op how many of how many are done (each is run on the ranks, and once unsharded), and what comes now; by one
  /// thread at a time.
  std::function<void(std::size_t done, std::size_t total, std::string_view now)> progress{};
};

/// A result beside the unsharded computation's.
struct RunOutput {
  std::string tensor;
  double max_abs_error = 0;
  double max_rel_error = 0;  ///< max_abs_error over the largest magnitude of the unsharded result
  double tolerance = 0;      ///< of max_rel_error; 0 for integers and bools
  [[nodiscard]] bool ok() const { return max_rel_error <= tolerance; }
};

/// How an op talked in one kind of call.
struct OpCommunication {
  std::string op;
  std::string schedule;    ///< "redistribute" for changes of layout before or after the op, "op" for what it does itself
  std::string collective;  ///< "all_to_all", ...
  std::int64_t calls = 0;  ///< of the rank that makes most
  std::int64_t bytes_per_rank = 0;  ///< sent by the rank that sends most
};

struct RunReport {
  std::int64_t ranks = 0;
  std::vector<RunOutput> outputs{};
  std::vector<OpCommunication> communication{};
  double max_over_mean_work = 1;          ///< the busiest rank's multiply-adds over the mean; 1 is perfect balance
  std::vector<Diagnostic> diagnostics{};  ///< of checking, or why it cannot be run; then nothing was

  [[nodiscard]] bool ok() const;
};

inline constexpr std::int64_t kMaxRunRanks = 64;
inline constexpr std::int64_t kMaxRunBytes = std::int64_t{4} << 30;

/// Relative error that a result of this dtype may have: 1e-12 for f64, 2e-6 for f32, 0 for integers and bools; for bf16 and f16
/// 1.5 roundings for each of the `depth` ops on the longest way from an input to it, as each rounds what the next one reads.
double run_tolerance(DType dtype, int depth = 1);

/// The error of `result` beside `reference`, of the same shape. Equal infinities and two NaN count as equal; a NaN or an infinity on one
/// side only is an infinite error. @returns abs and rel, in this order
std::pair<double, double> errors_of(const Tensor& result, const Tensor& reference);

/// Runs every op on one thread a device of the mesh (ranks are renumbered in their order), and once more unsharded in f64.
///
/// Inputs are the same for the same seed and name, whatever the layouts: what the first op that has a `sample` for it gives, else normal
/// numbers, small integers or coin flips.
/// Only lengths of packed sequences go by a layout: where the keys are split, sequences end where their shards do.
/// @throws Error of reading and writing files ("npy-open", "npy-write", ...); anything wrong with the program is a diagnostic
RunReport run(const Program& given, const RunOptions& options);

}  // namespace tessera
