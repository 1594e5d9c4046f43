// Integers of 8 and 4 bits, and codes of NF4, as vectors of floats.
#pragma once
#include <cstdint>

#include "lanes.h"

typedef uint8_t ByteLanes __attribute__((vector_size(LANES)));

static inline Lanes load(const int8_t *from) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from))));
#else
  typedef int8_t Integers __attribute__((vector_size(LANES)));
  Integers values;
  std::memcpy(&values, from, sizeof values);
  return __builtin_convertvector(values, Lanes);
#endif
}

// The first `count` numbers; zeros after them.
static inline Lanes load_some(const int8_t *from, int64_t count) {
  int8_t values[LANES] = {};
  std::memcpy(values, from, static_cast<size_t>(count));
  return load(values);
}

// Two numbers from 0 to 15 in each of LANES bytes.
struct Nibbles {
  Lanes low, high;
};

static inline Nibbles load_nibbles(const uint8_t *from) {
#if defined(__AVX512F__)
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  return {_mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15))),
          _mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4))};
#elif defined(__AVX2__)
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from)));
  return {_mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15))),
          _mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4))};
#else
  ByteLanes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  const IntLanes wide = __builtin_convertvector(bytes, IntLanes);
  return {__builtin_convertvector(wide & 15, Lanes), __builtin_convertvector(wide >> 4, Lanes)};
#endif
}

// What the codes of NF4 stand for (Dettmers et al. 2023, appendix E): quantiles of a normal distribution, scaled to
// -1..1, with an exact zero.
alignas(64) constexpr float NF4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

// What the two codes in each of LANES bytes stand for.
static inline Nibbles load_codes(const uint8_t *from) {
#if defined(__AVX512F__)
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  const __m512 table = _mm512_load_ps(NF4);
  return {_mm512_permutexvar_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)), table),
          _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table)};
#elif defined(__AVX2__)
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from)));
  const __m256 first = _mm256_load_ps(NF4), second = _mm256_load_ps(NF4 + 8);
  const auto look_up = [&](__m256i codes) {  // by three bits in both halves of the table; the fourth chooses the half
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, codes), _mm256_permutevar8x32_ps(second, codes),
                            _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
  };
  return {look_up(bytes), look_up(_mm256_srli_epi32(bytes, 4))};
#else
  Nibbles values;
  for (int lane = 0; lane < LANES; lane++) values.low[lane] = NF4[from[lane] & 15], values.high[lane] = NF4[from[lane] >> 4];
  return values;
#endif
}
