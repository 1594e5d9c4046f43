// Elements chosen or written by indices. An index out of range fails when the operator runs (on a card it reads or writes
// other memory); negative indices count from the end where the page says so.
#include "moving.h"

namespace softcann {
namespace {

int64_t checked(int64_t index, int64_t length, bool negative) {
  if (index >= length || index < (negative ? -length : 0))
    throw std::runtime_error("index " + std::to_string(index) + " is outside of an axis of length " + std::to_string(length));
  return index < 0 ? index + length : index;
}

std::vector<int64_t> checked_all(const Tensor* index, int64_t length, bool negative) {
  const auto values = read<int64_t>(index);
  std::vector<int64_t> result(values.size());
  for (size_t i = 0; i < result.size(); ++i) result[i] = checked(values[i], length, negative);
  return result;
}

// out[.., index, ..] = self[.., index[..], ..]: whole slices along an axis, index of any shape in its place.
Launch select(const Tensor* self, int64_t dim, const Tensor* index, Tensor* out) {
  const int64_t axis = require_axis(dim, self->rank());
  Shape shape(self->shape.begin(), self->shape.begin() + std::min<int64_t>(axis, self->rank()));
  shape.insert(shape.end(), index->shape.begin(), index->shape.end());
  if (self->rank()) shape.insert(shape.end(), self->shape.begin() + axis + 1, self->shape.end());
  require_shape(out, "out", shape);
  require_same_dtype(out, "out", self, "self");
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const Parts parts = parts_at(self->shape, axis);
      const auto places = checked_all(index, parts.length, true);
      const auto x = read<T>(self);
      std::vector<T> y(out->count());
      const auto chosen = static_cast<int64_t>(places.size());
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t k = 0; k < chosen; ++k)
          std::copy_n(x.data() + (o * parts.length + places[k]) * parts.inner, parts.inner, y.data() + (o * chosen + k) * parts.inner);
      write(out, y.data());
    });
  });
}

// Work on whole slices of a copy of self, then out is written: target[.., index[k], ..] = function(target, source[.., k, ..]).
template <class Function>
Launch write_slices(const Tensor* self, int64_t dim, const Tensor* index, const Tensor* source, Tensor* out, bool negative,
                    Function function) {
  const int64_t axis = require_axis(dim, self->rank());
  Shape shape = self->shape;
  if (self->rank()) shape[axis] = index->count();
  if (source->count() != count(shape)) require_shape(source, "source", shape);
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const Parts parts = parts_at(self->shape, self->rank() ? axis : 0);
      const auto places = checked_all(index, parts.length, negative);
      const auto x = read<T>(self);
      std::vector<T> y(x.begin(), x.end());
      const auto added = read<T>(source);
      const auto chosen = static_cast<int64_t>(places.size());
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t k = 0; k < chosen; ++k)
          for (int64_t i = 0; i < parts.inner; ++i) {
            T& target = y[(o * parts.length + places[k]) * parts.inner + i];
            target = function(target, added[(o * chosen + k) * parts.inner + i]);
          }
      store(out, y, out->dtype);
    });
  });
}

// Offset in self, contiguous, of each element of index along an axis (gather and scatter of elements).
std::vector<int64_t> element_offsets(const Tensor* self, int64_t axis, const Tensor* index, bool negative) {
  const auto values = read<int64_t>(index);
  const Shape strides = contiguous_strides(self->shape);
  std::vector<int64_t> offsets(values.size());
  Shape at(index->shape.size(), 0);
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t offset = 0;
    for (int64_t a = 0; a < index->rank(); ++a)
      offset += strides[a] * (a == axis ? checked(values[i], self->shape[a], negative) : at[a]);
    offsets[i] = offset;
    for (int64_t a = index->rank() - 1; a >= 0 && ++at[a] == index->shape[a]; --a) at[a] = 0;
  }
  return offsets;
}

