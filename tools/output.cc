#include "tools/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "layouts/json.h"
#include "layouts/notation.h"

namespace tessera::tools {
namespace {

// Characters, not bytes: what is no ASCII is UTF-8.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

Table::Table(std::vector<std::string> header, const std::vector<std::size_t>& right) : right_(header.size(), false) {
  rows_.push_back(std::move(header));
  for (std::size_t column : right) right_[column] = true;
}

void Table::print(const Console& console) const {
  std::vector<std::size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  for (const auto& row : rows_) {
    std::string line = "  ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - width_of(row[i]), ' ');
      line += i > 0 ? "  " : "";
      line += right_[i] ? blanks + row[i] : row[i] + blanks;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    console.out << (&row == rows_.data() ? styled(console, Style::kFaint, line) : line) << '\n';
  }
}

std::string styled(const Console& console, Style style, std::string_view text) {
  if (!console.colour) return std::string(text);
  const std::string_view code = style == Style::kGood     ? "32"
                                : style == Style::kBad    ? "1;31"
                                : style == Style::kStrong ? "1"
                                                          : "2";
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

void print_diagnostics(const Console& console, const std::vector<Diagnostic>& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    const std::string text = to_string(diagnostic);
    const std::size_t end = std::min(text.find('\n'), text.size());
    console.out << '\n' << styled(console, Style::kBad, text.substr(0, end)) << text.substr(end) << '\n';
  }
}

nlohmann::json diagnostic_json(const Diagnostic& diagnostic) {
  nlohmann::json details = nlohmann::json::array();
  for (const Detail& detail : diagnostic.details) {
    details.push_back({{"label", detail.label}, {"text", detail.text}, {"pointer", detail.pointer}});
  }
  nlohmann::json json{{"code", diagnostic.code},       {"op", diagnostic.op},
                      {"operand", diagnostic.operand}, {"dim", nullptr},
                      {"factor", diagnostic.factor},   {"axes", diagnostic.axes},
                      {"message", diagnostic.message}, {"hint", diagnostic.hint},
                      {"pointer", diagnostic.pointer}, {"details", std::move(details)}};
  if (diagnostic.dim >= 0) json["dim"] = diagnostic.dim;
  return json;
}

nlohmann::json layout_json(const Layout& layout) {
  nlohmann::json distributions = nlohmann::json::array();
  for (int dim = 0; dim < layout.rank(); ++dim) distributions.push_back(to_json(layout.distribution(dim)));
  nlohmann::json partial = nlohmann::json::object();
  for (int axis = 0; axis < layout.mesh().axis_count(); ++axis) {
    const Partial pending = layout.partials()[axis];
    if (pending != Partial::kNone) partial[layout.mesh().name(axis)] = to_string(pending);
  }
  return {{"layout", to_axis_names(layout)},
          {"distribution", std::move(distributions)},
          {"partial", std::move(partial)},
          {"text", to_string(layout)}};
}

void print_json(const Console& console, const nlohmann::json& json) {
  console.out << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

std::string count_of(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string progress_bar(std::size_t done, std::size_t total) {
  constexpr std::size_t kWidth = 24;
  const std::size_t filled = total == 0 ? kWidth : kWidth * std::min(done, total) / total;
  return fmt::format("[{}{}] {:>{}} of {}", std::string(filled, '#'), std::string(kWidth - filled, '-'), done,
                     std::to_string(total).size(), total);
}

void Progress::operator()(std::size_t done, std::size_t total, std::string_view now) {
  if (!console_.interactive || std::chrono::steady_clock::now() - begin_ < patience_) return;
  shown_ = true;
  console_.err << "\r\033[K" << progress_bar(done, total) << "  " << now << std::flush;
}

Progress::~Progress() {
  if (shown_) console_.err << "\r\033[K" << std::flush;
}

}  // namespace tessera::tools
