// What happens to one row of activations between the matrix products.
#pragma once
#include <cstdint>

#include "numbers.h"

// LayerNorm, or root-mean-square norm where `bias` has no data: normed[size] of x[size].
void normalize(const float *x, int64_t size, const Numbers &weight, const Numbers &bias, float epsilon, float *normed);

// x[size] becomes its GELU (the tanh form).
void gelu(float *x, int64_t size);

// gate[size] becomes silu(gate) * up[size].
void gated_silu(float *gate, const float *up, int64_t size);

// Turns every head's pairs (i, i + head_dim / 2) by angles[head_dim]: cosines of the pairs, then their sines.
void rotate(float *x, int64_t heads, int64_t head_dim, const float *angles);
