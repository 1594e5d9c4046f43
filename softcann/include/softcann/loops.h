// Reading and writing elements. Operators compute on contiguous arrays in a type that is wide enough (float for the
// float dtypes, as the device does; int64_t for integers); read() and write() know strides, broadcasting and dtypes.
//
//   const auto x = read<float>(self, out->shape);        // broadcast to out's shape, converted to float
//   std::vector<float> y(x.size());
//   for (size_t i = 0; i < y.size(); ++i) y[i] = std::exp(x[i]);
//   write(out, y);                                       // rounds to out's dtype: nearest, ties to even
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "softcann/objects.h"

namespace softcann {

// Elements of a tensor in row-major order: the tensor's own memory where it already is so, else a copy.
template <class T>
class Values {
 public:
  Values(const T* borrowed, size_t size) : size_(size), data_(borrowed) {}
  explicit Values(std::vector<T>&& owned) : owned_(std::move(owned)), size_(owned_.size()), data_(owned_.data()) {}
  Values(Values&& other) noexcept
      : owned_(std::move(other.owned_)), size_(other.size_), data_(owned_.empty() ? other.data_ : owned_.data()) {}
  Values(const Values&) = delete;
  const T& operator[](size_t index) const { return data_[index]; }
  const T* data() const { return data_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  size_t size() const { return size_; }

 private:
  std::vector<T> owned_;
  size_t size_;
  const T* data_;
};

// Strides of a tensor seen in a shape that it broadcasts to (0 where an axis is repeated); throws where it does not.
Shape broadcast_strides(const Tensor* tensor, const Shape& shape);
Shape broadcast_shape(const Shape& first, const Shape& second);
inline int64_t axis_of(int64_t axis, int64_t rank) { return axis < 0 ? axis + rank : axis; }

// Calls work(element offset, index in row-major order, run) for each innermost run of `run` elements, `step` apart.
template <class Work>
void for_each_run(const Shape& shape, const Shape& strides, Work&& work) {
  const int64_t total = count(shape);
  if (total == 0) return;
  if (shape.empty()) return work(int64_t(0), int64_t(0), int64_t(1), int64_t(1));
  const size_t rank = shape.size();
  const int64_t run = shape[rank - 1], step = strides[rank - 1];
  Shape index(rank, 0);
  int64_t offset = 0;
  for (int64_t done = 0; done < total; done += run) {
    work(offset, done, run, step);
    for (size_t axis = rank - 1; axis-- > 0;) {
      offset += strides[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

template <class T, class S>
T convert(S value) {
  if constexpr (std::is_same_v<T, S>)
    return value;
  else if constexpr (std::is_same_v<S, float16> || std::is_same_v<S, bfloat16>)
    return convert<T>(static_cast<float>(value));
  else if constexpr (std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>)
    return T(static_cast<float>(value));
  else if constexpr (std::is_same_v<T, bool>)
    return value != S(0);
  else
    return static_cast<T>(value);
}

template <class T>
Values<T> read(const Tensor* tensor, const Shape& shape) {
  static_assert(!std::is_same_v<T, bool>, "read a bool tensor as uint8_t");
  const Shape strides = broadcast_strides(tensor, shape);
  const int64_t total = count(shape);
  std::vector<T> values;
  bool borrowed = false;
  const bool known = dispatch(tensor->dtype, [&](auto zero) {
    using S = decltype(zero);
    const S* source = tensor->data<S>();
    if constexpr (std::is_same_v<S, T>) {
      if (shape == tensor->shape && tensor->contiguous()) {
        borrowed = true;
        return;
      }
    }
    values.resize(total);
    for_each_run(shape, strides, [&](int64_t offset, int64_t start, int64_t run, int64_t step) {
      for (int64_t i = 0; i < run; ++i) values[start + i] = convert<T>(source[offset + i * step]);
    });
  });
  if (!known) throw std::runtime_error(std::string("softcann reads no ") + name_of(tensor->dtype));
  if (borrowed) return Values<T>(tensor->data<T>(), total);
  return Values<T>(std::move(values));
}

template <class T>
Values<T> read(const Tensor* tensor) {
  return read<T>(tensor, tensor->shape);
}

template <class T>
void write(Tensor* tensor, const T* values) {
  const bool known = dispatch(tensor->dtype, [&](auto zero) {
    using D = decltype(zero);
    D* target = tensor->data<D>();
    for_each_run(tensor->shape, tensor->strides, [&](int64_t offset, int64_t start, int64_t run, int64_t step) {
      for (int64_t i = 0; i < run; ++i) target[offset + i * step] = convert<D>(values[start + i]);
    });
  });
  if (!known) throw std::runtime_error(std::string("softcann writes no ") + name_of(tensor->dtype));
}

template <class T>
void write(Tensor* tensor, const std::vector<T>& values) {
  if (static_cast<int64_t>(values.size()) != tensor->count()) throw std::runtime_error("values do not fill the output");
  write(tensor, values.data());
}

}  // namespace softcann
