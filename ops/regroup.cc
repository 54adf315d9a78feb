// The rule of a reshape: the finest factors that two shapes share.
#include "ops/regroup.h"

#include <fmt/format.h>

#include <numeric>
#include <string>
#include <vector>

#include "support/diagnostic.h"

namespace tessera {
namespace {

// The factors of a tensor's dims, as they are found from the left.
class Side {
 public:
  explicit Side(const Shape& shape) : shape_(shape), dims_(shape.size()) { load(); }

  [[nodiscard]] bool done() const { return dim_ == shape_.size(); }
  /// What is left of the current dim.
  [[nodiscard]] std::int64_t rest() const { return rest_; }
  /// Whether nothing of the current dim is taken yet.
  [[nodiscard]] bool fresh() const { return dims_[dim_].empty(); }
  /// Takes a factor off the current dim.
  void take(char letter, std::int64_t size) {
    dims_[dim_] += (dims_[dim_].empty() ? "" : " ") + std::string(1, letter);
    rest_ = size == 0 ? 1 : rest_ / size;
  }
  void next() {
    ++dim_;
    load();
  }
  /// "(a b) c 1".
  [[nodiscard]] std::string text() const {
    std::string text;
    for (const std::string& dim : dims_) {
      text += text.empty() ? "" : " ";
      text += dim.empty() ? "1" : dim.size() == 1 ? dim : "(" + dim + ")";
    }
    return text;
  }

 private:
  void load() { rest_ = done() ? 1 : shape_[dim_]; }

  const Shape& shape_;
  std::vector<std::string> dims_;
  std::size_t dim_ = 0;
  std::int64_t rest_ = 1;
};

// Finds the factors; letters are a, b, c, ... in the order in which they are found.
class Regrouping {
 public:
  Regrouping(const Shape& from, const Shape& to) : x_(from), out_(to) {}

  Rule rule() {
    while (!x_.done() || !out_.done()) step();
    std::string text = fmt::format("x[{}] -> out[{}]", x_.text(), out_.text());
    if (!whole_.empty()) text += " | whole" + whole_;
    if (!sizes_.empty()) text += " | size" + sizes_;
    return Rule::parse(text + " | move x");
  }

 private:
  void step() {
    const bool both = !x_.done() && !out_.done();
    if (both && x_.rest() == out_.rest() && x_.fresh() && out_.fresh()) {
      share(x_.rest());  // a dim that stays, be it of size 1
      x_.next();
      out_.next();
    } else if (!x_.done() && x_.rest() == 1) {
      x_.next();
    } else if (!out_.done() && out_.rest() == 1) {
      out_.next();
    } else if (const std::int64_t common = std::gcd(x_.rest(), out_.rest()); common > 1) {
      share(common);
    } else {
      keep_until_borders_meet();
    }
  }

  void share(std::int64_t size) {
    const char letter = name(size);
    x_.take(letter, size);
    out_.take(letter, size);
  }

  // Sizes 2 then 9 beside 3 then 6: no border of x's dims is one of the result's before 18.
  void keep_until_borders_meet() {
    std::int64_t x = x_.rest();
    std::int64_t out = out_.rest();
    keep(x_);
    keep(out_);
    while (x != out) {
      Side& behind = x < out ? x_ : out_;
      behind.next();
      (x < out ? x : out) *= behind.rest();
      keep(behind);
    }
  }

  void keep(Side& side) {
    if (side.rest() == 1) return;
    const char letter = name(side.rest());
    whole_ += fmt::format(" {}", letter);
    side.take(letter, side.rest());
  }

  char name(std::int64_t size) {
    const auto letter = static_cast<char>('a' + count_++);
    if (size > 0) sizes_ += fmt::format(" {}={}", letter, size);
    return letter;
  }

