// The one function through which every weight multiplies an activation.
#pragma once
#include <cstdint>

#include "numbers.h"

// A linear layer's weight [outputs, inputs].
struct Matrix {
  Numbers numbers;
  int64_t outputs, inputs;
};

// y[rows, outputs] = x[rows, inputs] @ weight.T (+ bias) (+ residual[rows, outputs]).
struct Product {
  const float *x;
  int64_t rows;
  const Matrix &weight;
  const Numbers &bias;
  const float *residual;
  float *y;

  // Adds bias and residual to the outputs begin..end of all rows.
  void add_bias_and_residual(int64_t begin, int64_t end) const;
};

// Activations of one step, one row per token. The first `prompts` rows are prefill tokens, which come in large numbers
// and use the processor's matrix unit, or prefill.h without one; decode tokens, which come one per
// sequence, use neither.
struct Rows {
  int64_t count, prompts;
};

// The result of a row has the same bits whatever the other rows and the number of threads; it depends only on whether
// the row is a prefill token.
void linear(const float *x, Rows rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y);
