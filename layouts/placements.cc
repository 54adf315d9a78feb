// PyTorch DTensor's placements: one for each mesh axis, "Shard(0)", "Replicate", "Partial(sum)", "_StridedShard(0, 2)".
#include <fmt/format.h>

#include "layouts/notation.h"
#include "layouts/text_reader.h"
#include "support/text.h"

namespace tessera {
namespace {

// The split factor of the axis at `place` of the axes of a dim: the product of the sizes of those before it that lie right of it on the mesh.
std::int64_t split_factor(DeviceMesh mesh, AxisList axes, int place) {
  std::int64_t factor = 1;
  for (int i = 0; i < place; ++i) {
    if (axes[i] > axes[place]) factor *= mesh.size(axes[i]);
  }
  return factor;
}

struct Placement {
  enum class Kind : std::uint8_t { kReplicate, kShard, kPartial };

  Kind kind = Kind::kReplicate;
  int dim = 0;
  std::int64_t factor = 1;
  std::size_t factor_begin = 0, factor_end = 0;  // where the text has it
  Partial partial = Partial::kSum;
};

// "0" or "dim=0", within the tensor's dims; negative ones count from the end.
int read_dim(TextReader& reader, int rank) {
  const std::size_t at = reader.position();
  if (reader.accept("dim")) reader.expect("=", "'='");
  const std::int64_t dim = reader.integer("a dim");
  if (dim >= -rank && dim < rank) return static_cast<int>(dim < 0 ? dim + rank : dim);
  Diagnostic diagnostic{.code = "placement-dim",
                        .message = fmt::format("dim {} is out of bounds for a tensor of {} dims", dim, rank)};
  if (rank > 0) diagnostic.hint = fmt::format("dims are {} to {}", -rank, rank - 1);
  reader.fail_from(at, std::move(diagnostic));
}

// "sum", "'sum'", "reduce_op=sum".
Partial read_partial(TextReader& reader, std::string_view axis) {
  if (reader.accept("reduce_op")) reader.expect("=", "'='");
  const std::size_t at = reader.position();
  const char quote = reader.accept("'") ? '\'' : reader.accept("\"") ? '"' : ' ';
  const std::string_view name = quote == ' ' ? reader.accept_word() : reader.until_quote(quote);
  if (name.empty()) reader.fail_expected("a reduction");
  if (name == "product") return Partial::kProd;  // PyTorch's word
  return reader.marked(at, [&] { return partial_named(name, axis); });
}

Placement read_placement(std::string_view text, int rank, std::string_view axis) {
  static const std::vector<std::string> names{"Shard", "Replicate", "Partial", "_StridedShard"};
  TextReader reader(text, "placement-syntax");
  const std::size_t at = reader.position();
  const std::string_view name = reader.accept_word();
  if (name.empty()) reader.fail_expected("a placement");
  Placement placement;
  if (name == "Shard" || name == "S" || name == "_StridedShard" || name == "_S") {
    placement.kind = Placement::Kind::kShard;
    reader.expect("(", "'(' and a dim");
    placement.dim = read_dim(reader, rank);
    if (name.starts_with('_')) {
      reader.expect(",", "',' and a split factor");
      placement.factor_begin = reader.position();
      if (reader.accept("split_factor") || reader.accept("sf")) reader.expect("=", "'='");
      placement.factor = reader.integer("a split factor");
      placement.factor_end = reader.end_of_last();
    }
    reader.expect(")", "')'");
  } else if (name == "Replicate" || name == "R") {
    if (reader.accept("(")) reader.expect(")", "')'");
  } else if (name == "Partial" || name == "P") {
    placement.kind = Placement::Kind::kPartial;
    if (reader.accept("(") && !reader.accept(")")) {
      placement.partial = read_partial(reader, axis);
      reader.expect(")", "')'");
    }
  } else {
    reader.fail_from(at, reader.fault(fmt::format("no placement is called '{}'", name), did_you_mean(name, names)));
  }
  if (!reader.at_end()) reader.fail_expected("the end");
  return placement;
}

// The axes of a dim, all of them right of `axis` on the mesh, with `axis` put where it gets that split factor.
AxisList with_axis(DeviceMesh mesh, AxisList axes, int axis, const Placement& placement, std::string_view text) {
  std::vector<std::string> factors;
  std::int64_t factor = 1;
  for (int place = 0; place <= axes.size(); ++place) {
    if (factor == placement.factor) {
      AxisList order = axes.sublist(0, place);
      order.push_back(axis);
      order.append(axes.sublist(place, axes.size() - place));
      return order;
    }
    if (const std::string shown = fmt::format("{}", factor); factors.empty() || factors.back() != shown)
      factors.push_back(shown);
    if (place < axes.size()) factor *= mesh.size(axes[place]);
  }
  Diagnostic diagnostic{.code = "placement-factor",
                        .message = fmt::format("no order of the axes that split dim {} gives '{}' the split factor {}",
                                               placement.dim, mesh.name(axis), placement.factor)};
  diagnostic.dim = placement.dim;
  diagnostic.axes = {mesh.name(axis)};
  diagnostic.hint = fmt::format("possible here: {}", join(factors));
  TextReader(text, "placement-factor").fail_at(placement.factor_begin, placement.factor_end, std::move(diagnostic));
}

}  // namespace

std::vector<std::string> to_placements(const Layout& layout) {
  const DeviceMesh mesh = layout.mesh();
  std::vector<std::string> placements(static_cast<std::size_t>(mesh.axis_count()), "Replicate");
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const auto [axes, distribution] = layout.dim(dim);
    if (!distribution.is_block()) {
      Diagnostic diagnostic{.code = "no-placement",
                            .message = fmt::format("placements deal dims in blocks, dim {} of {} is dealt {}", dim,
                                                   to_string(layout), to_string(distribution))};
      diagnostic.dim = dim;
      diagnostic.axes = mesh.names_of(axes);
      fail(std::move(diagnostic));
    }
    for (int i = 0; i < axes.size(); ++i) {
      const std::int64_t factor = split_factor(mesh, axes, i);
      placements[static_cast<std::size_t>(axes[i])] =
          factor == 1 ? fmt::format("Shard({})", dim) : fmt::format("_StridedShard({}, {})", dim, factor);
    }
  }
  const AxisList pending = layout.partials().axes();
  for (int i = 0; i < pending.size(); ++i) {
    placements[static_cast<std::size_t>(pending[i])] = fmt::format("Partial({})", to_string(layout.partials()[pending[i]]));
  }
  return placements;
}

