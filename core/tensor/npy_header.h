// The header of a .npy file: what the elements are and how they lie.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "core/tensor/dtype.h"
#include "support/shape.h"

namespace tessera {

/// How an element of a file becomes one of a tensor: as it is, or widened to the tensor's dtype.
enum class NpyKind : std::uint8_t { kSame, kBool, kI8, kU8, kI16, kU16, kU32 };

struct NpyElement {
  DType dtype;  ///< of the tensor it is read into
  NpyKind kind;
  std::int64_t size;  ///< bytes in the file
  bool big_endian;    ///< as this machine, where an element is one byte
};

struct NpyHeader {
  std::string descr;  ///< NumPy's name of the element type, e.g. "<f4"
  NpyElement element;
  bool fortran_order;
  Shape shape;
};

/// Reads the magic bytes, the version and the header, and leaves the stream at the first element.
/// @throws Error "npy-format" with `name`
NpyHeader read_npy_header(std::istream& in, const std::string& name);

/// All that precedes the elements of a file in C order and this machine's byte order, padded to a multiple of 64 bytes.
/// @pre dtype is not bf16
std::string npy_header_text(const Shape& shape, DType dtype);

}  // namespace tessera
