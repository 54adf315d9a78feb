// What one rank holds of every tensor.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/tensor/spec.h"
#include "tools/output.h"

namespace tessera::tools {

/// Indices of a dim: `count` blocks of `size`, `step` apart, the first at `begin`; or one interval after the other.
struct HeldIndices {
  std::vector<Interval> intervals{};  ///< all of them, or only the first where there are too many to list
  std::int64_t count = 0;             ///< how many there are
  std::int64_t step = 0;              ///< from one to the next; 0 where all are listed
};

struct HeldTensor {
  std::string tensor;
  Layout layout;
  Shape local_shape;
  std::int64_t bytes = 0;
  std::vector<HeldIndices> indices{};  ///< by dim
};

struct RankView {
  std::int64_t rank = 0;
  DeviceMesh mesh;
  Coordinate coordinate;
  std::vector<HeldTensor> tensors{};
};

/// @pre the mesh has the rank
RankView rank_view(DeviceMesh mesh, const std::map<std::string, TensorSpec>& tensors, std::int64_t rank);
void print_rank_view(const Console& console, const RankView& view);
nlohmann::json to_json(const RankView& view);

}  // namespace tessera::tools
