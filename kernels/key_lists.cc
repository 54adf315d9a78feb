// What is wrong with a list of key blocks.
#include "kernels/key_lists.h"

#include <fmt/format.h>

#include <string>

#include "support/diagnostic.h"

namespace tessera::kernels {

void fail_listed_block(std::string_view op, std::int64_t batch, std::int64_t row, std::int64_t key_head, std::size_t slot,
                       std::int64_t block, std::int64_t length, std::int64_t block_size) {
  fail({.code = "index-out-of-range",
        .message =
            fmt::format("slot {} of row {} (batch {}, key head {}) names block {}, but its sequence of {} keys has {} "
                        "blocks of {}",
                        slot, row, batch, key_head, block, length, (length - 1) / block_size + 1, block_size),
        .op = std::string(op),
        .operand = "indices",
        .dim = 3,
        .hint = "count blocks from the start of the row's own sequence, and end the list with -1"});
}

}  // namespace tessera::kernels
