// Rows and ranges of tensors: read, added to, written over.
#include <vector>

#include "broadcast.h"
#include "operator_list.h"

namespace {

// A tensor around one of its axes.
struct Around {
  int64_t outer, size, inner;

  Around(const Arguments &arguments, int index, int axis)
      : outer(arguments.product(index, 0, axis)), size(arguments.size(index, axis)),
        inner(arguments.product(index, axis + 1, arguments.ndim(index))) {}
};

int64_t element_bytes(const Arguments &arguments, int index) {
  int64_t result = 0;
  with_real(arguments, index, [&](auto *type) { result = sizeof *type; });
  return result;
}

// int32 or int64 indices, each below `size`.
std::vector<int64_t> indices(const Arguments &arguments, int index, int64_t size) {
  const int64_t count = arguments.size(index);
  std::vector<int64_t> result(count);
  if (arguments.is(index, "int64")) std::copy_n(arguments.data<int64_t>(index), count, result.begin());
  else std::copy_n(arguments.data<int32_t>(index), count, result.begin());
  for (int64_t found : result)
    if (found < 0 || found >= size)
      arguments.refuse(index, "expected indices from 0 to " + std::to_string(size - 1) + ", found " + std::to_string(found));
  return result;
}

template <class T>
void copy_all(const T *from, T *to, int64_t size) {
  if (from == to) return;
  parallel_for(size, 1024, 1, [&](int64_t begin, int64_t end) { std::copy(from + begin, from + end, to + begin); });
}

// to[targets[i], at] += factor * rows[i, at]; each thread has its own columns, so that the order is that of the targets.
template <class T, class Sum>
void add_rows(const std::vector<int64_t> &targets, const T *rows, int64_t inner, float factor, Sum *to) {
  parallel_for(inner, 16, targets.size(), [&](int64_t begin, int64_t end) {
    for (size_t row = 0; row < targets.size(); row++) {
      const T *from = rows + row * inner;
      Sum *own = to + targets[row] * inner;
      vectors(end - begin, [&](int64_t at, int64_t count) {
        at += begin;
        store_up_to(own + at, load_up_to(own + at, count) + factor * load_up_to(from + at, count), count);
      });
    }
  });
}

struct PlusScaled {
  double factor;

  Lanes operator()(Lanes a, Lanes b) const { return a + static_cast<float>(factor) * b; }
  double operator()(double a, double b) const { return a + factor * b; }
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a + static_cast<T>(static_cast<int64_t>(factor)) * b); }
};

}  // namespace

// x, axis, index [P] -> x at those indices of the axis. Neighbors are copied together.
void index_select(const Arguments &arguments) {
  arguments.expect_count(4);
  const Around source(arguments, 0, arguments.axis(1, arguments.ndim(0)));
  const std::vector<int64_t> sources = indices(arguments, 2, source.size);
  const int64_t count = sources.size(), width = source.inner * element_bytes(arguments, 0);
  const char *from = static_cast<const char *>(arguments.raw(0));
  char *to = static_cast<char *>(arguments.raw(3));
  parallel_for(source.outer * count, 1, width, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end;) {
      const int64_t outer = row / count, at = row % count, most = std::min(end - row, count - at);
      int64_t run = 1;
      while (run < most && sources[at + run] == sources[at] + run) run++;
      std::memcpy(to + row * width, from + (outer * source.size + sources[at]) * width, run * width);
      row += run;
    }
  });
}

// x, what has to be computed before -> x.
void read_after(const Arguments &arguments) {
  arguments.expect_count(3);
  with_float(arguments, 0, [&](auto *type) {
    using T = Element<decltype(type)>;
    copy_all<T>(arguments.data<T>(0), arguments.data<T>(2), arguments.size(0));
  });
}

// table, axis 0, index [P], rows [P, ..], factor (int64) -> the table with the rows added.
void index_add(const Arguments &arguments) {
  arguments.expect_count(6);
  if (arguments.axis(1, arguments.ndim(0)) != 0) arguments.refuse(1, "expected axis 0");
  with_float(arguments, 0, [&](auto *type) {
    using T = Element<decltype(type)>;
    const Around table(arguments, 0, 0);
    const float factor = arguments.is(4, "int64") ? static_cast<float>(arguments.integer(4)) : arguments.number(4);
    T *to = arguments.data<T>(5);
    copy_all<T>(arguments.data<T>(0), to, arguments.size(0));
    add_rows(indices(arguments, 2, table.size), arguments.data<T>(3), table.inner, factor, to);
  });
}

// x [R, V], axis 1, index [R, P], values [R, P] -> x with the values added at the row's indices.
void scatter_add(const Arguments &arguments) {
  arguments.expect_count(5);
  if (arguments.ndim(0) != 2 || arguments.axis(1, 2) != 1) arguments.refuse(1, "expected axis 1 of two");
  with_float(arguments, 0, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t rows = arguments.size(0, 0), size = arguments.size(0, 1), each = arguments.size(2, 1);
    if (arguments.size(2, 0) != rows || arguments.size(3) != rows * each) arguments.refuse(3, "expected a value for each index");
    const std::vector<int64_t> targets = indices(arguments, 2, size);
    const T *x = arguments.data<T>(0), *values = arguments.data<T>(3);
    T *to = arguments.data<T>(4);
    copy_all(x, to, rows * size);
    for (int64_t row = 0; row < rows; row++) {
      for (int64_t at = row * each; at < (row + 1) * each; at++) {
        T &own = to[row * size + targets[at]];
        own = static_cast<T>(static_cast<float>(own) + static_cast<float>(values[at]));
      }
    }
  });
}

// table, axis 0, index [P], rows [P, ..]: writes the rows over the table's own; the last one wins. The result is the
// table itself.
void inplace_index_copy(const Arguments &arguments) {
  arguments.expect_count(5);
  if (arguments.axis(1, arguments.ndim(0)) != 0) arguments.refuse(1, "expected axis 0");
  const Around table(arguments, 0, 0);
  const std::vector<int64_t> targets = indices(arguments, 2, table.size);
  const int64_t width = table.inner * element_bytes(arguments, 0);
  if (!arguments.is(3, arguments.dtype(0)) || arguments.size(3) != static_cast<int64_t>(targets.size()) * table.inner)
    arguments.refuse(3, "expected rows of the table's dtype, one for each index");
  char *to = static_cast<char *>(arguments.raw(0));
  const char *from = static_cast<const char *>(arguments.raw(3));
  for (size_t row = 0; row < targets.size(); row++) std::memcpy(to + targets[row] * width, from + row * width, width);
}
