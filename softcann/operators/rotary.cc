// Rotary position embedding: x * cos + rotated(x) * sin, where rotated is (-second half, first half), mode 0, or that of
// neighbouring pairs, mode 1.
#include "moving.h"

namespace softcann {
namespace {

// Where the partner of element i of a head lies, and its sign in rotated(x).
struct Partner {
  int64_t index;
  float sign;
};
Partner partner(int64_t i, int64_t width, int64_t mode) {
  if (mode == 0) return i < width / 2 ? Partner{i + width / 2, -1.0f} : Partner{i - width / 2, 1.0f};
  return i % 2 == 0 ? Partner{i + 1, -1.0f} : Partner{i - 1, 1.0f};
}

void require_rotary(const Tensor* x, const Tensor* cos, const Tensor* sin, int64_t mode) {
  if (mode != 0 && mode != 1) refuse("mode", std::to_string(mode), "0 (half) or 1 (interleave) on the Atlas A2 and A3");
  const int64_t width = x->dim(-1);
  if (width % 2 || width >= 896) refuse("x", "head dimension " + std::to_string(width), "an even one below 896");
  require_shape(sin, "sin", cos->shape);
  require_same_dtype(cos, "cos", x, "x");
  require_same_dtype(sin, "sin", x, "x");
  if (cos->dim(-1) != width) refuse("cos", text(cos->shape), "x's head dimension " + std::to_string(width));
  if (broadcast_shape(x->shape, cos->shape) != x->shape) refuse("cos", text(cos->shape), "a shape that broadcasts to x's " + text(x->shape));
  if (mode == 0 && (x->dim(0) >= 1000 || std::min(x->dim(1), x->dim(2)) >= 1000))
    refuse("x", text(x->shape), "B and N below 1000");
}

void rotate(const Tensor* x, const Tensor* cos, const Tensor* sin, int64_t mode, Tensor* out) {
  const auto values = read<float>(x), c = read<float>(cos, x->shape), s = read<float>(sin, x->shape);
  const int64_t width = x->dim(-1);
  std::vector<float> y(values.size());
  for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
    const Partner other = partner(i % width, width, mode);
    y[i] = values[i] * c[i] + other.sign * values[i - i % width + other.index] * s[i];
  }
  write(out, y);
}

// Sums over the axes that cos and sin were broadcast along.
void write_sum(Tensor* out, const Shape& shape, const std::vector<float>& values) {
  std::vector<double> sums(out->count(), 0.0);
  Tensor places;
  places.shape = out->shape, places.strides = contiguous_strides(out->shape);
  const Shape strides = broadcast_strides(&places, shape);
  for_each_run(shape, strides, [&](int64_t offset, int64_t start, int64_t run, int64_t step) {
    for (int64_t i = 0; i < run; ++i) sums[offset + i * step] += values[start + i];
  });
  write(out, sums);
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnRotaryPositionEmbedding, const Tensor* x, const Tensor* cos, const Tensor* sin, int64_t mode, Tensor* out) {
  DOCUMENTED(aclnnRotaryPositionEmbedding, x, cos, sin, out);
  require_rotary(x, cos, sin, mode);
  require_shape(out, "out", x->shape);
  require_same_dtype(out, "out", x, "x");
  return launch([=] { rotate(x, cos, sin, mode, out); });
}

ACLNN(aclnnRotaryPositionEmbeddingGrad, const Tensor* dy, const Tensor* cos, const Tensor* sin, const Tensor* xOptional,
      int64_t mode, Tensor* dxOut, Tensor* dcosOut, Tensor* dsinOut) {
  DOCUMENTED(aclnnRotaryPositionEmbeddingGrad, dy, cos, sin, xOptional, dxOut);
  require_rotary(dy, cos, sin, mode);
  require_shape(dxOut, "dxOut", dy->shape);
  if (xOptional) {
    DOCUMENTED(aclnnRotaryPositionEmbeddingGrad, dcosOut, dsinOut);
    require_shape(xOptional, "xOptional", dy->shape);
    require_shape(dcosOut, "dcosOut", cos->shape);
    require_shape(dsinOut, "dsinOut", cos->shape);
  }
  return launch([=] {
    const auto d = read<float>(dy), c = read<float>(cos, dy->shape), s = read<float>(sin, dy->shape);
    const int64_t width = dy->dim(-1), size = static_cast<int64_t>(d.size());
    std::vector<float> dx(size);
    for (int64_t i = 0; i < size; ++i) {
      const Partner other = partner(i % width, width, mode);
      const int64_t at = i - i % width + other.index;
      dx[i] = d[i] * c[i] - other.sign * d[at] * s[at];  // the partner has the other sign
    }
    write(dxOut, dx);
    if (!xOptional) return;
    const auto x = read<float>(xOptional);
    std::vector<float> dcos(size), dsin(size);
    for (int64_t i = 0; i < size; ++i) {
      const Partner other = partner(i % width, width, mode);
      dcos[i] = d[i] * x[i];
      dsin[i] = d[i] * other.sign * x[i - i % width + other.index];
    }
    write_sum(dcosOut, dy->shape, dcos);
    write_sum(dsinOut, dy->shape, dsin);
  });
}

// In place on queries and keys, half mode; head dimension 128 and layout BSND are all that the page allows.
ACLNN(aclnnApplyRotaryPosEmb, Tensor* queryRef, Tensor* keyRef, const Tensor* cos, const Tensor* sin, int64_t layout) {
  DOCUMENTED(aclnnApplyRotaryPosEmb, queryRef, keyRef, cos, sin);
  if (layout != 1) refuse("layout", std::to_string(layout), "1 (BSND)");
  for (const Tensor* tensor : {static_cast<const Tensor*>(queryRef), static_cast<const Tensor*>(keyRef), cos, sin}) {
    require_same_dtype(tensor, "keyRef, cos or sin", queryRef, "queryRef");
    if (tensor->dim(3) != 128) refuse("queryRef, keyRef, cos or sin", text(tensor->shape), "head dimension 128");
    if (tensor->dim(0) != queryRef->dim(0) || tensor->dim(1) != queryRef->dim(1))
      refuse("keyRef, cos or sin", text(tensor->shape), "the batch and length of queryRef " + text(queryRef->shape));
  }
  require_shape(sin, "sin", cos->shape);
  if (cos->dim(2) != 1) refuse("cos", text(cos->shape), "a third axis of length 1");
  return launch([=] {
    rotate(queryRef, cos, sin, 0, queryRef);
    rotate(keyRef, cos, sin, 0, keyRef);
  });
}
