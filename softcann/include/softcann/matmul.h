// The one matrix product of all operators.
#pragma once

#include <cstdint>

namespace softcann {

// c (rows, columns) = a (rows, inner) times b (inner, columns), all row-major and contiguous, in float32. Each sum runs
// over `inner` in one order, whatever the other sizes are. With `add`, c is added to.
void matmul(const float* a, const float* b, float* c, int64_t rows, int64_t inner, int64_t columns, bool add = false);

}  // namespace softcann
