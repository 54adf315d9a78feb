#include "tests/core/rule/einsum.h"

#include <algorithm>
#include <array>
#include <limits>

#include "support/diagnostic.h"

namespace tessera {
namespace {

using Index = std::array<std::int64_t, kMaxFactors>;

// A tensor's offsets: how far a step of each factor goes.
Index strides_of(const RuleTensor& tensor, std::uint16_t repeated, std::span<const std::int64_t> sizes,
                 const Tensor& local) {
  Index strides{};
  for (int dim = 0; dim < tensor.rank(); ++dim) {
    if ((repeated >> dim & 1) != 0) continue;
    std::int64_t step = local.strides()[static_cast<std::size_t>(dim)];
    const auto factors = tensor.dim(dim);
    for (std::size_t i = factors.size(); i-- > 0;) {
      strides[factors[i]] = step;
      step *= sizes[factors[i]];
    }
  }
  return strides;
}

Shape shape_of(const RuleTensor& tensor, std::uint16_t repeated, std::span<const std::int64_t> sizes) {
  Shape shape;
  for (int dim = 0; dim < tensor.rank(); ++dim) {
    std::int64_t n = 1;
    if ((repeated >> dim & 1) == 0) {
      for (std::uint8_t f : tensor.dim(dim)) n *= sizes[f];
    }
    shape.push_back(n);
  }
  return shape;
}

struct Term {
  std::vector<std::size_t> operands;
  std::uint32_t factors = 0;
};

std::vector<Term> terms_of(const Rule& rule) {
  std::vector<Term> terms;
  std::uint32_t placed = 0;
  for (std::uint16_t set : rule.linear_terms) {
    Term& term = terms.emplace_back();
    for (std::size_t o = 0; o < rule.operands.size(); ++o) {
      if ((set >> o & 1) != 0) term.operands.push_back(o);
    }
    placed |= set;
  }
  if (terms.empty()) terms.emplace_back();
  for (std::size_t o = 0; o < rule.operands.size(); ++o) {
    if ((placed >> o & 1) == 0) terms[0].operands.push_back(o);
  }
  return terms;
}

double combine(Partial reduction, double a, double b) {
  switch (reduction) {
    case Partial::kMax: return std::max(a, b);
    case Partial::kMin: return std::min(a, b);
    case Partial::kProd: return a * b;
    default: return a + b;
  }
}

double identity(Partial reduction) {
  switch (reduction) {
    case Partial::kMax: return -std::numeric_limits<double>::infinity();
    case Partial::kMin: return std::numeric_limits<double>::infinity();
    case Partial::kProd: return 1;
    default: return 0;
  }
}

class Evaluation {
 public:
  Evaluation(const Rule& rule, const LocalCall& call) : rule_(rule), binding_(call.plan.inference.binding), call_(call) {
    for (std::size_t f = 0; f < rule.factors.size(); ++f) {
      const DimSplit& split = call.plan.inference.factors[f];
      const DeviceMesh mesh = call.plan.mesh;
      sizes_.push_back(split.axes.empty() ? binding_.sizes[f]
                                          : owned_count(split.distribution, binding_.sizes[f], mesh.size(split.axes),
                                                        index_along(mesh, split.axes, call.coordinate)));
    }
    for (std::size_t o = 0; o < call.inputs.size(); ++o) {
      strides_.push_back({});
      if (!call.has(o)) continue;
      const std::uint16_t repeated = binding_.repeated[o];
      if (call.input(o).shape() != shape_of(rule.operands[o], repeated, sizes()))
        fail("einsum-shape", "operands do not fit together");
      strides_.back() = strides_of(rule.operands[o], repeated, sizes(), call.input(o));
    }
    terms_ = terms_of(rule);
    for (Term& term : terms_) {
      std::erase_if(term.operands, [&](std::size_t o) { return !call.has(o); });
      for (std::size_t o : term.operands) {
        for (int dim = 0; dim < rule.operands[o].rank(); ++dim) {
          for (std::uint8_t f : rule.operands[o].dim(dim))
            term.factors |= (binding_.repeated[o] >> dim & 1) != 0 ? 0 : 1U << f;
        }
      }
    }
    std::erase_if(terms_, [](const Term& term) { return term.operands.empty(); });
  }

  Tensor result(std::size_t r) const {
    const RuleTensor& tensor = rule_.results[r];
    Tensor out = Tensor::zeros(shape_of(tensor, 0, sizes()), DType::kF64);
    const Index strides = strides_of(tensor, 0, sizes(), out);
    Index index{};
    fill(tensor, strides, 0, index, out);
    return out;
  }

 private:
  std::span<const std::int64_t> sizes() const { return {sizes_.data(), sizes_.size()}; }

  void fill(const RuleTensor& tensor, const Index& strides, std::size_t f, Index& index, Tensor& out) const {
    if (f == sizes_.size()) {
      double value = 0;
      for (const Term& term : terms_) value += reduced(term, tensor, 0, index);
      std::int64_t offset = 0;
      for (std::size_t i = 0; i < sizes_.size(); ++i) offset += index[i] * strides[i];
      out.data<double>()[offset] = value;
      return;
    }
    const std::int64_t n = tensor.has(static_cast<std::uint8_t>(f)) ? sizes_[f] : 1;
    for (index[f] = 0; index[f] < n; ++index[f]) fill(tensor, strides, f + 1, index, out);
    index[f] = 0;
  }

  double reduced(const Term& term, const RuleTensor& result, std::size_t f, Index& index) const {
    while (f < sizes_.size() && (result.has(static_cast<std::uint8_t>(f)) || (term.factors >> f & 1) == 0)) ++f;
    if (f == sizes_.size()) {
      double product = 1;
      for (std::size_t o : term.operands) {
        std::int64_t offset = 0;
        for (std::size_t i = 0; i < sizes_.size(); ++i) offset += index[i] * strides_[o][i];
        product *= call_.input(o).data<double>()[offset];
      }
      return product;
    }
    const Partial reduction = rule_.factors[f].reduction;
    double total = identity(reduction);
    const std::int64_t outer = index[f];
    for (index[f] = 0; index[f] < sizes_[f]; ++index[f])
      total = combine(reduction, total, reduced(term, result, f + 1, index));
    index[f] = outer;
    return reduction == Partial::kAvg ? total / static_cast<double>(sizes_[f]) : total;
  }

  const Rule& rule_;
  const Binding& binding_;
  const LocalCall& call_;
  StaticVector<std::int64_t, kMaxFactors> sizes_;  // on this rank
  std::vector<Index> strides_;                     // by operand
  std::vector<Term> terms_;
};

}  // namespace

// The factors of a rule that computes something else are the same letters, so the binding's sizes fit both.
Kernel einsum_kernel(const Rule& computed) {
  return [computed](const LocalCall& call) {
    Rule rule = call.plan.inference.binding.rule;  // without `...`
    rule.linear_terms = computed.linear_terms;
    for (std::size_t f = 0; f < computed.factors.size(); ++f) rule.factors[f].reduction = computed.factors[f].reduction;
    const Evaluation evaluation(rule, call);
    std::vector<Tensor> results;
    for (std::size_t r = 0; r < rule.results.size(); ++r) results.push_back(evaluation.result(r));
    return results;
  };
}

DistributedOp einsum_op(const Rule& rule, const std::string& name) {
  DistributedOp op;
  op.name = name;
  op.rule = rule;
  op.kernel = einsum_kernel(rule);
  return op;
}

}  // namespace tessera
