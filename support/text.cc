#include "support/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace tessera {
namespace {

// Edit distance with transpositions of neighbours (optimal string alignment): "mamtul" is 1 from "matmul".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = above;
    above = row;
  }
  return above[b.size()];
}

}  // namespace

std::string with_caret(std::string_view text, std::size_t begin, std::size_t length) {
  return fmt::format("{}\n{}{}", text, std::string(begin, ' '), std::string(std::max<std::size_t>(length, 1), '^'));
}

std::string nearest(std::string_view name, std::span<const std::string> known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    // A long name's distance costs its length squared: names of very different lengths are not near anyway.
    const std::size_t difference =
        candidate.size() > name.size() ? candidate.size() - name.size() : name.size() - candidate.size();
    if (difference >= best_distance || name.size() > 256) continue;
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  if (std::string near = nearest(name, known); !near.empty()) return fmt::format("did you mean '{}'?", near);
  constexpr std::size_t kFew = 12;
  if (known.empty() || known.size() > kFew) return "";
  return fmt::format("known: {}", join(known));
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string enumerate(std::span<const std::string> parts) {
  if (parts.size() < 2) return join(parts);
  return join(parts.first(parts.size() - 1)) + " and " + parts.back();
}

std::string format_bytes(std::int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (value /= 1024; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return value < 9.95 ? fmt::format("{:.1f} {}", value, kUnits[unit]) : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

}  // namespace tessera
