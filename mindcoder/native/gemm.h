// Matrix products of training: C = A B (+ bias), batched, each operand stored either way round.
//
// Both factors are described as rows of numbers along the depth K over which is summed: A has M rows, B has N of them
// (its columns, as one writes it). So the three products of a linear layer y = x W^T, weights [outputs, inputs], are
//   y  [tokens, outputs]:  A = rows_of(x, ...),    B = rows_of(W, ...)       depth: inputs
//   dx [tokens, inputs]:   A = rows_of(dy, ...),   B = columns_of(W, ...)    depth: outputs
//   dW [outputs, inputs]:  A = columns_of(dy, ...), B = columns_of(x, ...)   depth: tokens
#pragma once
#include <cstdint>

enum class GemmType { float32, bfloat16, float16 };

inline int64_t size_of(GemmType element) { return element == GemmType::float32 ? 4 : 2; }

struct Matrix;  // linear.h

// A factor. Of row_stride and depth_stride (both in elements) one is 1.
struct GemmOperand {
  const void *data;
  GemmType element;
  int64_t row_stride, depth_stride;
  int64_t batch_stride = 0;  // 0: all products of a batch share this factor
  const Matrix *integers = nullptr;  // instead of data: a quantized weight, whose panels become floats when packed

  const void *at(int64_t batch, int64_t row, int64_t depth) const {
    const int64_t offset = batch * batch_stride + row * row_stride + depth * depth_stride;
    return static_cast<const char *>(data) + offset * size_of(element);
  }
};

// The rows (the columns) of a row-major matrix `width` numbers wide, summed over the other dimension.
inline GemmOperand rows_of(const void *data, GemmType element, int64_t width, int64_t batch_stride = 0) {
  return {data, element, width, 1, batch_stride};
}
inline GemmOperand columns_of(const void *data, GemmType element, int64_t width, int64_t batch_stride = 0) {
  return {data, element, 1, width, batch_stride};
}

// The same of a quantized weight, whose rows are its outputs and columns its inputs.
GemmOperand rows_of(const Matrix &weight);
GemmOperand columns_of(const Matrix &weight);

struct GemmArguments {
  int64_t batch, m, n, k;
  GemmOperand a, b;
  void *c;  // [batch, m, n]
  GemmType element;  // of c
  int64_t row_stride, batch_stride;  // of c, in elements
  const void *bias = nullptr;  // [n], added to every row
  GemmType bias_element = GemmType::float32;
  bool accumulate = false;  // adds to c (float32 only) instead of overwriting it
  // bfloat16 terms of a float32: 3 are as accurate as float32, 2 have 16 bits, 1 is the number rounded to bfloat16. A
  // processor that multiplies float32 as fast uses float32.
  int terms = 3;
};

// Sums are kept in float32; float16 factors are widened to it. The result does not depend on the number of threads or on timing. With three terms an
// infinity gives NaN, and numbers below 1e-33 lose bits.
void gemm(const GemmArguments &arguments);
