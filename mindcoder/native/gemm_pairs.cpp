// Matrix products of bfloat16 by AVX512-BF16, which multiplies pairs of them and adds both products to a float32.
#include "gemm_kernel.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)

#include <algorithm>
#include <cstdlib>

#include "transpose.h"

namespace {

constexpr int64_t LINE = 16;  // pairs in a register
constexpr int64_t ROWS = 8, VECTORS = 3, COLUMNS = VECTORS * LINE;

// Panels are [pairs of depth][WIDTH][2]. Stores the first `width` pairs of a register.
inline void put(uint32_t *to, __m512i pairs, int64_t width) {
  _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << width) - 1), pairs);
}

template <int64_t WIDTH>
void pack(const GemmOperand &from, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth, void *memory) {
  uint32_t *to = static_cast<uint32_t *>(memory);
  for (int64_t group = 0; group < WIDTH; group += LINE) {
    const int64_t width = std::min(WIDTH - group, LINE), own_rows = std::clamp(rows - group, int64_t{0}, width);
    if (from.depth_stride == 1) {
      for (int64_t at = 0; at < depth; at += 2 * LINE) {
        const int64_t count = std::min(depth - at, 2 * LINE);
        const uint32_t exist = count == 2 * LINE ? 0xFFFFFFFFu : (1u << count) - 1;
        __m512i lines[LINE];
        for (int64_t own = 0; own < LINE; own++)
          lines[own] = own < own_rows ? _mm512_maskz_loadu_epi16(exist, from.at(item, row + group + own, start + at))
                                      : _mm512_setzero_si512();
        transpose(lines);
        for (int64_t pair = 0; pair < (count + 1) / 2; pair++)
          put(to + (at / 2 + pair) * WIDTH + group, lines[pair], width);
      }
    } else {
      const __mmask16 exist = static_cast<__mmask16>((1u << own_rows) - 1);
      for (int64_t at = 0; at < depth; at += 2) {
        const __mmask16 second = at + 1 < depth ? exist : 0;
        const __m256i even = _mm256_maskz_loadu_epi16(exist, from.at(item, row + group, start + at));
        const __m256i odd = _mm256_maskz_loadu_epi16(second, from.at(item, row + group, start + at + 1));
        const __m512i upper = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
        put(to + at / 2 * WIDTH + group, _mm512_or_si512(_mm512_cvtepu16_epi32(even), upper), width);
      }
    }
  }
}

void multiply(const void *a_panel, const void *b_panel, int64_t depth, bool add, float *c, int64_t stride) {
  const int32_t *a = static_cast<const int32_t *>(a_panel), *b = static_cast<const int32_t *>(b_panel);
  __m512 sums[ROWS][VECTORS] = {};
  for (int64_t at = 0; at < depth; at += 2, a += ROWS, b += COLUMNS) {
    __m512bh own[VECTORS];
#pragma GCC unroll 3
    for (int64_t vector = 0; vector < VECTORS; vector++) own[vector] = (__m512bh)_mm512_loadu_si512(b + vector * LINE);
#pragma GCC unroll 8
    for (int64_t row = 0; row < ROWS; row++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(a[row]);
#pragma GCC unroll 3
      for (int64_t vector = 0; vector < VECTORS; vector++)
        sums[row][vector] = _mm512_dpbf16_ps(sums[row][vector], pair, own[vector]);
    }
  }
#pragma GCC unroll 8
  for (int64_t row = 0; row < ROWS; row++) {
#pragma GCC unroll 3
    for (int64_t vector = 0; vector < VECTORS; vector++) {
      float *to = c + row * stride + vector * LINE;
      _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), sums[row][vector]) : sums[row][vector]);
    }
  }
}

void nothing() {}

// Intel's processors take more than twice as long for it as for float32 (Sapphire Rapids: 78 GFLOP/s against 178), AMD's
// as long. MINDCODER_PAIRS=1 uses it anyway, for tests.
bool worth_it() {
  const char *asked = std::getenv("MINDCODER_PAIRS");
  if (asked != nullptr) return asked[0] == '1' && __builtin_cpu_supports("avx512bf16");
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16");
}

}  // namespace

const GemmKernel *gemm_pairs(const GemmArguments &arguments) {
  static const bool used = worth_it();
  static const GemmKernel one{ROWS,        COLUMNS,       2,        ROWS * 2, COLUMNS * 2, 768,
                              pack<ROWS>, pack<COLUMNS>, multiply, nothing,  nothing};
  if (!used || arguments.a.element != GemmType::bfloat16 || arguments.b.element != GemmType::bfloat16) return nullptr;
  return &one;
}

#else

const GemmKernel *gemm_pairs(const GemmArguments &) { return nullptr; }

#endif
