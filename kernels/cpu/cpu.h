// The fast provider: attention on the machine's vector units and threads, float32 arithmetic for f32, bf16 and f16 storage.
//
// `refusal` tells why it does not take a call, "" where it does. Results agree with the reference to rounding: 2e-6 of the
// largest magnitude in f32, 1.5 roundings of the storage type in bf16 and f16. They are the same bits in every run and for
// every number of threads; how rows are cut into calls, and the instruction set, may change their roundings. A NaN or
// infinity in a value (in the gradient, in a key too) reaches all rows of the block of rows in which some row sees it.
#pragma once

#include <string>

#include "kernels/attention.h"
#include "kernels/lightning_indexer.h"
#include "kernels/sparse_attention.h"

namespace tessera::kernels::cpu {

std::string refusal(const AttentionCall& call);
AttentionResult attention(const AttentionCall& call);

std::string refusal(const AttentionBackwardCall& call);
AttentionGradients attention_backward(const AttentionBackwardCall& call);

std::string refusal(const SparseAttentionCall& call);
AttentionResult sparse_attention(const SparseAttentionCall& call);

std::string refusal(const SparseAttentionBackwardCall& call);
SparseAttentionGradients sparse_attention_backward(const SparseAttentionBackwardCall& call);

/// The indexer takes weights of another storage type than the queries'. Its scores are sums in f32: of keys whose scores
/// differ by less than their rounding, either may be chosen or come first; equal scores of exact sums go to the lower key,
/// as the reference has it.
std::string refusal(const IndexerCall& call);
IndexerResult lightning_indexer(const IndexerCall& call);

std::string refusal(const IndexerLseCall& call);
LseResult indexer_softmax_lse(const IndexerLseCall& call);

std::string refusal(const IndexerLossCall& call);
IndexerLossResult indexer_kl_loss(const IndexerLossCall& call);

}  // namespace tessera::kernels::cpu
