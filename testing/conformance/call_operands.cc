// The inputs of a case as operands of the operator's rule.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "layouts/json_reader.h"
#include "support/diagnostic.h"
#include "testing/conformance/call.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

// A tensor with a layout is an object that has one; anything else is a plain tensor or no tensor at all.
bool is_distributed(const Json& input) {
  return input.is_object() && !(value_or_null(input, "alias").is_null() && value_or_null(input, "tensor_map").is_null() &&
                                value_or_null(input, "placements").is_null());
}

std::vector<std::int64_t> read_sizes(const Json& json) {
  std::vector<std::int64_t> sizes = read_integers(json, "", "a shape", "a size");
  for (std::int64_t& size : sizes) size = std::max<std::int64_t>(size, -1);
  return sizes;
}

bool is_flat(const Json& list) {
  return std::all_of(list.begin(), list.end(), [](const Json& entry) { return !entry.is_array() && !entry.is_null(); });
}

// The shapes that the attributes give the inputs, in the order of the inputs; null where they give none.
std::vector<const Json*> shapes_of(const Json& attributes) {
  std::vector<const Json*> shapes;
  if (!attributes.is_object()) return shapes;
  for (const auto& [name, value] : attributes.items()) {
    const bool lists = value.is_array() && !value.empty() && !is_flat(value);
    if (name == "input_shape" || (name == "input_shapes" && value.is_array() && is_flat(value))) {
      shapes = {&value};
    } else if (name == "input_shapes" || name == "input_and_target_shape" ||
               (lists && name != "extra_args" && name != "args")) {
      shapes.clear();
      for (const Json& shape : value) shapes.push_back(shape.is_array() ? &shape : nullptr);
    }
  }
  return shapes;
}

// Which input each operand is: by role where all inputs have a role that is an operand's name, else by position.
std::vector<int> match(const Json& inputs, const Json& roles, const DistributedOp& op) {
  const std::size_t operands = op.rule.operands.size();
  std::vector<int> by_role(operands, -1);
  bool all_known = roles.is_array() && roles.size() == inputs.size();
  for (std::size_t i = 0; all_known && i < roles.size(); ++i) {
    const int operand = roles[i].is_string() ? find_operand(op.rule, roles[i].get_ref<const std::string&>()) : -1;
    all_known = operand >= 0;
    if (all_known) by_role[static_cast<std::size_t>(operand)] = static_cast<int>(i);
  }
  if (all_known) return by_role;
  std::size_t surplus = inputs.size() > operands ? inputs.size() - operands : 0;
  std::vector<int> order;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (surplus > 0 && inputs[i].is_null()) {
      --surplus;
    } else {
      order.push_back(static_cast<int>(i));
    }
  }
  if (surplus > 0) {
    fail(Diagnostic{.code = "too-many-operands",
                    .message = fmt::format("takes {} operands, {} are given", operands, order.size()),
                    .op = op.name});
  }
  order.resize(operands, -1);
  return order;
}

// Operands that the peers' operators take only with a layout: a plain tensor there is none, but beside another plain one.
struct NeedsLayout {
  std::string_view op;
  std::string_view operand;
  std::string_view unless{};  // the operand beside which it may be plain
};
constexpr NeedsLayout kNeedLayouts[] = {{"scaled_dot_product_attention", "query"},
                                        {"scaled_dot_product_attention", "key", "value"},
                                        {"scaled_dot_product_attention", "value", "key"},
                                        {"embedding", "ids"},
                                        {"embedding", "weight"}};

// Whether a null stands for a plain tensor, which counts as replicated, rather than for none.
bool may_be_plain(const DistributedOp& op, int operand, const Json& inputs, std::span<const int> order) {
  for (const NeedsLayout& need : kNeedLayouts) {
    if (need.op != op.name || need.operand != operand_name(op.rule, operand)) continue;
    const int other = find_operand(op.rule, need.unless);
    const int at = other < 0 ? -1 : order[static_cast<std::size_t>(other)];
    if (at < 0 || !inputs[static_cast<std::size_t>(at)].is_null()) return false;
  }
  return true;
}

// The input's dims and sizes. The rank is that of the layout where no shape is given.
void read_input(CallOperand& operand, const Json& input, DeviceMesh mesh) {
  operand.input = &input;
  if (const Json& shape = value_or_null(input, "shape"); shape.is_array()) operand.known = read_sizes(shape);
  if (value_or_null(input, "shape").is_array()) operand.rank = static_cast<int>(operand.known.size());
  const Json& alias = value_or_null(input, "alias");
  const Json& dims = alias.is_array() ? alias : value_or_null(input, "tensor_map");
  if (!dims.is_array()) return;
  if (!operand.rank) operand.rank = static_cast<int>(dims.size());
  for (std::size_t dim = 0; dim < dims.size() && dim < kMaxRank; ++dim) {
    Json one = input;
    one.erase("partial");
    one.erase("placements");
    for (const char* notation : {"alias", "tensor_map"}) {
      if (one.contains(notation)) one[notation] = Json::array({input[notation].at(dim)});
    }
    const Layout layout = effective(read_case_layout(one, input.contains("mesh_shape") ? read_case_mesh(input) : mesh));
    if (!layout.splitting_axes().empty()) operand.split |= 1U << dim;
  }
}

}  // namespace

std::vector<CallOperand> read_operands(const Json& test, const DistributedOp& op, DeviceMesh mesh) {
  const Json& inputs = required(test, "inputs", "");
  if (!inputs.is_array()) fail_json_type(inputs, "/inputs", "a list of inputs");
  const Json& attributes = value_or_null(test, "attrs");
  const std::vector<int> order = match(inputs, value_or_null(attributes, "input_roles"), op);
  const std::vector<const Json*> shapes = shapes_of(attributes);
  std::vector<CallOperand> operands(op.rule.operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    CallOperand& operand = operands[i];
    const bool given = order[i] >= 0;
    const auto at = static_cast<std::size_t>(given ? order[i] : static_cast<int>(i));
    const Json* shape = at < shapes.size() ? shapes[at] : nullptr;
    const bool distributed = given && is_distributed(inputs[at]);
    if (distributed) read_input(operand, inputs[at], mesh);
    // What is not mentioned at all is missing, unless the case gives a shape for it.
    const bool plain =
        given ? inputs[at].is_null() && may_be_plain(op, static_cast<int>(i), inputs, order) : shape != nullptr;
    operand.present = distributed || (!op.rule.operands[i].optional && plain);
    if (operand.present && shape != nullptr && operand.known.empty()) {
      operand.known = read_sizes(*shape);
      operand.rank = static_cast<int>(operand.known.size());
    }
    if (operand.rank.value_or(0) > static_cast<int>(kMaxRank)) {
      fail("rank-too-large", fmt::format("an input has {} dims, a tensor has at most {}", *operand.rank, kMaxRank));
    }
  }
  const Json& normalized = value_or_null(attributes, "normalized_shape");
  if (!operands.empty() && operands[0].present && operands[0].known.empty() && operands[0].rank && normalized.is_array()) {
    const std::vector<std::int64_t> end = read_sizes(normalized);  // the sizes of the last dims
    const auto rank = static_cast<std::size_t>(*operands[0].rank);
    if (end.size() <= rank) {
      operands[0].known.assign(rank - end.size(), -1);
      operands[0].known.insert(operands[0].known.end(), end.begin(), end.end());
    }
  }
  return operands;
}

}  // namespace tessera::conformance
