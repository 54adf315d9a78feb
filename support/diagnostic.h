// What is told to the user when something is wrong: one type, thrown once, formatted once.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// One labelled line below a diagnostic's first line, e.g. `query      [dp, cp, tp, -]   at /tensors/query/layout/2`.
struct Detail {
  std::string label;
  std::string text;
  std::string pointer;  ///< JSON pointer of what the line shows; empty where there is none

  friend bool operator==(const Detail&, const Detail&) = default;
};

/// A fault in what the user gave: what is wrong, where, with which values, and the nearest fix.
///
/// `to_string` prints it as
/// ```
/// sparse_flash_attention: factor n (query heads) must be whole, but query splits it over 'tp'
///   query      [dp, cp, tp, -]   at /tensors/query/layout/2
///   hint       reshard query to [dp, cp, -, -]
/// ```
struct Diagnostic {
  std::string code;                 ///< stable identifier in kebab-case, e.g. "factor-not-whole"
  std::string message;              ///< one sentence without a full stop
  std::string op{};                 ///< the operator concerned; empty where there is none
  std::string operand{};            ///< the operand or tensor concerned
  int dim = -1;                     ///< dim of that operand, -1 where it is about none
  std::string factor{};             ///< the rule's factor concerned
  std::vector<std::string> axes{};  ///< mesh axes concerned
  std::vector<Detail> details{};
  std::string hint{};     ///< the nearest fix, imperative
  std::string pointer{};  ///< JSON pointer into the config, e.g. "/tensors/query/layout/2"

  friend bool operator==(const Diagnostic&, const Diagnostic&) = default;
};

/// The text of a diagnostic: its first line, then its details and hint, indented; no newline at the end.
std::string to_string(const Diagnostic& diagnostic);

/// The one exception of the library. `what()` is `to_string(diagnostic())`.
class Error : public std::exception {
 public:
  explicit Error(Diagnostic diagnostic);
  [[nodiscard]] const Diagnostic& diagnostic() const { return diagnostic_; }
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

 private:
  Diagnostic diagnostic_;
  std::string text_;
};

/// Throws an `Error` with the given diagnostic.
[[noreturn]] void fail(Diagnostic diagnostic);

/// Throws an `Error` that has only a code, a message and perhaps a hint.
[[noreturn]] void fail(std::string_view code, std::string message, std::string hint = {});

}  // namespace tessera
