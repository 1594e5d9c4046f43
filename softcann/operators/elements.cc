#include "elements.h"

namespace softcann {

template Values<float> read<float>(const Tensor*, const Shape&);
template Values<double> read<double>(const Tensor*, const Shape&);
template Values<int64_t> read<int64_t>(const Tensor*, const Shape&);
template void write<float>(Tensor*, const float*);
template void write<double>(Tensor*, const double*);
template void write<int64_t>(Tensor*, const int64_t*);

Dtype promote(Dtype tensor, const Scalar* scalar) {
  const bool scalar_float = is_float(scalar->dtype);
  if (is_float(tensor)) return tensor;
  if (scalar_float) return contains(kFloat16 | kBfloat16, scalar->dtype) ? scalar->dtype : Dtype::float32;
  return tensor == Dtype::boolean ? scalar->dtype : tensor;
}

std::vector<int64_t> reduced_axes(const IntArray* axes, int64_t rank) {
  std::vector<int64_t> result;
  if (!axes || axes->size() == 0) {
    result.resize(rank);
    std::iota(result.begin(), result.end(), 0);
    return result;
  }
  for (const int64_t axis : axes->values)
    if (rank > 0) result.push_back(require_axis(axis, rank));
  std::sort(result.begin(), result.end());
  if (std::adjacent_find(result.begin(), result.end()) != result.end())
    refuse("dim", "an axis twice in " + axes->describe(), "each axis at most once");
  return result;
}

Shape reduced_shape(const Shape& shape, const std::vector<int64_t>& axes, bool keep) {
  Shape result;
  for (int64_t axis = 0; axis < static_cast<int64_t>(shape.size()); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end())
      result.push_back(shape[axis]);
    else if (keep)
      result.push_back(1);
  }
  return result;
}

void require_reduced(const Tensor* out, const char* name, const Tensor* self, const std::vector<int64_t>& axes, bool keep) {
  require_shape(out, name, reduced_shape(self->shape, axes, keep));
}

Parts parts_at(const Shape& shape, int64_t axis) {
  Parts parts;
  for (int64_t i = 0; i < static_cast<int64_t>(shape.size()); ++i)
    (i < axis ? parts.outer : i == axis ? parts.length : parts.inner) *= shape[i];
  return parts;
}

int64_t require_axis(int64_t axis, int64_t rank, const char* name) {
  const int64_t bound = rank == 0 ? 1 : rank;  // a scalar counts as one axis
  if (axis < -bound || axis >= bound)
    refuse(name, std::to_string(axis), "-" + std::to_string(bound) + " to " + std::to_string(bound - 1));
  return axis < 0 ? axis + bound : axis;
}

}  // namespace softcann
