// Sums, means, products, extremes and norms over axes, and running sums. float16 and bfloat16 are summed in float32.
#include "elements.h"

namespace softcann {
namespace {

// out[g] = function(values of group g, size), in the type of `computed`.
template <class Function>
Launch reduce(const Tensor* self, const IntArray* dim, bool keep, Dtype computed, Tensor* out, Function function) {
  const auto axes = reduced_axes(dim, self->rank());
  require_reduced(out, "out", self, axes, keep);
  return launch([=] {
    in_type_of(computed, [&](auto zero) {
      using T = decltype(zero);
      int64_t size = 1;
      const auto values = grouped<T>(self, axes, size);
      std::vector<T> result(out->count());
      for (size_t group = 0; group < result.size(); ++group) result[group] = function(values.data() + group * size, size);
      store(out, result, out->dtype);
    });
  });
}

// Pairs of halves: the error grows with the logarithm of the length, close to what the card's tree of sums gives.
template <class T>
T pairwise(const T* x, int64_t size) {
  if constexpr (std::is_same_v<T, int64_t>) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += static_cast<uint64_t>(x[i]);
    return static_cast<int64_t>(sum);
  } else {
    if (size <= 32) {
      T sum = 0;
      for (int64_t i = 0; i < size; ++i) sum += x[i];
      return sum;
    }
    return pairwise(x, size / 2) + pairwise(x + size / 2, size - size / 2);
  }
}

template <class T>
T largest(const T* x, int64_t size) {
  T best = x[0];
  for (int64_t i = 1; i < size; ++i)
    if (x[i] > best || x[i] != x[i]) best = x[i];
  return best;
}
template <class T>
T smallest(const T* x, int64_t size) {
  T best = x[0];
  for (int64_t i = 1; i < size; ++i)
    if (x[i] < best || x[i] != x[i]) best = x[i];
  return best;
}
template <class T>
T product(const T* x, int64_t size) {
  T result = 1;
  for (int64_t i = 0; i < size; ++i) result *= x[i];
  return result;
}

void require_elements(const Tensor* self) {
  if (self->count() == 0) refuse("self", text(self->shape), "at least one element");
}

Launch norm(const Tensor* self, const Scalar* order, const IntArray* dim, bool keep, Tensor* out) {
  const double p = order ? order->number : 2.0;
  return reduce(self, dim, keep, Dtype::float32, out, [=](const auto* x, int64_t size) {
    using T = std::remove_cv_t<std::remove_reference_t<decltype(*x)>>;
    std::vector<T> terms(size);
    for (int64_t i = 0; i < size; ++i) {
      const double value = std::fabs(static_cast<double>(x[i]));
      terms[i] = static_cast<T>(std::isinf(p) ? value : p == 0 ? value != 0 : p == 1 ? value : p == 2 ? value * value : std::pow(value, p));
    }
    if (std::isinf(p)) return size == 0 ? T(0) : p > 0 ? largest(terms.data(), size) : smallest(terms.data(), size);
    const T sum = pairwise(terms.data(), size);
    return static_cast<T>(p == 0 || p == 1 ? sum : p == 2 ? std::sqrt(static_cast<T>(sum)) : std::pow(static_cast<double>(sum), 1 / p));
  });
}

Launch cumulative(const Tensor* self, int64_t dim, Dtype computed, bool exclusive, bool reverse, Tensor* out) {
  require_shape(out, "out", self->shape);
  const int64_t axis = require_axis(dim, self->rank());
  return launch([=] {
    in_type_of(computed, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      std::vector<T> y(x.size());
      const Parts parts = parts_at(self->shape, self->rank() ? axis : 0);
      for (int64_t o = 0; o < parts.outer; ++o)
        for (int64_t i = 0; i < parts.inner; ++i) {
          T sum = 0;
          for (int64_t k = 0; k < parts.length; ++k) {
            const int64_t at = (o * parts.length + (reverse ? parts.length - 1 - k : k)) * parts.inner + i;
            if (exclusive) y[at] = sum;
            sum += x[at];
            if (!exclusive) y[at] = sum;
          }
        }
      store(out, y, out->dtype);
    });
  });
}

void require_dtype(const Tensor* out, Dtype dtype) {
  if (out->dtype != dtype) refuse("out", name_of(out->dtype), std::string(name_of(dtype)) + ", the argument dtype");
}

