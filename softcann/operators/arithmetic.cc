// Add, Sub, Mul, Div, powers, remainders, minimum and maximum: tensor with tensor, tensor with scalar, and in place.
#include "elements.h"

namespace softcann {
namespace {

// Integers wrap around on the device; in C++ signed overflow is undefined, so the bits are computed unsigned.
template <class T>
T plus(T x, T y) {
  if constexpr (std::is_same_v<T, int64_t>) return static_cast<T>(static_cast<uint64_t>(x) + static_cast<uint64_t>(y));
  return x + y;
}
template <class T>
T times(T x, T y) {
  if constexpr (std::is_same_v<T, int64_t>) return static_cast<T>(static_cast<uint64_t>(x) * static_cast<uint64_t>(y));
  return x * y;
}
template <class T>
T power(T base, T exponent) {
  if constexpr (std::is_same_v<T, int64_t>) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    T result = 1;
    for (; exponent; exponent >>= 1, base = times(base, base))
      if (exponent & 1) result = times(result, base);
    return result;
  } else {
    return std::pow(base, exponent);
  }
}
// mode as in DivMod: 0 true division, 1 rounded to zero, 2 rounded down.
template <class T>
T quotient(T x, T y, int mode) {
  if constexpr (std::is_same_v<T, int64_t>) {
    if (y == 0) return -1;  // what the device gives is not documented
    const T whole = x / y;
    return mode == 2 && x % y != 0 && (x < 0) != (y < 0) ? whole - 1 : whole;
  } else {
    return mode == 1 ? std::trunc(x / y) : mode == 2 ? std::floor(x / y) : x / y;
  }
}
// The remainder with the sign of y (Remainder) or of x (Fmod).
template <class T>
T modulo(T x, T y, bool sign_of_y) {
  if constexpr (std::is_same_v<T, int64_t>) {
    if (y == 0) return 0;
    const T rest = x % y;
    return sign_of_y && rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
  } else {
    const T rest = std::fmod(x, y);
    return sign_of_y && rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
  }
}
template <class T>
T larger(T x, T y) {
  return x != x || x > y ? x : y;  // NaN stays
}
template <class T>
T smaller(T x, T y) {
  return x != x || x < y ? x : y;
}

// Nothing but bool is converted to bool; all other conversions are made (ops-math/docs/zh/context, "conversion
// relationship", which the pages of these operators name).
void require_convertible(Dtype from, const char* name, Dtype to) {
  if (to == Dtype::boolean && from != Dtype::boolean) refuse(name, name_of(to), std::string("a dtype that ") + name_of(from) + " converts to");
}

template <class Function>
Launch of_two(const Tensor* self, const Tensor* other, Tensor* out, Dtype type, Function function) {
  require_convertible(type, "out", out->dtype);
  require_broadcast(out, "out", self, other);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type), y = operand<T>(other, out->shape, type);
      std::vector<T> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y[i]);
      store(out, z, type);
    });
  });
}

template <class Function>
Launch of_scalar(const Tensor* self, const Scalar* other, Tensor* out, Dtype type, Function function) {
  require_convertible(type, "out", out->dtype);
  require_shape(out, "out", self->shape);
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type);
      const T y = operand<T>(other, type);
      std::vector<T> z(x.size());
      for (size_t i = 0; i < z.size(); ++i) z[i] = function(x[i], y);
      store(out, z, type);
    });
  });
}

// Division of integers is a float32.
Dtype divided(Dtype type) { return is_float(type) ? type : Dtype::float32; }

Launch add(const Tensor* self, const Tensor* other, const Scalar* alpha, Tensor* out, int sign) {
  require_given(alpha, "alpha");
  const Dtype type = promote(self->dtype, other->dtype);
  // aclnn_add.cpp (ops-math) lets integers pass here, though they convert to bool nowhere else.
  if (type == Dtype::boolean && is_float(alpha->dtype)) refuse("alpha", name_of(alpha->dtype), "bool or an integer, beside tensors of bool");
  return of_two(self, other, out, type, [=](auto x, auto y) {
    using T = decltype(x);
    return plus<T>(x, times<T>(operand<T>(alpha, type) * sign, y));
  });
}

