// Checks a program: plans every op in order, without running anything.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/program/program.h"

namespace tessera {

/// A tensor of a checked op.
struct CheckedTensor {
  std::string tensor;   ///< its name in the program; "" for a result that nobody wants
  std::string operand;  ///< what the rule calls it
  TensorSpec spec;      ///< an input in the layout in which the op takes it
  Shape local_shape{};  ///< the largest of any rank
  std::int64_t bytes_per_rank = 0;
};

/// A change of layout that repairing inserts: of an operand before the op, or of a result after it.
struct Redistribution {
  std::string op;
  std::string operand;
  std::string tensor;
  Layout from;
  Layout to;
  std::int64_t bytes_per_rank = 0;  ///< what a rank receives at least
};

/// What came of one op.
struct CheckedOp {
  std::string op;
  std::shared_ptr<const Plan> plan{};   ///< null where the op has a fault, or an input that a faulty op makes
  std::vector<CheckedTensor> inputs{};  ///< without absent ones; empty like the rest where there is no plan
  std::vector<CheckedTensor> outputs{};
  std::vector<Redistribution> redistributions{};
};

struct CheckReport {
  std::vector<CheckedOp> ops{};
  std::map<std::string, TensorSpec> tensors{};  ///< every input and every result that is known
  std::vector<Diagnostic> diagnostics{};        ///< the program's faults first

  [[nodiscard]] bool ok() const { return diagnostics.empty(); }
};

/// Plans the ops of a program one after the other. An op that fails leaves its results unknown, and ops that need them are passed over
/// without a diagnostic of their own. Results are held against annotations and expectations; repairing, a result whose annotation
/// says otherwise is redistributed to it. Takes time and memory by the number of ops, whatever the shapes and the mesh.
CheckReport check(const Program& program, Policy policy);

/// Whether two layouts of one mesh give every rank the same part of a tensor of this shape: equal ones, but for axes of size 1.
bool same_parts(const Layout& a, const Layout& b, const Shape& shape);

}  // namespace tessera
