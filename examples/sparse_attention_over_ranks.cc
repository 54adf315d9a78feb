// DeepSeek sparse attention, context-parallel: the lightning indexer picks keys for each query, sparse flash attention reads them. The
// sequence of the queries is split over four ranks; keys are whole on each. The numbers are those of one rank.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/comm/ranks.h"
#include "core/op/dispatcher.h"
#include "core/tensor/random.h"
#include "layouts/notation.h"
#include "ops/catalogue.h"

namespace {

using namespace tessera;

// One layer on the ranks of a mesh that splits the sequence over "cp"; every rank returns the whole output.
Tensor run_layer(Communicator& comm, Dispatcher& dispatcher, DeviceMesh mesh) {
  constexpr std::int64_t kBatch = 1, kSequence = 22, kHeads = 4, kLatent = 32, kRope = 8, kIndexHeads = 4, kIndexDim = 16;
  const auto part = [&](const char* name, const Shape& shape, const char* layout) {
    return DTensor::distribute(random_normal(shape, DType::kF64, 1, name), parse_layout(mesh, layout), comm.rank());
  };
  const DTensor query = part("query", {kBatch, kSequence, kHeads, kLatent}, "[-, cp:head_tail, -, -]");
  const DTensor query_rope = part("query_rope", {kBatch, kSequence, kHeads, kRope}, "[-, cp:head_tail, -, -]");
  const DTensor latent = part("latent", {kBatch, kSequence, 1, kLatent}, "[-, -, -, -]");
  const DTensor key_rope = part("key_rope", {kBatch, kSequence, 1, kRope}, "[-, -, -, -]");
  const DTensor index_query = part("index_query", {kBatch, kSequence, kIndexHeads, kIndexDim}, "[-, cp:head_tail, -, -]");
  const DTensor index_key = part("index_key", {kBatch, kSequence, 1, kIndexDim}, "[-, -, -, -]");
  const DTensor index_weights = part("index_weights", {kBatch, kSequence, kIndexHeads}, "[-, cp:head_tail, -]");

  const DTensor indices =
      dispatcher.dispatch(comm, "lightning_indexer", {index_query, index_key, index_weights}, {{"sparse_count", 6L}})[0];
  const auto none = std::nullopt;
  const DTensor out = dispatcher.dispatch(comm, "sparse_flash_attention",
                                          {query, latent, none, indices, none, none, none, query_rope, key_rope},
                                          {{"scale_value", 1 / std::sqrt(double(kLatent + kRope))}})[0];
  return out.full_tensor(comm);
}

}  // namespace

int main() {
  Dispatcher dispatcher(catalogue());
  Tensor whole, split;
  run_ranks(1, [&](Communicator& comm) { whole = run_layer(comm, dispatcher, DeviceMesh({{"cp", 1}})); });
  run_ranks(4, [&](Communicator& comm) {
    const Tensor out = run_layer(comm, dispatcher, DeviceMesh({{"cp", 4}}));
    if (comm.rank() == 0) split = out;
  });
  double difference = 0;
  for (std::size_t i = 0; i < whole.span<double>().size(); ++i) {
    difference = std::max(difference, std::abs(whole.span<double>()[i] - split.span<double>()[i]));
  }
  fmt::print("{} outputs; largest difference between 1 rank and 4: {}\n", to_string(whole), difference);
  return difference == 0 ? 0 : 1;
}
