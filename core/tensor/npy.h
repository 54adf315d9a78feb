// Tensors in NumPy's .npy files (format 1.0 to 3.0, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>

#include "core/tensor/tensor.h"

namespace tessera {

/// Reads a .npy file into a contiguous tensor: little or big endian, C or Fortran order. '<f2' is f16, '<V2' and '|V2' (how
/// ml_dtypes' bfloat16 is saved) are bf16, '<i2', '|u1', '|i1' and other small integers become i32, unsigned 32 bit i64.
/// Memory is allocated only once the file is known to be as long as its shape says.
/// @throws Error "npy-open", "npy-format" with the file's name; "out-of-memory" where a sound file does not fit
Tensor load_npy(const std::filesystem::path& path);

/// The same from a stream, which may be a pipe and is left behind the last element, so that several arrays may follow one
/// another. `name` stands for the file in errors.
Tensor load_npy(std::istream& in, const std::string& name);

/// Writes a .npy file. bf16 has no NumPy type and is written as f32, which holds every bf16 value.
/// @throws Error "npy-open", "npy-write" with the file's name
void save_npy(const Tensor& tensor, const std::filesystem::path& path);
void save_npy(const Tensor& tensor, std::ostream& out, const std::string& name);

}  // namespace tessera
