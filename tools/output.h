// How the command writes: tables, diagnostics, progress.
#pragma once

#include <chrono>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "layouts/layout.h"
#include "support/diagnostic.h"

namespace tessera::tools {

/// Where a command reads and writes.
struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool colour = false;       ///< `out` is a terminal, and the user has not set NO_COLOR
  bool interactive = false;  ///< `err` is a terminal: progress may be shown
};

/// Rows of cells under a header, in columns as wide as their widest cell, two blanks between them.
class Table {
 public:
  /// @param right which columns hold numbers and are aligned at the right
  explicit Table(std::vector<std::string> header, const std::vector<std::size_t>& right = {});
  /// @pre as many cells as the header has
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.size() == 1; }
  /// Each line is indented by two blanks; no blanks at the ends of lines.
  void print(const Console& console) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the header first
  std::vector<bool> right_;
};

enum class Style { kGood, kBad, kStrong, kFaint };
/// The text in a colour where the console has them.
std::string styled(const Console& console, Style style, std::string_view text);

/// Diagnostics, an empty line before each.
void print_diagnostics(const Console& console, const std::vector<Diagnostic>& diagnostics);
/// `{"code", "op", "operand", "dim", "factor", "axes", "message", "hint", "pointer", "details"}`; dim is null where it is about none.
nlohmann::json diagnostic_json(const Diagnostic& diagnostic);
/// `{"layout", "distribution", "partial", "text"}`: per dim the list of axes, per dim the distribution, the pending reductions by axis.
nlohmann::json layout_json(const Layout& layout);
/// Writes JSON with a line end; bytes that are no UTF-8 are replaced.
void print_json(const Console& console, const nlohmann::json& json);

/// "1 op", "3 ops".
std::string count_of(std::size_t count, std::string_view what);

/// "[#########---------------]  3 of 8": how much is done.
std::string progress_bar(std::size_t done, std::size_t total);

/// Shows on a terminal how much is done and what is done now, once that has taken a second; the line is removed when the progress ends.
class Progress {
 public:
  explicit Progress(const Console& console, std::chrono::milliseconds patience = std::chrono::seconds(1))
      : console_(console), begin_(std::chrono::steady_clock::now()), patience_(patience) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void operator()(std::size_t done, std::size_t total, std::string_view now);

 private:
  const Console& console_;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::milliseconds patience_;
  bool shown_ = false;
};

}  // namespace tessera::tools
