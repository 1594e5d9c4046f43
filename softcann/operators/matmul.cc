// Matrix products. Operands are widened to float32, sums are float32 in the order of the reduced axis, and the result is
// rounded once. cubeMathType 1 to 3 allow the card less for float32 operands (hf32, float16): softcann computes them in
// float32 and refuses only what the documentation refuses.
#include "elements.h"
#include "softcann/matmul.h"

namespace softcann {
namespace {

void require_cube_type(int8_t cube_math_type, const Tensor* self, const Tensor* other, const Tensor* out) {
  if (cube_math_type < 0 || cube_math_type > 4)
    refuse("cubeMathType", std::to_string(cube_math_type), "0 to 4");
  const Dtype type = promote(self->dtype, other->dtype);
  if (cube_math_type == 2 && type == Dtype::bfloat16) refuse("cubeMathType", "2 with bfloat16", "0, 1, 3 or 4 with bfloat16");
  if (out->dtype != type) refuse("out", name_of(out->dtype), std::string(name_of(type)) + ", which the operands promote to");
}

// Rows and columns of the last two axes; a vector is a row on the left and a column on the right, as in torch.matmul.
struct Matrices {
  Shape batch;          // axes before, broadcast
  Shape left, right;    // shapes with two axes or more
  int64_t rows, depth, columns;
};

Matrices matrices(const Tensor* self, const Tensor* other, const Tensor* out) {
  Matrices result;
  result.left = self->shape, result.right = other->shape;
  if (self->rank() == 1) result.left.insert(result.left.begin(), 1);
  if (other->rank() == 1) result.right.push_back(1);
  const auto lead = [](const Shape& shape) { return Shape(shape.begin(), shape.end() - 2); };
  result.batch = broadcast_shape(lead(result.left), lead(result.right));
  result.rows = result.left.end()[-2], result.depth = result.left.back(), result.columns = result.right.back();
  if (result.right.end()[-2] != result.depth)
    refuse("mat2", text(other->shape), "a reduced axis of self's length " + std::to_string(result.depth));
  Shape expected = result.batch;
  if (self->rank() > 1) expected.push_back(result.rows);
  if (other->rank() > 1) expected.push_back(result.columns);
  require_shape(out, "out", expected);
  return result;
}

// The operand in the shape (batch, rows, columns) that the product takes.
Values<float> stacked(const Tensor* tensor, const Shape& own, const Shape& batch) {
  Tensor view;
  view.dtype = tensor->dtype, view.address = tensor->address, view.offset = tensor->offset;
  view.shape = own, view.strides = tensor->strides;
  if (tensor->rank() == 1) {
    if (own[0] == 1 && tensor->shape[0] == own[1])
      view.strides.insert(view.strides.begin(), 0);
    else
      view.strides.push_back(0);
  }
  Shape shape = batch;
  shape.insert(shape.end(), own.end() - 2, own.end());
  return read<float>(&view, shape);
}

Launch product(const Tensor* self, const Tensor* other, Tensor* out) {
  const Matrices m = matrices(self, other, out);
  return launch([=] {
    const auto a = stacked(self, m.left, m.batch), b = stacked(other, m.right, m.batch);
    std::vector<float> c(out->count(), 0.0f);
    for (int64_t i = 0; i < count(m.batch); ++i)
      matmul(a.data() + i * m.rows * m.depth, b.data() + i * m.depth * m.columns, c.data() + i * m.rows * m.columns, m.rows,
             m.depth, m.columns);
    write(out, c);
  });
}

// beta * self + alpha * (first @ second)
Launch add_product(const Tensor* self, const Tensor* first, const Tensor* second, const Scalar* beta, const Scalar* alpha,
                   Tensor* out) {
  require_given(beta, "beta");
  require_given(alpha, "alpha");
  const Matrices m = matrices(first, second, out);
  if (broadcast_shape(self->shape, out->shape) != out->shape)
    refuse("self", text(self->shape), "a shape that broadcasts to " + text(out->shape));
  return launch([=] {
    const auto a = stacked(first, m.left, m.batch), b = stacked(second, m.right, m.batch), added = read<float>(self, out->shape);
    std::vector<float> c(out->count(), 0.0f);
    for (int64_t i = 0; i < count(m.batch); ++i)
      matmul(a.data() + i * m.rows * m.depth, b.data() + i * m.depth * m.columns, c.data() + i * m.rows * m.columns, m.rows,
             m.depth, m.columns);
    const auto kept = static_cast<float>(beta->number), scale = static_cast<float>(alpha->number);
    for (size_t i = 0; i < c.size(); ++i) c[i] = (kept == 0 ? 0 : kept * added[i]) + scale * c[i];
    write(out, c);
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnMm, const Tensor* self, const Tensor* mat2, Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnMm, self, mat2, out);
  require_cube_type(cubeMathType, self, mat2, out);
  return product(self, mat2, out);
}

ACLNN(aclnnMatmul, const Tensor* self, const Tensor* mat2, Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnMatmul, self, mat2, out);
  require_cube_type(cubeMathType, self, mat2, out);
  return product(self, mat2, out);
}

ACLNN(aclnnBatchMatMul, const Tensor* self, const Tensor* mat2, Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnBatchMatMul, self, mat2, out);
  require_cube_type(cubeMathType, self, mat2, out);
  return product(self, mat2, out);
}

ACLNN(aclnnMv, const Tensor* self, const Tensor* vec, Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnMv, self, vec, out);
  require_cube_type(cubeMathType, self, vec, out);
  return product(self, vec, out);
}

ACLNN(aclnnDot, const Tensor* self, const Tensor* tensor, Tensor* out) {
  DOCUMENTED(aclnnDot, self, tensor, out);
  return product(self, tensor, out);
}

ACLNN(aclnnAddmm, const Tensor* self, const Tensor* mat1, const Tensor* mat2, const Scalar* beta, const Scalar* alpha,
      Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnAddmm, self, mat1, mat2, out);
  require_cube_type(cubeMathType, mat1, mat2, out);
  return add_product(self, mat1, mat2, beta, alpha, out);
}

ACLNN(aclnnBaddbmm, const Tensor* self, const Tensor* batch1, const Tensor* batch2, const Scalar* beta, const Scalar* alpha,
      Tensor* out, int8_t cubeMathType) {
  DOCUMENTED(aclnnBaddbmm, self, batch1, batch2, out);
  require_cube_type(cubeMathType, batch1, batch2, out);
  return add_product(self, batch1, batch2, beta, alpha, out);
}
