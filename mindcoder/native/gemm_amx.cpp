// Matrix products on Intel's matrix unit (AMX): bfloat16, float32 rounded to it, and float32 as sums of bfloat16 terms.
//
// A float32's 24 significant bits are exactly those of three bfloat16: a = a0 + a1 + a2. Of the nine products of two
// such numbers a1 b2, a2 b1 and a2 b2 are below float32's own rounding and omitted (amx.cpp computes prompts so, too).
// With two terms, 16 bits, three products remain.
#include "gemm_kernel.h"
#include "amx.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__linux__)

#include <algorithm>

#include "transpose.h"

namespace {

constexpr int64_t SIDE = 16;            // rows of a tile
constexpr int64_t DEPTH = 32;           // depth of a tile
constexpr int64_t TILE = SIDE * DEPTH;  // bfloat16 numbers in it

constexpr int64_t AHEAD = 256;          // bytes by which packing prefetches

using Bits = uint16_t;  // of a bfloat16

// A panel is [blocks of depth][2 tiles][terms][TILE]. A's tiles are [16 rows][32], B's [16 pairs of depth][16 rows][2]:
// as pairs of 32 bits each is the transpose of the other, and each is the order in which one storage has its numbers.
template <int TERMS, class Number>  // of a factor: float or Bits
struct Tiles {
  static constexpr bool FLOATS = sizeof(Number) == 4;
  static constexpr int64_t BLOCK = 2 * TERMS * TILE;  // numbers for DEPTH units of depth

  static __m512i upper_bits() { return _mm512_set1_epi32(static_cast<int>(0xFFFF0000)); }

  // What a term, the float's upper half, leaves over. The first term of three and all but the last are cut off, so that
  // the rest is exact; of two the last is rounded, and a single one to the nearest, of two equally near to the even one.
  static __m512i term_of(__m512i number, int term) {
    if (TERMS == 2 && term == 1) number = _mm512_add_epi32(number, _mm512_set1_epi32(0x8000));
    if (TERMS == 1) {
      const __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(number, 16), _mm512_set1_epi32(1));
      const __m512i rounded = _mm512_add_epi32(number, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7FFF)));
      const __mmask16 is_number = _mm512_cmp_ps_mask(_mm512_castsi512_ps(number), _mm512_castsi512_ps(number), _CMP_ORD_Q);
      number = _mm512_mask_mov_epi32(number, is_number, rounded);
    }
    return _mm512_and_si512(number, upper_bits());
  }
  static __m512i remainder_of(__m512i number, __m512i term) {
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(number), _mm512_castsi512_ps(term)));
  }

  // One tile of rows that are contiguous along the depth: lines[term][row] are 32 numbers.
  static void read_rows(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth,
                        __m512i lines[TERMS][SIDE]) {
    alignas(64) static constexpr uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const uint32_t exist = depth >= DEPTH ? 0xFFFFFFFFu : (1u << depth) - 1;
    for (int64_t own = 0; own < SIDE; own++) {
      if (own >= rows) {
        for (int term = 0; term < TERMS; term++) lines[term][own] = _mm512_setzero_si512();
        continue;
      }
      const char *at = static_cast<const char *>(from.at(item, row + own, start));
      __builtin_prefetch(at + AHEAD);
      if (FLOATS) __builtin_prefetch(at + AHEAD + 64);
      if constexpr (!FLOATS) {
        lines[0][own] = _mm512_maskz_loadu_epi16(exist, at);
      } else {
        const float *floats = reinterpret_cast<const float *>(at);
        __m512i low = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(exist), floats);
        __m512i high = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(exist >> 16), floats + 16);
        for (int term = 0; term < TERMS; term++) {
          const __m512i low_term = term_of(low, term), high_term = term_of(high, term);
          lines[term][own] = _mm512_permutex2var_epi16(low_term, _mm512_load_si512(odd), high_term);
          low = remainder_of(low, low_term), high = remainder_of(high, high_term);
        }
      }
    }
  }

  // One tile of rows that are contiguous across the depth: lines[term][pair] are two numbers of each of 16 rows.
  static void read_columns(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start,
                           int64_t depth, __m512i lines[TERMS][SIDE]) {
    const __mmask16 exist = rows >= SIDE ? 0xFFFF : static_cast<__mmask16>((1u << std::max(rows, int64_t{0})) - 1);
    for (int64_t pair = 0; pair < SIDE; pair++) {
      const __mmask16 first = 2 * pair < depth ? exist : 0, second = 2 * pair + 1 < depth ? exist : 0;
      const void *even_at = from.at(item, row, start + 2 * pair), *odd_at = from.at(item, row, start + 2 * pair + 1);
      __builtin_prefetch(static_cast<const char *>(even_at) + AHEAD);
      __builtin_prefetch(static_cast<const char *>(odd_at) + AHEAD);
      if constexpr (!FLOATS) {
        const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first, even_at));
        const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(second, odd_at));
        lines[0][pair] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
      } else {
        __m512i even = _mm512_maskz_loadu_epi32(first, even_at), odd = _mm512_maskz_loadu_epi32(second, odd_at);
        for (int term = 0; term < TERMS; term++) {
          const __m512i even_term = term_of(even, term), odd_term = term_of(odd, term);
          lines[term][pair] = _mm512_or_si512(_mm512_srli_epi32(even_term, 16), odd_term);
          even = remainder_of(even, even_term), odd = remainder_of(odd, odd_term);
        }
      }
    }
  }

  template <bool IS_B>
  static void pack(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth,
                   void *memory) {
    const bool along = from.depth_stride == 1;
    for (int64_t at = 0; at < depth; at += DEPTH) {
      Bits *to = static_cast<Bits *>(memory) + at / DEPTH * BLOCK;
      for (int64_t tile = 0; tile < 2; tile++) {
        __m512i lines[TERMS][SIDE];
        const int64_t first = tile * SIDE;
        if (along) read_rows(from, item, row + first, rows - first, start + at, depth - at, lines);
        else read_columns(from, item, row + first, rows - first, start + at, depth - at, lines);
        for (int term = 0; term < TERMS; term++, to += TILE) {
          if (along == IS_B) transpose(lines[term]);
          for (int64_t line = 0; line < SIDE; line++) _mm512_store_si512(to + line * DEPTH, lines[term][line]);
        }
      }
    }
  }

  // Tiles 0 to 3 hold sums, 4 and 5 A's, 6 and 7 B's.
  static void multiply(const void *a_panel, const void *b_panel, int64_t depth, bool add, float *c, int64_t stride) {
    const Bits *a = static_cast<const Bits *>(a_panel), *b = static_cast<const Bits *>(b_panel);
    const int64_t bytes = stride * 4;
    if (add && TERMS > 1) {  // the rounding of a longer chain of sums would exceed float32's
      alignas(64) float sums[4 * SIDE * SIDE];
      multiply(a_panel, b_panel, depth, false, sums, 2 * SIDE);
      asm volatile("" ::: "memory");  // the compiler does not know that the tiles were stored there
      for (int64_t row = 0; row < 2 * SIDE; row++) {
        for (int64_t half = 0; half < 2 * SIDE; half += SIDE) {
          const __m512 own = _mm512_load_ps(sums + row * 2 * SIDE + half);
          float *to = c + row * stride + half;
          _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), own));
        }
      }
      return;
    }
    if (add) {
      _tile_loadd(0, c, bytes);
      _tile_loadd(1, c + SIDE, bytes);
      _tile_loadd(2, c + SIDE * stride, bytes);
      _tile_loadd(3, c + SIDE * stride + SIDE, bytes);
    } else {
      _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    }
