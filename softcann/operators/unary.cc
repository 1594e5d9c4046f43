// Functions of one element: absolute value, roots, exponentials, logarithms, rounding, and the activations' error function.
#include "elements.h"

namespace softcann {
namespace {

// Computed as out's dtype when self is an integer or bool ("int to float"), else as self's.
template <class Function>
Launch of_one(const Tensor* self, Tensor* out, Function function) {
  require_shape(out, "out", self->shape);
  const Dtype type = is_float(self->dtype) || !is_float(out->dtype) ? self->dtype : out->dtype;
  return launch([=] {
    in_type_of(type, [&](auto zero) {
      using T = decltype(zero);
      const auto x = operand<T>(self, out->shape, type);
      std::vector<T> y(x.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = function(x[i]);
      store(out, y, type);
    });
  });
}

// For functions that have no meaning on integers: only the float types are compiled.
template <class Function>
Launch of_float(const Tensor* self, Tensor* out, Function function) {
  return of_one(self, out, [=](auto x) {
    using T = decltype(x);
    if constexpr (std::is_same_v<T, int64_t>)
      return static_cast<T>(function(static_cast<double>(x)));
    else
      return static_cast<T>(function(x));
  });
}

// The y with erf(y) = x: Winitzki's formula, then three steps of Newton, by the complement where erf is near 1.
inline double inverse_erf(double x) {
  const double size = std::abs(x);
  if (size >= 1) return size == 1 ? std::copysign(HUGE_VAL, x) : std::nan("");
  const double log = -std::log1p(-x * x), slope = 2 / std::sqrt(std::acos(-1.0));
  const double term = 2 / (std::acos(-1.0) * 0.147) - log / 2;
  double y = std::sqrt(std::sqrt(term * term + log / 0.147) - term);
  for (int step = 0; step < 3; ++step)
    y += (size > 0.5 ? std::erfc(y) - (1 - size) : size - std::erf(y)) / (slope * std::exp(-y * y));
  return std::copysign(y, x);
}

}  // namespace
}  // namespace softcann

// One line an operator: name, its arguments' names in the documentation, the function of x.
#define OF_FLOAT(NAME, IN, OUT, EXPRESSION)             \
  ACLNN(NAME, const Tensor* IN, Tensor* OUT) {          \
    DOCUMENTED(NAME, IN, OUT);                          \
    return of_float(IN, OUT, [](auto x) { return EXPRESSION; }); \
  }
#define OF_ANY(NAME, IN, OUT, EXPRESSION)               \
  ACLNN(NAME, const Tensor* IN, Tensor* OUT) {          \
    DOCUMENTED(NAME, IN, OUT);                          \
    return of_one(IN, OUT, [](auto x) { return static_cast<decltype(x)>(EXPRESSION); }); \
  }

OF_ANY(aclnnNeg, self, out, -x)
OF_ANY(aclnnAbs, self, out, x < 0 ? -x : x)
OF_ANY(aclnnSquare, self, out, x* x)
OF_ANY(aclnnSign, self, result, (x > 0) - (x < 0))
OF_FLOAT(aclnnSqrt, self, out, std::sqrt(x))
OF_FLOAT(aclnnRsqrt, self, out, decltype(x)(1) / std::sqrt(x))
OF_FLOAT(aclnnReciprocal, self, out, decltype(x)(1) / x)
OF_FLOAT(aclnnExp, self, out, std::exp(x))
OF_FLOAT(aclnnExp2, self, out, std::exp2(x))
OF_FLOAT(aclnnExpm1, self, out, std::expm1(x))
OF_FLOAT(aclnnLog, self, out, std::log(x))
OF_FLOAT(aclnnLog1p, self, out, std::log1p(x))
OF_FLOAT(aclnnLog2, self, out, std::log2(x))
OF_FLOAT(aclnnLog10, self, out, std::log10(x))
OF_FLOAT(aclnnSin, self, out, std::sin(x))
OF_FLOAT(aclnnCos, input, out, std::cos(x))
OF_FLOAT(aclnnErf, self, out, std::erf(x))
OF_FLOAT(aclnnErfinv, self, out, inverse_erf(x))  // beyond 1 the page is silent: NaN, as PyTorch
OF_FLOAT(aclnnFloor, self, out, std::floor(x))
OF_FLOAT(aclnnCeil, self, out, std::ceil(x))
OF_FLOAT(aclnnTrunc, self, out, std::trunc(x))
OF_FLOAT(aclnnRound, self, out, std::nearbyint(x))  // ties to even, as the documentation's table of examples

ACLNN(aclnnInplaceErfinv, Tensor* selfRef) {
  DOCUMENTED(aclnnInplaceErfinv, selfRef);
  return of_float(selfRef, selfRef, [](auto x) { return inverse_erf(x); });
}