Layout layout_from_placements(DeviceMesh mesh, int rank, std::span<const std::string> placements) {
  if (static_cast<int>(placements.size()) != mesh.axis_count()) {
    fail("placement-count",
         fmt::format("{} placements for the {} axes of the mesh ({})", placements.size(), mesh.axis_count(),
                     to_string(mesh)),
         "write one placement for each mesh axis");
  }
  std::vector<DimSplit> dims(static_cast<std::size_t>(rank));
  PartialMap partials;
  // From the right, so that the axes whose sizes make up a split factor are in place before it is read.
  for (int axis = mesh.axis_count(); axis-- > 0;) {
    const std::string& text = placements[static_cast<std::size_t>(axis)];
    Placement placement;
    try {
      placement = read_placement(text, rank, mesh.name(axis));
    } catch (const Error& error) {
      Diagnostic diagnostic = error.diagnostic();
      diagnostic.axes = {mesh.name(axis)};
      fail(std::move(diagnostic));
    }
    if (placement.kind == Placement::Kind::kPartial) partials.set(axis, placement.partial);
    if (placement.kind != Placement::Kind::kShard) continue;
    AxisList& axes = dims[static_cast<std::size_t>(placement.dim)].axes;
    axes = with_axis(mesh, axes, axis, placement, text);
  }
  return {mesh, dims, partials};
}

}  // namespace tessera