Launch variance(const Tensor* self, const IntArray* dim, int64_t correction, bool keep, Tensor* out, bool root) {
  return reduce(self, dim, keep, Dtype::float32, out, [=](const auto* x, int64_t size) {
    double mean = 0, sum = 0;
    for (int64_t i = 0; i < size; ++i) mean += static_cast<double>(x[i]) / static_cast<double>(size);
    for (int64_t i = 0; i < size; ++i) sum += (x[i] - mean) * (x[i] - mean);
    const double value = sum / static_cast<double>(size - correction);
    return static_cast<std::remove_cv_t<std::remove_reference_t<decltype(*x)>>>(root ? std::sqrt(value) : value);
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnReduceSum, const Tensor* self, const IntArray* dims, bool keepDims, int dtype, Tensor* out) {
  DOCUMENTED(aclnnReduceSum, self, out);
  const auto type = static_cast<Dtype>(dtype);
  require_dtype(out, type);
  return reduce(self, dims, keepDims, type, out, [](const auto* x, int64_t size) { return pairwise(x, size); });
}

ACLNN(aclnnMean, const Tensor* self, const IntArray* dim, bool keepDim, int dtype, Tensor* out) {
  DOCUMENTED(aclnnMean, self, out);
  const auto type = static_cast<Dtype>(dtype);
  require_dtype(out, type);
  return reduce(self, dim, keepDim, is_float(type) ? type : Dtype::float32, out, [](const auto* x, int64_t size) {
    using T = std::remove_cv_t<std::remove_reference_t<decltype(*x)>>;
    return static_cast<T>(pairwise(x, size) / static_cast<T>(size));
  });
}

ACLNN(aclnnMax, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnMax, self, out);
  require_elements(self);
  return reduce(self, nullptr, false, self->dtype, out, [](const auto* x, int64_t size) { return largest(x, size); });
}

ACLNN(aclnnMin, const Tensor* self, Tensor* out) {
  DOCUMENTED(aclnnMin, self, out);
  require_elements(self);
  return reduce(self, nullptr, false, self->dtype, out, [](const auto* x, int64_t size) { return smallest(x, size); });
}

ACLNN(aclnnAmax, const Tensor* self, const IntArray* dim, bool keepDim, Tensor* out) {
  DOCUMENTED(aclnnAmax, self, out);
  require_elements(self);
  return reduce(self, dim, keepDim, self->dtype, out, [](const auto* x, int64_t size) { return largest(x, size); });
}

ACLNN(aclnnAmin, const Tensor* self, const IntArray* dim, bool keepDim, Tensor* out) {
  DOCUMENTED(aclnnAmin, self, out);
  require_elements(self);
  return reduce(self, dim, keepDim, self->dtype, out, [](const auto* x, int64_t size) { return smallest(x, size); });
}

ACLNN(aclnnProd, const Tensor* self, int dtype, Tensor* out) {
  DOCUMENTED(aclnnProd, self, out);
  require_dtype(out, static_cast<Dtype>(dtype));
  return reduce(self, nullptr, false, out->dtype, out, [](const auto* x, int64_t size) { return product(x, size); });
}

ACLNN(aclnnProdDim, const Tensor* self, int64_t dim, bool keepDim, int dtype, Tensor* out) {
  DOCUMENTED(aclnnProdDim, self, out);
  require_dtype(out, static_cast<Dtype>(dtype));
  IntArray one;
  one.values = {dim};
  return reduce(self, &one, keepDim, out->dtype, out, [](const auto* x, int64_t size) { return product(x, size); });
}

ACLNN(aclnnAll, const Tensor* self, const IntArray* dim, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnAll, self, out);
  return reduce(self, dim, keepdim, self->dtype, out, [](const auto* x, int64_t size) {
    using T = std::remove_cv_t<std::remove_reference_t<decltype(*x)>>;
    return static_cast<T>(std::all_of(x, x + size, [](T value) { return value != 0; }));
  });
}

ACLNN(aclnnAny, const Tensor* self, const IntArray* dim, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnAny, self, out);
  return reduce(self, dim, keepdim, self->dtype, out, [](const auto* x, int64_t size) {
    using T = std::remove_cv_t<std::remove_reference_t<decltype(*x)>>;
    return static_cast<T>(std::any_of(x, x + size, [](T value) { return value != 0; }));
  });
}

ACLNN(aclnnNorm, const Tensor* self, const Scalar* pScalar, const IntArray* dim, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnNorm, self, out);
  return norm(self, pScalar, dim, keepdim, out);
}

ACLNN(aclnnLinalgVectorNorm, const Tensor* self, const Scalar* ord, const IntArray* dims, bool keepDims, int dtype,
      Tensor* out) {
  DOCUMENTED(aclnnLinalgVectorNorm, self, out);
  require_dtype(out, static_cast<Dtype>(dtype));
  return norm(self, ord, dims, keepDims, out);
}

ACLNN(aclnnVar, const Tensor* self, const IntArray* dim, bool unbiased, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnVar, self, out);
  return variance(self, dim, unbiased ? 1 : 0, keepdim, out, false);
}

ACLNN(aclnnVarCorrection, const Tensor* self, const IntArray* dim, int64_t correction, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnVarCorrection, self, out);
  return variance(self, dim, correction, keepdim, out, false);
}

ACLNN(aclnnStd, const Tensor* self, const IntArray* dim, int64_t correction, bool keepdim, Tensor* out) {
  DOCUMENTED(aclnnStd, self, out);
  return variance(self, dim, correction, keepdim, out, true);
}

ACLNN(aclnnLogSumExp, const Tensor* self, const IntArray* dim, bool keepDim, Tensor* out) {
  DOCUMENTED(aclnnLogSumExp, self, out);
  return reduce(self, dim, keepDim, Dtype::float32, out, [](const auto* x, int64_t size) {
    using T = std::remove_cv_t<std::remove_reference_t<decltype(*x)>>;
    const T top = largest(x, size);
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += std::exp(static_cast<double>(x[i] - top));
    return static_cast<T>(static_cast<double>(top) + std::log(sum));
  });
}

ACLNN(aclnnCumsum, const Tensor* self, int64_t dim, int dtype, Tensor* out) {
  DOCUMENTED(aclnnCumsum, self, out);
  require_dtype(out, static_cast<Dtype>(dtype));
  return cumulative(self, dim, out->dtype, false, false, out);
}

ACLNN(aclnnCumsumV2, const Tensor* self, int64_t dim, bool exclusive, bool reverse, Tensor* out) {
  DOCUMENTED(aclnnCumsumV2, self, out);
  require_same_dtype(out, "out", self, "self");
  return cumulative(self, dim, out->dtype, exclusive, reverse, out);
}
