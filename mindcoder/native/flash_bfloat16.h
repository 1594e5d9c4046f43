// Blocks of bfloat16 in the form of the matrix unit's tiles, and their products by AMX or by AVX512-BF16.
//
// `PARTS` bfloat16 of eight significant bits each stand for one number: 1 where bfloat16 is meant, 3 for float32, whose 24
// bits they hold exactly. Of the nine products of two such numbers the three smallest, below float32's own rounding, are
// omitted, as in amx.cpp.
#pragma once
#include "flash_elements.h"

#if defined(__AVX512F__) && defined(__AVX512BW__)

namespace flash {

template <int PARTS_OF_ONE>
struct Bfloat16Blocks {
  using Number = uint16_t;  // the bits of a bfloat16
  static constexpr int PARTS = PARTS_OF_ONE;
  static constexpr bool PRECISE = PARTS > 1;
  static constexpr int64_t SIDE = 16, PART = SIDE * STEP, TILE = PARTS * PART;

  // Tiles of 16 rows (or columns) by 32 of depth, those of one row (or column) behind each other, each with its parts:
  // `a` as [16 rows][32], `b` as [16 pairs of depth][16 columns][2].
  static int64_t size(int64_t width, int64_t depth) { return width * depth * PARTS; }
  static Number *a_at(Number *a, int64_t depth, int64_t m, int64_t k) { return a + (m / SIDE * (depth / STEP) + k / STEP) * TILE; }
  static Number *b_at(Number *b, int64_t depth, int64_t n, int64_t k) { return a_at(b, depth, n, k); }

  static void put_a(Number *a, int64_t depth, int64_t m, int64_t k, const Lanes values[VECTORS]) {
    Number *to = a_at(a, depth, m, k) + m % SIDE * STEP;
#if defined(__AVX512BF16__)
    if constexpr (PARTS == 1)
      return _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)values[1], (__m512)values[0]));
#endif
    __m512i low = _mm512_castps_si512((__m512)values[0]), high = _mm512_castps_si512((__m512)values[1]);
    for (int part = 0; part < PARTS; part++, to += PART) {
      const __m512i low_part = rounded(low), high_part = rounded(high);
      _mm512_store_si512(to, high_halves(low_part, high_part));
      low = without(low, low_part), high = without(high, high_part);
    }
  }

  static void put_b(Number *b, int64_t depth, int64_t k, int64_t n, const Lanes values[2][VECTORS]) {
    for (int vector = 0; vector < VECTORS; vector++) {
      Number *to = b_at(b, depth, n + vector * SIDE, k) + k % STEP * SIDE;
      __m512i even = _mm512_castps_si512((__m512)values[0][vector]), odd = _mm512_castps_si512((__m512)values[1][vector]);
      for (int part = 0; part < PARTS; part++, to += PART) {
        const __m512i even_part = rounded(even), odd_part = rounded(odd);
        _mm512_store_si512(to, _mm512_or_si512(_mm512_srli_epi32(even_part, 16), odd_part));
        even = without(even, even_part), odd = without(odd, odd_part);
      }
    }
  }

 private:
  // A bfloat16 as a float: to the nearest; ties go away from zero, where AVX512-BF16 takes the even one.
  static __m512i rounded(__m512i number) {
    const __m512i half = _mm512_set1_epi32(0x8000), mask = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
    return _mm512_and_si512(_mm512_add_epi32(number, half), mask);
  }

  static __m512i without(__m512i number, __m512i part) {
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(number), _mm512_castsi512_ps(part)));
  }

  static __m512i high_halves(__m512i low, __m512i high) {
    alignas(64) static constexpr uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(low, _mm512_load_si512(odd), high);
  }
};

#if defined(__AVX512BF16__)

struct Bfloat16Products : Bfloat16Blocks<1> {
  static void begin() {}
  static void end() {}

  static void product(const Number *a, int64_t a_depth, const Number *b, int64_t b_depth, float *c, int64_t c_stride,
                      int64_t m, int64_t n, int64_t k, bool add) {
    for (int64_t column = 0; column < n; column += STEP)
      for (int64_t row = 0; row < m; row += ROWS)
        tile(a + row / SIDE * a_depth * SIDE + row % SIDE * STEP, b + column * b_depth, b_depth * SIDE,
             c + row * c_stride + column, c_stride, k, add);
  }

 private:
  static constexpr int64_t ROWS = 8;

