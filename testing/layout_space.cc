#include "testing/layout_space.h"

namespace tessera {
namespace {

void extend_list(DeviceMesh mesh, AxisList axes, std::uint32_t used, std::vector<AxisList>& lists) {
  lists.push_back(axes);
  for (int axis = 0; axis < mesh.axis_count(); ++axis) {
    if ((used >> axis & 1) != 0) continue;
    AxisList longer = axes;
    longer.push_back(axis);
    extend_list(mesh, longer, used | 1U << axis, lists);
  }
}

class Enumeration {
 public:
  Enumeration(DeviceMesh mesh, int rank, const LayoutSpace& space)
      : mesh_(mesh), space_(space), lists_(all_axis_lists(mesh)), dims_(static_cast<std::size_t>(rank)) {}

  std::vector<Layout> run() {
    choose_dim(0, 0);
    return std::move(layouts_);
  }

 private:
  void choose_dim(std::size_t dim, std::uint32_t used) {
    if (dim == dims_.size()) return choose_partial(0, used, {});
    for (const AxisList axes : lists_) {
      if ((axes.mask() & used) != 0) continue;
      if (axes.empty()) {
        dims_[dim] = {};
        choose_dim(dim + 1, used);
        continue;
      }
      for (const Distribution distribution : space_.distributions) {
        const bool listed = distribution.kind() == Distribution::Kind::kIntervals;
        if (listed && static_cast<std::int64_t>(distribution.listed().size()) != mesh_.size(axes)) continue;
        dims_[dim] = {axes, distribution};
        choose_dim(dim + 1, used | axes.mask());
      }
    }
  }

  void choose_partial(int axis, std::uint32_t used, PartialMap partials) {
    if (axis == mesh_.axis_count()) {
      layouts_.emplace_back(mesh_, dims_, partials);
      return;
    }
    choose_partial(axis + 1, used, partials);
    if ((used >> axis & 1) != 0) return;
    for (const Partial partial : space_.partials) {
      PartialMap more = partials;
      more.set(axis, partial);
      choose_partial(axis + 1, used, more);
    }
  }

  DeviceMesh mesh_;
  const LayoutSpace& space_;
  std::vector<AxisList> lists_;
  std::vector<DimSplit> dims_;
  std::vector<Layout> layouts_;
};

}  // namespace

std::vector<AxisList> all_axis_lists(DeviceMesh mesh) {
  std::vector<AxisList> lists;
  extend_list(mesh, {}, 0, lists);
  return lists;
}

std::vector<Layout> all_layouts(DeviceMesh mesh, int rank, const LayoutSpace& space) {
  return Enumeration(mesh, rank, space).run();
}

std::vector<Layout> all_layouts(DeviceMesh mesh, const Shape& shape, const LayoutSpace& space) {
  std::vector<Layout> layouts = all_layouts(mesh, static_cast<int>(shape.size()), space);
  std::erase_if(layouts, [&](const Layout& layout) { return misfit(layout, shape).has_value(); });
  return layouts;
}

}  // namespace tessera
