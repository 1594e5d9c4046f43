// Activations and their gradients.
#include "elements.h"

namespace softcann {
namespace {

constexpr float kSqrtHalf = 0.70710678118654752f, kInverseSqrtTwoPi = 0.39894228040143268f;
constexpr float kTanhScale = 0.79788456080286536f, kTanhCubic = 0.044715f;  // sqrt(2 / pi)

float sigmoid(float x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
float gelu_exact(float x) { return 0.5f * x * (1 + std::erf(x * kSqrtHalf)); }
float gelu_exact_slope(float x) {
  return 0.5f * (1 + std::erf(x * kSqrtHalf)) + x * kInverseSqrtTwoPi * std::exp(-0.5f * x * x);
}
float gelu_tanh(float x) { return 0.5f * x * (1 + std::tanh(kTanhScale * (x + kTanhCubic * x * x * x))); }
float gelu_tanh_slope(float x) {
  const float t = std::tanh(kTanhScale * (x + kTanhCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kTanhScale * (1 + 3 * kTanhCubic * x * x);
}
float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1 + x * (1 - s));
}
float log_sigmoid(float x) { return std::min(x, 0.0f) - std::log1p(std::exp(-std::fabs(x))); }

template <class Function>
Launch forward(const Tensor* x, Tensor* out, Function function) {
  require_shape(out, "out", x->shape);
  return launch([=] {
    const auto values = read<float>(x);
    std::vector<float> y(values.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = function(values[i]);
    write(out, y);
  });
}

// gradient = dout * slope(saved); saved is the input or the output, as the operator documents. T is what it is computed in.
template <class T = float, class Function>
Launch backward(const Tensor* dout, const Tensor* saved, Tensor* out, Function slope) {
  require_broadcast(out, "gradInput", dout, saved);
  return launch([=] {
    const auto d = read<T>(dout, out->shape), x = read<T>(saved, out->shape);
    std::vector<T> y(x.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = d[i] * slope(x[i]);
    write(out, y.data());
  });
}

// For the two whose page has float64 too.
template <class Function>
Launch backward_in_own_type(const Tensor* dout, const Tensor* saved, Tensor* out, Function slope) {
  return saved->dtype == Dtype::float64 ? backward<double>(dout, saved, out, slope)
                                        : backward<float>(dout, saved, out, slope);
}

}  // namespace
}  // namespace softcann

// "Gelu" is the tanh form: the page gives the formula with sqrt(2 / pi) (x + 0.044715 x^3).
ACLNN(aclnnGelu, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnGelu, self, out);
  return forward(self, out, gelu_tanh);
}

ACLNN(aclnnGeluBackward, const Tensor* gradOutput, const Tensor* self, Tensor* gradInput) {
  DOCUMENTED(aclnnGeluBackward, gradOutput, self, gradInput);
  return backward(gradOutput, self, gradInput, gelu_tanh_slope);
}

ACLNN(aclnnGeluV2, const Tensor* x, int64_t approximate, Tensor* y) {
  DOCUMENTED(aclnnGeluV2, x, y);
  if (approximate != 0 && approximate != 1) refuse("approximate", std::to_string(approximate), "0 (none) or 1 (tanh)");
  return approximate ? forward(x, y, gelu_tanh) : forward(x, y, gelu_exact);
}

ACLNN(aclnnGeluBackwardV2, const Tensor* gradOutput, const Tensor* self, char* approximate, Tensor* gradInput) {
  DOCUMENTED(aclnnGeluBackwardV2, gradOutput, self, gradInput);
  require_given(approximate, "approximate");
  const std::string form = approximate;
  if (form != "none" && form != "tanh") refuse("approximate", "\"" + form + "\"", "\"none\" or \"tanh\"");
  return form == "tanh" ? backward(gradOutput, self, gradInput, gelu_tanh_slope)
                        : backward(gradOutput, self, gradInput, gelu_exact_slope);
}

ACLNN(aclnnSilu, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnSilu, self, out);
  return forward(self, out, [](float x) { return x * sigmoid(x); });
}

ACLNN(aclnnSiluBackward, const Tensor* gradOutput, const Tensor* self, Tensor* gradInput) {
  DOCUMENTED(aclnnSiluBackward, gradOutput, self, gradInput);
  return backward(gradOutput, self, gradInput, silu_slope);
}

ACLNN(aclnnSigmoid, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnSigmoid, self, out);
  return forward(self, out, sigmoid);
}

ACLNN(aclnnSigmoidBackward, const Tensor* gradOutput, const Tensor* output, Tensor* gradInput) {
  DOCUMENTED(aclnnSigmoidBackward, gradOutput, output, gradInput);
  return backward_in_own_type(gradOutput, output, gradInput, [](auto y) { return y * (1 - y); });
}

ACLNN(aclnnTanh, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnTanh, self, out);
  return forward(self, out, [](float x) { return std::tanh(x); });
}

