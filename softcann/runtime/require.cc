// What operators check, each with one sentence: which argument, what was found, what is documented.
#include "softcann/aclnn.h"

namespace softcann {

void refuse(const std::string& argument, const std::string& found, const std::string& documented) {
  throw Refusal{kInvalid, argument + ": found " + found + ", documented is " + documented};
}

void require_given(const void* argument, const char* name) {
  if (!argument) throw Refusal{kNullptr, std::string(name) + ": found null, documented as required"};
}

void require(const Tensor* tensor, const char* name, Dtypes dtypes) {
  require_given(tensor, name);
  if (!contains(dtypes, tensor->dtype)) refuse(name, name_of(tensor->dtype), names_of(dtypes));
}

void require_rank(const Tensor* tensor, const char* name, int64_t least, int64_t most) {
  require_given(tensor, name);
  if (tensor->rank() < least || tensor->rank() > most)
    refuse(name, "shape " + text(tensor->shape),
           least == most ? std::to_string(least) + " dimensions" : std::to_string(least) + " to " + std::to_string(most) + " dimensions");
}

void require_shape(const Tensor* tensor, const char* name, const Shape& shape) {
  require_given(tensor, name);
  if (tensor->shape != shape) refuse(name, "shape " + text(tensor->shape), text(shape));
}

void require_same_dtype(const Tensor* tensor, const char* name, const Tensor* as, const char* as_name) {
  require_given(tensor, name);
  require_given(as, as_name);
  if (tensor->dtype != as->dtype) refuse(name, name_of(tensor->dtype), std::string("the dtype of ") + as_name + ", " + name_of(as->dtype));
}

void require_contiguous(const Tensor* tensor, const char* name) {
  require_given(tensor, name);
  if (!tensor->contiguous()) refuse(name, "strides " + text(tensor->strides) + " of shape " + text(tensor->shape), "a contiguous tensor");
}

void require_broadcast(const Tensor* out, const char* name, const Tensor* first, const Tensor* second) {
  Shape shape;
  try {
    shape = broadcast_shape(first->shape, second->shape);
  } catch (const std::exception& error) {
    throw Refusal{kInvalid, error.what()};
  }
  require_shape(out, name, shape);
}

Dtype promote(Dtype first, Dtype second) {
  if (first == second) return first;
  const auto floating = [](Dtype dtype) { return contains(kFloats | kFloat64, dtype); };
  if (floating(first) != floating(second)) return floating(first) ? first : second;
  if (floating(first)) return first == Dtype::float64 || second == Dtype::float64 ? Dtype::float64 : Dtype::float32;
  if (first == Dtype::boolean || second == Dtype::boolean) return first == Dtype::boolean ? second : first;
  if (size_of(first) != size_of(second)) return size_of(first) > size_of(second) ? first : second;
  return size_of(first) == 1 ? Dtype::int16 : Dtype::int64;  // a signed and an unsigned integer of one size
}

Shape broadcast_shape(const Shape& first, const Shape& second) {
  const size_t rank = std::max(first.size(), second.size());
  Shape shape(rank, 1);
  for (size_t axis = 1; axis <= rank; ++axis) {
    const int64_t a = axis <= first.size() ? first[first.size() - axis] : 1;
    const int64_t b = axis <= second.size() ? second[second.size() - axis] : 1;
    if (a != b && a != 1 && b != 1)
      throw std::runtime_error("found shapes " + text(first) + " and " + text(second) + ", which do not broadcast");
    shape[rank - axis] = a == 1 ? b : a;
  }
  return shape;
}

Shape broadcast_strides(const Tensor* tensor, const Shape& shape) {
  const size_t missing = shape.size() - tensor->shape.size();
  if (tensor->shape.size() > shape.size())
    throw std::runtime_error("found shape " + text(tensor->shape) + ", which does not broadcast to " + text(shape));
  Shape strides(shape.size(), 0);
  for (size_t axis = 0; axis < tensor->shape.size(); ++axis) {
    if (tensor->shape[axis] == shape[axis + missing])
      strides[axis + missing] = tensor->shape[axis] == 1 ? 0 : tensor->strides[axis];
    else if (tensor->shape[axis] != 1)
      throw std::runtime_error("found shape " + text(tensor->shape) + ", which does not broadcast to " + text(shape));
  }
  return strides;
}

}  // namespace softcann
