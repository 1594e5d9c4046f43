// Sums over axes and the norm of a tensor. Every sum has one order, whatever the number of threads.
#include <cmath>
#include <vector>

#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr int64_t BLOCK = 4096;         // numbers whose sum is added to the others'
constexpr int64_t ROWS_OF_A_BLOCK = 64;

// A tensor as [outer, summed, inner], where the axes that are summed over are neighbors.
struct Span {
  int64_t outer, summed, inner;
  bool neighbors;
};

std::vector<bool> summed_axes(const Arguments &arguments) {
  const int ndim = arguments.ndim(0);
  const bool whole = !arguments.has(1) || arguments.size(1) == 0;
  std::vector<bool> summed(ndim, whole);
  if (whole) return summed;
  const int64_t *axes = arguments.data<int64_t>(1);
  for (int64_t at = 0; at < arguments.size(1); at++) {
    const int64_t axis = axes[at] < 0 ? axes[at] + ndim : axes[at];
    if (axis < 0 || axis >= ndim) arguments.refuse(1, "expected axes of the tensor");
    summed[axis] = true;
  }
  return summed;
}

Span span_of(const Arguments &arguments, const std::vector<bool> &summed) {
  Span span{1, 1, 1, true};
  int state = 0;
  for (size_t axis = 0; axis < summed.size(); axis++) {
    const int64_t size = arguments.size(0, static_cast<int>(axis));
    if (size == 1) continue;
    if (summed[axis]) {
      if (state == 2) span.neighbors = false;
      state = 1;
      span.summed *= size;
    } else {
      if (state == 1) state = 2;
      (state == 0 ? span.outer : span.inner) *= size;
    }
  }
  return span;
}

template <class From>
float block_sum(const From *x, int64_t size) {
  Lanes sums = {};
  vectors(size, [&](int64_t at, int64_t count) { sums += load_up_to(x + at, count); });
  return sum(sums);
}

template <class From, class To>
void sum_rows(const From *x, To *y, const Span &span) {
  if (span.outer > 1 || span.summed <= BLOCK) {
    parallel(span.outer, 1, span.summed, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        float result = 0.0f;
        for (int64_t at = 0; at < span.summed; at += BLOCK)
          result += block_sum(x + row * span.summed + at, std::min(BLOCK, span.summed - at));
        y[row] = static_cast<To>(result);
      }
    });
    return;
  }
  const int64_t blocks = (span.summed + BLOCK - 1) / BLOCK;
  std::vector<float> partial(blocks);
  parallel(blocks, 1, BLOCK, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++)
      partial[block] = block_sum(x + block * BLOCK, std::min(BLOCK, span.summed - block * BLOCK));
  });
  double result = 0.0;
  for (float part : partial) result += part;
  y[0] = static_cast<To>(static_cast<float>(result));
}

template <class From, class To>
void sum_columns(const From *x, To *y, const Span &span) {
  for (int64_t outer = 0; outer < span.outer; outer++) {
    const From *own = x + outer * span.summed * span.inner;
    parallel(span.inner, 64, span.summed, [&](int64_t begin, int64_t end) {
      const int64_t width = end - begin;
      std::vector<float> result(width), block(width);
      for (int64_t first = 0; first < span.summed; first += ROWS_OF_A_BLOCK) {
        std::fill(block.begin(), block.end(), 0.0f);
        for (int64_t row = first; row < std::min(span.summed, first + ROWS_OF_A_BLOCK); row++) {
          const From *from = own + row * span.inner + begin;
          vectors(width, [&](int64_t at, int64_t count) {
            store_up_to(&block[at], load_up_to(&block[at], count) + load_up_to(from + at, count), count);
          });
        }
        for (int64_t at = 0; at < width; at++) result[at] += block[at];
      }
      for (int64_t at = 0; at < width; at++) y[outer * span.inner + begin + at] = static_cast<To>(result[at]);
    });
  }
}

