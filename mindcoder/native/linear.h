// The seam through which every weight multiplies an activation.
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
  void finish(int64_t begin, int64_t end) const;
};

// Rows of activations of one step. The first `prompts` of them are tokens of prompts, which come in numbers and go
// through the processor's matrix unit where it has one; generated tokens, which come singly, never do.
struct Rows {
  int64_t count, prompts;
};

// A row's result has the same bits whatever other rows there are and however many threads share the work; only whether
// it is a prompt's matters.
void linear(const float *x, Rows rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y);