Launch add(const Tensor* self, const Scalar* other, const Scalar* alpha, Tensor* out, int sign) {
  require_given(other, "other");
  require_given(alpha, "alpha");
  const Dtype type = promote(self->dtype, other);
  return of_scalar(self, other, out, type, [=](auto x, auto y) {
    using T = decltype(x);
    return plus<T>(x, times<T>(operand<T>(alpha, type) * sign, y));
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnAdd, const Tensor* self, const Tensor* other, const Scalar* alpha, Tensor* out) {
  DOCUMENTED(aclnnAdd, self, other, out);
  return add(self, other, alpha, out, 1);
}

ACLNN(aclnnAdds, const Tensor* self, const Scalar* other, const Scalar* alpha, Tensor* out) {
  DOCUMENTED(aclnnAdds, self, out);
  return add(self, other, alpha, out, 1);
}

ACLNN(aclnnInplaceAdd, Tensor* selfRef, const Tensor* other, const Scalar* alpha) {
  DOCUMENTED(aclnnInplaceAdd, selfRef, other);
  return add(selfRef, other, alpha, selfRef, 1);
}

ACLNN(aclnnInplaceAdds, Tensor* selfRef, const Scalar* other, const Scalar* alpha) {
  DOCUMENTED(aclnnInplaceAdds, selfRef);
  return add(selfRef, other, alpha, selfRef, 1);
}

ACLNN(aclnnSub, const Tensor* self, const Tensor* other, const Scalar* alpha, Tensor* out) {
  DOCUMENTED(aclnnSub, self, other, out);
  return add(self, other, alpha, out, -1);
}

ACLNN(aclnnSubs, const Tensor* self, const Scalar* other, const Scalar* alpha, Tensor* out) {
  DOCUMENTED(aclnnSubs, self, out);
  return add(self, other, alpha, out, -1);
}

ACLNN(aclnnInplaceSub, Tensor* selfRef, const Tensor* other, const Scalar* alpha) {
  DOCUMENTED(aclnnInplaceSub, selfRef, other);
  return add(selfRef, other, alpha, selfRef, -1);
}

ACLNN(aclnnInplaceSubs, Tensor* selfRef, const Scalar* other, const Scalar* alpha) {
  DOCUMENTED(aclnnInplaceSubs, selfRef);
  return add(selfRef, other, alpha, selfRef, -1);
}

ACLNN(aclnnMul, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnMul, self, other, out);
  return of_two(self, other, out, promote(self->dtype, other->dtype), [](auto x, auto y) { return times(x, y); });
}

ACLNN(aclnnMuls, const Tensor* self, const Scalar* other, Tensor* out) {
  DOCUMENTED(aclnnMuls, self, out);
  require_given(other, "other");
  return of_scalar(self, other, out, promote(self->dtype, other), [](auto x, auto y) { return times(x, y); });
}

ACLNN(aclnnInplaceMul, Tensor* selfRef, const Tensor* other) {
  DOCUMENTED(aclnnInplaceMul, selfRef, other);
  return of_two(selfRef, other, selfRef, promote(selfRef->dtype, other->dtype), [](auto x, auto y) { return times(x, y); });
}

ACLNN(aclnnInplaceMuls, Tensor* selfRef, const Scalar* other) {
  DOCUMENTED(aclnnInplaceMuls, selfRef);
  require_given(other, "other");
  return of_scalar(selfRef, other, selfRef, promote(selfRef->dtype, other), [](auto x, auto y) { return times(x, y); });
}

ACLNN(aclnnDiv, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnDiv, self, other, out);
  return of_two(self, other, out, divided(promote(self->dtype, other->dtype)),
                [](auto x, auto y) { return quotient(x, y, 0); });
}

ACLNN(aclnnDivs, const Tensor* self, const Scalar* other, Tensor* out) {
  DOCUMENTED(aclnnDivs, self, out);
  require_given(other, "other");
  return of_scalar(self, other, out, divided(promote(self->dtype, other)),
                   [](auto x, auto y) { return quotient(x, y, 0); });
}

ACLNN(aclnnInplaceDiv, Tensor* selfRef, const Tensor* other) {
  DOCUMENTED(aclnnInplaceDiv, selfRef, other);
  return of_two(selfRef, other, selfRef, divided(promote(selfRef->dtype, other->dtype)),
                [](auto x, auto y) { return quotient(x, y, 0); });
}

ACLNN(aclnnInplaceDivs, Tensor* selfRef, const Scalar* other) {
  DOCUMENTED(aclnnInplaceDivs, selfRef);
  require_given(other, "other");
  return of_scalar(selfRef, other, selfRef, divided(promote(selfRef->dtype, other)),
                   [](auto x, auto y) { return quotient(x, y, 0); });
}

ACLNN(aclnnDivMod, const Tensor* self, const Tensor* other, int mode, Tensor* out) {
  DOCUMENTED(aclnnDivMod, self, other, out);
  if (mode < 0 || mode > 2) refuse("mode", std::to_string(mode), "0 (true), 1 (to zero) or 2 (down)");
  const Dtype type = promote(self->dtype, other->dtype);
  return of_two(self, other, out, mode == 0 ? divided(type) : type,
                [=](auto x, auto y) { return quotient(x, y, mode); });
}

ACLNN(aclnnDivMods, const Tensor* self, const Scalar* other, int mode, Tensor* out) {
  DOCUMENTED(aclnnDivMods, self, out);
  require_given(other, "other");
  if (mode < 0 || mode > 2) refuse("mode", std::to_string(mode), "0 (true), 1 (to zero) or 2 (down)");
  const Dtype type = promote(self->dtype, other);
  return of_scalar(self, other, out, mode == 0 ? divided(type) : type,
                   [=](auto x, auto y) { return quotient(x, y, mode); });
}