void require_element_index(const Tensor* self, int64_t axis, const Tensor* index) {
  if (self->rank() != index->rank())
    refuse("index", std::to_string(index->rank()) + " dimensions", "self's " + std::to_string(self->rank()));
  for (int64_t a = 0; a < self->rank(); ++a)
    if (a != axis && index->shape[a] > self->shape[a])
      refuse("index", text(index->shape), "at most self's " + text(self->shape) + " but for axis " + std::to_string(axis));
}

// reduce: 0 replaces, 1 adds, 2 multiplies.
Launch scatter(const Tensor* self, int64_t dim, const Tensor* index, const Tensor* src, const Scalar* value, int64_t reduce, Tensor* out) {
  const int64_t axis = require_axis(dim, self->rank());
  require_element_index(self, axis, index);
  if (reduce < 0 || reduce > 2) refuse("reduce", std::to_string(reduce), "0 (replace), 1 (add) or 2 (multiply)");
  if (src)
    for (int64_t a = 0; a < src->rank(); ++a)
      if (src->rank() != index->rank() || index->shape[a] > src->shape[a])
        refuse("src", text(src->shape), "at least index's shape " + text(index->shape));
  require_shape(out, "out", self->shape);
  require_same_dtype(out, "out", self, "self");
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto offsets = element_offsets(self, axis, index, true);
      const auto x = read<T>(self);
      std::vector<T> y(x.begin(), x.end()), added(offsets.size(), value ? operand<T>(value, self->dtype) : T());
      if (src) {
        View part(src);
        part.shape = index->shape;
        const auto values = read<T>(&part, part.shape);
        added.assign(values.begin(), values.end());
      }
      for (size_t i = 0; i < offsets.size(); ++i) {
        T& target = y[offsets[i]];
        target = reduce == 0 ? added[i] : reduce == 1 ? static_cast<T>(target + added[i]) : static_cast<T>(target * added[i]);
      }
      store(out, y, out->dtype);
    });
  });
}

// Rows that the last axis of indices names: offsets in whole slices of `slice` elements.
std::vector<int64_t> row_offsets(const Tensor* self, const Tensor* indices, bool negative, int64_t& slice) {
  const int64_t depth = indices->dim(-1);
  slice = 1;
  for (int64_t axis = depth; axis < self->rank(); ++axis) slice *= self->shape[axis];
  const auto values = read<int64_t>(indices);
  std::vector<int64_t> offsets(depth ? values.size() / depth : indices->count(), 0);
  for (size_t row = 0; row < offsets.size(); ++row)
    for (int64_t axis = 0; axis < depth; ++axis)
      offsets[row] = offsets[row] * self->shape[axis] + checked(values[row * depth + axis], self->shape[axis], negative);
  return offsets;
}

void require_rows(const Tensor* self, const Tensor* indices) {
  if (indices->rank() == 0 || indices->dim(-1) > self->rank())
    refuse("indices", text(indices->shape), "a last axis of at most self's " + std::to_string(self->rank()) + " dimensions");
}

Shape rows_shape(const Tensor* self, const Tensor* indices) {
  Shape shape(indices->shape.begin(), indices->shape.end() - 1);
  shape.insert(shape.end(), self->shape.begin() + indices->dim(-1), self->shape.end());
  return shape;
}

// Integer indices of the leading axes, broadcast together; what Index and IndexPutImpl share.
struct Picked {
  Shape shape;                   // of the indices together, then self's other axes
  std::vector<int64_t> offsets;  // in slices of `slice` elements
  int64_t slice = 1;
};

