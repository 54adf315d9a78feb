// Tensor maps as lists of numbers or names: MindSpore's, HyperParallel's and JAX's notations.
#include <fmt/format.h>

#include "layouts/notation.h"
#include "support/diagnostic.h"
#include "support/text.h"

namespace tessera {
namespace {

// "numbers count from the last axis: 0 is 'tp', 1 is 'cp'".
std::string numbering(DeviceMesh mesh) {
  std::vector<std::string> parts;
  for (int axis = mesh.axis_count(); axis-- > 0;) {
    parts.push_back(fmt::format("{} is '{}'", mesh.axis_count() - 1 - axis, mesh.name(axis)));
  }
  if (parts.empty()) return "the mesh has no axes: write -1";
  return fmt::format("numbers count from the last axis: {}", join(parts));
}

[[noreturn]] void fail_at_dim(std::string code, std::string message, std::string hint, int dim,
                              std::vector<std::string> axes = {}) {
  Diagnostic diagnostic{.code = std::move(code), .message = std::move(message)};
  diagnostic.hint = std::move(hint);
  diagnostic.dim = dim;
  diagnostic.axes = std::move(axes);
  fail(std::move(diagnostic));
}

}  // namespace

std::vector<std::vector<std::int64_t>> to_tensor_map(const Layout& layout) {
  std::vector<std::vector<std::int64_t>> map;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    std::vector<std::int64_t>& numbers = map.emplace_back();
    const AxisList axes = layout.axes(dim);
    for (int i = 0; i < axes.size(); ++i) numbers.push_back(layout.mesh().axis_count() - 1 - axes[i]);
    if (numbers.empty()) numbers.push_back(-1);
  }
  return map;
}

Layout layout_from_tensor_map(DeviceMesh mesh, std::span<const std::vector<std::int64_t>> tensor_map, PartialMap partials) {
  std::vector<DimSplit> dims;
  for (const std::vector<std::int64_t>& numbers : tensor_map) {
    const int dim = static_cast<int>(dims.size());
    DimSplit& split = dims.emplace_back();
    if (numbers == std::vector<std::int64_t>{-1}) continue;
    for (const std::int64_t number : numbers) {
      if (number == -1) {
        fail_at_dim("layout-syntax",
                    fmt::format("tensor map entry [{}] has -1 beside other numbers", fmt::join(numbers, ", ")),
                    "-1 alone is a dim that is whole", dim);
      }
      if (number < 0 || number >= mesh.axis_count()) {
        fail_at_dim("unknown-axis",
                    fmt::format("tensor map number {} is no axis of the mesh ({})", number, to_string(mesh)),
                    numbering(mesh), dim);
      }
      const int axis = mesh.axis_count() - 1 - static_cast<int>(number);
      if (split.axes.contains(axis)) {
        fail_at_dim("duplicate-axis", fmt::format("axis '{}' splits the tensor twice", mesh.name(axis)),
                    "an axis splits one dim at most", dim, {mesh.name(axis)});
      }
      split.axes.push_back(axis);
    }
  }
  return {mesh, dims, partials};
}

std::vector<std::vector<std::string>> to_axis_names(const Layout& layout) {
  std::vector<std::vector<std::string>> names;
  names.reserve(static_cast<std::size_t>(layout.rank()));
  for (int dim = 0; dim < layout.rank(); ++dim) names.push_back(layout.mesh().names_of(layout.axes(dim)));
  return names;
}

}  // namespace tessera
