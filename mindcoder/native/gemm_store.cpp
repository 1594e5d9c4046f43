// The end of a product: sums become elements of C.
#include "bfloat16.h"
#include "gemm_kernel.h"
#include "lanes.h"

namespace {

template <class Number, class Bias>
struct Store {
  Number *to;
  const Bias *bias;
  const float *from;
  bool add;

  // `count` is a constant for whole vectors.
  void vector(int64_t at, int64_t count) const {
    Lanes values = count == LANES ? load(from + at) : load_some(from + at, count);
    if (bias != nullptr) values += count == LANES ? load(bias + at) : load_some(bias + at, count);
    if (add) values += count == LANES ? load(to + at) : load_some(to + at, count);
    store_some(to + at, values, count);
  }

  void row(int64_t columns) const {
    int64_t at = 0;
    for (; at + LANES <= columns; at += LANES) vector(at, LANES);
    if (at < columns) vector(at, columns - at);
  }
};

template <class Number, class Bias>
void store_rows(const GemmArguments &arguments, int64_t item, int64_t row, int64_t column, int64_t rows, int64_t columns,
                const float *sums, int64_t stride, bool add, bool finish) {
  const Bias *bias = static_cast<const Bias *>(arguments.bias);
  Number *to = static_cast<Number *>(arguments.c) + item * arguments.batch_stride + row * arguments.row_stride + column;
  for (int64_t own = 0; own < rows; own++)
    Store<Number, Bias>{to + own * arguments.row_stride, finish && bias != nullptr ? bias + column : nullptr,
                        sums + own * stride, add}
        .row(columns);
}

}  // namespace

void store_sums(const GemmArguments &arguments, int64_t item, int64_t row, int64_t column, int64_t rows,
                int64_t columns, const float *sums, int64_t stride, bool add, bool finish) {
  const auto store = [&](auto number, auto bias) {
    store_rows<decltype(number), decltype(bias)>(arguments, item, row, column, rows, columns, sums, stride, add, finish);
  };
  const auto with_bias = [&](auto number) {
    if (arguments.bias_element == GemmType::float32) store(number, float{});
    else if (arguments.bias_element == GemmType::bfloat16) store(number, Bfloat16Bits{});
    else store(number, Half{});
  };
  if (arguments.element == GemmType::float32) with_bias(float{});
  else if (arguments.element == GemmType::bfloat16) with_bias(Bfloat16Bits{});
  else with_bias(Half{});
}
