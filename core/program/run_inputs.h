// Numbers for a program's inputs. Not for users of the library.
#pragma once

#include <map>
#include <string>

#include "core/program/run.h"

namespace tessera {

/// The inputs by name, of the dtypes that the program gives.
/// @throws Error "input-shape", "input-dtype" (a file that does not fit), "tensor-name" (one that is no file name), of reading files
std::map<std::string, Tensor> make_inputs(const Program& program, const CheckReport& checked, const RunOptions& options);

/// DIR/NAME.npy. @throws Error "tensor-name" where the name cannot be that of a file in the folder
std::filesystem::path npy_path(const std::filesystem::path& folder, const std::string& name);

}  // namespace tessera
