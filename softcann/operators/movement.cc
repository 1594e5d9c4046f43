// Operators that move elements and compute nothing: concatenation, pieces, permutations, padding, triangles.
#include "moving.h"

namespace softcann {
namespace {

Launch join(const TensorList* tensors, int64_t axis, Tensor* out) {
  return launch([=] {
    int64_t start = 0;
    for (const Tensor* tensor : tensors->tensors) {
      if (tensor->count() == 0) continue;
      View part(out);
      part.offset += start * out->strides[axis];
      part.shape[axis] = tensor->shape[axis];
      start += tensor->shape[axis];
      move(View(tensor), part);
    }
  });
}

Launch cut(const Tensor* self, const TensorList* out, const std::vector<int64_t>& lengths, int64_t axis) {
  if (lengths.size() != out->size())
    refuse("out", std::to_string(out->size()) + " tensors", std::to_string(lengths.size()) + " pieces");
  int64_t total = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    Shape shape = self->shape;
    shape[axis] = lengths[i];
    total += lengths[i];
    require_shape((*out)[i], "out", shape);
    require_same_dtype((*out)[i], "out", self, "self");
  }
  if (total != self->shape[axis])
    refuse("splitSize", "a sum of " + std::to_string(total), "self's " + std::to_string(self->shape[axis]));
  return launch([=] {
    int64_t start = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      View part(self);
      part.offset += start * self->strides[axis];
      part.shape[axis] = lengths[i];
      start += lengths[i];
      move(part, *(*out)[i]);
    }
  });
}

// Bounds of start:end:step on an axis, as numpy's slices.
void bounded_slice(int64_t length, int64_t& start, int64_t& end) {
  if (start < 0) start += length;
  if (end < 0) end += length;
  start = std::clamp<int64_t>(start, 0, length);
  end = std::clamp<int64_t>(end, start, length);
}

void sliced(Tensor& view, int64_t axis, int64_t start, int64_t end, int64_t step) {
  if (step <= 0) refuse("step", std::to_string(step), "a positive number");
  bounded_slice(view.shape[axis], start, end);
  view.offset += start * view.strides[axis];
  view.strides[axis] *= step;
  view.shape[axis] = (end - start + step - 1) / step;
}

Launch triangle(const Tensor* self, int64_t diagonal, Tensor* out, bool upper) {
  require_shape(out, "out", self->shape);
  require_same_dtype(out, "out", self, "self");
  const int64_t rows = self->rank() >= 2 ? self->dim(-2) : 1, columns = self->rank() ? self->dim(-1) : 1;
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto x = read<T>(self);
      std::vector<T> y(x.begin(), x.end());
      for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
        const int64_t row = i / columns % rows, column = i % columns;
        if (upper ? column - row < diagonal : column - row > diagonal) y[i] = T(0);
      }
      write(out, y.data());
    });
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnCat, const TensorList* tensors, int64_t dim, Tensor* out) {
  documented_each("aclnnCat", "tensors", tensors);
  DOCUMENTED(aclnnCat, out);
  if (tensors->size() == 0) refuse("tensors", "no tensor", "at least one");
  const int64_t axis = require_axis(dim, out->rank());
  Shape shape = out->shape;
  shape[axis] = 0;
  for (const Tensor* tensor : tensors->tensors) {
    if (tensor->rank() == 1 && tensor->count() == 0) continue;  // an empty vector goes with every shape
    Shape own = tensor->shape;
    if (own.size() != shape.size()) refuse("tensors", "shape " + text(own), std::to_string(shape.size()) + " dimensions, as out");
    shape[axis] += own[axis];
    own[axis] = shape[axis];
    if (own != shape) refuse("tensors", "shape " + text(tensor->shape), "out's " + text(out->shape) + " but for axis " + std::to_string(axis));
  }
  require_shape(out, "out", shape);
  return join(tensors, axis, out);
}

ACLNN(aclnnStack, const TensorList* tensors, int64_t dim, Tensor* out) {
  documented_each("aclnnStack", "tensors", tensors);
  DOCUMENTED(aclnnStack, out);
  if (tensors->size() == 0) refuse("tensors", "no tensor", "at least one");
  const int64_t axis = require_axis(dim, out->rank());
  Shape shape = (*tensors)[0]->shape;
  for (const Tensor* tensor : tensors->tensors) require_shape(tensor, "tensors", shape);
  shape.insert(shape.begin() + axis, static_cast<int64_t>(tensors->size()));
  require_shape(out, "out", shape);
  return launch([=] {
    for (size_t i = 0; i < tensors->size(); ++i) {
      View part(out);
      part.offset += static_cast<int64_t>(i) * out->strides[axis];
      part.shape.erase(part.shape.begin() + axis);
      part.strides.erase(part.strides.begin() + axis);
      move(View((*tensors)[i]), part);
    }
  });
}

