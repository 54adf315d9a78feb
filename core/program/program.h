// A program: what a config file says, as a value.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/op/op.h"
#include "core/op/registry.h"
#include "core/tensor/spec.h"
#include "support/diagnostic.h"

namespace tessera {

/// What it costs to talk along a mesh axis.
struct AxisLink {
  double latency_us = 0;
  double bandwidth_gbps = 0;

  friend bool operator==(const AxisLink&, const AxisLink&) = default;
};

/// Where a config gives a tensor's layout, for diagnostics.
struct LayoutPlace {
  std::string pointer{};  ///< e.g. "/tensors/query/layout"; empty where the config does not give the layout
  std::string dims{};  ///< pointer of the list that has an entry for each dim; empty where the layout is written otherwise

  /// The pointer of a dim's entry, or of the layout where it has none or `dim` is -1.
  [[nodiscard]] std::string of(int dim) const;
};

/// A tensor that the config declares and no op makes.
struct ProgramInput {
  std::string name;
  TensorSpec spec;        ///< replicated where the config gives no layout
  std::string pointer{};  ///< "/tensors/query"
  LayoutPlace layout_place{};
};

/// What a config claims of a result: an entry of "tensors" for a tensor that an op makes, or an entry of "expect".
struct Claim {
  std::string tensor;
  std::string pointer{};  ///< "/tensors/y" or "/expect/y"
  std::optional<Shape> shape{};
  std::optional<DType> dtype{};
  std::optional<Layout> layout{};
  std::vector<std::string> placements{};  ///< a layout that can be read only once the number of dims is known; else empty
  LayoutPlace layout_place{};
};

/// A call of an operator.
struct ProgramOp {
  const DistributedOp* op = nullptr;        ///< null where the config's op has faults
  std::string name{};                       ///< as the config writes it
  std::vector<std::string> inputs{};        ///< tensors in the rule's order; "" for an absent one
  std::vector<std::string> input_places{};  ///< their pointers: "/ops/0/inputs/query"
  Attributes attributes{};                  ///< as given
  std::vector<std::string> outputs{};       ///< of the first results; "" for one that nobody wants
  std::string pointer{};                    ///< "/ops/0"

  /// The tensor that a result becomes; "" where nobody wants it.
  [[nodiscard]] std::string output(std::size_t result) const {
    return result < outputs.size() ? outputs[result] : std::string();
  }
};

/// Several calls over named tensors on one mesh.
struct Program {
  DeviceMesh mesh;
  std::vector<std::optional<AxisLink>> links{};  ///< one for each mesh axis, or none at all
  std::vector<ProgramInput> inputs{};            ///< by name
  std::vector<ProgramOp> ops{};                  ///< in the order in which they run
  std::vector<Claim> annotations{};              ///< entries of "tensors" for results
  std::vector<Claim> expectations{};
  std::shared_ptr<const Registry> rules{};  ///< operators of the config's "rules"; `ops` may point into it
  std::vector<Diagnostic> faults{};         ///< what is wrong with the config; what it concerns is left out above

  /// Null where the program has no such input.
  [[nodiscard]] const ProgramInput* find_input(std::string_view name) const;
};

/// The same program with the mesh's ranks numbered 0, 1, 2, ... in their own order: what in-process ranks can run.
Program with_dense_ranks(Program program);

}  // namespace tessera
