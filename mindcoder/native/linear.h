// The one function through which every weight multiplies an activation.
#pragma once
#include <cstdint>

#include "numbers.h"

// What the integers q of a weight stand for: (q - offset) * scale; codes of nf4 stand for NF4[q] * scale. Both are
// [outputs, groups]; a group is as many inputs of an output, in order. No offset: zeros.
struct Quantization {
  const float *scale = nullptr, *offset = nullptr;
  int64_t groups = 1;
  // How activations become integers, too, scale and offset (`Rounding` of int8.h); null: they stay floats.
  const float *input = nullptr;
};

inline bool has_half_bytes(Format format) { return format == Format::int4 || format == Format::nf4; }

// A linear layer's weight [outputs, inputs].
struct Matrix {
  Numbers numbers;
  int64_t outputs, inputs;
  Quantization quantization = {};  // of integers

  bool is_quantized() const { return numbers.format == Format::int8 || has_half_bytes(numbers.format); }
  int64_t group_size() const { return inputs / quantization.groups; }
};

// Whether `multiply_integers` and `dequantize` know groups of so many inputs; the only group of an output may have any
// size, but half bytes come in pairs.
inline bool knows_groups(Format format, int64_t inputs, int64_t groups) {
  if (groups < 1 || inputs % groups != 0 || (has_half_bytes(format) && inputs % 2 != 0)) return false;
  return groups == 1 || inputs / groups % 32 == 0;
}

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
// the row is a prefill token, and where activations become integers not even on that.
void linear(const float *x, Rows rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y);