// Any axes and numbers, in the wide dtype `Sum`.
template <class Sum, class From, class Convert>
std::vector<Sum> sum_any(const Arguments &arguments, const std::vector<bool> &summed, const From *x, Convert convert) {
  const int ndim = arguments.ndim(0);
  std::vector<int64_t> steps(ndim, 0);
  int64_t results = 1;
  for (int axis = ndim - 1; axis >= 0; axis--) {
    if (summed[axis]) continue;
    steps[axis] = results;
    results *= arguments.size(0, axis);
  }
  std::vector<Sum> result(results);
  const int64_t size = arguments.size(0);
  for (int64_t at = 0; at < size; at++) {
    int64_t rest = at, to = 0;
    for (int axis = ndim - 1; axis >= 0; axis--) {
      to += rest % arguments.size(0, axis) * steps[axis];
      rest /= arguments.size(0, axis);
    }
    result[to] += convert(x[at]);
  }
  return result;
}

template <class Sum, class From>
void sum_complex(const Arguments &arguments, const std::vector<bool> &summed) {
  const auto result = sum_any<Sum>(arguments, summed, static_cast<const From *>(arguments.raw(0)), [](From x) { return Sum(x); });
  std::memcpy(arguments.raw(4), result.data(), result.size() * sizeof(Sum));
}

}  // namespace

// x, axes (absent or empty: all), whether they stay with size 1, dtype (may be absent) -> sums, in the result's dtype.
void sum_over_axes(const Arguments &arguments) {
  arguments.expect_count(5);
  const std::vector<bool> summed = summed_axes(arguments);
  const Span span = span_of(arguments, summed);
  if (arguments.is(0, "complex64") && arguments.is(4, "complex64"))
    return sum_complex<std::complex<float>, std::complex<float>>(arguments, summed);
  if (arguments.is(0, "complex128") && arguments.is(4, "complex128"))
    return sum_complex<std::complex<double>, std::complex<double>>(arguments, summed);
  with_real(arguments, 0, [&](auto *type) {
    using From = Element<decltype(type)>;
    const From *x = static_cast<const From *>(arguments.raw(0));
    if constexpr (std::is_same_v<ComputedIn<From>, float>) {
      const bool narrow = arguments.is(4, "bfloat16") || arguments.is(4, "float16");
      if (span.neighbors && (narrow || arguments.is(4, "float32"))) {
        with_float(arguments, 4, [&](auto *to) {
          auto *y = static_cast<decltype(to)>(arguments.raw(4));
          if (span.inner == 1) sum_rows(x, y, span);
          else sum_columns(x, y, span);
        });
        return;
      }
    }
    using Wide = std::conditional_t<std::is_floating_point_v<ComputedIn<From>>, double, int64_t>;
    const auto widen = [](From value) { return static_cast<Wide>(static_cast<ComputedIn<From>>(value)); };
    const std::vector<Wide> result = sum_any<Wide>(arguments, summed, x, widen);
    with_real(arguments, 4, [&](auto *to) {
      using To = Element<decltype(to)>;
      for (size_t at = 0; at < result.size(); at++)
        static_cast<To *>(arguments.raw(4))[at] = static_cast<To>(static_cast<ComputedIn<To>>(result[at]));
    });
  });
}

// x, p = 2, axes (absent), whether they stay, dtype -> the Euclidean norm of all numbers.
void norm(const Arguments &arguments) {
  arguments.expect_count(6);
  if (arguments.number(1) != 2.0f) arguments.refuse(1, "expected p = 2");
  if (arguments.has(2) && arguments.size(2) > 0) arguments.refuse(2, "expected all axes");
  with_float(arguments, 0, [&](auto *type) {
    using T = Element<decltype(type)>;
    const T *x = arguments.data<T>(0);
    const int64_t size = arguments.size(0), blocks = (size + BLOCK - 1) / BLOCK;
    std::vector<float> partial(blocks);
    parallel(blocks, 1, BLOCK * 2, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block++) {
        Lanes sums = {};
        vectors(std::min(BLOCK, size - block * BLOCK), [&](int64_t at, int64_t count) {
          const Lanes values = load_up_to(x + block * BLOCK + at, count);
          sums += values * values;
        });
        partial[block] = sum(sums);
      }
    });
    double squares = 0.0;
    for (float part : partial) squares += part;
    const float result = static_cast<float>(std::sqrt(squares));
    with_float(arguments, 5, [&](auto *to) { *static_cast<decltype(to)>(arguments.raw(5)) = Element<decltype(to)>(result); });
  });
}
