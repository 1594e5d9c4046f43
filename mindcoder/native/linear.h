// The seam through which every weight multiplies an activation.
#pragma once
#include <cstdint>

enum class Format { float32, float16 };

// Numbers in the format they are stored in; `data` is null where a layer has none (no bias).
struct Numbers {
  const void *data = nullptr;
  Format format = Format::float32;
};

// A linear layer's weight [outputs, inputs].
struct Matrix {
  Numbers numbers;
  int64_t outputs, inputs;
};

// y[rows, outputs] = x[rows, inputs] @ weight.T (+ bias) (+ residual[rows, outputs]).
// A row's result has the same bits whatever other rows there are and however many threads share the work.
void linear(const float *x, int64_t rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y);
