// Names of element types.
#include "core/tensor/dtype.h"

#include <array>

namespace tessera {
namespace {

struct Name {
  std::string_view text;
  DType dtype;
};

constexpr std::array kNames{
    Name{"f32", DType::kF32},     Name{"float32", DType::kF32}, Name{"fp32", DType::kF32},  Name{"f64", DType::kF64},
    Name{"float64", DType::kF64}, Name{"fp64", DType::kF64},    Name{"bf16", DType::kBF16}, Name{"bfloat16", DType::kBF16},
    Name{"f16", DType::kF16},     Name{"float16", DType::kF16}, Name{"fp16", DType::kF16},  Name{"i32", DType::kI32},
    Name{"int32", DType::kI32},   Name{"i64", DType::kI64},     Name{"int64", DType::kI64}, Name{"bool", DType::kBool},
};

}  // namespace

std::string_view to_string(DType dtype) {
  for (const Name& name : kNames) {
    if (name.dtype == dtype) return name.text;  // the short name comes first
  }
  return "unknown";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const Name& known : kNames) {
    if (known.text == name) return known.dtype;
  }
  return std::nullopt;
}

}  // namespace tessera
