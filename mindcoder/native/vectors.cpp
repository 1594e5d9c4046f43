#include "vectors.h"

#include "lanes.h"
#include "thread_pool.h"

namespace {

constexpr int OUTPUTS = 4;            // per tile
constexpr int ROWS = LANES == 4 ? 2 : LANES == 8 ? 2 : 4;  // per tile: all sums stay in registers
constexpr int64_t BLOCK = 1024;       // inputs that are accumulated in registers before they are added to the result
// up to here weights are streamed once in order; with more rows the activations stay in the cache
constexpr int64_t FEW_ROWS = 16;

// Products of R rows with four weight rows over `size` inputs. The first rows prefetch the weights `ahead` numbers
// later: the hardware prefetcher stops at the end of a row.
template <int R, class Number>
inline void tile(const float *x, int64_t stride, const Number *const weight[OUTPUTS], int64_t size, int64_t ahead,
                 Four result[R]) {
  Lanes sums[R][OUTPUTS] = {};
  int64_t at = 0;
  for (; at + LANES <= size; at += LANES) {
    Lanes columns[OUTPUTS];
    for (int output = 0; output < OUTPUTS; output++) columns[output] = load(weight[output] + at);
    if (ahead > 0)
      for (int output = 0; output < OUTPUTS; output++) __builtin_prefetch(weight[output] + at + ahead);
    for (int row = 0; row < R; row++) {
      const Lanes values = load(x + row * stride + at);
      for (int output = 0; output < OUTPUTS; output++) sums[row][output] += values * columns[output];
    }
  }
  if (at < size) {
    for (int row = 0; row < R; row++) {
      const Lanes values = load_some(x + row * stride + at, size - at);
      for (int output = 0; output < OUTPUTS; output++)
        sums[row][output] += values * load_some(weight[output] + at, size - at);
    }
  }
  for (int row = 0; row < R; row++) result[row] = sum_each(sums[row][0], sums[row][1], sums[row][2], sums[row][3]);
}

template <class Number>
struct Tiled : Product {
  // Outputs from `first` of all rows over one block of inputs, added to the sums of earlier blocks in y.
  void block(int64_t first, int64_t start) const {
    const int64_t inputs = weight.inputs, outputs = weight.outputs;
    const int64_t size = inputs - start < BLOCK ? inputs - start : BLOCK;
    const int64_t width = outputs - first < OUTPUTS ? outputs - first : OUTPUTS;
    const Number *columns[OUTPUTS];
    for (int64_t output = 0; output < OUTPUTS; output++) {
      const int64_t own = output < width ? output : width - 1;
      columns[output] = static_cast<const Number *>(weight.numbers.data) + (first + own) * inputs + start;
    }
    for (int64_t row = 0; row < rows; row += ROWS) {
      Four result[ROWS];
      const float *from = x + row * inputs + start;
      const int64_t ahead = row == 0 ? OUTPUTS * inputs : 0;
      const int64_t height = rows - row < ROWS ? rows - row : ROWS;
      if (height == 4 && ROWS >= 4) tile<4>(from, inputs, columns, size, ahead, result);
      else if (height == 3 && ROWS >= 3) tile<3>(from, inputs, columns, size, ahead, result);
      else if (height == 2) tile<2>(from, inputs, columns, size, ahead, result);
      else tile<1>(from, inputs, columns, size, ahead, result);
      for (int64_t own = 0; own < height; own++) {
        float *to = y + (row + own) * outputs + first;
        for (int64_t output = 0; output < width; output++)
          to[output] = start == 0 ? result[own][output] : to[output] + result[own][output];
      }
    }
  }

  void part(int member, int members) const {
    const Range own = part_of(weight.outputs, member, members, OUTPUTS);
    if (rows <= FEW_ROWS) {
      for (int64_t first = own.begin; first < own.end; first += OUTPUTS)
        for (int64_t start = 0; start < weight.inputs; start += BLOCK) block(first, start);
    } else {
      for (int64_t start = 0; start < weight.inputs; start += BLOCK)
        for (int64_t first = own.begin; first < own.end; first += OUTPUTS) block(first, start);
    }
    add_bias_and_residual(own.begin, own.end);
  }
};

template <class Number>
void multiply(const Tiled<Number> &product) {
  run_on_all_threads([&](int member) { product.part(member, thread_count()); });
}

}  // namespace

void multiply_by_vectors(const Product &product) {
  if (product.weight.numbers.format == Format::float16) multiply<Half>({product});
  else multiply<float>({product});
}
