#include "support/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tessera {
namespace {

constexpr std::size_t kLabelWidth = 10;

}  // namespace

std::string to_string(const Diagnostic& diagnostic) {
  std::string text;
  if (!diagnostic.op.empty()) text += diagnostic.op + ": ";
  text += diagnostic.message;

  std::vector<Detail> lines = diagnostic.details;
  const bool placed =
      std::any_of(lines.begin(), lines.end(), [&](const Detail& line) { return line.pointer == diagnostic.pointer; });
  if (!diagnostic.pointer.empty() && !placed) lines.push_back({"at", diagnostic.pointer, ""});
  if (!diagnostic.hint.empty()) lines.push_back({"hint", diagnostic.hint, ""});

  std::size_t width = kLabelWidth;
  for (const Detail& line : lines) width = std::max(width, line.label.size());
  for (const Detail& line : lines) {
    text += fmt::format("\n  {:<{}} ", line.label, width);
    for (char c : line.text) {  // a text of several lines stays in its column
      text += c;
      if (c == '\n') text.append(width + 3, ' ');
    }
    if (!line.pointer.empty()) text += fmt::format("   at {}", line.pointer);
  }
  return text;
}

Error::Error(Diagnostic diagnostic) : diagnostic_(std::move(diagnostic)), text_(to_string(diagnostic_)) {}

void fail(Diagnostic diagnostic) { throw Error(std::move(diagnostic)); }

void fail(std::string_view code, std::string message, std::string hint) {
  Diagnostic diagnostic;
  diagnostic.code = code;
  diagnostic.message = std::move(message);
  diagnostic.hint = std::move(hint);
  fail(std::move(diagnostic));
}

}  // namespace tessera
