// redistribute: a change of layout as an operator, where a program wants one.
#include <fmt/format.h>

#include "core/dtensor/dtensor.h"
#include "layouts/notation.h"
#include "ops/catalogue.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

// Where another layout is wanted than what an operator yields, as after a row-parallel linear: [dp, -, -] partial(tp: sum) to [dp, -, -].
std::vector<Layout> wanted_layout(const CallSpec& call) {
  const TensorSpec& x = *call.operands[0];
  const auto& text = call.attributes.get<std::string>("layout");
  const Layout layout = parse_layout(x.layout.mesh(), text);
  if (const auto why = misfit(layout, x.shape)) {
    fail(Diagnostic{.code = "layout-misfit",
                    .message = fmt::format("x of shape {} cannot have layout {}: {}", to_string(x.shape), text, *why),
                    .op = "redistribute"});
  }
  for (int axis = 0; axis < layout.mesh().axis_count(); ++axis) {
    const bool bundle = layout.partials()[axis] == Partial::kSoftmax || x.layout.partials()[axis] == Partial::kSoftmax;
    if (!bundle || layout.partials()[axis] == x.layout.partials()[axis]) continue;
    reduction_of(Partial::kSoftmax);  // throws: no reduction of tensors merges bundles
  }
  return {layout};
}

std::vector<Tensor> change_layout(const LocalCall& call, Communicator& comm) {
  const TensorSpec& from = *call.plan.operands[0];
  const DTensor x = DTensor::from_local(call.input(0), from.layout, from.shape, comm.rank());
  return {redistribute(x, call.plan.results[0].layout, comm).to_local()};
}

}  // namespace

void register_redistribute(Registry& registry) {
  DistributedOp op;
  op.name = "redistribute";
  op.rule = "x[...] -> out[...] | move x";
  op.aliases = {"reshard"};
  op.summary = "x in another layout: pending reductions are made, shards exchanged";
  op.attributes = {{.name = "layout",
                    .type = AttributeType::kString,
                    .doc = "the layout wanted, as text: [dp, cp+tp, -] partial(tp: sum)",
                    .required = true}};
  op.result_layouts = wanted_layout;
  op.collective = change_layout;
  op.examples = {{.operands = {"f32 [8, 16] [dp, tp]"}, .attributes = {{"layout", "[tp, dp]"}}},
                 {.operands = {"f32 [8, 16] [dp, -] partial(tp: sum)"}, .attributes = {{"layout", "[dp, -]"}}}};
  registry.add(std::move(op));
}

}  // namespace tessera
