// Names of reductions.
#include "core/comm/communicator.h"

namespace tessera {

std::string_view to_string(Reduction reduction) {
  switch (reduction) {
    case Reduction::kSum: return "sum";
    case Reduction::kAvg: return "avg";
    case Reduction::kMax: return "max";
    case Reduction::kMin: return "min";
    case Reduction::kProd: return "prod";
    case Reduction::kAny: return "any";
    case Reduction::kAll: return "all";
  }
  return "unknown";
}

}  // namespace tessera
