#include "support/shared_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "support/diagnostic.h"

namespace tessera {

SharedLibrary::SharedLibrary(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) fail("library-open", fmt::format("cannot load {}: {}", path, dlerror()));
}

void* SharedLibrary::symbol(const char* name) const { return dlsym(handle_, name); }

}  // namespace tessera
