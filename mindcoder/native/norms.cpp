// LayerNorm and RMSNorm over the last axis, and their gradients. All is computed in float32, whatever the dtype.
//
// Gradients of weight and bias are sums over rows: each block of rows has its own sum, and these are added in their
// order, so that the result does not depend on the number of threads.
#include <cmath>
#include <vector>

#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr int64_t ROWS_OF_A_BLOCK = 32;

// The first `count` lanes, zero in the others.
inline Lanes masked(Lanes values, int64_t count) {
  for (int64_t lane = count; lane < LANES; lane++) values[lane] = 0.0f;
  return values;
}

template <class Value>
inline float total(int64_t size, Value value) {
  Lanes sums = {};
  vectors(size, [&](int64_t at, int64_t count) { sums += value(at, count); });
  return sum(sums);
}

// Sums of the rows' contributions: add(row, sums [count, size]) for all rows, to `sums`.
template <class Add>
void sum_rows(int64_t rows, int64_t size, int count, float *const *sums, Add add) {
  const int64_t blocks = (rows + ROWS_OF_A_BLOCK - 1) / ROWS_OF_A_BLOCK;
  std::vector<float> partial(blocks * count * size);
  parallel_for(blocks, 1, ROWS_OF_A_BLOCK * size * 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      float *own = partial.data() + block * count * size;
      for (int64_t row = block * ROWS_OF_A_BLOCK; row < std::min(rows, (block + 1) * ROWS_OF_A_BLOCK); row++) add(row, own);
    }
  });
  parallel_for(size, LANES, blocks * count, [&](int64_t begin, int64_t end) {
    for (int sum = 0; sum < count; sum++) {
      std::memset(sums[sum] + begin, 0, (end - begin) * sizeof(float));
      for (int64_t block = 0; block < blocks; block++) {
        const float *own = partial.data() + (block * count + sum) * size;
        for (int64_t at = begin; at < end; at++) sums[sum][at] += own[at];
      }
    }
  });
}

template <class T>
void write(const std::vector<float> &from, T *to) {
  vectors(from.size(), [&](int64_t at, int64_t count) { store_up_to(to + at, load_up_to(from.data() + at, count), count); });
}

}  // namespace

// x [R, H], normalized_shape (H), weight [H], bias [H], epsilon -> y [R, H], mean [R, 1], 1 / deviation [R, 1] (float32).
void layer_norm(const Arguments &arguments) {
  using Index = argument::LayerNormExt;
  if (arguments.size(Index::normalized_shape) != 1)
    arguments.refuse(Index::normalized_shape, "expected the last axis alone to be normalized");
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t size = arguments.size(Index::x, -1), rows = arguments.size(Index::x) / size;
    const T *x = arguments.data<T>(Index::x);
    const T *weight = arguments.data<T>(Index::weight), *bias = arguments.data<T>(Index::bias);
    const float epsilon = arguments.number(Index::eps);
    T *y = arguments.data<T>(Index::y);
    float *means = arguments.data<float>(Index::mean), *scales = arguments.data<float>(Index::rstd);
    parallel_for(rows, 1, size * 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const T *from = x + row * size;
        T *to = y + row * size;
        const float mean = total(size, [&](int64_t at, int64_t count) { return load_up_to(from + at, count); }) / size;
        const float squares = total(size, [&](int64_t at, int64_t count) {
          Lanes values = load_up_to(from + at, count) - mean;
          if (count < LANES) values = masked(values, count);
          return values * values;
        });
        const float scale = 1.0f / std::sqrt(squares / size + epsilon);
        vectors(size, [&](int64_t at, int64_t count) {
          const Lanes standard = (load_up_to(from + at, count) - mean) * scale;
          store_up_to(to + at, standard * load_up_to(weight + at, count) + load_up_to(bias + at, count), count);
        });
        means[row] = mean;
        scales[row] = scale;
      }
    });
  });
}

