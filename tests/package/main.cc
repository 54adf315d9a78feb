// Uses the installed library by both ways of including it.
#include <tessera/tessera.h>

#include <cstdio>
#include <string>
#include <vector>

#include "support/text.h"

int main() {
  const std::vector<std::string> known{"matmul", "softmax"};
  const std::string near = tessera::nearest("mamtul", known);
  std::printf("nearest to mamtul: %s\n", near.c_str());
  return near == "matmul" ? 0 : 1;
}
