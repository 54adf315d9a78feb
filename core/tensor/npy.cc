// Reading and writing .npy files.
#include "core/tensor/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "core/tensor/npy_header.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

constexpr bool kLittleEndianHost = std::endian::native == std::endian::little;

// Bytes from here to the stream's end; nothing where it cannot tell (a pipe).
std::optional<std::int64_t> bytes_left(std::istream& in) {
  const std::streamoff here = in.tellg();
  if (here >= 0 && in.seekg(0, std::ios::end)) {
    const std::streamoff end = in.tellg();
    if (in.seekg(here) && end >= here) return end - here;
  }
  in.clear();
  return std::nullopt;
}

// Up to `wanted` bytes of a stream of unknown length; no more memory is taken than what arrives needs.
std::string read_up_to(std::istream& in, std::int64_t wanted) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::string bytes;
  while (static_cast<std::int64_t>(bytes.size()) < wanted && in) {
    const std::size_t before = bytes.size();
    const std::int64_t piece = std::min(kPiece, wanted - static_cast<std::int64_t>(before));
    bytes.resize(before + static_cast<std::size_t>(piece));
    in.read(bytes.data() + before, piece);
    bytes.resize(before + static_cast<std::size_t>(in.gcount()));
  }
  return bytes;
}

[[noreturn]] void fail_truncated(const std::string& name, const NpyHeader& header, std::int64_t needed,
                                 std::int64_t present) {
  fail("npy-format",
       fmt::format("{}: truncated: '{}' of shape {} takes {} bytes, but {} follow the header", name, header.descr,
                   to_string(header.shape), needed, present),
       "write the file again");
}

// Bytes of a file's elements. Files cannot be longer than an int64_t says, so that no sound file fails here.
std::int64_t bytes_of(const NpyHeader& header, const std::string& name) {
  std::int64_t bytes = header.element.size;
  for (std::int64_t size : header.shape) {
    if (size != 0 && bytes > std::numeric_limits<std::int64_t>::max() / size) {
      fail("npy-format", fmt::format("{}: shape {} takes more than 2^63-1 bytes", name, to_string(header.shape)));
    }
    if (size != 0) bytes *= size;
  }
  return std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end() ? 0 : bytes;
}

void reverse_each(std::span<char> bytes, std::size_t size) {
  for (std::size_t i = 0; i < bytes.size(); i += size) std::reverse(bytes.data() + i, bytes.data() + i + size);
}

// Turns elements as they lie in the file, but in this machine's byte order, into those of a tensor.
template <class Stored, class T>
void widen(std::span<const char> bytes, T* to) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    if constexpr (std::is_same_v<T, bool>) {
      to[i] = value != 0;  // a bool of another byte than 0 and 1 is none to C++
    } else {
      to[i] = T{value};
    }
  }
}

// Elements `first` and following of `to`, from the bytes of a piece of the file.
void put_piece(std::span<char> bytes, const NpyElement& element, Tensor& to, std::int64_t first) {
  if (element.big_endian == kLittleEndianHost) reverse_each(bytes, static_cast<std::size_t>(element.size));
  switch (element.kind) {
    case NpyKind::kSame: std::memcpy(to.bytes_begin() + first * element.size, bytes.data(), bytes.size()); break;
    case NpyKind::kBool: widen<unsigned char>(bytes, to.data<bool>() + first); break;
    case NpyKind::kI8: widen<std::int8_t>(bytes, to.data<std::int32_t>() + first); break;
    case NpyKind::kU8: widen<std::uint8_t>(bytes, to.data<std::int32_t>() + first); break;
    case NpyKind::kI16: widen<std::int16_t>(bytes, to.data<std::int32_t>() + first); break;
    case NpyKind::kU16: widen<std::uint16_t>(bytes, to.data<std::int32_t>() + first); break;
    case NpyKind::kU32: widen<std::uint32_t>(bytes, to.data<std::int64_t>() + first); break;
  }
}

// The elements in the file's order, as a contiguous tensor. @pre the stream is known, or seemed, to hold them all
Tensor read_elements(std::istream& in, const NpyHeader& header, const std::string& name) {
  Shape shape = header.shape;
  if (header.fortran_order) std::reverse(shape.begin(), shape.end());
  Tensor tensor = Tensor::uninitialized(shape, header.element.dtype);
  const std::int64_t needed = tensor.count() * header.element.size;
  const bool as_it_is = header.element.kind == NpyKind::kSame && header.element.big_endian != kLittleEndianHost;
  std::int64_t done = 0;
  if (as_it_is && needed > 0) {
    in.read(reinterpret_cast<char*>(tensor.bytes_begin()), needed);
    done = in.gcount();
  }
  std::vector<char> piece(as_it_is ? 0 : static_cast<std::size_t>(std::min<std::int64_t>(needed, 1 << 16)));
  while (in && done < needed) {
    const std::span<char> bytes(piece.data(), std::min(piece.size(), static_cast<std::size_t>(needed - done)));
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!in) break;
    put_piece(bytes, header.element, tensor, done / header.element.size);
    done += static_cast<std::int64_t>(bytes.size());
  }
  if (done < needed) fail_truncated(name, header, needed, done);
  return tensor;
}

std::string reason() { return std::generic_category().message(errno); }

}  // namespace

Tensor load_npy(std::istream& in, const std::string& name) {
  const NpyHeader header = read_npy_header(in, name);
  const std::int64_t needed = bytes_of(header, name);
  Tensor tensor;
  if (const auto left = bytes_left(in)) {
    if (*left < needed) fail_truncated(name, header, needed, *left);
    tensor = read_elements(in, header, name);
  } else {
    std::istringstream arrived(read_up_to(in, needed));
    if (arrived.view().size() < static_cast<std::size_t>(needed)) {
      fail_truncated(name, header, needed, static_cast<std::int64_t>(arrived.view().size()));
    }
    tensor = read_elements(arrived, header, name);
  }
  if (!header.fortran_order) return tensor;
  std::vector<int> order;
  for (int dim = tensor.rank(); dim-- > 0;) order.push_back(dim);
  return tensor.permute(order).contiguous();
}

Tensor load_npy(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("npy-open", fmt::format("cannot open {}: {}", path.string(), reason()));
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    fail("npy-open", fmt::format("cannot open {}: it is a directory", path.string()));
  }
  Tensor tensor = load_npy(in, path.string());
  if (in.peek() != std::ifstream::traits_type::eof()) {
    fail("npy-format", fmt::format("{}: bytes follow the elements of shape {}", path.string(), to_string(tensor.shape())),
         "a file of several arrays is read from a stream");
  }
  return tensor;
}

void save_npy(const Tensor& tensor, std::ostream& out, const std::string& name) {
  const Tensor elements = tensor.dtype() == DType::kBF16 ? tensor.to(DType::kF32) : tensor.contiguous();
  const std::string header = npy_header_text(elements.shape(), elements.dtype());
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  if (elements.count() > 0) out.write(reinterpret_cast<const char*>(elements.bytes_begin()), elements.bytes());
  out.flush();
  if (!out)
    fail("npy-write", fmt::format("cannot write {} to {}", to_string(tensor), name), "check the space that is left");
}

void save_npy(const Tensor& tensor, const std::filesystem::path& path) {
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  if (!out) fail("npy-open", fmt::format("cannot open {} for writing: {}", path.string(), reason()));
  save_npy(tensor, out, path.string());
}

}  // namespace tessera
