// Matrix products of two dimensions.
#include "softcann/matmul.h"

#include "softcann/aclnn.h"

ACLNN(aclnnMm, const Tensor* self, const Tensor* mat2, Tensor* out, int8_t cubeMathType) {
  (void)cubeMathType;  // which float32 products may run in HF32 or float16 on the device; here none does
  document("aclnnMm");
  require(self, "self", kFloats);
  require(mat2, "mat2", kFloats);
  require(out, "out", kFloats);
  require_rank(self, "self", 2, 2);
  require_rank(mat2, "mat2", 2, 2);
  if (self->dim(1) != mat2->dim(0)) refuse("mat2", "shape " + text(mat2->shape), "as many rows as self " + text(self->shape) + " has columns");
  require_shape(out, "out", {self->dim(0), mat2->dim(1)});
  return launch([=] {
    const auto a = read<float>(self), b = read<float>(mat2);
    std::vector<float> c(static_cast<size_t>(out->count()));
    matmul(a.data(), b.data(), c.data(), self->dim(0), self->dim(1), mat2->dim(1));
    write(out, c);
  });
}
