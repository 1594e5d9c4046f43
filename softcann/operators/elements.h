// What the operator files share: which type an operator computes in, operands rounded to it, axes of a reduction.
//
// float16 and bfloat16 are computed in float32 and rounded once, to nearest even, when the result is written: this is
// what the vector units of the Atlas A2 do inside an operator. Integers and bool are computed in int64 and wrap around.
#pragma once

#include <numeric>

#include "documented.h"
#include "softcann/aclnn.h"

namespace softcann {

extern template Values<float> read<float>(const Tensor*, const Shape&);
extern template Values<double> read<double>(const Tensor*, const Shape&);
extern template Values<int64_t> read<int64_t>(const Tensor*, const Shape&);
extern template void write<float>(Tensor*, const float*);
extern template void write<double>(Tensor*, const double*);
extern template void write<int64_t>(Tensor*, const int64_t*);

inline bool is_float(Dtype dtype) { return contains(kFloats | kFloat64, dtype); }

// Calls work(T()) with the type that dtype's elements are computed in.
template <class Work>
void in_type_of(Dtype dtype, Work&& work) {
  if (dtype == Dtype::float64)
    work(double());
  else if (is_float(dtype))
    work(float());
  else
    work(int64_t());
}

// The value as it is after being stored as dtype: an operand converted to the promoted dtype, or a result.
template <class T>
T stored_as(T value, Dtype dtype) {
  switch (dtype) {
    case Dtype::float16: return static_cast<T>(static_cast<float>(float16(static_cast<float>(value))));
    case Dtype::bfloat16: return static_cast<T>(static_cast<float>(bfloat16(static_cast<float>(value))));
    case Dtype::float32: return static_cast<T>(static_cast<float>(value));
    case Dtype::boolean: return static_cast<T>(value != T(0));
    case Dtype::int8: return static_cast<T>(static_cast<int8_t>(static_cast<int64_t>(value)));
    case Dtype::uint8: return static_cast<T>(static_cast<uint8_t>(static_cast<int64_t>(value)));
    case Dtype::int16: return static_cast<T>(static_cast<int16_t>(static_cast<int64_t>(value)));
    case Dtype::int32: return static_cast<T>(static_cast<int32_t>(static_cast<int64_t>(value)));
    default: return value;
  }
}

// A tensor's elements, broadcast to a shape and converted to `dtype` (rounded where that is narrower).
template <class T>
Values<T> operand(const Tensor* tensor, const Shape& shape, Dtype dtype) {
  if (tensor->dtype == dtype || !is_float(dtype) || (dtype == Dtype::float32 && contains(kFloats, tensor->dtype)))
    return read<T>(tensor, shape);
  auto values = read<T>(tensor, shape);
  std::vector<T> rounded(values.size());
  for (size_t i = 0; i < rounded.size(); ++i) rounded[i] = stored_as(values[i], dtype);
  return Values<T>(std::move(rounded));
}

// A scalar takes the dtype that its tensor and it are promoted to before anything is computed (CANN, "TensorScalar
// deduction relationship": a float32 scalar beside a float16 tensor is rounded to float16).
template <class T>
T operand(const Scalar* scalar, Dtype dtype) {
  if constexpr (std::is_same_v<T, int64_t>)
    return stored_as<int64_t>(scalar->integer, dtype);
  else
    return stored_as<T>(static_cast<T>(scalar->number), dtype);
}

// The dtype that a tensor and a scalar compute in: the tensor's, but for a float beside an integer and a number beside bool.
Dtype promote(Dtype tensor, const Scalar* scalar);

// Results rounded to the dtype that the operator computes in, then written with out's dtype.
template <class T>
void store(Tensor* out, std::vector<T>& values, Dtype computed) {
  if (computed != out->dtype && computed != Dtype::float64 && computed != Dtype::float32)
    for (auto& value : values) value = stored_as(value, computed);
  write(out, values.data());
}

// The axes of a reduction, sorted and positive; none means all of them.
std::vector<int64_t> reduced_axes(const IntArray* axes, int64_t rank);
// The shape that is left; reduced axes stay with length 1 where kept.
Shape reduced_shape(const Shape& shape, const std::vector<int64_t>& axes, bool keep);
void require_reduced(const Tensor* out, const char* name, const Tensor* self, const std::vector<int64_t>& axes, bool keep);

// Lengths before, of, and after one axis: element (o, k, i) is at (o * length + k) * inner + i.
struct Parts {
  int64_t outer = 1, length = 1, inner = 1;
};
Parts parts_at(const Shape& shape, int64_t axis);
int64_t require_axis(int64_t axis, int64_t rank, const char* name = "dim");  // refuses what is out of range; positive

// The elements of the groups that a reduction takes together: groups[g * size + i].
template <class T>
std::vector<T> grouped(const Tensor* self, const std::vector<int64_t>& axes, int64_t& size) {
  Tensor view;  // the same memory, reduced axes last
  view.dtype = self->dtype, view.address = self->address, view.offset = self->offset;
  size = 1;
  auto reduced = [&](int64_t axis) { return std::find(axes.begin(), axes.end(), axis) != axes.end(); };
  for (int pass = 0; pass < 2; ++pass)
    for (int64_t axis = 0; axis < self->rank(); ++axis)
      if (reduced(axis) == (pass == 1)) {
        view.shape.push_back(self->shape[axis]);
        view.strides.push_back(self->strides[axis]);
        if (pass) size *= self->shape[axis];
      }
  const auto values = read<T>(&view, view.shape);
  return std::vector<T>(values.begin(), values.end());
}

}  // namespace softcann
