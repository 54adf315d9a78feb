// Shardy's text of a sharding: <@mesh, [{"dp"}, {"cp", "tp"}, {}], unreduced={"ep"}>.
#include <fmt/format.h>

#include "layouts/notation.h"
#include "layouts/text_reader.h"
#include "support/text.h"

namespace tessera {
namespace {

// "a", "b", up to what is no quote: `use(name)` is called for each.
template <class Use>
void read_axes(TextReader& reader, Use use) {
  while (reader.next_is('"')) {
    const std::size_t at = reader.position();
    reader.accept("\"");
    const std::string_view name = reader.until_quote('"');
    if (reader.accept(":")) {
      Diagnostic fault = reader.fault(fmt::format("a part of axis '{}' cannot be used alone", name),
                                      fmt::format("split mesh axis '{}' in two", name));
      fault.axes = {std::string(name)};
      reader.fail_from(at, std::move(fault));
    }
    reader.marked(at, [&] { use(name); });
    if (!reader.accept(",")) return;
  }
}

// {"a", "b"}, {"a", ?}, {?}, {}, and a priority behind it: {"a"}p1.
AxisList read_dim(TextReader& reader, AxisUses& uses) {
  AxisList axes;
  reader.expect("{", "'{' and the axes of a dim");
  read_axes(reader, [&](std::string_view name) { axes.push_back(uses.split(name)); });
  reader.accept("?");
  reader.expect("}", "an axis in quotes, '?' or '}'");
  if (reader.accept("p")) reader.integer("a priority");
  return axes;
}

}  // namespace

Layout parse_shardy(DeviceMesh mesh, std::string_view text) {
  TextReader reader(text, "layout-syntax");
  AxisUses uses(mesh);
  reader.accept("#sdy.sharding");
  reader.expect("<", "'<'");
  reader.expect("@", "'@' and the name of the mesh");
  if (reader.accept("\"")) {
    reader.until_quote('"');
  } else if (reader.accept_word().empty()) {
    reader.fail_expected("the name of the mesh");
  }
  reader.expect(",", "','");
  reader.expect("[", "'[' and the dims");
  ReadDims dims;
  if (!reader.accept("]")) {
    do {
      reader.set_dim(static_cast<int>(dims.splits.size()));
      const std::size_t begin = reader.position();
      dims.splits.push_back({read_dim(reader, uses), {}});
      dims.places.emplace_back(begin, reader.end_of_last());
    } while (reader.accept(","));
    reader.expect("]", "',' or ']'");
  }
  reader.set_dim(-1);
  const Layout layout = layout_of(mesh, dims, reader);
  PartialMap partials;
  while (reader.accept(",")) {
    const bool replicated = reader.accept("replicated");
    if (!replicated) reader.expect("unreduced", "'replicated' or 'unreduced'");
    reader.expect("=", "'='");
    reader.expect("{", "'{'");
    read_axes(reader, [&](std::string_view name) {
      if (replicated) {
        uses.replicate(name);
      } else {
        partials.set(uses.reduce(name), Partial::kSum);
      }
    });
    reader.expect("}", "an axis in quotes or '}'");
  }
  reader.expect(">", "',' or '>'");
  if (!reader.at_end()) reader.fail_expected("the end");
  return layout.with_partials(partials);
}

std::string to_shardy(const Layout& layout) {
  const auto quoted = [&](AxisList axes) {
    std::vector<std::string> names = layout.mesh().names_of(axes);
    for (std::string& name : names) name = fmt::format("\"{}\"", name);
    return fmt::format("{{{}}}", join(names));
  };
  std::vector<std::string> dims;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    if (!layout.distribution(dim).is_block()) {
      Diagnostic diagnostic{.code = "no-shardy",
                            .message = fmt::format("Shardy deals dims in blocks, dim {} of {} is dealt {}", dim,
                                                   to_string(layout), to_string(layout.distribution(dim)))};
      diagnostic.dim = dim;
      diagnostic.axes = layout.mesh().names_of(layout.axes(dim));
      fail(std::move(diagnostic));
    }
    dims.push_back(quoted(layout.axes(dim)));
  }
  const AxisList pending = layout.partials().axes();
  for (int i = 0; i < pending.size(); ++i) {
    if (layout.partials()[pending[i]] == Partial::kSum) continue;
    Diagnostic diagnostic{
        .code = "no-shardy",
        .message = fmt::format("Shardy's pending reductions are sums, that of {} over '{}' is {}", to_string(layout),
                               layout.mesh().name(pending[i]), to_string(layout.partials()[pending[i]]))};
    diagnostic.axes = {layout.mesh().name(pending[i])};
    fail(std::move(diagnostic));
  }
  std::string text = fmt::format("<@mesh, [{}]", join(dims));
  if (!pending.empty()) text += ", unreduced=" + quoted(pending);
  return text + ">";
}

}  // namespace tessera
