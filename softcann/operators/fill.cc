// Tensors made of nothing: constants, ranges, one-hot rows.
#include "elements.h"

namespace softcann {
namespace {

template <class Value>
Launch fill(Tensor* self, Value value_of) {
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const std::vector<T> values(self->count(), value_of(zero));
      write(self, values.data());
    });
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnInplaceZero, Tensor* selfRef) {
  DOCUMENTED(aclnnInplaceZero, selfRef);
  return fill(selfRef, [](auto zero) { return zero; });
}

ACLNN(aclnnInplaceOne, Tensor* selfRef) {
  DOCUMENTED(aclnnInplaceOne, selfRef);
  return fill(selfRef, [](auto zero) { return decltype(zero)(1); });
}

ACLNN(aclnnInplaceFillScalar, Tensor* selfRef, const Scalar* value) {
  DOCUMENTED(aclnnInplaceFillScalar, selfRef);
  require_given(value, "value");
  return fill(selfRef, [=](auto zero) { return operand<decltype(zero)>(value, selfRef->dtype); });
}

ACLNN(aclnnInplaceFillTensor, Tensor* selfRef, const Tensor* value) {
  DOCUMENTED(aclnnInplaceFillTensor, selfRef, value);
  if (value->count() != 1) refuse("value", text(value->shape), "one element");
  return fill(selfRef, [=](auto zero) { return read<decltype(zero)>(value)[0]; });
}

ACLNN(aclnnArange, const Scalar* start, const Scalar* end, const Scalar* step, Tensor* out) {
  DOCUMENTED(aclnnArange, out);
  for (const Scalar* scalar : {start, end, step}) require_given(scalar, "start, end or step");
  if (step->number == 0) refuse("step", "0", "another number");
  const double span = (end->number - start->number) / step->number;
  if (span < 0) refuse("step", std::to_string(step->number), "the sign of end - start");
  require_shape(out, "out", {static_cast<int64_t>(std::ceil(span))});
  return launch([=] {
    in_type_of(out->dtype, [&](auto zero) {
      using T = decltype(zero);
      std::vector<T> values(out->count());
      for (size_t i = 0; i < values.size(); ++i) {
        if constexpr (std::is_same_v<T, int64_t>)
          values[i] = start->integer + static_cast<int64_t>(i) * step->integer;
        else
          values[i] = static_cast<T>(start->number + static_cast<double>(i) * step->number);
      }
      write(out, values.data());
    });
  });
}

ACLNN(aclnnLinspace, const Scalar* start, const Scalar* end, int64_t steps, Tensor* out) {
  DOCUMENTED(aclnnLinspace, out);
  require_given(start, "start");
  require_given(end, "end");
  require_shape(out, "out", {steps});
  return launch([=] {
    std::vector<double> values(steps);
    for (int64_t i = 0; i < steps; ++i)
      values[i] = steps == 1 ? start->number
                             : start->number + (end->number - start->number) * static_cast<double>(i) / static_cast<double>(steps - 1);
    write(out, values.data());
  });
}

ACLNN(aclnnEye, int64_t n, int64_t m, Tensor* out) {
  DOCUMENTED(aclnnEye, out);
  require_shape(out, "out", {n, m});
  return launch([=] {
    std::vector<int64_t> values(n * m, 0);
    for (int64_t i = 0; i < std::min(n, m); ++i) values[i * m + i] = 1;
    write(out, values.data());
  });
}

// The page says 1 to 8 dimensions for the two values; MindSpore gives them none (a card is unverified).
ACLNN(aclnnOneHot, const Tensor* self, int numClasses, const Tensor* onValue, const Tensor* offValue, int64_t axis, Tensor* out) {
  DOCUMENTED(aclnnOneHot, self, onValue, offValue, out);
  const int64_t at = axis == -1 ? self->rank() : require_axis(axis, out->rank(), "axis");
  Shape shape = self->shape;
  shape.insert(shape.begin() + at, numClasses);
  require_shape(out, "out", shape);
  require_same_dtype(out, "out", onValue, "onValue");
  return launch([=] {
    in_type_of(out->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto classes = read<int64_t>(self);
      const Parts parts = parts_at(out->shape, at);
      const T on = read<T>(onValue)[0], off = read<T>(offValue)[0];
      std::vector<T> values(out->count(), off);
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t i = 0; i < parts.inner; ++i) {
          const int64_t chosen = classes[o * parts.inner + i];  // outside of the classes: a row of offValue
          if (chosen >= 0 && chosen < numClasses) values[(o * parts.length + chosen) * parts.inner + i] = on;
        }
      write(out, values.data());
    });
  });
}
