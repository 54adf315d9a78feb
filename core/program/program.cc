#include "core/program/program.h"

#include <fmt/format.h>

#include <algorithm>

namespace tessera {
namespace {

Layout on_mesh(const Layout& layout, DeviceMesh mesh) {
  std::vector<DimSplit> dims;
  for (int dim = 0; dim < layout.rank(); ++dim) dims.push_back(layout.dim(dim));
  return {mesh, dims, layout.partials()};
}

}  // namespace

std::string LayoutPlace::of(int dim) const { return dim < 0 || dims.empty() ? pointer : fmt::format("{}/{}", dims, dim); }

const ProgramInput* Program::find_input(std::string_view name) const {
  const auto found =
      std::find_if(inputs.begin(), inputs.end(), [&](const ProgramInput& input) { return input.name == name; });
  return found == inputs.end() ? nullptr : &*found;
}

Program with_dense_ranks(Program program) {
  const std::vector<std::int64_t> ranks = program.mesh.ranks();
  std::vector<std::int64_t> sorted = ranks;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::int64_t> dense;
  for (std::int64_t rank : ranks) dense.push_back(std::lower_bound(sorted.begin(), sorted.end(), rank) - sorted.begin());
  const DeviceMesh mesh({program.mesh.axes().begin(), program.mesh.axes().end()}, dense);
  program.mesh = mesh;
  for (ProgramInput& input : program.inputs) input.spec.layout = on_mesh(input.spec.layout, mesh);
  const auto move_claims = [&](std::vector<Claim>& claims) {
    for (Claim& claim : claims) {
      if (claim.layout) claim.layout = on_mesh(*claim.layout, mesh);
    }
  };
  move_claims(program.annotations);
  move_claims(program.expectations);
  return program;
}

}  // namespace tessera
