#include "support/shape.h"

#include <fmt/format.h>

#include <limits>

#include "support/diagnostic.h"

namespace tessera {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (std::int64_t size : shape) {
    if (size < 0) fail("shape-negative", fmt::format("shape {} has a negative size", to_string(shape)));
    if (size == 0) {
      empty = true;
      continue;
    }
    if (count > std::numeric_limits<std::int64_t>::max() / size) {
      fail("shape-too-large", fmt::format("shape {} has more than 2^63-1 elements", to_string(shape)));
    }
    count *= size;
  }
  return empty ? 0 : count;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", ")); }

}  // namespace tessera
