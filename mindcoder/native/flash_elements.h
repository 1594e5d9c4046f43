// Rows of float32, float16 and bfloat16 as rows of float, and back; buffers for them.
#pragma once
#include <algorithm>

#include "flash.h"
#include "lanes.h"
#include "transpose.h"
#include "scratch.h"

namespace flash {

constexpr int64_t STEP = 32;            // blocks are multiples of it: pairs of tiles on the matrix unit
constexpr int VECTORS = STEP / LANES;   // vectors of a step

inline int64_t padded(int64_t count) { return (count + STEP - 1) / STEP * STEP; }

// Memory whose rows begin at cache lines; not initialized.
template <class Number>
class Buffer {
 public:
  explicit Buffer(int64_t count) : scratch_((count * sizeof(Number) + 127) / 64 * 64) {}
  Number *get() const { return scratch_.as<Number>(); }

 private:
  Scratch scratch_;
};

inline const char *at(const void *data, Element element, int64_t index) {
  return static_cast<const char *>(data) + index * bytes_of(element);
}

inline char *at(void *data, Element element, int64_t index) {
  return static_cast<char *>(data) + index * bytes_of(element);
}

// Sixteen bits, the upper half of a float.
inline float from_bfloat16(uint16_t bits) {
  const uint32_t whole = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &whole, 4);
  return value;
}

inline uint16_t to_bfloat16(float value) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// to[padding] = the `count` numbers at `from`, and zeros.
inline void read_row(Element element, const char *from, int64_t count, int64_t padding, float *to) {
  if (element == Element::float32) {
    std::memcpy(to, from, count * 4);
  } else if (element == Element::bfloat16) {
    const uint16_t *stored = reinterpret_cast<const uint16_t *>(from);
    for (int64_t index = 0; index < count; index++) to[index] = from_bfloat16(stored[index]);
  } else {
    const Half *halves = reinterpret_cast<const Half *>(from);
    int64_t index = 0;
    for (; index + LANES <= count; index += LANES) store(to + index, load(halves + index));
    for (; index < count; index++) to[index] = static_cast<float>(halves[index]);
  }
  std::fill(to + count, to + padding, 0.0f);
}

// The `count` numbers of `from` times `factor`, rounded once.
inline void write_row(Element element, const float *from, float factor, int64_t count, char *to) {
  if (element == Element::float32) {
    float *floats = reinterpret_cast<float *>(to);
    for (int64_t index = 0; index < count; index++) floats[index] = from[index] * factor;
  } else if (element == Element::bfloat16) {
    uint16_t *stored = reinterpret_cast<uint16_t *>(to);
    for (int64_t index = 0; index < count; index++) stored[index] = to_bfloat16(from[index] * factor);
  } else {
    Half *halves = reinterpret_cast<Half *>(to);
    int64_t index = 0;
#if defined(__AVX512F__)
    for (; index + LANES <= count; index += LANES) {
      const __m256i bits = _mm512_cvtps_ph((__m512)(load(from + index) * factor), _MM_FROUND_TO_NEAREST_INT);
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(halves + index), bits);
    }
#elif defined(__AVX__) && defined(__F16C__)
    for (; index + LANES <= count; index += LANES) {
      const __m128i bits = _mm256_cvtps_ph((__m256)(load(from + index) * factor), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i *>(halves + index), bits);
    }
#endif
    for (; index < count; index++) halves[index] = static_cast<Half>(from[index] * factor);
  }
}

// Rows of one head of one sequence, behind each other or in blocks that a table names.
struct Matrix {
  Element element;
  const char *data;
  int64_t stride, rows, width;  // stride in elements
  const int32_t *table = nullptr;
  int64_t block_size = 1, block = 0;  // rows of a block, elements from one block to the next

  const char *row(int64_t index) const {
    const int64_t place = table == nullptr ? index * stride : table[index / block_size] * block + index % block_size * stride;
    return data + place * bytes_of(element);
  }
};

// The STEP rows from `first`, zeros where there are none: chunk[STEP, padding].
inline void read_rows(const Matrix &matrix, int64_t first, int64_t padding, float *chunk) {
  for (int64_t own = 0; own < STEP; own++) {
    const int64_t row = first + own;
    if (row < matrix.rows) read_row(matrix.element, matrix.row(row), matrix.width, padding, chunk + own * padding);
    else std::fill(chunk + own * padding, chunk + (own + 1) * padding, 0.0f);
  }
}

// to[columns, rows] = from[rows, columns].T; both sizes are multiples of STEP, `to_stride` and `from_stride` their rows.
inline void transpose(const float *from, int64_t rows, int64_t columns, int64_t from_stride, int64_t to_stride, float *to) {
  for (int64_t row = 0; row < rows; row += LANES) {
    for (int64_t column = 0; column < columns; column += LANES) {
      Lanes block[LANES];
      for (int64_t own = 0; own < LANES; own++) block[own] = load(from + (row + own) * from_stride + column);
      ::transpose(block);
      for (int64_t own = 0; own < LANES; own++) store(to + (column + own) * to_stride + row, block[own]);
    }
  }
}

inline void load_step(const float *from, Lanes to[VECTORS]) {
  for (int vector = 0; vector < VECTORS; vector++) to[vector] = load(from + vector * LANES);
}

// Multiplies STEP weights by `factor` where the bit is 1, by 0 elsewhere.
inline void drop(uint32_t kept, float factor, Lanes weights[VECTORS]) {
  IntLanes bit;
  for (int lane = 0; lane < LANES; lane++) bit[lane] = static_cast<int32_t>(1u << lane);
  for (int vector = 0; vector < VECTORS; vector++) {
    const IntLanes bits = IntLanes{} + static_cast<int32_t>(kept >> vector * LANES);
    const IntLanes keeps = (bits & bit) != 0;
    weights[vector] = (Lanes)((IntLanes)(weights[vector] * factor) & keeps);
  }
}

// e to the x for x up to some 80, within 1e-7 of it (`PRECISE`) or 3e-6; 0 far below, also for minus infinity.
template <bool PRECISE>
inline Lanes power_of_e(Lanes x) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  // 2^f by the polynomial with the smallest relative error on 0 .. 1 that is 1 at 0 (Lawson's weighted least squares)
  const __m512 y = _mm512_mul_ps((__m512)x, _mm512_set1_ps(1.44269504f));
  const Lanes f = (Lanes)_mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // 0 of minus infinity
  Lanes value;
  if constexpr (PRECISE) {
    value = all(2.161291511e-04f);
    value = value * f + 1.246784639e-03f;
    value = value * f + 9.675451573e-03f;
    value = value * f + 5.548528061e-02f;
    value = value * f + 2.402293056e-01f;
    value = value * f + 6.931470444e-01f;
  } else {
    value = all(1.342668441e-02f);
    value = value * f + 5.224247390e-02f;
    value = value * f + 2.412802050e-01f;
    value = value * f + 6.930448449e-01f;
  }
  return (Lanes)_mm512_scalef_ps((__m512)(value * f + 1.0f), y);  // which takes the whole part of y
#else
  return exponential(x);
#endif
}

}  // namespace flash
