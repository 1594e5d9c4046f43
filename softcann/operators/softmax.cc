// Softmax and log softmax along an axis, and their gradients. The sums are float32 in every dtype.
#include "elements.h"

namespace softcann {
namespace {

// Calls work(offset of the first element, step) for every row along the axis.
template <class Work>
void for_each_row(const Shape& shape, int64_t dim, Work work) {
  const Parts parts = parts_at(shape, shape.empty() ? 0 : dim);
  for (int64_t o = 0; o < parts.outer; ++o)
    for (int64_t i = 0; i < parts.inner; ++i) work(o * parts.length * parts.inner + i, parts.inner, parts.length);
}

Launch softmax(const Tensor* self, int64_t dim, Tensor* out, bool logarithm) {
  require_shape(out, "out", self->shape);
  const int64_t axis = require_axis(dim, self->rank());
  return launch([=] {
    in_type_of(self->dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (!std::is_same_v<T, int64_t>) {
        const auto x = read<T>(self);
        std::vector<T> y(x.size());
        for_each_row(self->shape, axis, [&](int64_t first, int64_t step, int64_t length) {
          T largest = -INFINITY, sum = 0;
          for (int64_t k = 0; k < length; ++k) largest = std::max(largest, x[first + k * step]);
          for (int64_t k = 0; k < length; ++k) sum += y[first + k * step] = std::exp(x[first + k * step] - largest);
          const T log_sum = std::log(sum);
          for (int64_t k = 0; k < length; ++k) {
            T& value = y[first + k * step];
            value = logarithm ? x[first + k * step] - largest - log_sum : value / sum;
          }
        });
        write(out, y);
      }
    });
  });
}

Launch softmax_backward(const Tensor* dout, const Tensor* output, int64_t dim, Tensor* out, bool logarithm) {
  require_shape(dout, "gradOutput", output->shape);
  require_shape(out, "out", output->shape);
  const int64_t axis = require_axis(dim, output->rank());
  return launch([=] {
    const auto d = read<float>(dout), y = read<float>(output);
    std::vector<float> x(y.size());
    for_each_row(output->shape, axis, [&](int64_t first, int64_t step, int64_t length) {
      float sum = 0;
      for (int64_t k = 0; k < length; ++k) sum += d[first + k * step] * (logarithm ? 1.0f : y[first + k * step]);
      for (int64_t k = 0; k < length; ++k) {
        const int64_t i = first + k * step;
        x[i] = logarithm ? d[i] - std::exp(y[i]) * sum : y[i] * (d[i] - sum);
      }
    });
    write(out, x);
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnSoftmax, const Tensor* self, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnSoftmax, self, out);
  return softmax(self, dim, out, false);
}

ACLNN(aclnnSoftmaxBackward, const Tensor* gradOutput, const Tensor* output, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnSoftmaxBackward, gradOutput, output, out);
  return softmax_backward(gradOutput, output, dim, out, false);
}

ACLNN(aclnnLogSoftmax, const Tensor* self, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnLogSoftmax, self, out);
  return softmax(self, dim, out, true);
}

ACLNN(aclnnLogSoftmaxBackward, const Tensor* gradOutput, const Tensor* output, int64_t dim, Tensor* out) {
  DOCUMENTED(aclnnLogSoftmaxBackward, gradOutput, output, out);
  return softmax_backward(gradOutput, output, dim, out, true);
}
