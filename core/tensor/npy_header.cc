// Parsing and writing the header of a .npy file: a Python dictionary in a fixed form.
#include "core/tensor/npy_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <istream>
#include <optional>
#include <string_view>
#include <utility>

#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kLongestHeader = 1 << 16;  // NumPy itself refuses more than 10000 bytes
constexpr bool kBigEndianHost = std::endian::native == std::endian::big;

[[noreturn]] void fail_format(const std::string& name, std::string_view what, std::string hint = {}) {
  fail("npy-format", fmt::format("{}: {}", name, what), std::move(hint));
}

// What a file holds where something else was expected, fit to print: at most 32 bytes, others than ASCII as \x93.
std::string quoted(std::string_view bytes) {
  constexpr std::size_t kMost = 32;
  std::string text;
  for (char c : bytes.substr(0, kMost)) {
    const auto code = static_cast<unsigned char>(c);
    text += code >= 0x20 && code < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", code);
  }
  return fmt::format("'{}{}'", text, bytes.size() > kMost ? "..." : "");
}

struct ElementName {
  std::string_view text;  // without the byte order
  DType dtype;
  NpyKind kind;
  std::int64_t size;
};

constexpr std::array kElements{
    ElementName{"f4", DType::kF32, NpyKind::kSame, 4},  ElementName{"f8", DType::kF64, NpyKind::kSame, 8},
    ElementName{"f2", DType::kF16, NpyKind::kSame, 2},  ElementName{"V2", DType::kBF16, NpyKind::kSame, 2},
    ElementName{"i4", DType::kI32, NpyKind::kSame, 4},  ElementName{"i8", DType::kI64, NpyKind::kSame, 8},
    ElementName{"b1", DType::kBool, NpyKind::kBool, 1}, ElementName{"i1", DType::kI32, NpyKind::kI8, 1},
    ElementName{"u1", DType::kI32, NpyKind::kU8, 1},    ElementName{"i2", DType::kI32, NpyKind::kI16, 2},
    ElementName{"u2", DType::kI32, NpyKind::kU16, 2},   ElementName{"u4", DType::kI64, NpyKind::kU32, 4},
};

NpyElement element_of(std::string_view descr, const std::string& name) {
  const char order = descr.empty() ? '\0' : descr.front();
  for (const ElementName& known : kElements) {
    if (descr.empty() || known.text != descr.substr(1)) continue;
    const bool orderless = known.size == 1 || known.text == "V2";
    if (order != '<' && order != '>' && !(orderless && order == '|')) continue;
    const bool big_endian = known.size == 1 || order == '|' ? kBigEndianHost : order == '>';
    return {known.dtype, known.kind, known.size, big_endian};
  }
  fail_format(name, fmt::format("elements of type {} are not supported", quoted(descr)),
              "save real floats, integers of up to 64 bits (unsigned: 32) or bools");
}

