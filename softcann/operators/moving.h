// Copies between views of one dtype or two.
#pragma once

#include <array>

#include "elements.h"

namespace softcann {

// A tensor's view that may be changed; it lives no longer than the call.
class View : public Tensor {
 public:
  explicit View(const Tensor* tensor) {
    dtype = tensor->dtype, shape = tensor->shape, strides = tensor->strides;
    offset = tensor->offset, address = tensor->address;
  }
  View(const View& other) : View(static_cast<const Tensor*>(&other)) {}
};

// Elements in row-major order from one to the other; the shapes have the same count.
inline void move(const Tensor& from, Tensor& to) {
  in_type_of(promote(from.dtype, to.dtype), [&](auto zero) {
    using T = decltype(zero);
    const auto values = read<T>(&from, from.shape);
    write(&to, values.data());
  });
}

}  // namespace softcann
