// The numbers of a tensor as they are stored, and vectors of them as float32.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "bfloat16.h"
#include "lanes.h"
#include "thread_pool.h"

// bfloat16 as a number; bfloat16.h has its bits.
struct Bfloat16 {
  uint16_t bits;

  Bfloat16() = default;
  explicit Bfloat16(float value) {
    uint32_t whole;
    std::memcpy(&whole, &value, 4);
    const uint32_t rounded = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16;  // to the nearest, ties to even
    bits = static_cast<uint16_t>(value == value ? rounded : 0x7FC0);
  }
  explicit operator float() const {
    const uint32_t whole = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &whole, 4);
    return value;
  }
};

template <class T> constexpr const char *dtype_name();
template <> constexpr const char *dtype_name<float>() { return "float32"; }
template <> constexpr const char *dtype_name<double>() { return "float64"; }
template <> constexpr const char *dtype_name<Half>() { return "float16"; }
template <> constexpr const char *dtype_name<Bfloat16>() { return "bfloat16"; }
template <> constexpr const char *dtype_name<bool>() { return "bool"; }
template <> constexpr const char *dtype_name<int32_t>() { return "int32"; }
template <> constexpr const char *dtype_name<int64_t>() { return "int64"; }
template <> constexpr const char *dtype_name<uint8_t>() { return "uint8"; }
template <> constexpr const char *dtype_name<int8_t>() { return "int8"; }

// What a number is computed in: floats narrower than 32 bits in float32.
template <class T> struct Computed { using Type = T; };
template <> struct Computed<Half> { using Type = float; };
template <> struct Computed<Bfloat16> { using Type = float; };
template <class T> using ComputedIn = typename Computed<T>::Type;

static inline Lanes load(const Bfloat16 *from) { return load(reinterpret_cast<const Bfloat16Bits *>(from)); }

static inline void store(Bfloat16 *to, Lanes values) { store_some(reinterpret_cast<Bfloat16Bits *>(to), values, LANES); }

static inline void store(Half *to, Lanes values) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_cvtps_ph((__m512)values, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX__) && defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_cvtps_ph((__m256)values, _MM_FROUND_TO_NEAREST_INT));
#else
  const HalfLanes halves = __builtin_convertvector(values, HalfLanes);
  std::memcpy(to, &halves, sizeof halves);
#endif
}

template <class T>
static inline void store_some(T *to, Lanes values, int64_t count) {
  T whole[LANES];
  store(whole, values);
  std::memcpy(to, whole, count * sizeof(T));
}

// Up to LANES numbers; zeros after them.
template <class T>
static inline Lanes load_up_to(const T *from, int64_t count) {
  return count >= LANES ? load(from) : load_some(from, count);
}

template <class T>
static inline void store_up_to(T *to, Lanes values, int64_t count) {
  if (count >= LANES) store(to, values);
  else store_some(to, values, count);
}

constexpr int64_t WORTH_SHARING = 1 << 15;  // operations below which waking the pool costs more than it saves

// Calls work(begin, end) for parts of 0..size with boundaries at multiples of `grain`, on all threads of the pool;
// `each` is the number of simple operations that one of `size` takes.
template <class Work>
void parallel_for(int64_t size, int64_t grain, int64_t each, const Work &work) {
  const int members = thread_count();
  if (members == 1 || size <= grain || size * each < WORTH_SHARING) {
    if (size > 0) work(int64_t{0}, size);
    return;
  }
  run_on_all_threads([&](int member) {
    const Range own = part_of(size, member, members, grain);
    if (own.begin < own.end) work(own.begin, own.end);
  });
}

// visit(at, count) for the vectors of 0..size, the last of which may hold fewer than LANES numbers.
template <class Visit>
inline void vectors(int64_t size, Visit visit) {
  int64_t at = 0;
  for (; at + LANES <= size; at += LANES) visit(at, int64_t{LANES});
  if (at < size) visit(at, size - at);
}
