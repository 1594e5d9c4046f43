// Comparisons, logic, bits, choices by a mask, and bounds.
#include "elements.h"

namespace softcann {
namespace {

// The result is 0 or 1 in out's dtype, whatever the operands are.
template <class Function>
Launch truth_of_two(const Tensor* self, const Tensor* other, Tensor* out, Function function) {
  require_broadcast(out, "out", self, other);
  const Dtype type = promote(self->dtype, other->dtype);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type), y = operand<T>(other, out->shape, type);
      std::vector<int64_t> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y[i]);
      write(out, z.data());
    });
  });
}

template <class Function>
Launch truth_of_scalar(const Tensor* self, const Scalar* other, Tensor* out, Function function) {
  require_given(other, "other");
  require_shape(out, "out", self->shape);
  const Dtype type = promote(self->dtype, other);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type);
      const T y = operand<T>(other, type);
      std::vector<int64_t> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y);
      write(out, z.data());
    });
  });
}

template <class Function>
Launch truth_of_one(const Tensor* self, Tensor* out, Function function) {
  require_shape(out, "out", self->shape);
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      std::vector<int64_t> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i]);
      write(out, z.data());
    });
  });
}

template <class Function>
Launch bits_of_two(const Tensor* self, const Tensor* other, Tensor* out, Function function) {
  require_broadcast(out, "out", self, other);
  const Dtype type = promote(self->dtype, other->dtype);
  return launch([=] {
    const auto x = read<int64_t>(self, out->shape), y = read<int64_t>(other, out->shape);
    std::vector<int64_t> z(x.size());
    for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y[i]);
    store(out, z, type);
  });
}

template <class Function>
Launch bits_of_scalar(const Tensor* self, const Scalar* other, Tensor* out, Function function) {
  require_given(other, "other");
  require_shape(out, "out", self->shape);
  if (is_float(other->dtype)) refuse("other", name_of(other->dtype), "an integer or bool");
  const Dtype type = promote(self->dtype, other);
  return launch([=] {
    const auto x = read<int64_t>(self, out->shape);
    const auto y = operand<int64_t>(other, type);
    std::vector<int64_t> z(x.size());
    for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y);
    store(out, z, type);
  });
}

// Shifts by the number of bits or more give 0, or the sign of x to the right; what a card gives is not documented.
int64_t shifted_left(int64_t x, int64_t bits, Dtype dtype) {
  const auto width = static_cast<int64_t>(8 * size_of(dtype));
  return bits < 0 || bits >= width ? 0 : static_cast<int64_t>(static_cast<uint64_t>(x) << bits);
}
int64_t shifted_right(int64_t x, int64_t bits, Dtype dtype) {
  const auto width = static_cast<int64_t>(8 * size_of(dtype));
  return x >> std::clamp<int64_t>(bits, 0, width - 1);
}

// Between two bounds, either of which may be missing; NaN stays.
template <class T>
T bounded(T x, const T* least, const T* most) {
  if (least && x < *least) x = *least;
  if (most && x > *most) x = *most;
  return x;
}

Launch clamp(const Tensor* self, const Scalar* least, const Scalar* most, Tensor* out) {
  require_shape(out, "out", self->shape);
  Dtype type = self->dtype;
  for (const Scalar* bound : {least, most})
    if (bound) type = promote(type, bound);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type);
      const T low = least ? operand<T>(least, type) : T(), high = most ? operand<T>(most, type) : T();
      std::vector<T> y(x.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = bounded<T>(x[i], least ? &low : nullptr, most ? &high : nullptr);
      store(out, y, type);
    });
  });
}

Launch clamp(const Tensor* self, const Tensor* least, const Tensor* most, Tensor* out) {
  Dtype type = self->dtype;
  Shape shape = self->shape;
  for (const Tensor* bound : {least, most})
    if (bound) type = promote(type, bound->dtype), shape = broadcast_shape(shape, bound->shape);
  require_shape(out, "out", shape);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type);
      const auto low = operand<T>(least ? least : self, out->shape, type), high = operand<T>(most ? most : self, out->shape, type);
      std::vector<T> y(x.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = bounded<T>(x[i], least ? &low[i] : nullptr, most ? &high[i] : nullptr);
      store(out, y, type);
    });
  });
}