ACLNN(aclnnSplitWithSize, const Tensor* self, const IntArray* splitSize, int64_t dim, TensorList* out) {
  DOCUMENTED(aclnnSplitWithSize, self);
  require_given(splitSize, "splitSize");
  documented_each("aclnnSplitWithSize", "out", out);
  return cut(self, out, splitSize->values, require_axis(dim, self->rank()));
}

ACLNN(aclnnSplitTensor, const Tensor* self, uint64_t splitSections, int64_t dim, TensorList* out) {
  DOCUMENTED(aclnnSplitTensor, self);
  documented_each("aclnnSplitTensor", "out", out);
  const int64_t axis = require_axis(dim, self->rank()), length = self->shape[axis];
  const auto step = static_cast<int64_t>(splitSections);
  if (step <= 0) refuse("splitSections", std::to_string(step), "a positive length");
  std::vector<int64_t> lengths;
  for (int64_t start = 0; start < length; start += step) lengths.push_back(std::min(step, length - start));
  return cut(self, out, lengths, axis);
}

ACLNN(aclnnPermute, const Tensor* self, const IntArray* dims, Tensor* out) {
  DOCUMENTED(aclnnPermute, self, out);
  require_given(dims, "dims");
  require_same_dtype(out, "out", self, "self");
  Shape order = dims->values, shape, strides;
  for (auto& axis : order) axis = require_axis(axis, self->rank(), "dims");
  std::vector<int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t axis = 0; axis < self->rank(); ++axis)
    if (static_cast<int64_t>(sorted.size()) != self->rank() || sorted[axis] != axis)
      refuse("dims", text(dims->values), "each axis of self once");
  for (const int64_t axis : order) shape.push_back(self->shape[axis]), strides.push_back(self->strides[axis]);
  require_shape(out, "out", shape);
  return launch([=] {
    View view(self);
    view.shape = shape, view.strides = strides;
    move(view, *out);
  });
}

ACLNN(aclnnRepeat, const Tensor* self, const IntArray* repeats, Tensor* out) {
  DOCUMENTED(aclnnRepeat, self, out);
  require_given(repeats, "repeats");
  if (static_cast<int64_t>(repeats->size()) < self->rank())
    refuse("repeats", std::to_string(repeats->size()) + " numbers", "at least self's " + std::to_string(self->rank()));
  // An axis of length n repeated r times is two axes: r with stride 0, and n.
  Shape shape, folded, strides;
  const size_t extra = repeats->size() - self->shape.size();
  for (size_t axis = 0; axis < repeats->size(); ++axis) {
    const int64_t length = axis < extra ? 1 : self->shape[axis - extra];
    folded.push_back((*repeats)[axis]), strides.push_back(0);
    folded.push_back(length), strides.push_back(axis < extra ? 0 : self->strides[axis - extra]);
    shape.push_back((*repeats)[axis] * length);
  }
  require_shape(out, "out", shape);
  return launch([=] {
    View view(self);
    view.shape = folded, view.strides = strides;
    move(view, *out);
  });
}

ACLNN(aclnnSlice, const Tensor* self, int64_t dim, int64_t start, int64_t end, int64_t step, Tensor* out) {
  DOCUMENTED(aclnnSlice, self, out);
  const int64_t axis = require_axis(dim, self->rank());
  View view(self);
  sliced(view, axis, start, end, step);
  require_shape(out, "out", view.shape);
  return launch([=] {
    View part(self);
    sliced(part, axis, start, end, step);
    move(part, *out);
  });
}

ACLNN(aclnnSliceV2, const Tensor* self, const IntArray* starts, const IntArray* ends, const IntArray* axes,
      const IntArray* steps, Tensor* out) {
  DOCUMENTED(aclnnSliceV2, self, out);
  for (const IntArray* list : {starts, ends, axes, steps}) require_given(list, "starts, ends, axes or steps");
  const auto cut_all = [=](View& view) {
    for (size_t i = 0; i < axes->size(); ++i)
      sliced(view, require_axis((*axes)[i], self->rank(), "axes"), (*starts)[i], (*ends)[i], (*steps)[i]);
  };
  View view(self);
  cut_all(view);
  require_shape(out, "out", view.shape);
  return launch([=] {
    View part(self);
    cut_all(part);
    move(part, *out);
  });
}

