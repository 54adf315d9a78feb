// Users' shared libraries.
#pragma once

#include <string>

namespace tessera {

/// A shared library that is loaded for as long as the process runs: what it registers points into it. Loading it again
/// gives the same one.
class SharedLibrary {
 public:
  /// @param path a file, or the name of one where the system looks for libraries
  /// @throws Error "library-open"
  explicit SharedLibrary(const std::string& path);

  /// Its `extern "C"` function of that name, null where it has none: `library.find<void(Registry&)>("tessera_register")`.
  template <class Function>
  [[nodiscard]] Function* find(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  [[nodiscard]] void* symbol(const char* name) const;

  void* handle_;
};

}  // namespace tessera