  static void tile(const Number *a, const Number *b, int64_t next, float *c, int64_t c_stride, int64_t k, bool add) {
    __m512 sums[ROWS][2];
    for (int64_t row = 0; row < ROWS; row++)
      for (int own = 0; own < 2; own++)
        sums[row][own] = add ? _mm512_loadu_ps(c + row * c_stride + own * SIDE) : _mm512_setzero_ps();
    for (int64_t block = 0; block < k / STEP; block++) {
      for (int64_t pair = 0; pair < SIDE; pair++) {
        const Number *own = b + block * TILE + pair * 2 * SIDE;
        const __m512bh first = (__m512bh)_mm512_load_si512(own), second = (__m512bh)_mm512_load_si512(own + next);
        for (int64_t row = 0; row < ROWS; row++) {
          int32_t both;
          std::memcpy(&both, a + block * TILE + row * STEP + pair * 2, 4);
          const __m512bh spread = (__m512bh)_mm512_set1_epi32(both);
          sums[row][0] = _mm512_dpbf16_ps(sums[row][0], spread, first);
          sums[row][1] = _mm512_dpbf16_ps(sums[row][1], spread, second);
        }
      }
    }
    for (int64_t row = 0; row < ROWS; row++)
      for (int own = 0; own < 2; own++) _mm512_storeu_ps(c + row * c_stride + own * SIDE, sums[row][own]);
  }
};

#endif

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define FLASH_AMX

template <int PARTS_OF_ONE>
struct AmxProducts : Bfloat16Blocks<PARTS_OF_ONE> {
  using Blocks = Bfloat16Blocks<PARTS_OF_ONE>;
  using typename Blocks::Number;
  using Blocks::PART, Blocks::SIDE, Blocks::TILE;

  // All eight tiles have 16 rows of 64 bytes: 0 to 3 hold sums, 4 and 5 `a`, 6 and 7 `b`.
  static void begin() {
    struct alignas(64) Shapes {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static const Shapes shapes;  // not local: GCC 12 does not know that the instruction reads it
    _tile_loadconfig(&shapes);
  }
  static void end() { _tile_release(); }

  static void product(const Number *a, int64_t a_depth, const Number *b, int64_t b_depth, float *c, int64_t c_stride,
                      int64_t m, int64_t n, int64_t k, bool add) {
    asm volatile("" ::: "memory");  // the compiler does not see that tile loads read memory
    const int64_t a_next = a_depth / STEP * TILE, b_next = b_depth / STEP * TILE;
    for (int64_t column = 0; column < n; column += STEP) {
      for (int64_t row = 0; row < m; row += STEP) {
        float *to = c + row * c_stride + column, *below = to + SIDE * c_stride;
        if (add) {
          _tile_loadd(0, to, c_stride * 4);
          _tile_loadd(1, to + SIDE, c_stride * 4);
          _tile_loadd(2, below, c_stride * 4);
          _tile_loadd(3, below + SIDE, c_stride * 4);
        } else {
          _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        }
        const Number *rows = a + row / SIDE * a_next, *columns = b + column / SIDE * b_next;
        for (int64_t at = 0; at < k; at += STEP, rows += TILE, columns += TILE) multiply(rows, a_next, columns, b_next);
        _tile_stored(0, to, c_stride * 4);
        _tile_stored(1, to + SIDE, c_stride * 4);
        _tile_stored(2, below, c_stride * 4);
        _tile_stored(3, below + SIDE, c_stride * 4);
      }
    }
    asm volatile("" ::: "memory");
  }

 private:
  static void multiply(const Number *a, int64_t a_next, const Number *b, int64_t b_next) {
#define FLASH_A(part)                        \
  _tile_loadd(4, a + (part) * PART, 64);     \
  _tile_loadd(5, a + a_next + (part) * PART, 64)
#define FLASH_B(part)                        \
  _tile_loadd(6, b + (part) * PART, 64);     \
  _tile_loadd(7, b + b_next + (part) * PART, 64)
#define FLASH_MULTIPLY       \
  _tile_dpbf16ps(0, 4, 6);   \
  _tile_dpbf16ps(1, 4, 7);   \
  _tile_dpbf16ps(2, 5, 6);   \
  _tile_dpbf16ps(3, 5, 7)
    if constexpr (Blocks::PARTS == 1) {
      FLASH_A(0); FLASH_B(0); FLASH_MULTIPLY;
    } else {  // the sum of the parts' numbers is at most 2
      FLASH_A(0); FLASH_B(2); FLASH_MULTIPLY; FLASH_B(0); FLASH_MULTIPLY; FLASH_B(1); FLASH_MULTIPLY;
      FLASH_A(1); FLASH_MULTIPLY; FLASH_B(0); FLASH_MULTIPLY;
      FLASH_A(2); FLASH_MULTIPLY;
    }
#undef FLASH_A
#undef FLASH_B
#undef FLASH_MULTIPLY
  }
};

#endif

}  // namespace flash

#endif