// The masks are bits per axis, as in TensorFlow; ellipsis, new and shrunk axes are not emulated.
ACLNN(aclnnStridedSlice, const Tensor* self, const IntArray* begin, const IntArray* end, const IntArray* strides,
      int64_t beginMask, int64_t endMask, int64_t ellipsisMask, int64_t newAxisMask, int64_t shrinkAxisMask, Tensor* out) {
  DOCUMENTED(aclnnStridedSlice, self, out);
  for (const IntArray* list : {begin, end, strides}) require_given(list, "begin, end or strides");
  if (ellipsisMask || newAxisMask || shrinkAxisMask)
    refuse("ellipsisMask, newAxisMask or shrinkAxisMask", "not 0", "0, the only one that softcann computes");
  const auto cut_all = [=](View& view) {
    for (size_t axis = 0; axis < begin->size(); ++axis) {
      const int64_t first = beginMask >> axis & 1 ? 0 : (*begin)[axis];
      const int64_t last = endMask >> axis & 1 ? view.shape[axis] : (*end)[axis];
      sliced(view, static_cast<int64_t>(axis), first, last, (*strides)[axis]);
    }
  };
  View view(self);
  cut_all(view);
  require_shape(out, "out", view.shape);
  return launch([=] {
    View part(self);
    cut_all(part);
    move(part, *out);
  });
}

// pad has two numbers an axis, from the last one on, as torch.nn.functional.pad; negative ones cut.
ACLNN(aclnnConstantPadNd, const Tensor* self, const IntArray* pad, const Scalar* value, Tensor* out) {
  DOCUMENTED(aclnnConstantPadNd, self, out);
  require_given(pad, "pad");
  require_given(value, "value");
  require_same_dtype(out, "out", self, "self");
  if (pad->size() % 2 || static_cast<int64_t>(pad->size()) > 2 * self->rank())
    refuse("pad", std::to_string(pad->size()) + " numbers", "two for each of at most self's axes");
  Shape before(self->rank(), 0), after(self->rank(), 0), shape = self->shape;
  for (size_t i = 0; i < pad->size() / 2; ++i) {
    const size_t axis = self->shape.size() - 1 - i;
    before[axis] = (*pad)[2 * i], after[axis] = (*pad)[2 * i + 1];
    shape[axis] += before[axis] + after[axis];
  }
  require_shape(out, "out", shape);
  return launch([=] {
    in_type_of(self->dtype, [&](auto zero) {
      using T = decltype(zero);
      write(out, std::vector<T>(out->count(), operand<T>(value, self->dtype)).data());
    });
    View from(self), to(out);
    for (int64_t axis = 0; axis < self->rank(); ++axis) {
      const int64_t lost = std::max<int64_t>(-before[axis], 0) + std::max<int64_t>(-after[axis], 0);
      from.offset += std::max<int64_t>(-before[axis], 0) * from.strides[axis];
      to.offset += std::max<int64_t>(before[axis], 0) * to.strides[axis];
      from.shape[axis] -= lost;
    }
    to.shape = from.shape;
    move(from, to);
  });
}

ACLNN(aclnnTriu, const Tensor* self, int64_t diagonal, Tensor* out) {
  DOCUMENTED(aclnnTriu, self, out);
  return triangle(self, diagonal, out, true);
}

ACLNN(aclnnTril, const Tensor* self, int64_t diagonal, Tensor* out) {
  DOCUMENTED(aclnnTril, self, out);
  return triangle(self, diagonal, out, false);
}

ACLNN(aclnnInplaceTriu, Tensor* selfRef, int64_t diagonal) {
  DOCUMENTED(aclnnInplaceTriu, selfRef);
  return triangle(selfRef, diagonal, selfRef, true);
}

ACLNN(aclnnInplaceTril, Tensor* selfRef, int64_t diagonal) {
  DOCUMENTED(aclnnInplaceTril, selfRef);
  return triangle(selfRef, diagonal, selfRef, false);
}

ACLNN(aclnnFlip, const Tensor* self, const IntArray* dims, Tensor* out) {
  DOCUMENTED(aclnnFlip, self, out);
  require_given(dims, "dims");
  require_shape(out, "out", self->shape);
  for (const int64_t axis : dims->values) require_axis(axis, self->rank(), "dims");
  return launch([=] {
    View view(self);
    for (int64_t axis : dims->values) {
      axis = axis_of(axis, self->rank());
      view.offset += (view.shape[axis] - 1) * view.strides[axis];
      view.strides[axis] = -view.strides[axis];
    }
    move(view, *out);
  });
}

ACLNN(aclnnRoll, const Tensor* x, const IntArray* shifts, const IntArray* dims, Tensor* out) {
  DOCUMENTED(aclnnRoll, x, out);
  require_given(shifts, "shifts");
  require_given(dims, "dims");
  require_shape(out, "out", x->shape);
  if (dims->size() != 1 || shifts->size() != 1) refuse("dims", text(dims->values), "one axis, all that softcann computes");
  const int64_t axis = require_axis((*dims)[0], x->rank(), "dims");
  return launch([=] {
    const int64_t length = x->shape[axis], shift = length ? ((*shifts)[0] % length + length) % length : 0;
    for (const auto [from, to, size] : {std::array<int64_t, 3>{0, shift, length - shift}, {length - shift, 0, shift}}) {
      View source(x), target(out);
      source.offset += from * source.strides[axis], source.shape[axis] = size;
      target.offset += to * target.strides[axis], target.shape[axis] = size;
      move(source, target);
    }
  });
}
