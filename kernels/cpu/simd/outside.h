// What the headers of this folder take from outside. Included before an instruction set becomes the compilation target, so
// that no function shared with the rest of the program (the standard library's templates) is compiled for a machine that
// may not be there.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/tensor/dtype.h"
#include "kernels/cpu/indexer_blocks.h"
#include "kernels/cpu/leaves.h"
