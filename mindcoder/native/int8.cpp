// Integers of 8 bits by integers of 8 bits, by vectors: x86 with VNNI multiplies bytes, everything else 16-bit numbers.
#include "int8.h"

#include <algorithm>
#include <cstring>

#include "scratch.h"
#include "thread_pool.h"

namespace {

constexpr int OUTPUTS = 4;             // per tile
constexpr int64_t LINE = 64;           // bytes of a cache line
constexpr int64_t PASS = 256 << 10;    // bytes of activations that stay in the cache while all weights go by
constexpr int64_t ALONE = 1 << 16;     // activations that one thread prepares

// `Stored` is how a row's activations lie in memory, as x + SHIFT; `add` multiplies WIDTH of them. With a shift, `count`
// adds up the weights.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

struct Unit {
  typedef uint8_t Stored;
  typedef __m512i Sum;
  static constexpr int64_t WIDTH = 64;
  static constexpr int32_t SHIFT = 128;  // the instruction takes bytes without a sign
  static constexpr int ROWS = 4;

  static Sum weights(const int8_t *from) { return _mm512_loadu_si512(from); }
  static Sum add(Sum sum, const Stored *x, Sum weights) { return _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(x), weights); }
  static Sum count(Sum sum, Sum weights) { return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), weights); }
  static int32_t total(Sum sum) { return _mm512_reduce_add_epi32(sum); }
};

#elif defined(__AVX512BW__)

struct Unit {
  typedef int16_t Stored;
  typedef __m512i Sum;
  static constexpr int64_t WIDTH = 32;
  static constexpr int32_t SHIFT = 0;
  static constexpr int ROWS = 4;

  static Sum weights(const int8_t *from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
  }
  static Sum add(Sum sum, const Stored *x, Sum weights) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_loadu_si512(x), weights));
  }
  static Sum count(Sum sum, Sum) { return sum; }
  static int32_t total(Sum sum) { return _mm512_reduce_add_epi32(sum); }
};

#elif defined(__AVX2__)

struct Unit {
  typedef int16_t Stored;
  typedef __m256i Sum;
  static constexpr int64_t WIDTH = 16;
  static constexpr int32_t SHIFT = 0;
  static constexpr int ROWS = 2;

  static Sum weights(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  }
  static Sum add(Sum sum, const Stored *x, Sum weights) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)), weights));
  }
  static Sum count(Sum sum, Sum) { return sum; }
  static int32_t total(Sum sum) {
    typedef int32_t Eight __attribute__((vector_size(32)));
    const Eight eight = (Eight)sum;
    return eight[0] + eight[1] + eight[2] + eight[3] + eight[4] + eight[5] + eight[6] + eight[7];
  }
};

#else

struct Unit {
  typedef int16_t Stored;
  typedef int32_t Ints __attribute__((vector_size(16)));
  typedef int16_t Shorts __attribute__((vector_size(8)));
  typedef int8_t Bytes __attribute__((vector_size(4)));
  struct Sum {
    Ints first, second;
  };
  static constexpr int64_t WIDTH = 8;
  static constexpr int32_t SHIFT = 0;
  static constexpr int ROWS = 2;

  template <class Vector, class Number>
  static Ints widened(const Number *from) {
    Vector own;
    std::memcpy(&own, from, sizeof own);
    return __builtin_convertvector(own, Ints);
  }
  static Sum weights(const int8_t *from) { return {widened<Bytes>(from), widened<Bytes>(from + 4)}; }
  static Sum add(const Sum &sum, const Stored *x, const Sum &weights) {
    return {sum.first + widened<Shorts>(x) * weights.first, sum.second + widened<Shorts>(x + 4) * weights.second};
  }
  static Sum count(const Sum &sum, const Sum &) { return sum; }
  static int32_t total(const Sum &sum) {
    const Ints four = sum.first + sum.second;
    return four[0] + four[1] + four[2] + four[3];
  }
};

#endif

using Stored = Unit::Stored;

int64_t padded(int64_t inputs) { return (inputs + Unit::WIDTH - 1) / Unit::WIDTH * Unit::WIDTH; }

