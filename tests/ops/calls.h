// Calls of the catalogue's dense operators: a registry of them, their examples read, and the text of what a call throws.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/op/registry.h"
#include "testing/prover.h"

namespace tessera {

/// The catalogue without attention.
const Registry& dense_catalogue();

/// An example as it is meant: "f32 [8, 16] [dp, tp]" on "dp=2 x tp=2".
struct ExampleCall {
  DeviceMesh mesh;
  std::vector<std::optional<TensorSpec>> operands;
  Attributes attributes;

  [[nodiscard]] std::vector<const TensorSpec*> pointers() const;
};
ExampleCall read_example(const Example& example);

/// The whole text of the Error that `call` throws, or "no error".
std::string error_of(const std::function<void()>& call);
/// The same of planning a call on a mesh, operands as in an example.
std::string error_of(std::string_view op, std::string_view mesh, const std::vector<std::string>& operands,
                     const std::vector<Attributes::Entry>& attributes = {});

/// The layouts of the results, as text: "[dp, -] partial(tp: sum)", "[dp], [dp]"; or the Error's code: "factor-conflict".
std::string results_of(std::string_view op, std::string_view mesh, const std::vector<std::string>& operands,
                       const std::vector<Attributes::Entry>& attributes = {});

/// The rule that a call is planned by, as text.
std::string rule_of(std::string_view op, const std::vector<std::string>& operands,
                    const std::vector<Attributes::Entry>& attributes = {});

/// What the operator computes of these tensors on one device.
std::vector<Tensor> compute(std::string_view op, const std::vector<std::optional<Tensor>>& operands,
                            const std::vector<Attributes::Entry>& attributes = {});

/// Expects every call that the operator accepts to give what the unsharded one gives: on two ranks with every distribution
/// and with sums, averages and maxima pending, on 2 x 2 ranks in blocks with sums pending.
void expect_sound(std::string_view op, const std::vector<std::optional<TensorCase>>& operands,
                  const std::vector<Attributes::Entry>& attributes = {});

/// The elements of a tensor as numbers, row major.
std::vector<double> numbers(const Tensor& tensor);

/// A list as an attribute.
inline AttributeValue ints(std::initializer_list<std::int64_t> values) { return std::vector<std::int64_t>(values); }
/// An integer as an attribute.
inline AttributeValue integer(std::int64_t value) { return value; }

}  // namespace tessera
