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
  using Index = argument::IndexSelect;
  const Around source(arguments, Index::x, arguments.axis(Index::axis, arguments.ndim(Index::x)));
  const std::vector<int64_t> sources = indices(arguments, Index::index, source.size);
  const int64_t count = sources.size(), width = source.inner * element_bytes(arguments, Index::x);
  const char *from = static_cast<const char *>(arguments.raw(Index::x));
  char *to = static_cast<char *>(arguments.raw(Index::y));
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
  using Index = argument::ReadAfter;
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    copy_all<T>(arguments.data<T>(Index::x), arguments.data<T>(Index::y), arguments.size(Index::x));
  });
}

// table, axis 0, index [P], rows [P, ..], factor (int64) -> the table with the rows added.
void index_add(const Arguments &arguments) {
  using Index = argument::IndexAddExt;
  if (arguments.axis(Index::axis, arguments.ndim(Index::table)) != 0) arguments.refuse(Index::axis, "expected axis 0");
  with_float(arguments, Index::table, [&](auto *type) {
    using T = Element<decltype(type)>;
    const Around table(arguments, Index::table, 0);
    const bool whole = arguments.is(Index::factor, "int64");
    const float factor = whole ? static_cast<float>(arguments.integer(Index::factor)) : arguments.number(Index::factor);
    T *to = arguments.data<T>(Index::y);
    copy_all<T>(arguments.data<T>(Index::table), to, arguments.size(Index::table));
    add_rows(indices(arguments, Index::index, table.size), arguments.data<T>(Index::rows), table.inner, factor, to);
  });
}

// x [R, V], axis 1, index [R, P], values [R, P] -> x with the values added at the row's indices.
void scatter_add(const Arguments &arguments) {
  using Index = argument::ScatterAddExt;
  if (arguments.ndim(Index::x) != 2 || arguments.axis(Index::axis, 2) != 1)
    arguments.refuse(Index::axis, "expected axis 1 of two");
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const int64_t rows = arguments.size(Index::x, 0), size = arguments.size(Index::x, 1);
    const int64_t each = arguments.size(Index::index, 1);
    if (arguments.size(Index::index, 0) != rows || arguments.size(Index::values) != rows * each)
      arguments.refuse(Index::values, "expected a value for each index");
    const std::vector<int64_t> targets = indices(arguments, Index::index, size);
    const T *x = arguments.data<T>(Index::x), *values = arguments.data<T>(Index::values);
    T *to = arguments.data<T>(Index::y);
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
  using Index = argument::InplaceIndexCopy;
  if (arguments.axis(Index::axis, arguments.ndim(Index::table)) != 0) arguments.refuse(Index::axis, "expected axis 0");
  const Around table(arguments, Index::table, 0);
  const std::vector<int64_t> targets = indices(arguments, Index::index, table.size);
  const int64_t width = table.inner * element_bytes(arguments, Index::table);
  if (!arguments.is(Index::rows, arguments.dtype(Index::table)) ||
      arguments.size(Index::rows) != static_cast<int64_t>(targets.size()) * table.inner)
    arguments.refuse(Index::rows, "expected rows of the table's dtype, one for each index");
  char *to = static_cast<char *>(arguments.raw(Index::table));
  const char *from = static_cast<const char *>(arguments.raw(Index::rows));
  for (size_t row = 0; row < targets.size(); row++) std::memcpy(to + targets[row] * width, from + row * width, width);
}
