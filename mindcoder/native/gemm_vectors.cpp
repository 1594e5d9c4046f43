// Matrix products in float32 by vector instructions, for any processor; bfloat16 factors are widened when packed.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "bfloat16.h"
#include "gemm_kernel.h"
#include "transpose.h"
#include "lanes.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int64_t REGISTERS = 32;
#else
constexpr int64_t REGISTERS = 16;
#endif

// Panels are [depth][WIDTH] floats.
template <int64_t WIDTH, class Number>
void pack_numbers(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth,
                  float *to) {
  if (from.depth_stride != 1) {  // WIDTH neighbors
    for (int64_t at = 0; at < depth; at++, to += WIDTH) {
      const Number *numbers = static_cast<const Number *>(from.at(item, row, start + at));
      if constexpr (WIDTH < LANES && std::is_same_v<Number, float>) {
        if (rows == WIDTH) {
          std::memcpy(to, numbers, WIDTH * sizeof(float));
          continue;
        }
      }
      for (int64_t own = 0; own < WIDTH; own += LANES) {
        const int64_t count = std::clamp(rows - own, int64_t{0}, int64_t{LANES});
        const Lanes values = count == LANES ? load(numbers + own) : load_some(numbers + own, count);
        if (WIDTH - own >= LANES) store(to + own, values);
        else store_some(to + own, values, WIDTH - own);
      }
    }
    return;
  }
  for (int64_t at = 0; at < depth; at += LANES) {  // LANES of depth of each row, transposed
    const int64_t count = std::min(depth - at, int64_t{LANES});
    for (int64_t group = 0; group < WIDTH; group += LANES) {
      const int64_t width = std::min(WIDTH - group, int64_t{LANES});
      Lanes lines[LANES] = {};
      for (int64_t own = 0; own < width && group + own < rows; own++) {
        const Number *numbers = static_cast<const Number *>(from.at(item, row + group + own, start + at));
        lines[own] = count == LANES ? load(numbers) : load_some(numbers, count);
      }
#if defined(__AVX__) && !defined(__AVX512F__)
      if constexpr (WIDTH == 4) {
        if (count == LANES) {
          transpose_four(lines, to + at * WIDTH);
          continue;
        }
      }
#endif
      transpose(lines);
      for (int64_t line = 0; line < count; line++) {
        if (width == LANES) store(to + (at + line) * WIDTH + group, lines[line]);
        else store_some(to + (at + line) * WIDTH + group, lines[line], width);
      }
    }
  }
}

template <int64_t WIDTH>
void pack(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth, void *to) {
  if (from.element == GemmType::float32)
    pack_numbers<WIDTH, float>(from, item, row, rows, start, depth, static_cast<float *>(to));
  else if (from.element == GemmType::bfloat16)
    pack_numbers<WIDTH, Bfloat16Bits>(from, item, row, rows, start, depth, static_cast<float *>(to));
  else
    pack_numbers<WIDTH, Half>(from, item, row, rows, start, depth, static_cast<float *>(to));
}

// A block of C stays in registers, with room for a row of B and a number of A: 8 x 3 of 32, 4 x 3 of 16. Narrow ones
// have half of the registers, because rows are packed in powers of two.
template <int64_t VECTORS>
struct Block {
  static constexpr int64_t ROWS = VECTORS == 1 ? REGISTERS / 2 : REGISTERS / 4, COLUMNS = VECTORS * LANES;

  static void multiply(const void *a_panel, const void *b_panel, int64_t depth, bool add, float *c, int64_t stride) {
    const float *a = static_cast<const float *>(a_panel), *b = static_cast<const float *>(b_panel);
    Lanes sums[ROWS][VECTORS] = {};
    for (int64_t at = 0; at < depth; at++, a += ROWS, b += COLUMNS) {
      Lanes own[VECTORS];
#pragma GCC unroll 3
      for (int64_t vector = 0; vector < VECTORS; vector++) own[vector] = in_register(load(b + vector * LANES));
#pragma GCC unroll 16
      for (int64_t row = 0; row < ROWS; row++) {
        const Lanes number = spread(a[row]);
#pragma GCC unroll 3
        for (int64_t vector = 0; vector < VECTORS; vector++) sums[row][vector] += number * own[vector];
      }
    }
#pragma GCC unroll 16
    for (int64_t row = 0; row < ROWS; row++) {
#pragma GCC unroll 3
      for (int64_t vector = 0; vector < VECTORS; vector++) {
        float *to = c + row * stride + vector * LANES;
        store(to, add ? load(to) + sums[row][vector] : sums[row][vector]);
      }
    }
  }
};

void nothing() {}

template <int64_t VECTORS>
const GemmKernel *kernel() {
  using Own = Block<VECTORS>;
  static const GemmKernel one{
      Own::ROWS,     Own::COLUMNS, 1,      Own::ROWS * 4, Own::COLUMNS * 4, 384, pack<Own::ROWS>, pack<Own::COLUMNS>,
      Own::multiply, nothing,      nothing};
  return &one;
}

}  // namespace

const GemmKernel *gemm_vectors(const GemmArguments &arguments) {
  return arguments.n <= LANES ? kernel<1>() : arguments.n <= 2 * LANES ? kernel<2>() : kernel<3>();
}
