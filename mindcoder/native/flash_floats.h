// Blocks of float32, multiplied by vector instructions.
//
// A product c[m, n] (+)= a[m, k] b[k, n] takes `a` and `b` from blocks that `put_a` and `put_b` wrote. The forms in which a
// class keeps them are its own: here `a` is row-major [m, depth] and `b` is [n / 16, depth, 16], with the block's depth.
#pragma once
#include "flash_elements.h"

namespace flash {

struct FloatProducts {
  using Number = float;
  static constexpr bool PRECISE = true;

  static int64_t size(int64_t width, int64_t depth) { return width * depth; }
  static Number *a_at(Number *a, int64_t depth, int64_t m, int64_t k) { return a + m * depth + k; }
  static Number *b_at(Number *b, int64_t depth, int64_t n, int64_t k) { return b + (n / 16 * depth + k) * 16; }

  // STEP numbers of row m from k on.
  static void put_a(Number *a, int64_t depth, int64_t m, int64_t k, const Lanes values[VECTORS]) {
    for (int vector = 0; vector < VECTORS; vector++) store(a + m * depth + k + vector * LANES, values[vector]);
  }

  // STEP numbers of the rows k and k + 1, from column n on.
  static void put_b(Number *b, int64_t depth, int64_t k, int64_t n, const Lanes values[2][VECTORS]) {
    for (int row = 0; row < 2; row++)
      for (int vector = 0; vector < VECTORS; vector++) {
        const int64_t column = n + vector * LANES;
        store(b + (column / 16 * depth + k + row) * 16 + column % 16, values[row][vector]);
      }
  }

  static void begin() {}
  static void end() {}

  // m, n and k are multiples of STEP.
  static void product(const Number *a, int64_t a_depth, const Number *b, int64_t b_depth, float *c, int64_t c_stride,
                      int64_t m, int64_t n, int64_t k, bool add) {
    for (int64_t column = 0; column < n; column += COLUMNS)
      for (int64_t row = 0; row < m; row += ROWS)
        tile(a + row * a_depth, a_depth, b + column / 16 * b_depth * 16, b_depth, c + row * c_stride + column, c_stride, k, add);
  }

 private:
  // As many sums as the registers hold beside their operands: 32 registers of AVX-512 and NEON, 16 of AVX2.
  static constexpr int64_t ROWS = LANES == 16 ? 8 : 4, COLUMNS = LANES == 16 ? 32 : 16;
  static constexpr int OWN = COLUMNS / LANES;

  static void tile(const Number *a, int64_t a_depth, const Number *b, int64_t b_depth, float *c, int64_t c_stride,
                   int64_t k, bool add) {
    Lanes sums[ROWS][OWN];
    for (int64_t row = 0; row < ROWS; row++)
      for (int own = 0; own < OWN; own++) sums[row][own] = add ? load(c + row * c_stride + own * LANES) : Lanes{};
    for (int64_t at = 0; at < k; at++) {
      Lanes columns[OWN];
      for (int own = 0; own < OWN; own++)
        columns[own] = load(b + (own * LANES / 16 * b_depth + at) * 16 + own * LANES % 16);
      for (int64_t row = 0; row < ROWS; row++)
        for (int own = 0; own < OWN; own++) sums[row][own] += a[row * a_depth + at] * columns[own];
    }
    for (int64_t row = 0; row < ROWS; row++)
      for (int own = 0; own < OWN; own++) store(c + row * c_stride + own * LANES, sums[row][own]);
  }
};

}  // namespace flash
