// Two tensors, element by element, with NumPy's broadcasting.
#pragma once
#include <complex>
#include <vector>

#include "arguments.h"

// The axes of the result with neighbors joined wherever both inputs run on; an input's step is 0 where it is repeated.
struct BroadcastAxes {
  std::vector<int64_t> sizes, first_steps, second_steps;

  BroadcastAxes(const Arguments &arguments, int first, int second, int result) {
    const int ndim = arguments.ndim(result);
    int64_t first_step = arguments.size(first), second_step = arguments.size(second);
    for (int axis = 0; axis < ndim; axis++) {
      const int64_t size = arguments.size(result, axis);
      add(size, step(arguments, first, axis - ndim, size, first_step), step(arguments, second, axis - ndim, size, second_step));
    }
    if (sizes.empty()) add(1, 1, 1);
  }

 private:
  // The distance between neighbors along the axis, counted from the last; `whole` elements lie within the axes from here.
  static int64_t step(const Arguments &arguments, int index, int axis, int64_t size, int64_t &whole) {
    if (-axis > arguments.ndim(index)) return 0;
    const int64_t own = arguments.size(index, axis);
    if (own != size && own != 1) arguments.refuse(index, "expected a shape that broadcasts to the result's");
    if (own > 0) whole /= own;
    return own == 1 ? 0 : whole;
  }

  void add(int64_t size, int64_t first, int64_t second) {
    if (size == 1 && !sizes.empty()) return;
    if (!sizes.empty() && joins(first_steps.back(), first, size) && joins(second_steps.back(), second, size)) {
      sizes.back() *= size;
      first_steps.back() = first;
      second_steps.back() = second;
    } else if (sizes.size() == 1 && sizes[0] == 1) {
      sizes = {size};
      first_steps = {first};
      second_steps = {second};
    } else {
      sizes.push_back(size);
      first_steps.push_back(first);
      second_steps.push_back(second);
    }
  }

  static bool joins(int64_t outer, int64_t inner, int64_t size) { return outer == inner * size; }
};

// result[i] = function(a[i * FIRST], b[i * SECOND]) for i in 0..size; vectors of float32 where that is how T is computed.
template <int FIRST, int SECOND, class T, class Function>
void combine_row(const T *a, const T *b, T *result, int64_t size, Function function) {
  if constexpr (std::is_same_v<ComputedIn<T>, float>) {
    const Lanes only_a = all(static_cast<float>(a[0])), only_b = all(static_cast<float>(b[0]));
    vectors(size, [&](int64_t at, int64_t count) {
      const Lanes x = FIRST == 0 ? only_a : load_up_to(a + at, count), y = SECOND == 0 ? only_b : load_up_to(b + at, count);
      store_up_to(result + at, function(x, y), count);
    });
  } else {
    for (int64_t at = 0; at < size; at++) result[at] = static_cast<T>(function(a[at * FIRST], b[at * SECOND]));
  }
}

// The same for the elements begin..end of the result.
template <class T, class Function>
void combine_range(const BroadcastAxes &axes, const T *a, const T *b, T *result, int64_t begin, int64_t end,
                   Function function) {
  const int last = static_cast<int>(axes.sizes.size()) - 1;
  const int64_t row = axes.sizes[last];
  for (int64_t at = begin; at < end;) {
    int64_t remainder = at / row, a_at = at % row * axes.first_steps[last], b_at = at % row * axes.second_steps[last];
    for (int axis = last - 1; axis >= 0; axis--) {
      const int64_t place = remainder % axes.sizes[axis];
      remainder /= axes.sizes[axis];
      a_at += place * axes.first_steps[axis];
      b_at += place * axes.second_steps[axis];
    }
    const int64_t count = std::min(end - at, row - at % row);
    const bool a_runs = axes.first_steps[last] != 0, b_runs = axes.second_steps[last] != 0;
    if (a_runs && b_runs) combine_row<1, 1>(a + a_at, b + b_at, result + at, count, function);
    else if (a_runs) combine_row<1, 0>(a + a_at, b + b_at, result + at, count, function);
    else if (b_runs) combine_row<0, 1>(a + a_at, b + b_at, result + at, count, function);
    else combine_row<0, 0>(a + a_at, b + b_at, result + at, count, function);
    at += count;
  }
}

template <class T, class Function>
void combine(const Arguments &arguments, int first, int second, int result, Function function) {
  const BroadcastAxes axes(arguments, first, second, result);
  const T *a = static_cast<const T *>(arguments.raw(first)), *b = static_cast<const T *>(arguments.raw(second));
  T *to = static_cast<T *>(arguments.raw(result));
  parallel_for(arguments.size(result), 64, 1,
           [&](int64_t begin, int64_t end) { combine_range(axes, a, b, to, begin, end, function); });
}
