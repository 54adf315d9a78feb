#include "core/program/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "layouts/json.h"
#include "support/text.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

// A line of the text, cut down around a column where it is long, with a caret under that column.
std::string marked_line(std::string_view text, std::size_t at) {
  constexpr std::size_t kBefore = 60;
  constexpr std::size_t kShown = 100;
  const std::size_t newline = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
  const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
  std::string_view line = text.substr(begin, std::min(text.find('\n', at), text.size()) - begin);
  const std::size_t column = at - begin;
  const std::size_t skipped = column > kBefore ? column - kBefore : 0;
  line = line.substr(skipped, kShown);
  std::string shown;
  std::size_t caret = 0;  // in characters, not bytes
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto c = static_cast<unsigned char>(line[i]);
    const bool continues = (c & 0xC0U) == 0x80U;
    if (i < column - skipped && !continues) ++caret;
    shown += c < 0x20 || c == 0x7F ? ' ' : line[i];
  }
  return with_caret(shown, caret);
}

// nlohmann's words for a fault, without the parts that are said otherwise here.
std::string reason_of(const std::string& what) {
  if (const std::size_t overflow = what.find("number overflow parsing "); overflow != std::string::npos) {
    return "number out of range: " + what.substr(overflow + std::string_view("number overflow parsing ").size());
  }
  std::string reason = what;
  if (const std::size_t dash = reason.find(" - "); dash != std::string::npos) reason = reason.substr(dash + 3);
  if (const std::size_t last = reason.find("; last read: '"); last != std::string::npos) {
    const std::size_t expected = reason.rfind("'; expected ");
    reason = reason.substr(0, last) + (expected == std::string::npos ? "" : reason.substr(expected + 1));
  }
  return reason;
}

[[noreturn]] void fail_syntax(std::string_view text, std::size_t at, const std::string& reason) {
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  const std::size_t newline = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
  const std::size_t column = at - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
  Diagnostic diagnostic{.code = "json-syntax",
                        .message = fmt::format("the config is no JSON: line {}, column {}: {}", line, column, reason)};
  diagnostic.details = {{fmt::format("line {}", line), marked_line(text, at), ""}};
  fail(std::move(diagnostic));
}

// Reads a text without making anything of it: how deep it is, and which keys stand twice.
class Scan : public nlohmann::json_sax<Json> {
 public:
  explicit Scan(std::string_view text) : text_(text) {}

  [[nodiscard]] const std::vector<Diagnostic>& duplicates() const { return duplicates_; }

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool start_object(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    frame.key = name;
    if (!frame.keys.insert(name).second) {
      Diagnostic diagnostic{.code = "json-duplicate-key", .message = fmt::format("key '{}' is given twice", name)};
      diagnostic.hint = "only one of them can count: remove the other";
      for (const Frame& f : frames_)
        diagnostic.pointer += "/" + (f.object ? escape_pointer(f.key) : std::to_string(f.index));
      duplicates_.push_back(std::move(diagnostic));
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    const std::size_t at = position == 0 ? 0 : std::min(position - 1, text_.size());
    fail_syntax(text_, at, reason_of(error.what()));
  }

 private:
  struct Frame {
    bool object;
    std::size_t index = 0;
    std::string key{};
    std::set<std::string> keys{};
  };

  bool value() {
    if (!frames_.empty()) ++frames_.back().index;
    return true;
  }
  bool open(bool object) {
    if (frames_.size() == kMaxDepth) {
      fail("json-depth", fmt::format("the config has more than {} lists and objects inside one another", kMaxDepth));
    }
    frames_.push_back({.object = object});
    return true;
  }
  bool close() {
    frames_.pop_back();
    return value();
  }

  std::string_view text_;
  std::vector<Frame> frames_;
  std::vector<Diagnostic> duplicates_;
};

void scan(std::string_view text, Scan& handler) { Json::sax_parse(text, &handler, Json::input_format_t::json, true, true); }

}  // namespace

nlohmann::json parse_document(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    fail("json-syntax", "the config is empty", R"(begin with {"mesh": {"shape": [2, 4], "names": ["dp", "cp"]}})");
  }
  Scan handler(text);
  scan(text, handler);  // throws where parsing would
  return Json::parse(text, nullptr, true, true);
}

std::vector<Diagnostic> duplicate_keys(std::string_view text) {
  Scan handler(text);
  scan(text, handler);
  return handler.duplicates();
}

}  // namespace tessera
