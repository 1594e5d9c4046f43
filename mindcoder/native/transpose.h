// Transposes of 32-bit numbers in registers.
#pragma once
#include "lanes.h"

#if defined(__AVX512F__)

// Number i of row j becomes number j of row i.
static inline void transpose(__m512i rows[16]) {
  __m512i between[16];
  for (int row = 0; row < 16; row += 4) {  // 4 x 4 within each quarter of the rows
    const __m512i a = _mm512_unpacklo_epi32(rows[row], rows[row + 1]), b = _mm512_unpackhi_epi32(rows[row], rows[row + 1]);
    const __m512i c = _mm512_unpacklo_epi32(rows[row + 2], rows[row + 3]);
    const __m512i d = _mm512_unpackhi_epi32(rows[row + 2], rows[row + 3]);
    between[row] = _mm512_unpacklo_epi64(a, c), between[row + 1] = _mm512_unpackhi_epi64(a, c);
    between[row + 2] = _mm512_unpacklo_epi64(b, d), between[row + 3] = _mm512_unpackhi_epi64(b, d);
  }
  for (int column = 0; column < 4; column++) {  // then the quarters among themselves
    const __m512i a = between[column], b = between[column + 4], c = between[column + 8], d = between[column + 12];
    const __m512i ab = _mm512_shuffle_i32x4(a, b, 0x88), cd = _mm512_shuffle_i32x4(c, d, 0x88);
    const __m512i other_ab = _mm512_shuffle_i32x4(a, b, 0xDD), other_cd = _mm512_shuffle_i32x4(c, d, 0xDD);
    rows[column] = _mm512_shuffle_i32x4(ab, cd, 0x88), rows[column + 8] = _mm512_shuffle_i32x4(ab, cd, 0xDD);
    rows[column + 4] = _mm512_shuffle_i32x4(other_ab, other_cd, 0x88);
    rows[column + 12] = _mm512_shuffle_i32x4(other_ab, other_cd, 0xDD);
  }
}

inline void transpose(Lanes rows[LANES]) { transpose(reinterpret_cast<__m512i *>(rows)); }
#elif defined(__AVX__)
inline void transpose(Lanes lanes[LANES]) {
  __m256 *rows = reinterpret_cast<__m256 *>(lanes), between[8];
  for (int row = 0; row < 8; row += 4) {  // 4 x 4 within each half of the rows
    const __m256 a = _mm256_unpacklo_ps(rows[row], rows[row + 1]), b = _mm256_unpackhi_ps(rows[row], rows[row + 1]);
    const __m256 c = _mm256_unpacklo_ps(rows[row + 2], rows[row + 3]);
    const __m256 d = _mm256_unpackhi_ps(rows[row + 2], rows[row + 3]);
    between[row] = _mm256_shuffle_ps(a, c, 0x44), between[row + 1] = _mm256_shuffle_ps(a, c, 0xEE);
    between[row + 2] = _mm256_shuffle_ps(b, d, 0x44), between[row + 3] = _mm256_shuffle_ps(b, d, 0xEE);
  }
  for (int column = 0; column < 4; column++) {  // then the halves among themselves
    rows[column] = _mm256_permute2f128_ps(between[column], between[column + 4], 0x20);
    rows[column + 4] = _mm256_permute2f128_ps(between[column], between[column + 4], 0x31);
  }
}

// Number i of row j becomes number j of group i: [4][8] to [8][4].
inline void transpose_four(const Lanes lanes[4], float *to) {
  const __m256 *rows = reinterpret_cast<const __m256 *>(lanes);
  const __m256 a = _mm256_unpacklo_ps(rows[0], rows[1]), b = _mm256_unpackhi_ps(rows[0], rows[1]);
  const __m256 c = _mm256_unpacklo_ps(rows[2], rows[3]), d = _mm256_unpackhi_ps(rows[2], rows[3]);
  const __m256 first = _mm256_shuffle_ps(a, c, 0x44), second = _mm256_shuffle_ps(a, c, 0xEE);  // groups 0, 4 and 1, 5
  const __m256 third = _mm256_shuffle_ps(b, d, 0x44), fourth = _mm256_shuffle_ps(b, d, 0xEE);  // 2, 6 and 3, 7
  _mm256_storeu_ps(to, _mm256_permute2f128_ps(first, second, 0x20));
  _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(third, fourth, 0x20));
  _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(first, second, 0x31));
  _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(third, fourth, 0x31));
}
#else
inline void transpose(Lanes rows[LANES]) {
  for (int row = 0; row < LANES; row++)
    for (int column = 0; column < row; column++) {
      const float own = rows[row][column];
      rows[row][column] = rows[column][row], rows[column][row] = own;
    }
}
#endif