Shape picked_shape(const Tensor* self, const TensorList* indices) {
  if (static_cast<int64_t>(indices->size()) > self->rank())
    refuse("indices", std::to_string(indices->size()) + " tensors", "at most self's " + std::to_string(self->rank()));
  Shape shape;
  for (const Tensor* index : indices->tensors) {
    require_given(index, "indices");
    if (index->count() == 0 && index->rank() == 1)
      refuse("indices", "an empty tensor, which stands for a whole axis", "indices of the leading axes, all that softcann computes");
    if (index->dtype == Dtype::boolean) refuse("indices", "bool", "int32 or int64, all that softcann computes");
    shape = broadcast_shape(shape, index->shape);
  }
  shape.insert(shape.end(), self->shape.begin() + static_cast<int64_t>(indices->size()), self->shape.end());
  return shape;
}

Picked picked(const Tensor* self, const TensorList* indices) {
  Picked result;
  Shape shape;
  for (const Tensor* index : indices->tensors) shape = broadcast_shape(shape, index->shape);
  result.offsets.assign(count(shape), 0);
  for (size_t axis = 0; axis < indices->size(); ++axis) {
    const auto values = read<int64_t>((*indices)[axis], shape);
    for (size_t i = 0; i < result.offsets.size(); ++i)
      result.offsets[i] = result.offsets[i] * self->shape[axis] + checked(values[i], self->shape[axis], true);
  }
  for (size_t axis = indices->size(); axis < self->shape.size(); ++axis) result.slice *= self->shape[axis];
  return result;
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnGather, const Tensor* self, int64_t dim, const Tensor* index, Tensor* out) {
  DOCUMENTED(aclnnGather, self, index, out);
  const int64_t axis = require_axis(dim, self->rank());
  require_element_index(self, axis, index);
  require_shape(out, "out", index->shape);
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto offsets = element_offsets(self, axis, index, true);
      const auto x = read<T>(self);
      std::vector<T> y(offsets.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = x[offsets[i]];
      write(out, y.data());
    });
  });
}

ACLNN(aclnnGatherV2, const Tensor* self, int64_t dim, const Tensor* index, Tensor* out) {
  DOCUMENTED(aclnnGatherV2, self, index, out);
  return select(self, dim, index, out);
}

ACLNN(aclnnIndexSelect, const Tensor* self, int64_t dim, const Tensor* index, Tensor* out) {
  DOCUMENTED(aclnnIndexSelect, self, index, out);
  if (index->rank() > 1) refuse("index", text(index->shape), "0 or 1 dimensions");
  return select(self, dim, index, out);
}

ACLNN(aclnnGatherNd, const Tensor* self, const Tensor* indices, bool negativeIndexSupport, Tensor* out) {
  DOCUMENTED(aclnnGatherNd, self, indices, out);
  require_rows(self, indices);
  require_shape(out, "out", rows_shape(self, indices));
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      int64_t slice = 1;
      const auto offsets = row_offsets(self, indices, negativeIndexSupport, slice);
      const auto x = read<T>(self);
      std::vector<T> y(out->count());
      for (size_t row = 0; row < offsets.size(); ++row)
        std::copy_n(x.data() + offsets[row] * slice, slice, y.data() + static_cast<int64_t>(row) * slice);
      write(out, y.data());
    });
  });
}

ACLNN(aclnnIndex, const Tensor* self, const TensorList* indices, Tensor* out) {
  DOCUMENTED(aclnnIndex, self, out);
  require_given(indices, "indices");
  require_shape(out, "out", picked_shape(self, indices));
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const Picked rows = picked(self, indices);
      const auto x = read<T>(self);
      std::vector<T> y(out->count());
      for (size_t row = 0; row < rows.offsets.size(); ++row)
        std::copy_n(x.data() + rows.offsets[row] * rows.slice, rows.slice, y.data() + static_cast<int64_t>(row) * rows.slice);
      write(out, y.data());
    });
  });
}

