// Integers of activations, and their products with integers of weights, as layers' operators.
#include <string>

#include "arguments.h"
#include "int8.h"
#include "operator_list.h"
#include "scratch.h"

namespace {

// Rows of `x` as floats, one after the other: work(row, floats).
template <class Work>
void each_row(const Arguments &arguments, int x, const Work &work) {
  const int64_t size = arguments.size(x, -1), rows = size == 0 ? 0 : arguments.size(x) / size;
  with_float(arguments, x, [&](auto *type) {
    const auto *from = arguments.data<Element<decltype(type)>>(x);
    parallel_for(rows, 1, size, [&](int64_t begin, int64_t end) {
      const Scratch memory(static_cast<size_t>(size) * sizeof(float));
      float *const floats = memory.as<float>();
      for (int64_t row = begin; row < end; row++) {
        for (int64_t at = 0; at < size; at++) floats[at] = static_cast<float>(from[row * size + at]);
        work(row, floats);
      }
    });
  });
}

const int8_t *matrix(const Arguments &arguments, int index) {
  if (arguments.ndim(index) != 2) arguments.refuse(index, "expected a matrix");
  return arguments.data<int8_t>(index);
}

const float *vector(const Arguments &arguments, int index, int64_t size) {
  if (arguments.size(index) != size) arguments.refuse(index, "expected " + std::to_string(size) + " numbers");
  return arguments.data<float>(index);
}

}  // namespace

// x [.., K], no smooth scales -> int8 of its shape, scale float32 [..]: each row by its largest magnitude.
void dynamic_quant(const Arguments &arguments) {
  using Index = argument::DynamicQuantExt;
  if (arguments.has(Index::smooth_scales) && arguments.size(Index::smooth_scales) > 0)
    arguments.refuse(Index::smooth_scales, "expected none");
  const int64_t size = arguments.size(Index::x, -1);
  int8_t *y = arguments.data<int8_t>(Index::y);
  float *scale = arguments.data<float>(Index::scale);
  each_row(arguments, Index::x, [&](int64_t row, const float *x) { scale[row] = round_row(x, size, y + row * size); });
}

// x [.., K], scale and offset float32 [1] or [K] -> int8 of its shape: round(x * scale + offset) between -128 and 127.
void quant(const Arguments &arguments) {
  using Index = argument::QuantV2;
  const int64_t size = arguments.size(Index::x, -1);
  int8_t *y = arguments.data<int8_t>(Index::y);
  if (arguments.size(Index::scale) != 1) {
    const float *scales = vector(arguments, Index::scale, size), *offsets = vector(arguments, Index::offset, size);
    return each_row(arguments, Index::x,
                    [&](int64_t row, const float *x) { round_channels(x, size, scales, offsets, y + row * size); });
  }
  const float scale = *vector(arguments, Index::scale, 1), offset = *vector(arguments, Index::offset, 1);
  each_row(arguments, Index::x, [&](int64_t row, const float *x) { round_row_by(x, size, scale, offset, y + row * size); });
}

// x1 int8 [M, K], x2 int8 [N, K], scale float32 [N], no offset, bias int32 [N] or none, scale of the rows float32 [M], x1
// as it is, x2 transposed, a tensor of the result's dtype -> (x1 x2ᵀ + bias) * scale * scale of the row.
void quant_batch_matmul(const Arguments &arguments) {
  using Index = argument::QuantBatchMatmul;
  if (arguments.has(Index::offset) && arguments.size(Index::offset) > 0) arguments.refuse(Index::offset, "expected none");
  if (arguments.flag(Index::transpose_x1)) arguments.refuse(Index::transpose_x1, "expected x1 as it is");
  if (!arguments.flag(Index::transpose_x2)) arguments.refuse(Index::transpose_x2, "expected a transposed x2");
  const int8_t *x = matrix(arguments, Index::x1), *weight = matrix(arguments, Index::x2);
  const int64_t rows = arguments.size(Index::x1, 0), outputs = arguments.size(Index::x2, 0), inputs = arguments.size(Index::x2, 1);
  if (arguments.size(Index::x1, 1) != inputs) arguments.refuse(Index::x1, "expected [rows, " + std::to_string(inputs) + "]");
  if (inputs > MOST_INPUTS) arguments.refuse(Index::x2, "expected at most " + std::to_string(MOST_INPUTS) + " inputs");
  const bool biased = arguments.has(Index::bias) && arguments.size(Index::bias) > 0;
  if (biased && arguments.size(Index::bias) != outputs) arguments.refuse(Index::bias, "expected a number for each output");
  const bool is_float = arguments.is(Index::y, "float32");
  const Scratch memory(is_float ? 0 : static_cast<size_t>(rows * outputs) * sizeof(float));
  float *const y = is_float ? arguments.data<float>(Index::y) : memory.as<float>();
  multiply(Int8Product{x, rows, outputs, inputs, weight, 0, biased ? arguments.data<int32_t>(Index::bias) : nullptr,
                       vector(arguments, Index::scale, outputs), vector(arguments, Index::pertoken_scale, rows), y});
  if (is_float) return;
  with_float(arguments, Index::y, [&](auto *type) {
    using T = Element<decltype(type)>;
    T *to = arguments.data<T>(Index::y);
    parallel_for(rows * outputs, 1024, 1, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at++) to[at] = static_cast<T>(y[at]);
    });
  });
}