// Sums of R rows with four outputs. The first rows prefetch the next tile's weights: the hardware stops at a row's end.
template <int R>
inline void tile(const Stored *x, int64_t stride, const int8_t *const weight[OUTPUTS], int64_t inputs, int64_t ahead,
                 int32_t result[R][OUTPUTS], int32_t counts[OUTPUTS]) {
  Unit::Sum sums[R][OUTPUTS] = {};
  Unit::Sum own_counts[OUTPUTS] = {};
  const auto step = [&](const int8_t *const from[OUTPUTS], int64_t first, const Stored *values) {
#pragma GCC unroll 4
    for (int output = 0; output < OUTPUTS; output++) {
      const Unit::Sum weights = Unit::weights(from[output] + first);
      own_counts[output] = Unit::count(own_counts[output], weights);
#pragma GCC unroll 4
      for (int row = 0; row < R; row++) sums[row][output] = Unit::add(sums[row][output], values + row * stride, weights);
    }
  };
  int64_t at = 0;
  for (; at + LINE <= inputs; at += LINE) {
    if (ahead > 0)
      for (int output = 0; output < OUTPUTS; output++) __builtin_prefetch(weight[output] + at + ahead);
#pragma GCC unroll 8
    for (int64_t unit = 0; unit < LINE; unit += Unit::WIDTH) step(weight, at + unit, x + at + unit);
  }
  for (; at + Unit::WIDTH <= inputs; at += Unit::WIDTH) step(weight, at, x + at);
  if (at < inputs) {  // zeros after the last inputs
    int8_t copy[OUTPUTS][Unit::WIDTH] = {};
    const int8_t *from[OUTPUTS];
    for (int output = 0; output < OUTPUTS; output++) {
      std::memcpy(copy[output], weight[output] + at, static_cast<size_t>(inputs - at));
      from[output] = copy[output];
    }
    step(from, 0, x + at);
  }
  for (int output = 0; output < OUTPUTS; output++) {
    for (int row = 0; row < R; row++) result[row][output] = Unit::total(sums[row][output]);
    counts[output] = Unit::SHIFT != 0 ? Unit::total(own_counts[output]) : 0;
  }
}

struct Vectors {
  const Int8Product &product;
  int64_t stride = padded(product.inputs) + LINE / static_cast<int64_t>(sizeof(Stored));  // rows in other cache sets
  Scratch memory{static_cast<size_t>(product.rows * stride) * sizeof(Stored)};

  const Stored *row(int64_t index) const { return memory.as<Stored>() + index * stride; }

  void prepare(int64_t begin, int64_t end) const {
    const int64_t inputs = product.inputs, whole = padded(inputs);
    // What a weight of zero is multiplied with is not zero itself where there is a shift, but a number all the same.
    const int32_t shift = Unit::SHIFT == 0 ? -product.offset : Unit::SHIFT;
    for (int64_t index = begin; index < end; index++) {
      const int8_t *from = product.x + index * inputs;
      Stored *to = memory.as<Stored>() + index * stride;
      for (int64_t at = 0; at < inputs; at++) to[at] = static_cast<Stored>(from[at] + shift);
      std::fill(to + inputs, to + whole, Stored{0});
    }
  }

  template <int R>
  void rows_of_tile(int64_t first_row, int64_t first, const int8_t *const weight[OUTPUTS], int64_t ahead) const {
    int32_t sums[R][OUTPUTS], counts[OUTPUTS];
    tile<R>(row(first_row), stride, weight, product.inputs, ahead, sums, counts);
    const int64_t width = std::min(product.outputs - first, int64_t{OUTPUTS});
    for (int64_t own = 0; own < R; own++) {
      float *to = product.y + (first_row + own) * product.outputs + first;
      for (int64_t output = 0; output < width; output++) {
        int32_t sum = sums[own][output];
        if (Unit::SHIFT != 0) sum -= (Unit::SHIFT + product.offset) * counts[output];
        if (product.added != nullptr) sum += product.added[first + output];
        to[output] = static_cast<float>(sum) * product.scale[first + output] * product.row_scale[first_row + own];
      }
    }
  }

  void outputs(int64_t first, int64_t begin, int64_t end) const {
    const int8_t *weight[OUTPUTS];
    for (int64_t output = 0; output < OUTPUTS; output++)
      weight[output] = product.weight + std::min(first + output, product.outputs - 1) * product.inputs;
    int64_t ahead = OUTPUTS * product.inputs;
    for (int64_t at = begin; at < end; at += Unit::ROWS, ahead = 0) {
      const int64_t height = std::min(end - at, int64_t{Unit::ROWS});
      if (height == 4 && Unit::ROWS >= 4) rows_of_tile<4>(at, first, weight, ahead);
      else if (height == 3 && Unit::ROWS >= 3) rows_of_tile<3>(at, first, weight, ahead);
      else if (height == 2) rows_of_tile<2>(at, first, weight, ahead);
      else rows_of_tile<1>(at, first, weight, ahead);
    }
  }

  void run() const {
    if (product.rows * stride < ALONE) {
      prepare(0, product.rows);
    } else {
      run_on_all_threads([&](int member) {
        const Range own = part_of(product.rows, member, thread_count(), 1);
        prepare(own.begin, own.end);
      });
    }
    const int64_t fitting = PASS / (stride * static_cast<int64_t>(sizeof(Stored)));
    const int64_t passes = std::max((product.rows + std::max(fitting, int64_t{16}) - 1) / std::max(fitting, int64_t{16}), int64_t{1});
    run_on_all_threads([&](int member) {
      const Range own = part_of(product.outputs, member, thread_count(), OUTPUTS);
      for (int64_t pass = 0; pass < passes; pass++) {
        const Range rows = part_of(product.rows, static_cast<int>(pass), static_cast<int>(passes), Unit::ROWS);
        for (int64_t first = own.begin; first < own.end; first += OUTPUTS) outputs(first, rows.begin, rows.end);
      }
    });
  }
};

