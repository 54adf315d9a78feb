// The reader that the notations of layouts share.
#include "layouts/text_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "support/text.h"

namespace tessera {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c); }

bool is_control(char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }
// Of a letter outside ASCII all bytes but the first.
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80; }

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

// The text in one line, and of a long one only what is near the fault.
std::string shown(std::string_view text, std::size_t begin, std::size_t end) {
  constexpr std::size_t kAround = 60;
  std::size_t from = begin > kAround ? begin - kAround : 0;
  const std::size_t last = std::min(end, begin + kAround);
  std::size_t to = std::min(text.size(), last + kAround);
  while (from > 0 && is_continuation(text[from])) --from;
  while (to < text.size() && is_continuation(text[to])) ++to;
  std::string line(text.substr(from, to - from));
  std::replace_if(line.begin(), line.end(), is_control, ' ');
  const std::string before = from > 0 ? "..." : "";
  const std::string after = to < text.size() ? "..." : "";
  return with_caret(before + line + after, before.size() + columns(text.substr(from, begin - from)),
                    columns(text.substr(begin, last - begin)));
}

}  // namespace

std::size_t TextReader::position() {
  while (next_ < text_.size() && is_blank(text_[next_])) ++next_;
  return next_;
}

bool TextReader::accept(std::string_view token) {
  if (!text_.substr(position()).starts_with(token)) return false;
  next_ += token.size();
  return true;
}

void TextReader::expect(std::string_view token, std::string_view expected) {
  if (!accept(token)) fail_expected(expected);
}

std::string_view TextReader::accept_word() {
  const std::size_t begin = position();
  while (next_ < text_.size() && is_word(text_[next_])) ++next_;
  return text_.substr(begin, next_ - begin);
}

std::int64_t TextReader::integer(std::string_view expected) {
  const std::size_t begin = position();
  std::int64_t value = 0;
  const char* const first = text_.data() + begin;
  const auto [end, status] = std::from_chars(first, text_.data() + text_.size(), value);
  if (end == first) fail_expected(expected);
  next_ = begin + static_cast<std::size_t>(end - first);
  if (status == std::errc::result_out_of_range) fail_from(begin, fault("the number does not fit in 64 bits"));
  return value;
}

std::string_view TextReader::until_quote(char quote) {
  const std::size_t end = text_.find(quote, next_);
  if (end == std::string_view::npos) {
    const std::size_t begin = next_ - 1;
    next_ = text_.size();
    fail_from(begin, fault(fmt::format("nothing closes the {}", quote)));
  }
  const std::string_view inside = text_.substr(next_, end - next_);
  next_ = end + 1;
  return inside;
}

void TextReader::fail_expected(std::string_view expected) {
  const std::size_t begin = position();
  if (accept_word().empty() && begin < text_.size()) {
    do ++next_;
    while (next_ < text_.size() && is_continuation(text_[next_]));
  }
  const std::string_view found = text_.substr(begin, next_ - begin);
  std::string what = "the end";
  if (!found.empty()) what = is_control(found.front()) ? "a control character" : fmt::format("'{}'", found);
  fail_from(begin, fault(fmt::format("expected {}, found {}", expected, what)));
}

void TextReader::fail_at(std::size_t begin, std::size_t end, Diagnostic diagnostic) const {
  if (diagnostic.dim < 0) diagnostic.dim = dim_;
  diagnostic.details.push_back({"text", shown(text_, begin, std::max(end, begin + 1)), ""});
  fail(std::move(diagnostic));
}

Diagnostic TextReader::fault(std::string message, std::string hint) const {
  Diagnostic diagnostic{.code = std::string(code_), .message = std::move(message)};
  diagnostic.hint = std::move(hint);
  return diagnostic;
}

int AxisUses::use(std::string_view name, AxisList& uses, std::string_view what) {
  const int axis = mesh_.axis(name);
  Diagnostic diagnostic{.code = "duplicate-axis", .message = ""};
  diagnostic.axes = {std::string(name)};
  if (uses.contains(axis)) {
    diagnostic.message = fmt::format("axis '{}' {} twice", name, what);
    diagnostic.hint = &uses == &splitting_ ? "an axis splits one dim at most" : "name each axis once";
    fail(std::move(diagnostic));
  }
  if (&uses != &splitting_ && splitting_.contains(axis)) {
    diagnostic.message = fmt::format("axis '{}' both splits the tensor and {}", name, what);
    diagnostic.hint = &uses == &partial_ ? "an axis either splits a dim or has a pending reduction"
                                         : "a replicated axis has no other use";
    fail(std::move(diagnostic));
  }
  if (partial_.contains(axis) || replicated_.contains(axis)) {
    diagnostic.message = fmt::format("axis '{}' is both replicated and partial", name);
    diagnostic.hint = "a replicated axis has no other use";
    fail(std::move(diagnostic));
  }
  uses.push_back(axis);
  return axis;
}

Layout layout_of(DeviceMesh mesh, const ReadDims& dims, const TextReader& reader) {
  try {
    return {mesh, dims.splits};
  } catch (const Error& error) {
    const int dim = error.diagnostic().dim;
    const auto [begin, end] = dim >= 0 ? dims.places[static_cast<std::size_t>(dim)]
                                       : std::pair{dims.places.front().first, dims.places.back().second};
    reader.fail_at(begin, end, error.diagnostic());
  }
}

Partial partial_named(std::string_view name, std::string_view axis) {
  if (const auto partial = parse_partial(name)) return *partial;
  Diagnostic diagnostic{.code = "unknown-partial", .message = fmt::format("no reduction is called '{}'", name)};
  diagnostic.axes = {std::string(axis)};
  diagnostic.hint = did_you_mean(name, partial_names());
  fail(std::move(diagnostic));
}

}  // namespace tessera
