// Cast and the copies between views: what MindSpore's view operators leave to the device.
#include "elements.h"

namespace softcann {
namespace {

// Floats that an integer cannot hold are cut to its range, and NaN is 0 (unverified: the page does not say).
int64_t whole(double value, Dtype dtype) {
  if (value != value) return 0;
  double least = -9223372036854775808.0, most = 9223372036854774784.0;
  const auto bits = static_cast<int>(8 * size_of(dtype));
  if (contains(kUint8 | only(Dtype::uint16) | only(Dtype::uint32), dtype))
    least = 0, most = std::ldexp(1.0, bits) - 1;
  else if (bits < 64)
    least = -std::ldexp(1.0, bits - 1), most = std::ldexp(1.0, bits - 1) - 1;
  return static_cast<int64_t>(std::trunc(std::min(std::max(value, least), most)));
}

// Elements of self, broadcast to out's shape, in out's dtype.
void convert_all(const Tensor* self, Tensor* out) {
  if (is_float(self->dtype) && !is_float(out->dtype)) {
    const auto x = read<double>(self, out->shape);
    std::vector<int64_t> y(x.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = out->dtype == Dtype::boolean ? x[i] != 0 : whole(x[i], out->dtype);
    write(out, y.data());
  } else if (!is_float(self->dtype) && !is_float(out->dtype)) {
    const auto x = read<int64_t>(self, out->shape);
    write(out, x.data());
  } else if (self->dtype == Dtype::float64 || out->dtype == Dtype::float64 || !is_float(self->dtype)) {
    const auto x = read<double>(self, out->shape);
    write(out, x.data());
  } else {
    const auto x = read<float>(self, out->shape);
    write(out, x.data());
  }
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnCast, const Tensor* self, int dtype, Tensor* out) {
  DOCUMENTED(aclnnCast, self, out);
  if (out->dtype != static_cast<Dtype>(dtype))
    refuse("out", name_of(out->dtype), std::string(name_of(static_cast<Dtype>(dtype))) + ", the argument dtype");
  require_shape(out, "out", self->shape);
  return launch([=] { convert_all(self, out); });
}

ACLNN(aclnnInplaceCopy, Tensor* selfRef, const Tensor* src) {
  DOCUMENTED(aclnnInplaceCopy, selfRef, src);
  if (broadcast_shape(selfRef->shape, src->shape) != selfRef->shape)
    refuse("src", text(src->shape), "a shape that broadcasts to selfRef's " + text(selfRef->shape));
  return launch([=] { convert_all(src, selfRef); });
}

ACLNN(aclnnExpand, const Tensor* self, const IntArray* size, Tensor* out) {
  DOCUMENTED(aclnnExpand, self, out);
  require_given(size, "size");
  Shape shape = size->values;
  for (size_t axis = 1; axis <= shape.size(); ++axis)
    if (shape.end()[-static_cast<int64_t>(axis)] == -1 && axis <= self->shape.size())
      shape.end()[-static_cast<int64_t>(axis)] = self->shape.end()[-static_cast<int64_t>(axis)];
  require_shape(out, "out", shape);
  if (broadcast_shape(self->shape, shape) != shape) refuse("size", text(shape), "a shape that self's " + text(self->shape) + " broadcasts to");
  return launch([=] { convert_all(self, out); });
}
