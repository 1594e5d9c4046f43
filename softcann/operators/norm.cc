// LayerNorm and RMSNorm over the last axes, and their gradients: float32 inside, each output rounded once.
#include "elements.h"

namespace softcann {
namespace {

// Rows that are normalised: `rows` of `width` elements, the width being the product of the last axes.
struct Rows {
  int64_t rows, width;
  Shape statistics;  // the shape of mean and rstd: 1 for each normalised axis
};

Rows rows_of(const Tensor* x, const Shape& normalized, const char* name) {
  const size_t rank = x->shape.size(), last = normalized.size();
  if (last == 0 || last > rank || !std::equal(normalized.begin(), normalized.end(), x->shape.end() - static_cast<int64_t>(last)))
    refuse(name, text(normalized), "the last axes of " + text(x->shape));
  Rows result{1, count(normalized), x->shape};
  for (size_t axis = 0; axis < rank; ++axis)
    if (axis < rank - last)
      result.rows *= x->shape[axis];
    else
      result.statistics[axis] = 1;
  return result;
}

std::vector<float> values_or(const Tensor* tensor, int64_t size, float otherwise) {
  if (!tensor) return std::vector<float>(size, otherwise);
  const auto values = read<float>(tensor);
  return {values.begin(), values.end()};
}

void require_weight_dtype(const Tensor* weight, const char* name, const Tensor* x) {
  if (weight && weight->dtype != x->dtype && weight->dtype != Dtype::float32)
    refuse(name, name_of(weight->dtype), std::string(name_of(x->dtype)) + ", as the input, or float32");
}

Launch rms_norm(const Tensor* x, const Tensor* second, const Tensor* gamma, double epsilon, Tensor* y, Tensor* rstd, Tensor* sum) {
  const Rows r = rows_of(x, gamma->shape, "gamma");
  require_shape(y, "yOut", x->shape);
  require_same_dtype(y, "yOut", x, "x");
  if (rstd) require_shape(rstd, "rstdOut", r.statistics);
  return launch([=] {
    const auto values = read<float>(x), weight = read<float>(gamma);
    std::vector<float> in(values.begin(), values.end()), out(in.size()), inverse(r.rows);
    if (second) {
      const auto added = read<float>(second);
      for (size_t i = 0; i < in.size(); ++i) in[i] += added[i];
      if (sum) write(sum, in);
    }
    for (int64_t row = 0; row < r.rows; ++row) {
      const float* from = in.data() + row * r.width;
      double squares = 0;
      for (int64_t i = 0; i < r.width; ++i) squares += static_cast<double>(from[i]) * from[i];
      inverse[row] = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(r.width) + epsilon));
      for (int64_t i = 0; i < r.width; ++i) out[row * r.width + i] = from[i] * inverse[row] * weight[i];
    }
    write(y, out);
    if (rstd) write(rstd, inverse);
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnRmsNorm, const Tensor* x, const Tensor* gamma, double epsilon, Tensor* yOut, Tensor* rstdOut) {
  DOCUMENTED(aclnnRmsNorm, x, gamma, yOut, rstdOut);
  require_weight_dtype(gamma, "gamma", x);
  return rms_norm(x, nullptr, gamma, epsilon, yOut, rstdOut, nullptr);
}

ACLNN(aclnnAddRmsNorm, const Tensor* x1, const Tensor* x2, const Tensor* gamma, double epsilon, Tensor* yOut, Tensor* rstdOut,
      Tensor* xOut) {
  DOCUMENTED(aclnnAddRmsNorm, x1, x2, gamma, yOut, rstdOut, xOut);
  require_same_dtype(x2, "x2", x1, "x1");
  require_same_dtype(gamma, "gamma", x1, "x1");
  require_shape(x2, "x2", x1->shape);
  if (xOut) require_same_dtype(xOut, "xOut", x1, "x1");
  if (xOut) require_shape(xOut, "xOut", x1->shape);
  return rms_norm(x1, x2, gamma, epsilon, yOut, rstdOut, xOut);
}

ACLNN(aclnnRmsNormGrad, const Tensor* dy, const Tensor* x, const Tensor* rstd, const Tensor* gamma, Tensor* dxOut, Tensor* dgammaOut) {
  DOCUMENTED(aclnnRmsNormGrad, dy, x, rstd, gamma, dxOut, dgammaOut);
  require_same_dtype(x, "x", dy, "dy");
  require_same_dtype(dxOut, "dxOut", dy, "dy");
  require_weight_dtype(gamma, "gamma", dy);
  require_shape(x, "x", dy->shape);
  require_shape(dxOut, "dxOut", dy->shape);
  require_shape(dgammaOut, "dgammaOut", gamma->shape);
  const Rows r = rows_of(dy, gamma->shape, "gamma");
  if (rstd->count() != r.rows) refuse("rstd", text(rstd->shape), std::to_string(r.rows) + " numbers, one a row");
  return launch([=] {
    const auto d = read<float>(dy), in = read<float>(x), inverse = read<float>(rstd), weight = read<float>(gamma);
    std::vector<float> dx(in.size());
    std::vector<double> dgamma(r.width, 0.0);
    for (int64_t row = 0; row < r.rows; ++row) {
      const int64_t first = row * r.width;
      double mean = 0;
      for (int64_t i = 0; i < r.width; ++i) {
        const double normal = static_cast<double>(in[first + i]) * inverse[row];
        mean += d[first + i] * weight[i] * normal / static_cast<double>(r.width);
        dgamma[i] += d[first + i] * normal;
      }
      for (int64_t i = 0; i < r.width; ++i)
        dx[first + i] = static_cast<float>(inverse[row] * (d[first + i] * weight[i] - in[first + i] * inverse[row] * mean));
    }
    write(dxOut, dx);
    write(dgammaOut, dgamma);
  });
}

ACLNN(aclnnLayerNorm, const Tensor* input, const IntArray* normalizedShape, const Tensor* weightOptional,
      const Tensor* biasOptional, double eps, Tensor* out, Tensor* meanOutOptional, Tensor* rstdOutOptional) {
  DOCUMENTED(aclnnLayerNorm, input, weightOptional, biasOptional, out, meanOutOptional, rstdOutOptional);
  require_given(normalizedShape, "normalizedShape");
  const Rows r = rows_of(input, normalizedShape->values, "normalizedShape");
  require_shape(out, "out", input->shape);
  for (const Tensor* parameter : {weightOptional, biasOptional})
    if (parameter) require_shape(parameter, "weightOptional or biasOptional", normalizedShape->values);
  require_weight_dtype(weightOptional, "weightOptional", input);
  if (weightOptional && biasOptional) require_same_dtype(biasOptional, "biasOptional", weightOptional, "weightOptional");
  for (const Tensor* statistic : {meanOutOptional, rstdOutOptional})
    if (statistic) require_shape(statistic, "meanOutOptional or rstdOutOptional", r.statistics);
  return launch([=] {
    const auto in = read<float>(input);
    const auto weight = values_or(weightOptional, r.width, 1), bias = values_or(biasOptional, r.width, 0);
    std::vector<float> y(in.size()), means(r.rows), inverse(r.rows);
    for (int64_t row = 0; row < r.rows; ++row) {
      const float* from = in.data() + row * r.width;
      double mean = 0, squares = 0;
      for (int64_t i = 0; i < r.width; ++i) mean += from[i];
      mean /= static_cast<double>(r.width);
      for (int64_t i = 0; i < r.width; ++i) squares += (from[i] - mean) * (from[i] - mean);
      means[row] = static_cast<float>(mean);
      inverse[row] = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(r.width) + eps));
      for (int64_t i = 0; i < r.width; ++i) y[row * r.width + i] = (from[i] - means[row]) * inverse[row] * weight[i] + bias[i];
    }
    write(out, y);
    if (meanOutOptional) write(meanOutOptional, means);
    if (rstdOutOptional) write(rstdOutOptional, inverse);
  });
}