ACLNN(aclnnIndexPutImpl, Tensor* selfRef, const TensorList* indices, const Tensor* values, bool accumulate, bool unsafe) {
  (void)unsafe;
  DOCUMENTED(aclnnIndexPutImpl, selfRef, values);
  require_given(indices, "indices");
  const Shape shape = picked_shape(selfRef, indices);
  if (broadcast_shape(values->shape, shape) != shape) refuse("values", text(values->shape), "a shape that broadcasts to " + text(shape));
  return launch([=] {
    in_type_of(selfRef->dtype, [&](auto zero) {
      using T = decltype(zero);
      const Picked rows = picked(selfRef, indices);
      const auto x = read<T>(selfRef), v = read<T>(values, shape);
      std::vector<T> y(x.begin(), x.end());
      for (size_t i = 0; i < v.size(); ++i) {
        T& target = y[rows.offsets[i / rows.slice] * rows.slice + static_cast<int64_t>(i) % rows.slice];
        target = accumulate ? static_cast<T>(target + v[i]) : v[i];
      }
      write(selfRef, y.data());
    });
  });
}

ACLNN(aclnnIndexAdd, const Tensor* self, int64_t dim, const Tensor* index, const Tensor* source, const Scalar* alpha, Tensor* out) {
  DOCUMENTED(aclnnIndexAdd, self, index, source, out);
  require_given(alpha, "alpha");
  require_shape(out, "out", self->shape);
  return write_slices(self, dim, index, source, out, true, [=](auto target, auto added) {
    return static_cast<decltype(target)>(target + operand<decltype(target)>(alpha, self->dtype) * added);
  });
}

ACLNN(aclnnIndexAddV2, const Tensor* self, int64_t dim, const Tensor* index, const Tensor* source, const Scalar* alpha,
      int64_t mode, Tensor* out) {
  DOCUMENTED(aclnnIndexAddV2, self, index, source, out);
  (void)mode;  // precision against speed
  require_given(alpha, "alpha");
  require_shape(out, "out", self->shape);
  return write_slices(self, dim, index, source, out, true, [=](auto target, auto added) {
    return static_cast<decltype(target)>(target + operand<decltype(target)>(alpha, self->dtype) * added);
  });
}

ACLNN(aclnnInplaceIndexCopy, Tensor* selfRef, int64_t dim, const Tensor* index, const Tensor* source) {
  DOCUMENTED(aclnnInplaceIndexCopy, selfRef, index, source);
  if (index->rank() > 1) refuse("index", text(index->shape), "0 or 1 dimensions");
  return write_slices(selfRef, dim, index, source, selfRef, false, [](auto, auto added) { return added; });
}

// data[i, .., indices[i] ..] = updates[i] along axis: indices of one axis name the start on `axis` of row i; with two
// columns, the row and the start.
ACLNN(aclnnInplaceScatterUpdate, Tensor* data, const Tensor* indices, const Tensor* updates, int64_t axis) {
  DOCUMENTED(aclnnInplaceScatterUpdate, data, indices, updates);
  require_same_dtype(updates, "updates", data, "data");
  const int64_t along = require_axis(axis, data->rank(), "axis");
  if (along == 0) refuse("axis", "0", "another axis");
  if (updates->rank() != data->rank()) refuse("updates", text(updates->shape), "as many dimensions as data's " + text(data->shape));
  for (int64_t a = 1; a < data->rank(); ++a)
    if (a != along && updates->shape[a] != data->shape[a])
      refuse("updates", text(updates->shape), "data's " + text(data->shape) + " but for the axes 0 and " + std::to_string(along));
  if (updates->shape[0] > data->shape[0]) refuse("updates", text(updates->shape), "at most data's first axis " + std::to_string(data->shape[0]));
  const int64_t rows = indices->rank() ? indices->shape[0] : 1;
  if (updates->shape[0] != rows) refuse("updates", text(updates->shape), "a first axis of indices' length " + std::to_string(rows));
  if (indices->rank() == 2 && indices->shape[1] != 2) refuse("indices", text(indices->shape), "a second axis of length 2");
  return launch([=] {
    const auto places = read<int64_t>(indices);
    const bool named = indices->rank() == 2;
    for (int64_t row = 0; row < rows; ++row) {
      View to(data), from(updates);
      const int64_t target = checked(named ? places[2 * row] : row, data->shape[0], false);
      const int64_t start = places[named ? 2 * row + 1 : row], length = updates->shape[along];
      if (start < 0 || start + length > data->shape[along])
        throw std::runtime_error("positions " + std::to_string(start) + " to " + std::to_string(start + length) +
                                 " are outside of an axis of length " + std::to_string(data->shape[along]));
      to.offset += target * to.strides[0] + start * to.strides[along];
      to.shape = from.shape;
      from.offset += row * from.strides[0];
      to.shape[0] = from.shape[0] = 1;
      move(from, to);
    }
  });
}

