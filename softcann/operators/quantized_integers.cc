// Activations as integers, and products of integers with integers. Sums are exact; what they are multiplied by is float32.
// Weights of 4 bits, results in int8 and int32, and scales as TransQuantParamV2 packs them are refused: softcann has no
// elements of the former, and MindCoder asks for none of them.
#include <limits>

#include "elements.h"

namespace softcann {
namespace {

constexpr int64_t kMost = 65535;

bool transposed(const Tensor* tensor) {
  return tensor->rank() == 2 && tensor->strides[0] == 1 && tensor->strides[1] == tensor->shape[0];
}

void require_matrix(const Tensor* tensor, const char* name) {
  require_rank(tensor, name, 2, 2);
  if (!tensor->contiguous() && !transposed(tensor))
    refuse(name, "strides " + text(tensor->strides), "a contiguous tensor or a transposed one");
  if (tensor->shape[1] > kMost) refuse(name, text(tensor->shape), "at most " + std::to_string(kMost) + " as last axis");
  if (tensor->count() == 0) refuse(name, text(tensor->shape), "a tensor that is not empty");
}

void require_numbers(const Tensor* tensor, const char* name, int64_t size, bool or_one) {
  const bool fits = tensor->rank() == 1 && (tensor->shape[0] == size || (or_one && tensor->shape[0] == 1));
  if (!fits) refuse(name, text(tensor->shape), (or_one ? "(1,) or " : "") + text({size}));
}

// To the nearest, of two equally near ones to the even one.
int64_t rounded(float number) {
  return static_cast<int64_t>(std::nearbyint(std::min(std::max(number, -128.0f), 127.0f)));
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnDynamicQuant, const Tensor* x, const Tensor* smoothScalesOptional, Tensor* yOut, Tensor* scaleOut) {
  DOCUMENTED(aclnnDynamicQuant, x, smoothScalesOptional, yOut, scaleOut);
  require_shape(yOut, "yOut", x->shape);
  require_shape(scaleOut, "scaleOut", Shape(x->shape.begin(), x->shape.end() - 1));
  const int64_t size = x->dim(-1);
  if (smoothScalesOptional) require_shape(smoothScalesOptional, "smoothScalesOptional", {size});
  return launch([=] {
    const auto values = read<float>(x);
    std::vector<float> smooth(static_cast<size_t>(size), 1.0f), scales(static_cast<size_t>(scaleOut->count()));
    if (smoothScalesOptional) {
      const auto given = read<float>(smoothScalesOptional);
      std::copy(given.begin(), given.end(), smooth.begin());
    }
    std::vector<int64_t> integers(values.size());
    for (size_t row = 0; row < scales.size(); ++row) {
      const size_t first = row * static_cast<size_t>(size);
      float largest = 0;
      for (size_t i = 0; i < smooth.size(); ++i) largest = std::max(largest, std::abs(values[first + i] * smooth[i]));
      scales[row] = largest / 127.0f;
      for (size_t i = 0; i < smooth.size(); ++i)
        integers[first + i] = largest == 0 ? 0 : rounded(values[first + i] * smooth[i] / scales[row]);
    }
    write(yOut, integers);
    write(scaleOut, scales);
  });
}

ACLNN(aclnnAscendQuant, const Tensor* x, const Tensor* scale, const Tensor* offset, bool sqrtMode, char* roundMode,
      int32_t dstType, Tensor* y) {
  DOCUMENTED(aclnnAscendQuant, x, scale, offset, y);
  constexpr int32_t kInt8 = 2;
  if (dstType != kInt8) refuse("dstType", std::to_string(dstType), "2, int8, all that softcann has");
  require_given(roundMode, "roundMode");
  const std::string mode = roundMode;
  if (mode != "round") refuse("roundMode", "\"" + mode + "\"", "\"round\", all that softcann computes");
  const int64_t size = x->dim(-1);
  require_numbers(scale, "scale", size, true);
  if (x->dtype != Dtype::float32) require_same_dtype(scale, "scale", x, "x");
  if (offset) {
    require_shape(offset, "offset", scale->shape);
    require_same_dtype(offset, "offset", scale, "scale");
  }
  require_shape(y, "y", x->shape);
  return launch([=] {
    const auto values = read<float>(x);
    const auto factors = read<float>(scale, {size});
    std::vector<float> added(static_cast<size_t>(size), 0.0f);
    if (offset) {
      const auto given = read<float>(offset, {size});
      std::copy(given.begin(), given.end(), added.begin());
    }
    std::vector<int64_t> integers(values.size());
    for (size_t i = 0; i < integers.size(); ++i) {
      const size_t column = i % static_cast<size_t>(size);
      const float scaled = sqrtMode ? values[i] * factors[column] * factors[column] : values[i] * factors[column];
      integers[i] = rounded(scaled + added[column]);
    }
    write(y, integers);
  });
}

ACLNN(aclnnQuantMatmulV4, const Tensor* x1, const Tensor* x2, const Tensor* scale, const Tensor* offset,
      const Tensor* pertokenScaleOptional, const Tensor* bias, bool transposeX1, bool transposeX2, Tensor* out) {
  DOCUMENTED(aclnnQuantMatmulV4, x1, x2, scale, offset, pertokenScaleOptional, bias, out);
  if (offset) refuse("offset", "given", "null beside a result in floating point");
  require_matrix(x1, "x1");
  require_matrix(x2, "x2");
  const int64_t rows = x1->shape[transposeX1 ? 1 : 0], depth = x1->shape[transposeX1 ? 0 : 1];
  const int64_t columns = x2->shape[transposeX2 ? 0 : 1];
  if (x2->shape[transposeX2 ? 1 : 0] != depth)
    refuse("x2", text(x2->shape), "a reduced axis of x1's length " + std::to_string(depth));
  require_numbers(scale, "scale", columns, true);
  if (pertokenScaleOptional) require_numbers(pertokenScaleOptional, "pertokenScaleOptional", rows, false);
  if (out->dtype == Dtype::float16) {
    if (!pertokenScaleOptional) refuse("pertokenScaleOptional", "null", "given beside float32 scales and a float16 result");
    if (scale->dtype != Dtype::float32) refuse("scale", name_of(scale->dtype), "float32 beside a float16 result");
  }
  if (bias) {
    require_numbers(bias, "bias", columns, false);
    if (bias->dtype != Dtype::int32 && bias->dtype != Dtype::float32)
      require_same_dtype(bias, "bias", out, "out");
  }
  require_shape(out, "out", {rows, columns});
  return launch([=] {
    const auto first = read<int64_t>(x1), second = read<int64_t>(x2);
    const auto factors = read<float>(scale, {columns});
    const bool counted = bias && bias->dtype == Dtype::int32;
    std::vector<float> result(static_cast<size_t>(rows * columns)), of_rows(static_cast<size_t>(rows), 1.0f);
    std::vector<float> added(static_cast<size_t>(columns), 0.0f);
    std::vector<int64_t> begun(static_cast<size_t>(columns), 0);
    if (counted) {
      const auto given = read<int64_t>(bias);
      std::copy(given.begin(), given.end(), begun.begin());
    } else if (bias) {
      const auto given = read<float>(bias);
      std::copy(given.begin(), given.end(), added.begin());
    }
    if (pertokenScaleOptional) {
      const auto given = read<float>(pertokenScaleOptional);
      std::copy(given.begin(), given.end(), of_rows.begin());
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        int64_t sum = begun[static_cast<size_t>(column)];
        for (int64_t k = 0; k < depth; ++k)
          sum += first[static_cast<size_t>(transposeX1 ? k * rows + row : row * depth + k)] *
                 second[static_cast<size_t>(transposeX2 ? column * depth + k : k * columns + column)];
        if (sum < std::numeric_limits<int32_t>::min() || sum > std::numeric_limits<int32_t>::max())
          throw std::runtime_error("a sum of products exceeds int32");
        result[static_cast<size_t>(row * columns + column)] =
            static_cast<float>(sum) * factors[static_cast<size_t>(column)] * of_rows[static_cast<size_t>(row)] +
            added[static_cast<size_t>(column)];
      }
    }
    write(out, result);
  });
}
