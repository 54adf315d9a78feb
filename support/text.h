// Small helpers for texts that people read: a caret under a fault, the nearest known name, lists.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// The text with a second line that marks `[begin, begin + length)`:
/// ```
/// m k, k n -> m q
///               ^
/// ```
std::string with_caret(std::string_view text, std::size_t begin, std::size_t length = 1);

/// The known name nearest to `name` by edit distance, or "" where none is near (a third of its letters differ).
std::string nearest(std::string_view name, std::span<const std::string> known);

/// `did you mean 'matmul'?`, or `known: a, b, c` where no name is near and the list is short, or "".
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

/// `a, b, c`.
std::string join(std::span<const std::string> parts, std::string_view separator = ", ");

/// `a`, `a and b`, `a, b and c`.
std::string enumerate(std::span<const std::string> parts);

/// `512 B`, `1.5 KiB`, `4.0 MiB`: three figures at most.
std::string format_bytes(std::int64_t bytes);

}  // namespace tessera
