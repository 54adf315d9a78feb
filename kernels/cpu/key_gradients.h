// Gradients of keys and values, to which many blocks of queries add, in f32. Private to kernels/cpu/.
#pragma once

#include <cstdint>
#include <optional>

#include "core/tensor/tensor.h"
#include "kernels/cpu/leaves.h"

namespace tessera::kernels::cpu {

/// How the gradients of one batch entry and key head are cut into tasks. What two tasks add to is kept apart and added up in
/// order at the end, and cuts come from shapes alone: so numbers do not depend on threads.
struct GradientCuts {
  std::int64_t parts = 1;   ///< of the blocks of queries: each part has sums of its own for all keys
  std::int64_t pieces = 1;  ///< of the rows of keys: each piece has sums of its own for all queries
};

/// What a backward pass has to do.
struct GradientWork {
  std::int64_t heads = 0;          ///< batch entries times key heads, which are apart anyway
  std::int64_t blocks = 0;         ///< of queries, of one head
  std::int64_t places = 0;         ///< of keys, that one block meets
  std::int64_t query_numbers = 0;  ///< in the gradients of all queries; 0: rows of keys cannot be cut
  std::int64_t key_numbers = 0;    ///< in those of all keys and values
};

/// Cuts what is cheaper to keep several times: queries into parts, or keys into pieces.
GradientCuts cut_gradients(const GradientWork& work);

/// One of the tasks, and the rows [first, last) of its piece.
struct GradientTask {
  std::int64_t batch = 0;
  std::int64_t key_head = 0;
  std::int64_t part = 0;
  std::int64_t piece = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
};
/// Task `index` of heads * parts * pieces; `key_heads` of a batch entry with `rows` rows each.
GradientTask gradient_task(std::int64_t index, const GradientCuts& cuts, std::int64_t key_heads, std::int64_t rows);

/// The sum over the first dim of f32 [n, ..., stride], in `dtype`, of the first `width` numbers of each row. Adds in place.
/// @pre the stride is whole vectors
Tensor added_up(Tensor sums, std::int64_t width, DType dtype);

/// Gradients of one operand [b, t, k, width].
class KeyGradients {
 public:
  /// What one task adds to: zeros at first.
  struct Sums {
    GradientRows rows{};
    std::optional<Tensor> buffer{};  ///< where they lie apart from the result
  };

  KeyGradients() = default;
  /// @param dtype f32, bf16 or f16
  KeyGradients(const GradientCuts& cuts, std::int64_t batch, std::int64_t heads, std::int64_t rows, std::int64_t width,
               DType dtype);

  /// Before a task adds, and after it has added, on its thread.
  [[nodiscard]] Sums begin(const GradientTask& task);
  void end(const GradientTask& task, const Sums& sums);
  /// After all tasks.
  [[nodiscard]] Tensor result();

 private:
  std::optional<Tensor> result_;  // [b, t, k, width], if one part has all
  std::optional<Tensor> parts_;   // [parts, b, t, k, width rounded up to whole vectors], else
  std::int64_t width_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace tessera::kernels::cpu