// dy [R, H], x, normalized_shape, mean, 1 / deviation, weight, bias, output_mask (3) -> dx, dweight, dbias.
void layer_norm_gradient(const Arguments &arguments) {
  using Index = argument::LayerNormGradExt;
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t size = arguments.size(Index::x, -1), rows = arguments.size(Index::x) / size;
    const T *dy = arguments.data<T>(Index::dy), *x = arguments.data<T>(Index::x);
    const T *weight = arguments.data<T>(Index::weight);
    const float *means = arguments.data<float>(Index::mean), *scales = arguments.data<float>(Index::rstd);
    T *dx = arguments.data<T>(Index::dx);
    std::vector<float> of_weight(size), of_bias(size);
    float *const sums[] = {of_weight.data(), of_bias.data()};
    sum_rows(rows, size, 2, sums, [&](int64_t row, float *own) {
      const T *from = x + row * size, *given = dy + row * size;
      T *to = dx + row * size;
      const float mean = means[row], scale = scales[row];
      Lanes along = {}, across = {};
      vectors(size, [&](int64_t at, int64_t count) {
        const Lanes standard = (load_up_to(from + at, count) - mean) * scale, slope = load_up_to(given + at, count);
        const Lanes weighted = slope * load_up_to(weight + at, count);
        along += weighted * standard;
        across += weighted;
        store_up_to(own + at, load_up_to(own + at, count) + slope * standard, count);
        store_up_to(own + size + at, load_up_to(own + size + at, count) + slope, count);
      });
      const float projection = sum(along) / size, average = sum(across) / size;
      vectors(size, [&](int64_t at, int64_t count) {
        const Lanes standard = (load_up_to(from + at, count) - mean) * scale;
        const Lanes weighted = load_up_to(given + at, count) * load_up_to(weight + at, count);
        store_up_to(to + at, (weighted - average - standard * projection) * scale, count);
      });
    });
    write(of_weight, arguments.data<T>(Index::dweight));
    write(of_bias, arguments.data<T>(Index::dbias));
  });
}

// x [R, H], weight [H], epsilon -> y [R, H], 1 / root mean square [R, 1] (float32).
void rms_norm(const Arguments &arguments) {
  using Index = argument::RmsNorm;
  if (arguments.ndim(Index::weight) != 1) arguments.refuse(Index::weight, "expected the weight of the last axis");
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t size = arguments.size(Index::x, -1), rows = arguments.size(Index::x) / size;
    const T *x = arguments.data<T>(Index::x), *weight = arguments.data<T>(Index::weight);
    const float epsilon = arguments.number(Index::eps);
    T *y = arguments.data<T>(Index::y);
    float *scales = arguments.data<float>(Index::rstd);
    parallel_for(rows, 1, size * 3, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const T *from = x + row * size;
        T *to = y + row * size;
        const float squares = total(size, [&](int64_t at, int64_t count) {
          const Lanes values = load_up_to(from + at, count);
          return values * values;
        });
        const float scale = 1.0f / std::sqrt(squares / size + epsilon);
        vectors(size, [&](int64_t at, int64_t count) {
          store_up_to(to + at, load_up_to(from + at, count) * scale * load_up_to(weight + at, count), count);
        });
        scales[row] = scale;
      }
    });
  });
}

// dy [R, H], x, 1 / root mean square, weight -> dx, dweight (float32).
void rms_norm_gradient(const Arguments &arguments) {
  using Index = argument::RmsNormGrad;
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t size = arguments.size(Index::x, -1), rows = arguments.size(Index::x) / size;
    const T *dy = arguments.data<T>(Index::dy), *x = arguments.data<T>(Index::x);
    const T *weight = arguments.data<T>(Index::weight);
    const float *scales = arguments.data<float>(Index::rstd);
    T *dx = arguments.data<T>(Index::dx);
    float *const sums[] = {arguments.data<float>(Index::dweight)};
    sum_rows(rows, size, 1, sums, [&](int64_t row, float *own) {
      const T *from = x + row * size, *given = dy + row * size;
      T *to = dx + row * size;
      const float scale = scales[row];
      Lanes along = {};
      vectors(size, [&](int64_t at, int64_t count) {
        const Lanes normalized = load_up_to(from + at, count) * scale, slope = load_up_to(given + at, count);
        along += slope * load_up_to(weight + at, count) * normalized;
        store_up_to(own + at, load_up_to(own + at, count) + slope * normalized, count);
      });
      const float projection = sum(along) / size;
      vectors(size, [&](int64_t at, int64_t count) {
        const Lanes normalized = load_up_to(from + at, count) * scale;
        const Lanes weighted = load_up_to(given + at, count) * load_up_to(weight + at, count);
        store_up_to(to + at, (weighted - normalized * projection) * scale, count);
      });
    });
  });
}
