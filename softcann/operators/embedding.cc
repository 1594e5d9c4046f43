// Rows of a table by index, and the table's gradient.
#include "elements.h"

namespace softcann {
namespace {

std::vector<int64_t> rows_of(const Tensor* indices, int64_t rows) {
  const auto values = read<int64_t>(indices);
  for (const int64_t value : values)
    if (value < 0 || value >= rows)
      throw std::runtime_error("indices: index " + std::to_string(value) + " is outside of a table of " + std::to_string(rows) + " rows");
  return {values.begin(), values.end()};
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnEmbedding, const Tensor* weight, const Tensor* indices, Tensor* out) {
  DOCUMENTED(aclnnEmbedding, weight, indices, out);
  require_same_dtype(out, "out", weight, "weight");
  Shape shape = indices->shape;
  shape.push_back(weight->dim(1));
  require_shape(out, "out", shape);
  return launch([=] {
    in_type_of(weight->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto rows = rows_of(indices, weight->dim(0));
      const auto table = read<T>(weight);
      const int64_t width = weight->dim(1);
      std::vector<T> y(out->count());
      for (size_t i = 0; i < rows.size(); ++i)
        std::copy_n(table.data() + rows[i] * width, width, y.data() + static_cast<int64_t>(i) * width);
      write(out, y.data());
    });
  });
}

// Sums in float32 in the order of the rows, rounded once; the page allows another order unless determinism is asked for.
ACLNN(aclnnEmbeddingDenseBackward, const Tensor* grad, const Tensor* indices, uint64_t numWeights, uint64_t paddingIdx,
      bool scaleGradByFreq, Tensor* out) {
  DOCUMENTED(aclnnEmbeddingDenseBackward, grad, indices, out);
  require_same_dtype(out, "out", grad, "grad");
  const int64_t width = grad->dim(-1), rows = static_cast<int64_t>(numWeights), padding = static_cast<int64_t>(paddingIdx);
  require_shape(out, "out", {rows, width});
  if (grad->count() != indices->count() * width)
    refuse("grad", text(grad->shape), "indices' shape " + text(indices->shape) + " and the width");
  return launch([=] {
    const auto places = rows_of(indices, rows);
    const auto d = read<float>(grad);
    std::vector<float> y(out->count(), 0.0f), seen(rows, 0.0f);
    for (const int64_t row : places) ++seen[row];
    for (size_t i = 0; i < places.size(); ++i) {
      if (places[i] == padding) continue;
      const float scale = scaleGradByFreq ? 1 / seen[places[i]] : 1;
      for (int64_t j = 0; j < width; ++j) y[places[i] * width + j] += scale * d[static_cast<int64_t>(i) * width + j];
    }
    write(out, y);
  });
}
