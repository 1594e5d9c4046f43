// Operations on the activations of one token between the matrix products.
#pragma once
#include <cstdint>

#include "numbers.h"

// LayerNorm, or RMSNorm if `bias` has no data: normed[size] of x[size]; `offset` is added to the weight.
void normalize(const float *x, int64_t size, const Numbers &weight, const Numbers &bias, float epsilon, float offset,
               float *normed);

// GELU of x[size] (the tanh form), in place.
void gelu(float *x, int64_t size);

// gate[size] becomes silu(gate) * up[size].
void gated_silu(float *gate, const float *up, int64_t size);

// x[size] becomes x * factor + base[size]; base may be null.
void scale(float *x, float factor, const float *base, int64_t size);

// Applies RoPE to the pairs (i, i + head_dim / 2) of every head; angles[head_dim] holds the cos of the pairs, then the
// sin.
void rotate(float *x, int64_t heads, int64_t head_dim, const float *angles);
