#include "ops/catalogue.h"

namespace tessera {

void register_catalogue(Registry& registry) {
  register_elementwise(registry);
  register_casts(registry);
  register_scalars(registry);
  register_matmul(registry);
  register_reductions(registry);
  register_normalize(registry);
  register_embedding(registry);
  register_shapes(registry);
  register_redistribute(registry);
  register_attention(registry);
}

Registry& catalogue() {
  static Registry& registry = *[] {
    auto* filled = new Registry;  // lives as long as the process: ranks may still run when statics end
    register_catalogue(*filled);
    return filled;
  }();
  return registry;
}

}  // namespace tessera
