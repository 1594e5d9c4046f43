// Products with weights of integers. A card's vector units turn the integers into x's dtype before its cube unit
// multiplies them; so it is here, and sums are float32. Weights of 4 bits and results in int8 are refused: softcann has
// no elements of the former, and MindCoder asks for neither.
#include "elements.h"
#include "softcann/matmul.h"

namespace softcann {
namespace {

constexpr int64_t kMost = 65535;

bool transposed(const Tensor* tensor) {
  return tensor->rank() == 2 && tensor->strides[0] == 1 && tensor->strides[1] == tensor->shape[0];
}

void require_contiguous_or_transposed(const Tensor* tensor, const char* name) {
  if (!tensor->contiguous() && !transposed(tensor))
    refuse(name, "strides " + text(tensor->strides), "a contiguous tensor or a transposed one");
}

void require_size(const char* name, const Tensor* tensor, int64_t size, int64_t most) {
  if (size < 1 || size > most) refuse(name, text(tensor->shape), "sizes from 1 to " + std::to_string(most));
}

// One for the tensor, one for each column or one for each column of each group of rows.
void require_parameters(const Tensor* tensor, const char* name, int64_t groups, int64_t columns, int64_t group_size) {
  const Shape& shape = tensor->shape;
  const bool fits = group_size > 0 ? shape == Shape{groups, columns}
                                   : shape == Shape{1} || shape == Shape{1, 1} || shape == Shape{columns} ||
                                         shape == Shape{1, columns};
  if (!fits)
    refuse(name, text(shape), group_size > 0 ? text({groups, columns}) : "(1,), (1, 1), " + text({columns}) + " or " + text({1, columns}));
}

// (weight + offset) * scale in x's dtype.
std::vector<float> floats(const Tensor* x, const Tensor* weight, const Tensor* scale, const Tensor* offset, int64_t group_size) {
  const int64_t depth = weight->shape[0], columns = weight->shape[1];
  const auto integers = read<float>(weight);
  const auto scales = read<float>(scale);
  std::vector<float> offsets(scales.size(), 0.0f), result(integers.size());
  if (offset) {
    const auto given = read<float>(offset);
    std::copy(given.data(), given.data() + given.size(), offsets.begin());
  }
  for (int64_t row = 0; row < depth; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t group = group_size > 0 ? row / group_size : 0;
      const size_t at = scales.size() == 1 ? 0 : static_cast<size_t>(group * columns + column);
      const size_t own = static_cast<size_t>(row * columns + column);
      result[own] = stored_as((integers[own] + offsets[at]) * scales[at], x->dtype);
    }
  }
  return result;
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnWeightQuantBatchMatmulV2, const Tensor* x, const Tensor* weight, const Tensor* antiquantScale,
      const Tensor* antiquantOffsetOptional, const Tensor* quantScaleOptional, const Tensor* quantOffsetOptional,
      const Tensor* biasOptional, int antiquantGroupSize, Tensor* y) {
  DOCUMENTED(aclnnWeightQuantBatchMatmulV2, x, weight, antiquantScale, antiquantOffsetOptional, quantScaleOptional,
             quantOffsetOptional, biasOptional, y);
  if (quantScaleOptional || quantOffsetOptional) refuse("quantScaleOptional", "given", "none in softcann");
  const int64_t rows = x->shape[0], depth = x->shape[1], columns = weight->shape[1];
  if (weight->shape[0] != depth)
    refuse("weight", text(weight->shape), "a reduced axis of x's length " + std::to_string(depth));
  require_size("x", x, depth, kMost);
  require_size("x", x, rows, transposed(x) && !x->contiguous() ? kMost : INT32_MAX);
  require_size("weight", weight, columns, kMost);
  const int64_t group = antiquantGroupSize;
  if (group != 0 && (group < 32 || group > depth - 1 || group % 32 != 0))
    refuse("antiquantGroupSize", std::to_string(group), "0, or a multiple of 32 up to k - 1, " + std::to_string(depth - 1));
  const int64_t groups = group == 0 ? 1 : (depth + group - 1) / group;
  require_parameters(antiquantScale, "antiquantScale", groups, columns, group);
  require_contiguous_or_transposed(x, "x");
  require_contiguous_or_transposed(weight, "weight");
  require_contiguous_or_transposed(antiquantScale, "antiquantScale");
  if (antiquantOffsetOptional) {
    require_shape(antiquantOffsetOptional, "antiquantOffsetOptional", antiquantScale->shape);
    require_contiguous_or_transposed(antiquantOffsetOptional, "antiquantOffsetOptional");
  }
  if (biasOptional) {
    const Dtype wanted = x->dtype == Dtype::bfloat16 ? Dtype::float32 : Dtype::float16;
    if (biasOptional->dtype != wanted) refuse("biasOptional", name_of(biasOptional->dtype), name_of(wanted));
    if (biasOptional->count() != columns || biasOptional->dim(-1) != columns)
      refuse("biasOptional", text(biasOptional->shape), text({columns}) + " or " + text({1, columns}));
  }
  require_shape(y, "y", {rows, columns});
  return launch([=] {
    const auto factors = read<float>(x);
    const auto numbers = floats(x, weight, antiquantScale, antiquantOffsetOptional, group);
    std::vector<float> result(static_cast<size_t>(rows * columns), 0.0f);
    if (biasOptional) {
      const auto bias = read<float>(biasOptional);
      for (size_t i = 0; i < result.size(); ++i) result[i] = bias[i % static_cast<size_t>(columns)];
    }
    matmul(factors.data(), numbers.data(), result.data(), rows, depth, columns, true);
    write(y, result);
  });
}
