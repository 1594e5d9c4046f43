// Matrix products on Intel's matrix unit (AMX) with float32 precision.
//
// The unit multiplies bfloat16 and accumulates in float32. A float32 has 24 significant bits, a bfloat16 eight: three
// of them represent a float32 exactly, a = a0 + a1 + a2, so that a * b is the sum of nine bfloat16 products. Those of
// a1 * b2, a2 * b1 and a2 * b2 are below float32's own rounding and omitted; six remain, at sixteen times the rate of
// AVX-512.
#pragma once
#include "linear.h"

// Whether this was compiled for such a processor, runs on one, and MINDCODER_TILES is not 0.
bool amx_available();

void multiply_amx(const Product &product);
