// What MindSpore makes with aclCreateTensor, aclCreateScalar … and hands to an operator.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "softcann/dtype.h"

namespace softcann {

using Shape = std::vector<int64_t>;

int64_t count(const Shape& shape);       // elements; 1 for a scalar's empty shape
std::string text(const Shape& shape);    // "(2, 3)"
Shape contiguous_strides(const Shape& shape);

// Counted by its users: whoever made it until aclDestroy…, and each executor that was prepared with it.
class Object {
 public:
  virtual ~Object() = default;
  void retain() const { ++users_; }
  void release() const {
    if (--users_ == 0) delete this;
  }
  virtual std::string describe() const = 0;  // JSON, for the log

 private:
  mutable std::atomic<int> users_{1};
};

// A view of device memory. Element (i, j, …) lies at address + (offset + i * strides[0] + j * strides[1] …) * size_of(dtype).
class Tensor : public Object {
 public:
  Dtype dtype = Dtype::undefined;
  Shape shape, strides;   // elements
  Shape storage_shape;    // elements of the memory that the view is in; may be empty
  int64_t offset = 0;     // elements
  int32_t format = 2;     // aclFormat; 2 is ND
  void* address = nullptr;

  int64_t count() const { return softcann::count(shape); }
  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t dim(int64_t axis) const { return shape[axis < 0 ? axis + rank() : axis]; }
  bool contiguous() const;
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype); }
  template <class T>
  T* data() const {
    return static_cast<T*>(address) + offset;
  }
  std::string describe() const override;
};

class Scalar : public Object {
 public:
  Dtype dtype = Dtype::undefined;
  double number = 0;     // the value of any dtype
  int64_t integer = 0;   // exact for integers and bool
  std::string describe() const override;
};

template <class T>
class Array : public Object {
 public:
  std::vector<T> values;
  size_t size() const { return values.size(); }
  T operator[](size_t index) const { return values[index]; }
  std::string describe() const override;
};
using IntArray = Array<int64_t>;
using FloatArray = Array<float>;
class BoolArray : public Object {
 public:
  std::vector<uint8_t> values;
  size_t size() const { return values.size(); }
  bool operator[](size_t index) const { return values[index] != 0; }
  std::string describe() const override;
};

class TensorList : public Object {
 public:
  std::vector<Tensor*> tensors;  // retained
  ~TensorList() override;
  size_t size() const { return tensors.size(); }
  Tensor* operator[](size_t index) const { return tensors[index]; }
  std::string describe() const override;
};

class ScalarList : public Object {
 public:
  std::vector<Scalar*> scalars;  // retained
  ~ScalarList() override;
  std::string describe() const override;
};

}  // namespace softcann