  Side x_;
  Side out_;
  std::string whole_;
  std::string sizes_;
  int count_ = 0;
};

// Of an empty tensor only leading dims that stay are shared; nothing else could be told apart.
Rule regroup_empty(std::string_view op, const Shape& from, const Shape& to) {
  std::string x;
  std::string out;
  std::string whole;
  std::string sizes;
  char letter = 'a';
  std::size_t shared = 0;
  while (shared < std::min(from.size(), to.size()) && from[shared] == to[shared]) ++shared;
  char empty = 0;
  for (std::size_t dim = 0; dim < from.size(); ++dim, ++letter) {
    x += fmt::format("{}{}", dim > 0 ? " " : "", letter);
    if (dim < shared) continue;
    whole += fmt::format(" {}", letter);
    if (from[dim] == 0) empty = letter;
  }
  for (std::size_t dim = 0; dim < to.size(); ++dim) {
    out += dim > 0 ? " " : "";
    if (dim < shared) {
      out += static_cast<char>('a' + static_cast<char>(dim));
    } else if (to[dim] == 0) {
      if (empty == 0) {
        fail({.code = "reshape-size",
              .message = fmt::format("x {} is empty, and {} of {} has no size 0 of x to come from", to_string(from),
                                     fmt::format("dim {}", dim), to_string(to)),
              .op = std::string(op),
              .hint = "give the result as many dims of size 0 as x has"});
      }
      out += empty;
      empty = 0;
    } else {
      out += letter;
      whole += fmt::format(" {}", letter);
      sizes += fmt::format(" {}={}", letter++, to[dim]);
    }
  }
  std::string text = fmt::format("x[{}] -> out[{}]", x, out);
  if (!whole.empty()) text += " | whole" + whole;
  if (!sizes.empty()) text += " | size" + sizes;
  return Rule::parse(text + " | move x");
}

[[noreturn]] void refuse(std::string_view op, std::string_view code, std::string message, std::string hint) {
  fail({.code = std::string(code),
        .message = std::move(message),
        .op = std::string(op),
        .operand = "x",
        .hint = std::move(hint)});
}

}  // namespace

Shape target_shape(std::string_view op, const Shape& from, std::span<const std::int64_t> sizes) {
  const std::string given = fmt::format("[{}]", fmt::join(sizes, ", "));
  if (sizes.size() > kMaxRank) {
    refuse(op, "rank-too-large",
           fmt::format("shape {} has {} dims, a tensor has at most {}", given, sizes.size(), kMaxRank),
           "ask for fewer dims");
  }
  const std::int64_t count = element_count(from);
  Shape to;
  Shape known;
  int open = -1;
  for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
    if (sizes[dim] < -1) {
      refuse(op, "reshape-size", fmt::format("shape {} has size {} in dim {}", given, sizes[dim], dim),
             "a size is 0 or more, or -1 for the one that is left");
    }
    if (sizes[dim] == -1 && open >= 0)
      refuse(op, "reshape-size", fmt::format("shape {} has -1 twice", given), "only one size can be what is left");
    if (sizes[dim] == -1) open = static_cast<int>(dim);
    to.push_back(sizes[dim]);
    if (sizes[dim] != -1) known.push_back(sizes[dim]);
  }
  const std::int64_t product = element_count(known);
  if (open >= 0) {
    if (product == 0)
      refuse(op, "reshape-size", fmt::format("shape {} has -1 beside a size of 0, which leaves any size", given),
             "write the size instead of -1");
    if (count % product != 0) {
      refuse(op, "element-count",
             fmt::format("x {} has {} elements, no multiple of the {} of shape {}", to_string(from), count, product, given),
             "give sizes whose product divides the number of elements");
    }
    to[static_cast<std::size_t>(open)] = count / product;
  } else if (product != count) {
    refuse(op, "element-count",
           fmt::format("x {} has {} elements, shape {} has {}", to_string(from), count, given, product),
           "give sizes with as many elements, one of them perhaps -1");
  }
  return to;
}

Rule regroup_rule(std::string_view op, const Shape& from, const Shape& to) {
  return element_count(from) == 0 ? regroup_empty(op, from, to) : Regrouping(from, to).rule();
}

}  // namespace tessera
