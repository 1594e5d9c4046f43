// Products with a quantized weight for callers outside the library: tests and benchmarks/quantize.py.
#include "int8.h"
#include "linear.h"

// y [rows, outputs] = x [rows, inputs] @ weight.T (+ bias [outputs]), float32; the first `prompts` rows as in prefill. The
// weight's integers are int8 [outputs, inputs], or with `half_bytes` two in a byte; `scale` and `offset` (null: zeros)
// are [outputs, groups]. Returns 1 where there is no product with groups of this size.
extern "C" int MindCoderQuantizedLinear(int64_t rows, int64_t prompts, int64_t outputs, int64_t inputs, const float *x,
                                        const void *weight, int half_bytes, const float *scale, const float *offset,
                                        int64_t groups, const float *bias, float *y) {
  const Format format = half_bytes ? Format::int4 : Format::int8;
  if (!knows_groups(format, inputs, groups)) return 1;
  const Matrix matrix{{weight, format}, outputs, inputs, {scale, offset, groups}};
  linear(x, {rows, prompts}, matrix, {bias, Format::float32}, nullptr, y);
  return 0;
}

// The same with activations in int8, too: `input` is their scale (0: each row by its largest magnitude) and offset, `scale`
// that of the weight's outputs. Returns 1 where an output has too many inputs.
extern "C" int MindCoderInt8Linear(int64_t rows, int64_t prompts, int64_t outputs, int64_t inputs, const float *x,
                                   const int8_t *weight, const float *scale, const float *input, const float *bias,
                                   float *y) {
  if (inputs > MOST_INPUTS) return 1;
  const Matrix matrix{{weight, Format::int8}, outputs, inputs, {scale, nullptr, 1, input}};
  linear(x, {rows, prompts}, matrix, {bias, Format::float32}, nullptr, y);
  return 0;
}
