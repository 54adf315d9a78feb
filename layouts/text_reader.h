// Reads a text from left to right; every fault shows the text with a caret. What the notations of layouts are read with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layouts/layout.h"
#include "support/diagnostic.h"

namespace tessera {

/// A place in a text. All that read skip blanks first. The faults they find have the code given to the constructor, and all faults have
/// a detail "text" that shows the text with a caret (a window of it where it is long).
class TextReader {
 public:
  /// @param text must outlive the reader
  TextReader(std::string_view text, std::string_view code) : text_(text), code_(code) {}

  /// Where the next token begins.
  std::size_t position();
  bool at_end() { return position() == text_.size(); }
  /// Where the last token ended.
  [[nodiscard]] std::size_t end_of_last() const { return next_; }
  bool next_is(char c) { return position() < text_.size() && text_[next_] == c; }
  /// Reads `token` if it comes next.
  bool accept(std::string_view token);
  /// @throws Error "expected `expected`, found ..." where `token` does not come next
  void expect(std::string_view token, std::string_view expected);
  /// Reads letters, digits and '_'; "" where none come next.
  std::string_view accept_word();
  /// Reads an integer, with a '-' before it or not. @throws Error where `expected` does not come next or is no int64_t
  std::int64_t integer(std::string_view expected);
  /// Reads up to the quote that closes the one that was just read. @throws Error where there is none
  std::string_view until_quote(char quote);

  /// @throws Error that `expected` should stand where the next token does
  [[noreturn]] void fail_expected(std::string_view expected);
  /// @throws Error with the caret under [begin, end)
  [[noreturn]] void fail_at(std::size_t begin, std::size_t end, Diagnostic diagnostic) const;
  /// @throws Error with the caret under [begin, what was read last)
  [[noreturn]] void fail_from(std::size_t begin, Diagnostic diagnostic) const {
    fail_at(begin, next_, std::move(diagnostic));
  }
  /// What `read()` returns; its errors get the caret under [begin, what was read last).
  template <class Read>
  auto marked(std::size_t begin, Read read) const {
    try {
      return read();
    } catch (const Error& error) {
      fail_from(begin, error.diagnostic());
    }
  }

  /// From here on faults are about this dim; -1 for none.
  void set_dim(int dim) { dim_ = dim; }
  /// The diagnostic of a fault of the text itself.
  [[nodiscard]] Diagnostic fault(std::string message, std::string hint = {}) const;

 private:
  std::string_view text_;
  std::string_view code_;
  std::size_t next_ = 0;  // first character that is not read yet
  int dim_ = -1;
};

/// The axes that have been named so far, and what for: each has one use at most. Those that split come first.
class AxisUses {
 public:
  explicit AxisUses(DeviceMesh mesh) : mesh_(mesh) {}

  /// The number of the axis `name`, which from now on splits the tensor, is partial or is replicated.
  /// @throws Error "unknown-axis", "duplicate-axis"
  int split(std::string_view name) { return use(name, splitting_, "splits the tensor"); }
  int reduce(std::string_view name) { return use(name, partial_, "is partial"); }
  int replicate(std::string_view name) { return use(name, replicated_, "is replicated"); }

 private:
  int use(std::string_view name, AxisList& uses, std::string_view what);

  DeviceMesh mesh_;
  AxisList splitting_, partial_, replicated_;
};

/// The kind of reduction called `name`. @throws Error "unknown-partial" about that axis
Partial partial_named(std::string_view name, std::string_view axis);

/// The dims of a layout as they are read, and where in the text each one stands.
struct ReadDims {
  std::vector<DimSplit> splits;
  std::vector<std::pair<std::size_t, std::size_t>> places;  // [begin, end) of each
};
/// The layout of these dims; an error about one of them gets the caret under it.
Layout layout_of(DeviceMesh mesh, const ReadDims& dims, const TextReader& reader);

/// Reads "head_tail", "cyclic(128)", ...: what `to_string(Distribution)` writes.
/// @throws Error "distribution-unknown", "distribution-block", "distribution-intervals", or of the reader
Distribution read_distribution(TextReader& reader);

/// Reads Shardy's text, from "<@" to ">". @throws as parse_layout
Layout parse_shardy(DeviceMesh mesh, std::string_view text);

}  // namespace tessera
