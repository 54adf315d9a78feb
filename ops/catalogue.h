// The catalogue: every operator that Tessera knows, one table a family.
#pragma once

#include "core/op/registry.h"

namespace tessera {

/// The registry of the process, filled with the catalogue when it is first asked for. Register operators of your own in it, or in a
/// registry made with `register_catalogue`.
Registry& catalogue();

/// Adds all families to a registry.
void register_catalogue(Registry& registry);

void register_elementwise(Registry& registry);   ///< elementwise.cc: unary and binary, with broadcast
void register_casts(Registry& registry);         ///< casts.cc
void register_scalars(Registry& registry);       ///< scalars.cc: a tensor and a number
void register_matmul(Registry& registry);        ///< matmul.cc: matmul, batch matmul, linear
void register_reductions(Registry& registry);    ///< reductions.cc: sum, mean, max, ...
void register_normalize(Registry& registry);     ///< normalize.cc: softmax, rms_norm, layer_norm
void register_embedding(Registry& registry);     ///< embedding.cc
void register_shapes(Registry& registry);        ///< shapes.cc: transpose, permute, reshape, view, flatten
void register_redistribute(Registry& registry);  ///< redistribute.cc: a change of layout as an operator
void register_attention(Registry& registry);  ///< attention/: scaled dot-product, sparse flash attention, lightning indexer

}  // namespace tessera
