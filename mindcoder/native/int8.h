// int8 x int8 matrix products (W8A8). Integer sums are exact, so a row's result is bitwise the same in a prompt and
// alone, on every processor and with any number of threads.
#pragma once
#include "linear.h"

constexpr int64_t MOST_INPUTS = 65535;  // of an output: its sum stays below 2^31; a card has the same limit

// How rows of activations become integers. Scale 0: each by its largest magnitude, see `round_row`.
struct Rounding {
  float scale = 0.0f, offset = 0.0f;  // the offset is a whole number
};

// q = round(x / scale), where scale is the row's largest magnitude / 127; returns it. A row of zeros has scale 0.
float round_row(const float *x, int64_t size, int8_t *q);

// q = round(x * inverse + offset), cut off at -128 and 127; `inverse` is 1 / scale.
void round_row_by(const float *x, int64_t size, float inverse, float offset, int8_t *q);

// The same with an inverse and an offset for each number of the row.
void round_channels(const float *x, int64_t size, const float *inverse, const float *offset, int8_t *q);

struct Int8Product {
  const int8_t *x;  // [rows, inputs]
  int64_t rows, outputs, inputs;
  const int8_t *weight;  // [outputs, inputs]
  int32_t offset;        // of x: the numbers are x - offset
  const int32_t *added;  // [outputs], to the sums; or null
  const float *scale, *row_scale;  // [outputs], [rows]
  float *y;  // [rows, outputs]: (sum + added) * scale * row_scale
};

void multiply(const Int8Product &product);

// With activations in floating point, which are rounded as the weight's quantization says.
void multiply_int8(const Product &product);

// Intel's matrix unit, for many rows. False: there is none, or too few rows for it.
bool multiply_int8_amx(const Int8Product &product);
