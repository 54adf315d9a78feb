// Our own text of a layout: "[dp, cp+tp:head_tail, -] partial(ep: sum)".
#include <fmt/format.h>

#include <array>

#include "layouts/notation.h"
#include "layouts/text_reader.h"
#include "support/text.h"

namespace tessera {
namespace {

// "0-5 9-12", up to the '|' or ')' behind it.
IndexSet read_intervals(TextReader& reader) {
  IndexSet intervals;
  while (!reader.next_is('|') && !reader.next_is(')')) {
    const std::int64_t begin = reader.integer("an interval such as 0-5, '|' or ')'");
    reader.expect("-", "'-' and the end of the interval");
    intervals.push_back({begin, reader.integer("the end of the interval")});
  }
  return intervals;
}

DimSplit read_dim(TextReader& reader, AxisUses& uses) {
  DimSplit split;
  if (reader.accept("-")) return split;
  do {
    const std::size_t at = reader.position();
    const std::string_view name = reader.accept_word();
    if (name.empty()) reader.fail_expected(split.axes.empty() ? "an axis or '-'" : "an axis");
    split.axes.push_back(reader.marked(at, [&] { return uses.split(name); }));
  } while (reader.accept("+"));
  if (reader.accept(":")) split.distribution = read_distribution(reader);
  return split;
}

PartialMap read_partials(TextReader& reader, AxisUses& uses) {
  PartialMap partials;
  reader.expect("(", "'('");
  do {
    const std::size_t at = reader.position();
    const std::string_view name = reader.accept_word();
    if (name.empty()) reader.fail_expected("an axis");
    const int axis = reader.marked(at, [&] { return uses.reduce(name); });
    reader.expect(":", "':' and a reduction");
    const std::size_t kind_at = reader.position();
    const std::string_view kind = reader.accept_word();
    if (kind.empty()) reader.fail_expected("a reduction");
    partials.set(axis, reader.marked(kind_at, [&] { return partial_named(kind, name); }));
  } while (reader.accept(","));
  reader.expect(")", "',' or ')'");
  return partials;
}

}  // namespace

Distribution read_distribution(TextReader& reader) {
  static const std::vector<std::string> kinds{"block", "balanced", "cyclic", "head_tail", "intervals"};
  const std::size_t at = reader.position();
  const std::string_view kind = reader.accept_word();
  if (kind == "block") return Distribution::block();
  if (kind == "balanced") return Distribution::balanced();
  if (kind == "head_tail") return Distribution::head_tail();
  if (kind == "cyclic") {
    reader.expect("(", "'(' and the size of a block");
    const std::int64_t block = reader.integer("the size of a block");
    reader.expect(")", "')'");
    return reader.marked(at, [&] { return Distribution::cyclic(block); });
  }
  if (kind == "intervals") {
    reader.expect("(", "'(' and the intervals of each shard");
    std::vector<IndexSet> shards;
    do shards.push_back(read_intervals(reader));
    while (reader.accept("|"));
    reader.expect(")", "'|' or ')'");
    return reader.marked(at, [&] { return Distribution::intervals(std::move(shards)); });
  }
  if (kind.empty()) reader.fail_expected("a distribution");
  Diagnostic diagnostic{.code = "distribution-unknown", .message = fmt::format("no distribution is called '{}'", kind)};
  diagnostic.hint = did_you_mean(kind, kinds);
  reader.fail_from(at, std::move(diagnostic));
}

std::string to_string(const Layout& layout) {
  std::vector<std::string> dims;
  for (int dim = 0; dim < layout.rank(); ++dim) {
    const auto [axes, distribution] = layout.dim(dim);
    std::string text = axes.empty() ? "-" : join(layout.mesh().names_of(axes), "+");
    if (!distribution.is_block()) text += ":" + to_string(distribution);
    dims.push_back(std::move(text));
  }
  std::string text = fmt::format("[{}]", join(dims));
  if (!layout.is_partial()) return text;
  const AxisList pending = layout.partials().axes();
  std::vector<std::string> partials;
  partials.reserve(static_cast<std::size_t>(pending.size()));
  for (int i = 0; i < pending.size(); ++i) {
    partials.push_back(fmt::format("{}: {}", layout.mesh().name(pending[i]), to_string(layout.partials()[pending[i]])));
  }
  return text + fmt::format(" partial({})", join(partials));
}

Layout parse_layout(DeviceMesh mesh, std::string_view text) {
  TextReader reader(text, "layout-syntax");
  if (reader.accept("<") || reader.accept("#")) return parse_shardy(mesh, text);

  AxisUses uses(mesh);
  ReadDims dims;
  reader.expect("[", "'[', or '<' of Shardy's form");
  if (!reader.accept("]")) {
    do {
      reader.set_dim(static_cast<int>(dims.splits.size()));
      const std::size_t begin = reader.position();
      dims.splits.push_back(read_dim(reader, uses));
      dims.places.emplace_back(begin, reader.end_of_last());
    } while (reader.accept(","));
    reader.expect("]", "',' or ']'");
  }
  reader.set_dim(-1);
  const Layout layout = layout_of(mesh, dims, reader);
  if (reader.at_end()) return layout;
  if (!reader.accept("partial")) reader.fail_expected("'partial' or the end");
  const PartialMap partials = read_partials(reader, uses);
  if (!reader.at_end()) reader.fail_expected("the end");
  return layout.with_partials(partials);
}

}  // namespace tessera
