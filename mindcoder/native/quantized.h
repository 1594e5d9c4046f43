// Products with weights of integers, which are never floats as a whole.
#pragma once
#include "linear.h"

// For few rows: the integers are read once and multiplied as they are, each group's sum then by its scale.
void multiply_integers(const Product &product);

// `count` of an output's numbers from the input `first`, as floats.
void dequantize(const Matrix &weight, int64_t output, int64_t first, int64_t count, float *to);