#define LOAD_A(term)                            \
  _tile_loadd(4, a + (term) * TILE, 64);          \
  _tile_loadd(5, a + (TERMS + (term)) * TILE, 64)
#define LOAD_B(term)                            \
  _tile_loadd(6, b + (term) * TILE, 64);          \
  _tile_loadd(7, b + (TERMS + (term)) * TILE, 64)
#define PRODUCTS            \
  _tile_dpbf16ps(0, 4, 6);  \
  _tile_dpbf16ps(1, 4, 7);  \
  _tile_dpbf16ps(2, 5, 6);  \
  _tile_dpbf16ps(3, 5, 7)
    for (int64_t block = 0; block < depth / DEPTH; block++, a += BLOCK, b += BLOCK) {
      LOAD_A(0);
      if constexpr (TERMS == 3) { LOAD_B(2); PRODUCTS; LOAD_B(0); PRODUCTS; }
      if constexpr (TERMS == 1) { LOAD_B(0); PRODUCTS; }
      if constexpr (TERMS >= 2) { LOAD_B(1); PRODUCTS; }
      if constexpr (TERMS == 2) { LOAD_B(0); PRODUCTS; LOAD_A(1); PRODUCTS; }
      if constexpr (TERMS == 3) { LOAD_A(1); PRODUCTS; LOAD_B(0); PRODUCTS; LOAD_A(2); PRODUCTS; }
    }
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + SIDE, bytes);
    _tile_stored(2, c + SIDE * stride, bytes);
    _tile_stored(3, c + SIDE * stride + SIDE, bytes);
  }
#undef LOAD_A
#undef LOAD_B
#undef PRODUCTS
};

struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Static: GCC believes that the instruction reads eight bytes and leaves out a local variable's others. Nor does it know
// that the instructions for tiles read and write memory, so they are in functions that are called by pointer.
void configure() {
  static const Shapes shapes;
  _tile_loadconfig(&shapes);
}

void release() { _tile_release(); }

template <int TERMS, class Number, int64_t DEPTH_AT_ONCE>
const GemmKernel *kernel() {
  using Own = Tiles<TERMS, Number>;
  static const GemmKernel one{2 * SIDE, 2 * SIDE, DEPTH, Own::BLOCK * 2 / DEPTH, Own::BLOCK * 2 / DEPTH, DEPTH_AT_ONCE,
                              Own::template pack<false>, Own::template pack<true>, Own::multiply, configure, release};
  return &one;
}

}  // namespace

const GemmKernel *gemm_amx(const GemmArguments &arguments) {
  constexpr int64_t NARROW = 16;  // from here on splitting a float32 costs less than it saves
  if (!amx_available() || arguments.a.element != arguments.b.element) return nullptr;
  if (arguments.a.element == GemmType::bfloat16) return kernel<1, Bits, 1024>();
  if (arguments.a.element != GemmType::float32) return nullptr;
  if (arguments.terms == 1) return kernel<1, float, 1024>();
  if (std::min(std::min(arguments.m, arguments.n), arguments.k) <= NARROW) return nullptr;
  return arguments.terms == 2 ? kernel<2, float, 512>() : kernel<3, float, 512>();
}

#else

const GemmKernel *gemm_amx(const GemmArguments &) { return nullptr; }

#endif
