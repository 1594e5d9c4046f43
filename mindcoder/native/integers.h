// Integers of 8 and 4 bits as vectors of floats.
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
