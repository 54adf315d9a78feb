// Attributes that name dims: checked, and counted from 0.
#include "ops/dims.h"

#include <fmt/format.h>

#include <array>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::array<FactorMeaning, kMaxRank> kDimMeanings{{{"d0", "dim 0"},
                                                            {"d1", "dim 1"},
                                                            {"d2", "dim 2"},
                                                            {"d3", "dim 3"},
                                                            {"d4", "dim 4"},
                                                            {"d5", "dim 5"},
                                                            {"d6", "dim 6"},
                                                            {"d7", "dim 7"},
                                                            {"d8", "dim 8"},
                                                            {"d9", "dim 9"},
                                                            {"d10", "dim 10"},
                                                            {"d11", "dim 11"}}};

}  // namespace

int dim_attribute(std::string_view op, std::string_view attribute, std::int64_t dim, int rank) {
  if (dim >= -rank && dim < rank) return static_cast<int>(dim < 0 ? dim + rank : dim);
  fail({.code = "dim-out-of-range",
        .message = fmt::format("attribute '{}' names dim {}, but x has {} dim{}", attribute, dim,
                               rank == 0 ? "no" : std::to_string(rank), rank == 1 ? "" : "s"),
        .op = std::string(op),
        .hint = rank == 0 ? "" : fmt::format("dims go from {} to {}", -rank, rank - 1)});
}

std::vector<int> dims_attribute(std::string_view op, std::string_view attribute, std::span<const std::int64_t> dims,
                                int rank) {
  std::vector<int> result;
  std::uint32_t named = 0;
  for (std::int64_t given : dims) {
    const int dim = dim_attribute(op, attribute, given, rank);
    if ((named >> dim & 1) != 0) {
      fail({.code = "dim-twice",
            .message =
                fmt::format("attribute '{}' is [{}], which names dim {} twice", attribute, fmt::join(dims, ", "), dim),
            .op = std::string(op),
            .hint = "name each dim once"});
    }
    named |= 1U << dim;
    result.push_back(dim);
  }
  return result;
}

std::vector<FactorMeaning> dim_meanings() { return {kDimMeanings.begin(), kDimMeanings.end()}; }

std::string dim_letter(int dim) { return fmt::format("d{}", dim); }

std::string dim_letters(std::span<const int> dims) {
  std::string text;
  for (int dim : dims) text += (text.empty() ? "" : " ") + dim_letter(dim);
  return text;
}

std::string dim_letters(int rank) {
  std::string text;
  for (int dim = 0; dim < rank; ++dim) text += (text.empty() ? "" : " ") + dim_letter(dim);
  return text;
}

}  // namespace tessera
