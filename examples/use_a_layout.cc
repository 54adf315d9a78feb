// A layout says which rank holds which part of a tensor. This example asks one everything it knows.
#include <fmt/format.h>

#include "layouts/layout.h"
#include "layouts/notation.h"

int main() {
  using namespace tessera;

  // Eight ranks: two data-parallel groups of four context-parallel ranks.
  const DeviceMesh mesh({{"dp", 2}, {"cp", 4}});

  // Batch over dp, the sequence over cp in head-tail chunks, so that causal attention costs every rank the same.
  const Layout layout = parse_layout(mesh, "[dp, cp:head_tail, -]");
  const Shape shape{4, 20, 64};
  fmt::print("{} of shape {} on a mesh {}\n\n", to_string(layout), to_string(shape), to_string(mesh));

  fmt::print("rank  coordinate  local shape    sequence rows\n");
  for (std::int64_t rank : mesh.ranks()) {
    const Coordinate coordinate = mesh.coordinate_of(rank);
    const std::vector<IndexSet> owned = shard_of(layout, shape, coordinate);
    std::string rows;
    for (const Interval& interval : owned[1]) rows += fmt::format("{}-{} ", interval.begin, interval.end - 1);
    fmt::print("{:4}  ({}, {})      {:13}  {}\n", rank, coordinate[0], coordinate[1],
               to_string(local_shape(layout, shape, coordinate)), rows);
  }

  // The sequence is cut into 4 shards, and nothing is held twice.
  fmt::print("\nsplit count of dim 1: {}, repeat count: {}\n", split_count(layout, 1), repeat_count(layout));

  // Two layouts are equal if they say the same, however they were written.
  const std::vector<std::string> placements{"Shard(0)", "Shard(1)"};
  const Layout blocks = layout_from_placements(mesh, 3, placements);
  fmt::print("{} == {}: {}\n", to_string(blocks), "[dp, cp, -]", blocks == parse_layout(mesh, "[dp, cp, -]"));
}