ACLNN(aclnnFloorDivide, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnFloorDivide, self, other, out);
  return of_two(self, other, out, promote(self->dtype, other->dtype), [](auto x, auto y) { return quotient(x, y, 2); });
}

ACLNN(aclnnFloorDivides, const Tensor* self, const Scalar* other, Tensor* out) {
  DOCUMENTED(aclnnFloorDivides, self, out);
  require_given(other, "other");
  return of_scalar(self, other, out, promote(self->dtype, other), [](auto x, auto y) { return quotient(x, y, 2); });
}

ACLNN(aclnnRemainderTensorTensor, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnRemainderTensorTensor, self, other, out);
  return of_two(self, other, out, promote(self->dtype, other->dtype), [](auto x, auto y) { return modulo(x, y, true); });
}

ACLNN(aclnnRemainderTensorScalar, const Tensor* self, const Scalar* other, Tensor* out) {
  DOCUMENTED(aclnnRemainderTensorScalar, self, out);
  require_given(other, "other");
  return of_scalar(self, other, out, promote(self->dtype, other), [](auto x, auto y) { return modulo(x, y, true); });
}

ACLNN(aclnnFmodScalar, const Tensor* self, const Scalar* other, Tensor* out) {
  DOCUMENTED(aclnnFmodScalar, self, out);
  require_given(other, "other");
  return of_scalar(self, other, out, promote(self->dtype, other), [](auto x, auto y) { return modulo(x, y, false); });
}

ACLNN(aclnnMaximum, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnMaximum, self, other, out);
  return of_two(self, other, out, promote(self->dtype, other->dtype), [](auto x, auto y) { return larger(x, y); });
}

ACLNN(aclnnMinimum, const Tensor* self, const Tensor* other, Tensor* out) {
  DOCUMENTED(aclnnMinimum, self, other, out);
  return of_two(self, other, out, promote(self->dtype, other->dtype), [](auto x, auto y) { return smaller(x, y); });
}

ACLNN(aclnnPowTensorTensor, const Tensor* self, const Tensor* exponent, Tensor* out) {
  DOCUMENTED(aclnnPowTensorTensor, self, exponent, out);
  return of_two(self, exponent, out, promote(self->dtype, exponent->dtype), [](auto x, auto y) { return power(x, y); });
}

ACLNN(aclnnPowTensorScalar, const Tensor* self, const Scalar* exponent, Tensor* out) {
  DOCUMENTED(aclnnPowTensorScalar, self, out);
  require_given(exponent, "exponent");
  return of_scalar(self, exponent, out, promote(self->dtype, exponent), [](auto x, auto y) { return power(x, y); });
}

ACLNN(aclnnPowScalarTensor, const Scalar* self, const Tensor* exponent, Tensor* out) {
  DOCUMENTED(aclnnPowScalarTensor, exponent, out);
  require_given(self, "self");
  return of_scalar(exponent, self, out, promote(exponent->dtype, self), [](auto x, auto y) { return power(y, x); });
}

ACLNN(aclnnAddcmul, const Tensor* self, const Tensor* tensor1, const Tensor* tensor2, const Scalar* value, Tensor* out) {
  DOCUMENTED(aclnnAddcmul, self, tensor1, tensor2, out);
  require_given(value, "value");
  require_shape(out, "out", broadcast_shape(self->shape, broadcast_shape(tensor1->shape, tensor2->shape)));
  const Dtype type = promote(self->dtype, promote(tensor1->dtype, tensor2->dtype));
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      auto x = operand<T>(self, out->shape, type), y = operand<T>(tensor1, out->shape, type),
           z = operand<T>(tensor2, out->shape, type);
      std::vector<T> result(x.size());
      const T factor = operand<T>(value, type);
      for (size_t i = 0; i < result.size(); ++i) result[i] = plus<T>(x[i], times<T>(factor, times<T>(y[i], z[i])));
      store(out, result, type);
    });
  });
}

ACLNN(aclnnAddcdiv, const Tensor* self, const Tensor* tensor1, const Tensor* tensor2, const Scalar* value, Tensor* out) {
  DOCUMENTED(aclnnAddcdiv, self, tensor1, tensor2, out);
  require_given(value, "value");
  require_shape(out, "out", broadcast_shape(self->shape, broadcast_shape(tensor1->shape, tensor2->shape)));
  const Dtype type = divided(promote(self->dtype, promote(tensor1->dtype, tensor2->dtype)));
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      auto x = operand<T>(self, out->shape, type), y = operand<T>(tensor1, out->shape, type),
           z = operand<T>(tensor2, out->shape, type);
      std::vector<T> result(x.size());
      const T factor = operand<T>(value, type);
      for (size_t i = 0; i < result.size(); ++i) result[i] = x[i] + factor * (y[i] / z[i]);
      store(out, result, type);
    });
  });
}
