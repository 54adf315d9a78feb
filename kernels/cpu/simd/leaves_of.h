// The table of one instruction set's leaves.
#pragma once

#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/few.h"
#include "kernels/cpu/simd/gradient.h"
#include "kernels/cpu/simd/indexer.h"
#include "kernels/cpu/simd/indexer_loss.h"

namespace tessera::kernels::cpu {

template <class Isa>
constexpr Leaves kLeavesOf = {
    .name = Isa::kName,
    .lanes = Isa::kLanes,
    .attention = {attend<Isa, DType::kF32>, attend<Isa, DType::kBF16>, attend<Isa, DType::kF16>,
                  attend<WithoutPairs<Isa>, DType::kBF16>},
    .attention_of_few = {attend_few<Isa, DType::kF32>, attend_few<Isa, DType::kBF16>, attend_few<Isa, DType::kF16>,
                         attend_few<Isa, DType::kBF16>},
    .gradient = {attend_backward<Isa, DType::kF32>, attend_backward<Isa, DType::kBF16>, attend_backward<Isa, DType::kF16>,
                 attend_backward<WithoutPairs<Isa>, DType::kBF16>},
    .index_scores = {index_scores<Isa, DType::kF32>, index_scores<Isa, DType::kBF16>, index_scores<Isa, DType::kF16>,
                     index_scores<Isa, DType::kBF16>},
    .index_statistics = {index_statistics<Isa, DType::kF32>, index_statistics<Isa, DType::kBF16>,
                         index_statistics<Isa, DType::kF16>, index_statistics<Isa, DType::kBF16>},
    .index_loss = {index_loss<Isa, DType::kF32>, index_loss<Isa, DType::kBF16>, index_loss<Isa, DType::kF16>,
                   index_loss<WithoutPairs<Isa>, DType::kBF16>},
    .narrow = narrow<Isa>,
};

}  // namespace tessera::kernels::cpu