// Reads the dictionary from left to right.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader parse() {
    std::optional<std::string> descr;
    std::optional<bool> fortran_order;
    std::optional<Shape> shape;
    expect('{');
    while (!accept('}')) {
      const std::string key = parse_string();
      expect(':');
      if (key == "descr" && !descr) descr = parse_descr();
      else if (key == "fortran_order" && !fortran_order) fortran_order = parse_bool();
      else if (key == "shape" && !shape) shape = parse_shape();
      else fail_format(name_, fmt::format("the header has {} twice or does not know it", quoted(key)));
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_space();
    if (at_ != text_.size()) fail_expected("its end");
    if (!descr) fail_format(name_, "the header lacks 'descr'");
    if (!fortran_order) fail_format(name_, "the header lacks 'fortran_order'");
    if (!shape) fail_format(name_, "the header lacks 'shape'");
    return {*descr, element_of(*descr, name_), *fortran_order, *shape};
  }

 private:
  [[noreturn]] void fail_expected(std::string_view expected) const {
    const std::string found = at_ < text_.size() ? quoted(text_.substr(at_)) : "its end";
    fail_format(name_, fmt::format("the header must have {} at byte {}, but has {}", expected, at_, found));
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail_expected(fmt::format("'{}'", wanted));
  }

  // None of the strings of a sound header has an escape in it; one with a backslash is no known key or type.
  std::string parse_string() {
    skip_space();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) fail_expected("a string");
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) fail_expected("a string that ends");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }

  std::string parse_descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') {
      fail_format(name_, "structured elements are not supported", "save each field as an array of its own");
    }
    return parse_string();
  }

  bool parse_bool() {
    skip_space();
    for (const auto& [word, value] : {std::pair{std::string_view("True"), true}, {std::string_view("False"), false}}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail_expected("True or False");
  }

  // "()", "(3,)", "(2, 3)"; Python 2 wrote "(2L, 3L)". "(3)" is no tuple.
  Shape parse_shape() {
    expect('(');
    Shape shape;
    while (!accept(')')) {
      if (shape.full()) fail_format(name_, fmt::format("the shape has more than {} dims", kMaxRank));
      shape.push_back(parse_size());
      if (accept(',')) continue;
      if (shape.size() == 1) fail_expected("','");
      expect(')');
      break;
    }
    return shape;
  }

  std::int64_t parse_size() {
    skip_space();
    const char* const begin = text_.data() + at_;
    if (at_ == text_.size() || *begin < '0' || *begin > '9') fail_expected("a size of 0 or more");
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc{}) fail_expected("a size below 2^63");
    at_ += static_cast<std::size_t>(end - begin);
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;
    return value;
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
};

std::string read_exactly(std::istream& in, std::size_t count, const std::string& name) {
  std::string bytes(count, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(count));
  if (static_cast<std::size_t>(in.gcount()) < count) {
    fail_format(name, "truncated: it ends inside its header", "write the file again");
  }
  return bytes;
}

}  // namespace

NpyHeader read_npy_header(std::istream& in, const std::string& name) {
  std::string magic(kMagic.size(), '\0');
  in.read(magic.data(), static_cast<std::streamsize>(magic.size()));
  magic.resize(static_cast<std::size_t>(in.gcount()));
  if (magic != kMagic) {
    fail_format(name, fmt::format("no .npy file: it begins with {}, not with {}", quoted(magic), quoted(kMagic)),
                magic.starts_with("PK") ? "it seems to be an .npz archive: unzip it, and load what is inside" : "");
  }
  const std::string version = read_exactly(in, 2, name);
  if (version[0] < 1 || version[0] > 3 || version[1] != 0) {
    fail_format(name,
                fmt::format("format version {}.{} is not supported", static_cast<unsigned char>(version[0]),
                            static_cast<unsigned char>(version[1])),
                "versions 1.0, 2.0 and 3.0 are");
  }
  const std::string digits = read_exactly(in, version[0] == 1 ? 2 : 4, name);
  std::size_t length = 0;
  for (std::size_t i = digits.size(); i-- > 0;) length = length << 8 | static_cast<unsigned char>(digits[i]);
  if (length > kLongestHeader) {
    fail_format(name, fmt::format("a header of {} bytes is too long: at most {} are read", length, kLongestHeader));
  }
  return HeaderParser(read_exactly(in, length, name), name).parse();
}

std::string npy_header_text(const Shape& shape, DType dtype) {
  const auto known = std::find_if(kElements.begin(), kElements.end(), [&](const ElementName& element) {
    return element.dtype == dtype && element.size == size_of(dtype);
  });
  const char order = known->size == 1 ? '|' : kBigEndianHost ? '>' : '<';
  std::string dictionary = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}", order, known->text,
                                       fmt::join(shape.begin(), shape.end(), ", "), shape.size() == 1 ? "," : "");
  const std::size_t before = kMagic.size() + 4;
  dictionary.append(63 - (before + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  const std::size_t length = dictionary.size();
  return fmt::format("{}\x01{}{}{}{}", kMagic, '\0', static_cast<char>(length & 0xff), static_cast<char>(length >> 8),
                     dictionary);
}

}  // namespace tessera
