// bfloat16, a float32's upper half; and how both formats of 16 bits are stored.
#pragma once
#include "lanes.h"

enum Bfloat16Bits : uint16_t {};  // the bits of a bfloat16, a type of its own

#if defined(__AVX512BF16__) && defined(__AVX512F__)
static inline Lanes load(const Bfloat16Bits *from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
  return (Lanes)_mm512_slli_epi32(wide, 16);
}
static inline void store_some(Bfloat16Bits *to, Lanes values, int64_t count) {
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)values);
  std::memcpy(to, &rounded, static_cast<size_t>(count) * sizeof(Bfloat16Bits));
}
#else
typedef uint16_t Bfloat16Lanes __attribute__((vector_size(LANES * 2)));
typedef uint32_t WordLanes __attribute__((vector_size(LANES * 4)));

static inline Lanes load(const Bfloat16Bits *from) {
  Bfloat16Lanes values;
  std::memcpy(&values, from, sizeof values);
  return (Lanes)(__builtin_convertvector(values, WordLanes) << 16);
}

// Rounds to the nearest, to even ones between two; a NaN stays one.
static inline void store_some(Bfloat16Bits *to, Lanes values, int64_t count) {
  const WordLanes bits = (WordLanes)values;
  const WordLanes rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, quiet = (bits >> 16) | 0x40;
  const WordLanes number = (WordLanes)(values == values);
  const Bfloat16Lanes result = __builtin_convertvector((rounded & number) | (quiet & ~number), Bfloat16Lanes);
  std::memcpy(to, &result, static_cast<size_t>(count) * sizeof(Bfloat16Bits));
}
#endif

static inline void store_some(Half *to, Lanes values, int64_t count) {
  const HalfLanes result = __builtin_convertvector(values, HalfLanes);
  std::memcpy(to, &result, static_cast<size_t>(count) * sizeof(Half));
}
