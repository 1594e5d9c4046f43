#include "linear.h"

#include "amx.h"
#include "gemm.h"
#include "int8.h"
#include "prefill.h"
#include "quantized.h"
#include "thread_pool.h"
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

namespace {

// Prompts with a matrix unit, which multiplies packed panels: of integers they hold floats. The blocks of the sums depend
// on the weight's sizes alone, so that the number of rows does not change a row's bits.
void multiply_by_panels(const Product &product) {
  const Matrix &weight = product.weight;
  gemm({.batch = 1,
        .m = product.rows,
        .n = weight.outputs,
        .k = weight.inputs,
        .a = rows_of(product.x, GemmType::float32, weight.inputs),
        .b = rows_of(weight),
        .c = product.y,
        .element = GemmType::float32,
        .row_stride = weight.outputs,
        .batch_stride = product.rows * weight.outputs});
  if (product.bias.data == nullptr && product.residual == nullptr) return;
  run_on_all_threads([&](int member) {
    const Range own = part_of(weight.outputs, member, thread_count(), LANES);
    product.add_bias_and_residual(own.begin, own.end);
  });
}

}  // namespace

void linear(const float *x, Rows rows, const Matrix &weight, const Numbers &bias, const float *residual, float *y) {
  if (weight.quantization.input != nullptr) {
    if (rows.count > 0) multiply_int8({x, rows.count, weight, bias, residual, y});
    return;
  }
  if (rows.prompts > 0) {
    const Product prompts{x, rows.prompts, weight, bias, residual, y};
    if (!amx_available()) multiply_by_columns(prompts);
    else if (weight.is_quantized()) multiply_by_panels(prompts);
    else multiply_amx(prompts);
  }
  const int64_t others = rows.count - rows.prompts;
  if (others == 0) return;
  const float *own_residual = residual == nullptr ? nullptr : residual + rows.prompts * weight.outputs;
  const Product product{x + rows.prompts * weight.inputs, others, weight, bias, own_residual,
                        y + rows.prompts * weight.outputs};
  if (weight.is_quantized()) multiply_integers(product);
  else multiply_by_vectors(product);
}
