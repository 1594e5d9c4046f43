#include "linear.h"

#include "amx.h"
#include "prefill.h"
#include "vectors.h"

void Product::add_bias_and_residual(int64_t begin, int64_t end) const {
  if (bias.data == nullptr && residual == nullptr) return;
  for (int64_t row = 0; row < rows; row++) {
    const int64_t first = row * weight.outputs;
    for (int64_t output = begin; output < end; output += LANES) {
      const int64_t count = end - output < LANES ? end - output : LANES;
      Lanes values = load_some(Numbers{y}, first + output, count);
      if (bias.data != nullptr) values += load_some(bias, output, count);
      if (residual != nullptr) values += load_some(Numbers{residual}, first + output, count);
      if (count == LANES) store(y + first + output, values);
      else store_some(y + first + output, values, count);
    }
  }
}

void linear(const float *x, Rows rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y) {
  if (rows.prompts > 0) {
    const Product prompts{x, rows.prompts, weight, bias, residual, y};
    if (amx_available()) multiply_amx(prompts);
    else multiply_by_columns(prompts);
  }
  const int64_t others = rows.count - rows.prompts;
  if (others == 0) return;
  const float *own_residual = residual == nullptr ? nullptr : residual + rows.prompts * weight.outputs;
  multiply_by_vectors({x + rows.prompts * weight.inputs, others, weight, bias, own_residual,
                       y + rows.prompts * weight.outputs});
}
