// Vectors of floats as wide as the processor's registers, with the vector types of GCC and Clang: one source for
// AVX-512, AVX2 and NEON.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t IntLanes __attribute__((vector_size(LANES * 4)));
typedef float Four __attribute__((vector_size(16)));
typedef _Float16 Half;
typedef Half HalfLanes __attribute__((vector_size(LANES * 2)));

static inline Lanes load(const float *from) {
  Lanes values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

// By default GCC converts a vector of halves one by one, hence the intrinsics for x86.
static inline Lanes load(const Half *from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
#elif defined(__AVX__) && defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
#else
  HalfLanes values;
  std::memcpy(&values, from, sizeof values);
  return __builtin_convertvector(values, Lanes);
#endif
}

// The first `count` numbers; zeros after them.
template <class Number>
static inline Lanes load_some(const Number *from, int64_t count) {
  Number values[LANES] = {};
  std::memcpy(values, from, count * sizeof(Number));
  return load(values);
}

static inline void store(float *to, Lanes values) { std::memcpy(to, &values, sizeof values); }

static inline void store_some(float *to, Lanes values, int64_t count) { std::memcpy(to, &values, count * 4); }

static inline Lanes all(float value) { return Lanes{} + value; }

// Not `all`, which adds: a subtraction of zero is left out.
static inline Lanes spread(float number) { return number - Lanes{}; }

// For a vector that is used several times: with 16 registers, all of which are needed, compilers would load it again for
// each use, 16 loads for 12 multiplications, where the processor does as many of one as of the other.
static inline Lanes in_register(Lanes values) {
#if defined(__AVX__) && !defined(__AVX512F__)
  asm("" : "+x"(values));
#endif
  return values;
}

// Adds neighboring parts until four lanes are left.
static inline Four fold(Lanes values) {
#if defined(__AVX512F__)
  typedef float Eight __attribute__((vector_size(32)));
  Eight eight = __builtin_shufflevector(values, values, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(values, values, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
#elif defined(__AVX__)
  return __builtin_shufflevector(values, values, 0, 1, 2, 3) + __builtin_shufflevector(values, values, 4, 5, 6, 7);
#else
  return values;
#endif
}

// The sums of four vectors, by transposition.
static inline Four sum_each(Lanes a, Lanes b, Lanes c, Lanes d) {
  Four w = fold(a), x = fold(b), y = fold(c), z = fold(d);
  Four low = __builtin_shufflevector(w, x, 0, 4, 1, 5), high = __builtin_shufflevector(w, x, 2, 6, 3, 7);
  Four wx = low + high;
  low = __builtin_shufflevector(y, z, 0, 4, 1, 5), high = __builtin_shufflevector(y, z, 2, 6, 3, 7);
  Four yz = low + high;
  return __builtin_shufflevector(wx, yz, 0, 1, 4, 5) + __builtin_shufflevector(wx, yz, 2, 3, 6, 7);
}

static inline float sum(Lanes values) { return sum_each(values, values, values, values)[0]; }

static inline float largest(Lanes values) {
  float result = values[0];
  for (int lane = 1; lane < LANES; lane++) result = values[lane] > result ? values[lane] : result;
  return result;
}

static inline Lanes maximum(Lanes a, Lanes b) { return a > b ? a : b; }

// e to the x within 2 ulp (Cephes' polynomial); 0 below -87, saturates above 88.
static inline Lanes exponential(Lanes x) {
  // adding 1.5 * 2^23 rounds to integers
  const Lanes lowest = all(-87.0f), highest = all(88.0f), shifter = all(12582912.0f);
  IntLanes visible = x >= lowest;
  x = x > highest ? highest : x;
  x = x < lowest ? lowest : x;
  Lanes whole = (x * 1.44269504088896341f + shifter) - shifter;
  Lanes remainder = x - whole * 0.693359375f;
  remainder = remainder + whole * 2.12194440e-4f;
  Lanes value = all(1.9875691500e-4f);
  value = value * remainder + 1.3981999507e-3f;
  value = value * remainder + 8.3334519073e-3f;
  value = value * remainder + 4.1665795894e-2f;
  value = value * remainder + 1.6666665459e-1f;
  value = value * remainder + 5.0000001201e-1f;
  value = value * remainder * remainder + remainder + 1.0f;
  IntLanes power = (__builtin_convertvector(whole, IntLanes) + 127) << 23;
  return (Lanes)((IntLanes)(value * (Lanes)power) & visible);
}