ACLNN(aclnnLayerNormBackward, const Tensor* gradOut, const Tensor* input, const IntArray* normalizedShape, const Tensor* mean,
      const Tensor* rstd, const Tensor* weightOptional, const Tensor* biasOptional, const BoolArray* outputMask,
      Tensor* gradInputOut, Tensor* gradWeightOut, Tensor* gradBiasOut) {
  DOCUMENTED(aclnnLayerNormBackward, gradOut, input, mean, rstd, weightOptional, biasOptional, gradInputOut, gradWeightOut, gradBiasOut);
  require_given(normalizedShape, "normalizedShape");
  require_given(outputMask, "outputMask");
  if (outputMask->size() != 3) refuse("outputMask", std::to_string(outputMask->size()) + " values", "3");
  require_same_dtype(gradOut, "gradOut", input, "input");
  require_same_dtype(rstd, "rstd", mean, "mean");
  if (size_of(mean->dtype) < size_of(input->dtype)) refuse("mean", name_of(mean->dtype), "at least the width of the input's dtype");
  require_shape(gradOut, "gradOut", input->shape);
  require_weight_dtype(weightOptional, "weightOptional", input);
  const Rows r = rows_of(input, normalizedShape->values, "normalizedShape");
  require_shape(mean, "mean", r.statistics);
  require_shape(rstd, "rstd", r.statistics);
  const bool to_input = (*outputMask)[0], to_weight = (*outputMask)[1], to_bias = (*outputMask)[2];
  if (to_input) require_shape(gradInputOut, "gradInputOut", input->shape);
  if (to_weight) require_shape(gradWeightOut, "gradWeightOut", normalizedShape->values);
  if (to_bias) require_shape(gradBiasOut, "gradBiasOut", normalizedShape->values);
  return launch([=] {
    const auto d = read<float>(gradOut), in = read<float>(input), means = read<float>(mean), inverse = read<float>(rstd);
    const auto weight = values_or(weightOptional, r.width, 1);
    std::vector<float> dx(in.size());
    std::vector<double> dweight(r.width, 0.0), dbias(r.width, 0.0);
    const auto width = static_cast<double>(r.width);
    for (int64_t row = 0; row < r.rows; ++row) {
      const int64_t first = row * r.width;
      double sum = 0, product = 0;
      for (int64_t i = 0; i < r.width; ++i) {
        const double normal = (static_cast<double>(in[first + i]) - means[row]) * inverse[row];
        const double inner = static_cast<double>(d[first + i]) * weight[i];
        sum += inner, product += inner * normal;
        dweight[i] += d[first + i] * normal, dbias[i] += d[first + i];
      }
      for (int64_t i = 0; i < r.width; ++i) {
        const double normal = (static_cast<double>(in[first + i]) - means[row]) * inverse[row];
        dx[first + i] = static_cast<float>(inverse[row] * (static_cast<double>(d[first + i]) * weight[i] - (sum + normal * product) / width));
      }
    }
    if (to_input) write(gradInputOut, dx);
    if (to_weight) write(gradWeightOut, dweight);
    if (to_bias) write(gradBiasOut, dbias);
  });
}