ACLNN(aclnnTanhBackward, const Tensor* gradOutput, const Tensor* output, Tensor* gradInput) {
  DOCUMENTED(aclnnTanhBackward, gradOutput, output, gradInput);
  return backward_in_own_type(gradOutput, output, gradInput, [](auto y) { return 1 - y * y; });
}

ACLNN(aclnnRelu, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnRelu, self, out);
  return forward(self, out, [](float x) { return x < 0 ? 0 : x; });
}

ACLNN(aclnnHardswish, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnHardswish, self, out);
  require_same_dtype(out, "out", self, "self");
  return forward(self, out, [](float x) { return x * std::min(std::max(x + 3, 0.0f), 6.0f) / 6; });
}

ACLNN(aclnnThresholdBackward, const Tensor* gradOutput, const Tensor* self, const Scalar* threshold, Tensor* out) {
  DOCUMENTED(aclnnThresholdBackward, gradOutput, self, out);
  require_given(threshold, "threshold");
  return backward(gradOutput, self, out, [=](float x) { return x > threshold->number ? 1.0f : 0.0f; });
}

ACLNN(aclnnSoftplus, const Tensor* self, const Scalar* beta, const Scalar* threshold, Tensor* out) {
  DOCUMENTED(aclnnSoftplus, self, out);
  require_given(beta, "beta");
  require_given(threshold, "threshold");
  return forward(self, out, [=](float x) {
    const auto scale = static_cast<float>(beta->number);
    return scale * x > threshold->number ? x : std::log1p(std::exp(scale * x)) / scale;
  });
}

ACLNN(aclnnSoftplusBackward, const Tensor* gradOutput, const Tensor* self, const Scalar* beta, const Scalar* threshold,
      Tensor* gradInput) {
  DOCUMENTED(aclnnSoftplusBackward, gradOutput, self, gradInput);
  require_given(beta, "beta");
  require_given(threshold, "threshold");
  return backward(gradOutput, self, gradInput, [=](float x) {
    const auto scale = static_cast<float>(beta->number);
    return scale * x > threshold->number ? 1.0f : sigmoid(scale * x);
  });
}

ACLNN(aclnnLogSigmoid, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnLogSigmoid, self, out);
  return forward(self, out, log_sigmoid);
}

// The buffer is not used: the page says that the backward operator takes it and does not read it.
ACLNN(aclnnLogSigmoidForward, const Tensor* self, Tensor* out, Tensor* buffer) {
  (void)buffer;
  DOCUMENTED(aclnnLogSigmoidForward, self, out);
  return forward(self, out, log_sigmoid);
}

ACLNN(aclnnLogSigmoidBackward, const Tensor* gradOutput, const Tensor* self, const Tensor* buffer, Tensor* gradInput) {
  (void)buffer;
  DOCUMENTED(aclnnLogSigmoidBackward, gradOutput, self, gradInput);
  return backward(gradOutput, self, gradInput, [](float x) { return sigmoid(-x); });
}

// x is cut in two halves along dim: silu(first) * second. The product is rounded once, after float32.
ACLNN(aclnnSwiGlu, const Tensor* x, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnSwiGlu, x, out);
  require_same_dtype(out, "out", x, "x");
  const int64_t axis = require_axis(dim, x->rank());
  Shape half = x->shape;
  if (half[axis] % 2) refuse("x", text(x->shape), "an even length of axis " + std::to_string(axis));
  half[axis] /= 2;
  require_shape(out, "out", half);
  return launch([=] {
    const Parts parts = parts_at(out->shape, axis);
    const auto values = read<float>(x);
    const int64_t run = parts.length * parts.inner;
    std::vector<float> y(out->count());
    for (int64_t o = 0; o < parts.outer; ++o)
      for (int64_t i = 0; i < run; ++i) {
        const float gate = values[2 * o * run + i], up = values[(2 * o + 1) * run + i];
        y[o * run + i] = gate * sigmoid(gate) * up;
      }
    write(out, y);
  });
}

ACLNN(aclnnSwiGluGrad, const Tensor* yGrad, const Tensor* x, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnSwiGluGrad, yGrad, x, out);
  require_same_dtype(yGrad, "yGrad", x, "x");
  require_same_dtype(out, "out", x, "x");
  const int64_t axis = require_axis(dim, x->rank());
  Shape half = x->shape;
  if (half[axis] % 2) refuse("x", text(x->shape), "an even length of axis " + std::to_string(axis));
  half[axis] /= 2;
  require_shape(yGrad, "yGrad", half);
  require_shape(out, "out", x->shape);
  return launch([=] {
    const Parts parts = parts_at(yGrad->shape, axis);
    const auto values = read<float>(x), dout = read<float>(yGrad);
    const int64_t run = parts.length * parts.inner;
    std::vector<float> y(out->count());
    for (int64_t o = 0; o < parts.outer; ++o)
      for (int64_t i = 0; i < run; ++i) {
        const int64_t first = 2 * o * run + i, second = first + run;
        const float gate = values[first], d = dout[o * run + i];
        y[first] = d * values[second] * silu_slope(gate);
        y[second] = d * gate * sigmoid(gate);
      }
    write(out, y);
  });
}
