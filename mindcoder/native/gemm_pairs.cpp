// Matrix products of bfloat16, or of float32 rounded to it, by AVX512-BF16, which multiplies pairs of them and adds both products to a float32.
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

// 32 numbers along a row, of which those in `exist`.
template <bool FLOATS>
inline __m512i read(const void *at, uint32_t exist) {
  if constexpr (!FLOATS) return _mm512_maskz_loadu_epi16(exist, at);
  const float *floats = static_cast<const float *>(at);
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(exist), floats);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(exist >> 16), floats + LINE);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// 16 numbers across rows.
template <bool FLOATS>
inline __m256i read_across(const void *at, __mmask16 exist) {
  if constexpr (!FLOATS) return _mm256_maskz_loadu_epi16(exist, at);
  return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(exist, at));
}

template <int64_t WIDTH, bool FLOATS>
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
          lines[own] = own < own_rows ? read<FLOATS>(from.at(item, row + group + own, start + at), exist)
                                      : _mm512_setzero_si512();
        transpose(lines);
        for (int64_t pair = 0; pair < (count + 1) / 2; pair++)
          put(to + (at / 2 + pair) * WIDTH + group, lines[pair], width);
      }
    } else {
      const __mmask16 exist = static_cast<__mmask16>((1u << own_rows) - 1);
      for (int64_t at = 0; at < depth; at += 2) {
        const __mmask16 second = at + 1 < depth ? exist : 0;
        const __m256i even = read_across<FLOATS>(from.at(item, row + group, start + at), exist);
        const __m256i odd = read_across<FLOATS>(from.at(item, row + group, start + at + 1), second);
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

template <bool FLOATS>
const GemmKernel *kernel() {
  static const GemmKernel one{
      ROWS,     COLUMNS, 2,      ROWS * 2, COLUMNS * 2, 768, pack<ROWS, FLOATS>, pack<COLUMNS, FLOATS>,
      multiply, nothing, nothing};
  return &one;
}

}  // namespace

bool pairs_available() {
  static const bool used = worth_it();
  return used;
}

const GemmKernel *gemm_pairs(const GemmArguments &arguments) {
  const GemmType element = arguments.a.element;
  if (!pairs_available() || arguments.b.element != element) return nullptr;
  if (element == GemmType::bfloat16) return kernel<false>();
  return element == GemmType::float32 && arguments.terms == 1 ? kernel<true>() : nullptr;
}

#else

bool pairs_available() { return false; }

const GemmKernel *gemm_pairs(const GemmArguments &) { return nullptr; }

#endif