ACLNN(aclnnTfScatterAdd, Tensor* varRef, const Tensor* indices, const Tensor* updates) {
  DOCUMENTED(aclnnTfScatterAdd, varRef, indices, updates);
  require_same_dtype(updates, "updates", varRef, "varRef");
  Shape shape = indices->shape;
  shape.insert(shape.end(), varRef->shape.begin() + 1, varRef->shape.end());
  require_shape(updates, "updates", shape);
  return write_slices(varRef, 0, indices, updates, varRef, false,
                      [](auto target, auto added) { return static_cast<decltype(target)>(target + added); });
}

ACLNN(aclnnScatterNdUpdate, Tensor* varRef, const Tensor* indices, const Tensor* updates) {
  DOCUMENTED(aclnnScatterNdUpdate, varRef, indices, updates);
  require_rows(varRef, indices);
  require_shape(updates, "updates", rows_shape(varRef, indices));
  require_same_dtype(updates, "updates", varRef, "varRef");
  return launch([=] {
    in_type_of(varRef->dtype, [&](auto zero) {
      using T = decltype(zero);
      int64_t slice = 1;
      const auto offsets = row_offsets(varRef, indices, false, slice);
      const auto x = read<T>(varRef), v = read<T>(updates);
      std::vector<T> y(x.begin(), x.end());
      for (size_t row = 0; row < offsets.size(); ++row)
        std::copy_n(v.data() + static_cast<int64_t>(row) * slice, slice, y.data() + offsets[row] * slice);
      write(varRef, y.data());
    });
  });
}

ACLNN(aclnnScatterAdd, const Tensor* self, int64_t dim, const Tensor* index, const Tensor* src, Tensor* out) {
  DOCUMENTED(aclnnScatterAdd, self, index, src, out);
  return scatter(self, dim, index, src, nullptr, 1, out);
}

ACLNN(aclnnScatter, const Tensor* self, int64_t dim, const Tensor* index, const Tensor* src, int64_t reduce, Tensor* out) {
  DOCUMENTED(aclnnScatter, self, index, src, out);
  return scatter(self, dim, index, src, nullptr, reduce, out);
}

ACLNN(aclnnInplaceScatter, Tensor* selfRef, int64_t dim, const Tensor* index, const Tensor* src, int64_t reduce) {
  DOCUMENTED(aclnnInplaceScatter, selfRef, index, src);
  return scatter(selfRef, dim, index, src, nullptr, reduce, selfRef);
}

ACLNN(aclnnScatterValue, const Tensor* self, int64_t dim, const Tensor* index, const Scalar* value, int64_t reduce, Tensor* out) {
  DOCUMENTED(aclnnScatterValue, self, index, out);
  require_given(value, "value");
  return scatter(self, dim, index, nullptr, value, reduce, out);
}

ACLNN(aclnnInplaceScatterValue, Tensor* selfRef, int64_t dim, const Tensor* index, const Scalar* value, int64_t reduce) {
  DOCUMENTED(aclnnInplaceScatterValue, selfRef, index);
  require_given(value, "value");
  return scatter(selfRef, dim, index, nullptr, value, reduce, selfRef);
}
