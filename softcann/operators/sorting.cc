// The largest, and orders. Where values are equal the lower index comes first; NaN counts as larger than every number.
#include "moving.h"

namespace softcann {
namespace {

template <class T>
bool greater(T x, T y) {
  return x > y || (x != x && y == y);
}

Parts axis_parts(const Tensor* self, int64_t axis) { return parts_at(self->shape, self->rank() ? axis : 0); }

// Index of the best of each row along an axis, and the value where asked for.
Launch extreme(const Tensor* self, int64_t dim, bool keep, Tensor* values, Tensor* indices, bool most) {
  const int64_t axis = require_axis(dim, self->rank());
  const std::vector<int64_t> axes = {axis};
  if (self->count() == 0) refuse("self", text(self->shape), "at least one element");
  for (Tensor* out : {values, indices})
    if (out) require_shape(out, "out", self->rank() ? reduced_shape(self->shape, axes, keep) : Shape());
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      const Parts parts = axis_parts(self, axis);
      std::vector<int64_t> places(parts.outer * parts.inner);
      std::vector<T> best(places.size());
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t i = 0; i < parts.inner; ++i) {
          const T* row = x.data() + o * parts.length * parts.inner + i;
          int64_t at = 0;
          for (int64_t k = 1; k < parts.length; ++k) {
            const T value = row[k * parts.inner], held = row[at * parts.inner];
            if (most ? greater(value, held) : value < held || (value != value && held == held)) at = k;
          }
          places[o * parts.inner + i] = at, best[o * parts.inner + i] = row[at * parts.inner];
        }
      if (values) write(values, best.data());
      write(indices, places.data());
    });
  });
}

// The first `kept` of each row in order.
Launch order(const Tensor* self, int64_t dim, int64_t kept, bool descending, Tensor* values, Tensor* indices) {
  const int64_t axis = require_axis(dim, self->rank());
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      const Parts parts = axis_parts(self, axis);
      std::vector<int64_t> places(parts.outer * kept * parts.inner), row(parts.length);
      std::vector<T> sorted(places.size());
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t i = 0; i < parts.inner; ++i) {
          const T* first = x.data() + o * parts.length * parts.inner + i;
          std::iota(row.begin(), row.end(), 0);
          std::stable_sort(row.begin(), row.end(), [&](int64_t a, int64_t b) {
            return descending ? greater(first[a * parts.inner], first[b * parts.inner]) : greater(first[b * parts.inner], first[a * parts.inner]);
          });
          for (int64_t k = 0; k < kept; ++k) {
            const int64_t at = (o * kept + k) * parts.inner + i;
            places[at] = row[k], sorted[at] = first[row[k] * parts.inner];
          }
        }
      if (values) write(values, sorted.data());
      write(indices, places.data());
    });
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnArgMax, const Tensor* self, int64_t dim, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnArgMax, self, out);
  return extreme(self, dim, keepdim, nullptr, out, true);
}

ACLNN(aclnnArgMin, const Tensor* self, int64_t dim, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnArgMin, self, out);
  return extreme(self, dim, keepdim, nullptr, out, false);
}

ACLNN(aclnnMaxDim, const Tensor* self, int64_t dim, bool keepdim, Tensor* out, Tensor* indices) {
  DOCUMENTED(aclnnMaxDim, self, out, indices);
  return extreme(self, dim, keepdim, out, indices, true);
}

ACLNN(aclnnMinDim, const Tensor* self, int64_t dim, bool keepdim, Tensor* out, Tensor* indices) {
  DOCUMENTED(aclnnMinDim, self, out, indices);
  return extreme(self, dim, keepdim, out, indices, false);
}

ACLNN(aclnnTopk, const Tensor* self, int64_t k, int64_t dim, bool largest, bool sorted, Tensor* valuesOut, Tensor* indicesOut) {
  (void)sorted;  // unsorted results may have any order, so also this one
  DOCUMENTED(aclnnTopk, self, valuesOut, indicesOut);
  const int64_t axis = require_axis(dim, self->rank());
  Shape shape = self->shape;
  if (k < 0 || k > shape[axis]) refuse("k", std::to_string(k), "0 to " + std::to_string(shape[axis]));
  shape[axis] = k;
  require_shape(valuesOut, "valuesOut", shape);
  require_shape(indicesOut, "indicesOut", shape);
  require_same_dtype(valuesOut, "valuesOut", self, "self");
  return order(self, axis, k, largest, valuesOut, indicesOut);
}

ACLNN(aclnnSort, const Tensor* self, bool stable, int64_t dim, bool descending, Tensor* valuesOut, Tensor* indicesOut) {
  (void)stable;  // always stable
  DOCUMENTED(aclnnSort, self, valuesOut, indicesOut);
  require_shape(valuesOut, "valuesOut", self->shape);
  require_shape(indicesOut, "indicesOut", self->shape);
  const int64_t axis = require_axis(dim, self->rank());
  return order(self, axis, self->shape[axis], descending, valuesOut, indicesOut);
}

ACLNN(aclnnArgsort, const Tensor* self, int64_t dim, bool descending, Tensor* out) {
  DOCUMENTED(aclnnArgsort, self, out);
  require_shape(out, "out", self->shape);
  const int64_t axis = require_axis(dim, self->rank());
  return order(self, axis, self->rank() ? self->shape[axis] : 1, descending, nullptr, out);
}