typedef int8_t ByteLanesSigned __attribute__((vector_size(LANES)));

// The nearest whole numbers, of two equally near ones the even one; for magnitudes up to 2^22.
inline Lanes nearest(Lanes x) {
  const Lanes shifter = all(12582912.0f);  // 1.5 * 2^23
  return (x + shifter) - shifter;
}

// A product that is rounded before anything is added to it: with one rounding for both, as compilers like to have it, a
// number halfway between two integers would become another one than elsewhere.
template <class Factor>  // a number, or one for each lane
inline Lanes product_of(Lanes values, Factor factor) {
  Lanes product = values * factor;
#if defined(__AVX512F__)
  asm("" : "+v"(product));
#elif defined(__x86_64__)
  asm("" : "+x"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#endif
  return product;
}

inline void store_bytes(int8_t *to, Lanes whole, int64_t count) {
  const ByteLanesSigned bytes = __builtin_convertvector(__builtin_convertvector(whole, IntLanes), ByteLanesSigned);
  std::memcpy(to, &bytes, static_cast<size_t>(count));
}

inline Lanes up_to(const float *from, int64_t count) { return count >= LANES ? load(from) : load_some(from, count); }

// The nearest integers within -128 and 127, at most LANES of them.
inline void store_nearest(int8_t *to, Lanes values, int64_t count) {
  const Lanes lowest = all(-128.0f), highest = all(127.0f);
  values = values > highest ? highest : values;
  values = values < lowest ? lowest : values;
  store_bytes(to, nearest(values), std::min(count, int64_t{LANES}));
}

}  // namespace

float round_row(const float *x, int64_t size, int8_t *q) {
  Lanes most = {};
  for (int64_t at = 0; at < size; at += LANES) {
    const Lanes values = up_to(x + at, size - at);
    most = maximum(most, maximum(values, -values));
  }
  const float scale = largest(most) / 127.0f;
  if (scale == 0.0f) {
    std::memset(q, 0, static_cast<size_t>(size));
    return 0.0f;
  }
  for (int64_t at = 0; at < size; at += LANES)
    store_bytes(q + at, nearest(up_to(x + at, size - at) / scale), std::min(size - at, int64_t{LANES}));
  return scale;
}

void round_row_by(const float *x, int64_t size, float inverse, float offset, int8_t *q) {
  for (int64_t at = 0; at < size; at += LANES)
    store_nearest(q + at, product_of(up_to(x + at, size - at), inverse) + offset, size - at);
}

void round_channels(const float *x, int64_t size, const float *inverse, const float *offset, int8_t *q) {
  for (int64_t at = 0; at < size; at += LANES) {
    const Lanes scaled = product_of(up_to(x + at, size - at), up_to(inverse + at, size - at));
    store_nearest(q + at, scaled + up_to(offset + at, size - at), size - at);
  }
}

void multiply(const Int8Product &product) {
  if (!multiply_int8_amx(product)) Vectors{product}.run();
}

void multiply_int8(const Product &product) {
  const Matrix &weight = product.weight;
  const Rounding rounding{weight.quantization.input[0], weight.quantization.input[1]};
  const int64_t inputs = weight.inputs;
  const Scratch integers(static_cast<size_t>(product.rows * inputs)), scales(static_cast<size_t>(product.rows) * sizeof(float));
  const auto round = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float *from = product.x + row * inputs;
      int8_t *to = integers.as<int8_t>() + row * inputs;
      float &scale = scales.as<float>()[row];
      if (rounding.scale == 0.0f) scale = round_row(from, inputs, to);
      else round_row_by(from, inputs, 1.0f / rounding.scale, rounding.offset, to), scale = rounding.scale;
    }
  };
  if (product.rows * inputs < ALONE) {
    round(0, product.rows);
  } else {
    run_on_all_threads([&](int member) {
      const Range own = part_of(product.rows, member, thread_count(), 1);
      round(own.begin, own.end);
    });
  }
  multiply(Int8Product{integers.as<int8_t>(), product.rows, weight.outputs, inputs,
                       static_cast<const int8_t *>(weight.numbers.data), static_cast<int32_t>(rounding.offset), nullptr,
                       weight.quantization.scale, scales.as<float>(), product.y});
  if (product.bias.data == nullptr && product.residual == nullptr) return;
  run_on_all_threads([&](int member) {
    const Range own = part_of(weight.outputs, member, thread_count(), LANES);
    product.add_bias_and_residual(own.begin, own.end);
  });
}