template <class Value>
Launch masked_fill(Tensor* self, const Tensor* mask, Value value_of) {
  if (broadcast_shape(self->shape, mask->shape) != self->shape)
    refuse("mask", text(mask->shape), "a shape that broadcasts to selfRef's " + text(self->shape));
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      const auto hidden = read<int64_t>(mask, self->shape);
      const T value = value_of(zero);
      std::vector<T> y(x.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = hidden[i] ? value : x[i];
      write(self, y.data());
    });
  });
}

}  // namespace
}  // namespace softcann

#define COMPARISON(WORD, SIGN)                                                        \
  ACLNN(aclnn##WORD##Tensor, const Tensor* self, const Tensor* other, Tensor* out) {  \
    DOCUMENTED(aclnn##WORD##Tensor, self, other, out);                                \
    return truth_of_two(self, other, out, [](auto x, auto y) { return x SIGN y; });   \
  }                                                                                   \
  ACLNN(aclnn##WORD##Scalar, const Tensor* self, const Scalar* other, Tensor* out) {  \
    DOCUMENTED(aclnn##WORD##Scalar, self, out);                                       \
    return truth_of_scalar(self, other, out, [](auto x, auto y) { return x SIGN y; }); \
  }
COMPARISON(Eq, ==)
COMPARISON(Ne, !=)
COMPARISON(Gt, >)
COMPARISON(Ge, >=)
COMPARISON(Lt, <)
COMPARISON(Le, <=)

#define LOGICAL(WORD, EXPRESSION)                                                           \
  ACLNN(aclnnLogical##WORD, const Tensor* self, const Tensor* other, Tensor* out) {         \
    DOCUMENTED(aclnnLogical##WORD, self, other, out);                                       \
    return truth_of_two(self, other, out, [](auto a, auto b) { const bool x = a != 0, y = b != 0; return EXPRESSION; }); \
  }
LOGICAL(And, x&& y)
LOGICAL(Or, x || y)
LOGICAL(Xor, x != y)

ACLNN(aclnnLogicalNot, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnLogicalNot, self, out);
  return truth_of_one(self, out, [](auto x) { return x == 0; });
}

ACLNN(aclnnIsFinite, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnIsFinite, self, out);
  return truth_of_one(self, out, [](auto x) { return std::isfinite(static_cast<double>(x)); });
}

ACLNN(aclnnIsInf, const Tensor* x, Tensor* out) {
  DOCUMENTED(aclnnIsInf, x, out);
  return truth_of_one(x, out, [](auto value) { return std::isinf(static_cast<double>(value)); });
}

#define BITWISE(WORD, SIGN)                                                                  \
  ACLNN(aclnnBitwise##WORD##Tensor, const Tensor* self, const Tensor* other, Tensor* out) {  \
    DOCUMENTED(aclnnBitwise##WORD##Tensor, self, other, out);                                \
    return bits_of_two(self, other, out, [](int64_t x, int64_t y) { return x SIGN y; });     \
  }                                                                                          \
  ACLNN(aclnnBitwise##WORD##Scalar, const Tensor* self, const Scalar* other, Tensor* out) {  \
    DOCUMENTED(aclnnBitwise##WORD##Scalar, self, out);                                       \
    return bits_of_scalar(self, other, out, [](int64_t x, int64_t y) { return x SIGN y; });  \
  }
BITWISE(And, &)
BITWISE(Or, |)
BITWISE(Xor, ^)

ACLNN(aclnnBitwiseNot, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnBitwiseNot, self, out);
  require_shape(out, "out", self->shape);
  return launch([=] {
    const auto x = read<int64_t>(self);
    std::vector<int64_t> y(x.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = self->dtype == Dtype::boolean ? !x[i] : ~x[i];
    store(out, y, self->dtype);
  });
}

ACLNN(aclnnLeftShift, const Tensor* self, const Tensor* shiftBits, Tensor* out) {
  DOCUMENTED(aclnnLeftShift, self, shiftBits, out);
  const Dtype dtype = promote(self->dtype, shiftBits->dtype);
  return bits_of_two(self, shiftBits, out, [=](int64_t x, int64_t bits) { return shifted_left(x, bits, dtype); });
}

ACLNN(aclnnRightShift, const Tensor* input, const Tensor* shiftBits, Tensor* out) {
  DOCUMENTED(aclnnRightShift, input, shiftBits, out);
  const Dtype dtype = promote(input->dtype, shiftBits->dtype);
  return bits_of_two(input, shiftBits, out, [=](int64_t x, int64_t bits) { return shifted_right(x, bits, dtype); });
}

ACLNN(aclnnClamp, const Tensor* self, const Scalar* clipValueMin, const Scalar* clipValueMax, Tensor* out) {
  DOCUMENTED(aclnnClamp, self, out);
  if (!clipValueMin && !clipValueMax) require_given(nullptr, "clipValueMin or clipValueMax");
  return clamp(self, clipValueMin, clipValueMax, out);
}

ACLNN(aclnnClampMin, const Tensor* self, const Scalar* clipValueMin, Tensor* out) {
  DOCUMENTED(aclnnClampMin, self, out);
  require_given(clipValueMin, "clipValueMin");
  return clamp(self, clipValueMin, nullptr, out);
}

ACLNN(aclnnClampMax, const Tensor* self, const Scalar* clipValueMax, Tensor* out) {
  DOCUMENTED(aclnnClampMax, self, out);
  require_given(clipValueMax, "clipValueMax");
  return clamp(self, nullptr, clipValueMax, out);
}

ACLNN(aclnnClampTensor, const Tensor* self, const Tensor* clipValueMin, const Tensor* clipValueMax, Tensor* out) {
  DOCUMENTED(aclnnClampTensor, self, clipValueMin, clipValueMax, out);
  return clamp(self, clipValueMin, clipValueMax, out);
}

ACLNN(aclnnClampMinTensor, const Tensor* self, const Tensor* clipValueMin, Tensor* out) {
  DOCUMENTED(aclnnClampMinTensor, self, clipValueMin, out);
  return clamp(self, clipValueMin, static_cast<const Tensor*>(nullptr), out);
}

ACLNN(aclnnClampMaxTensor, const Tensor* self, const Tensor* max, Tensor* out) {
  DOCUMENTED(aclnnClampMaxTensor, self, max, out);
  return clamp(self, static_cast<const Tensor*>(nullptr), max, out);
}

ACLNN(aclnnSWhere, const Tensor* condition, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnSWhere, condition, self, other, out);
  require_shape(out, "out", broadcast_shape(condition->shape, broadcast_shape(self->shape, other->shape)));
  const Dtype type = promote(self->dtype, other->dtype);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto chosen = read<int64_t>(condition, out->shape);
      const auto x = operand<T>(self, out->shape, type), y = operand<T>(other, out->shape, type);
      std::vector<T> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = chosen[i] ? x[i] : y[i];
      write(out, z.data());
    });
  });
}

ACLNN(aclnnInplaceMaskedFillScalar, Tensor* selfRef, const Tensor* mask, const Scalar* value) {
  DOCUMENTED(aclnnInplaceMaskedFillScalar, selfRef, mask);
  require_given(value, "value");
  return masked_fill(selfRef, mask, [=](auto zero) { return operand<decltype(zero)>(value, selfRef->dtype); });
}

ACLNN(aclnnInplaceMaskedFillTensor, Tensor* selfRef, const Tensor* mask, const Tensor* value) {
  DOCUMENTED(aclnnInplaceMaskedFillTensor, selfRef, mask, value);
  return masked_fill(selfRef, mask, [=](auto zero) { return operand<decltype(zero)>(value, {}, selfRef->dtype)[0]; });
}
