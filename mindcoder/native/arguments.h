// What a layer's operator gets: the data, shapes and dtypes of its inputs, then those of its outputs, in the order of
// operators.def. Attributes are inputs too: numbers have no dimensions, tuples have one. An input that was left out has
// the dtype "none" and no data.
#pragma once
#include <complex>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "argument_index.h"
#include "elements.h"

// Thrown by an operator that cannot compute what it was given. It never leaves the library: `call` prints it.
struct Refused {
  std::string reason;
};

class Arguments {
 public:
  Arguments(const char *name, int count, void **data, int *ndims, int64_t **shapes, const char **dtypes)
      : name_(name), count_(count), data_(data), ndims_(ndims), shapes_(shapes), dtypes_(dtypes) {}

  const char *name() const { return name_; }
  const char *dtype(int index) const { return dtypes_[index]; }
  bool has(int index) const { return !is(index, "none"); }
  bool is(int index, const char *dtype) const { return std::strcmp(dtypes_[index], dtype) == 0; }
  int ndim(int index) const { return ndims_[index]; }
  const int64_t *shape(int index) const { return shapes_[index]; }

  // Size of an axis; negative ones count from the last.
  int64_t size(int index, int axis) const { return shapes_[index][axis < 0 ? axis + ndims_[index] : axis]; }

  // Number of elements.
  int64_t size(int index) const { return product(index, 0, ndims_[index]); }

  // Product of the sizes of the axes begin..end.
  int64_t product(int index, int begin, int end) const {
    int64_t result = 1;
    for (int axis = begin; axis < end; axis++) result *= shapes_[index][axis];
    return result;
  }

  void *raw(int index) const { return data_[index]; }

  // The tensor's elements; refuses another dtype.
  template <class T>
  T *data(int index) const {
    if (!is(index, dtype_name<T>())) refuse(index, std::string("expected ") + dtype_name<T>());
    return static_cast<T *>(data_[index]);
  }

  // An attribute.
  int64_t integer(int index) const { return data<int64_t>(index)[0]; }
  float number(int index) const { return data<float>(index)[0]; }
  bool flag(int index) const { return data<bool>(index)[0]; }

  void expect_count(int count) const {
    if (count_ != count)
      throw Refused{"expected " + std::to_string(count) + " parameters (of MindSpore 2.9), found " + std::to_string(count_)};
  }

  [[noreturn]] void refuse(int index, const std::string &expected) const {
    std::string shape;
    for (int axis = 0; axis < ndims_[index]; axis++)
      shape += (axis > 0 ? ", " : "") + std::to_string(shapes_[index][axis]);
    throw Refused{"parameter " + std::to_string(index) + ": " + expected + ", found " + dtypes_[index] + " [" + shape + "]"};
  }

  // The axis that an attribute names, counted from 0, of a tensor with `ndim` axes.
  int axis(int index, int ndim) const {
    const int64_t given = integer(index);
    return static_cast<int>(given < 0 ? given + ndim : given);
  }

 private:
  const char *name_;
  int count_;
  void **data_;
  int *ndims_;
  int64_t **shapes_;
  const char **dtypes_;
};

// Calls work with a null pointer to the tensor's element type: a float as the processor computes it or stores it.
template <class Work>
void with_float(const Arguments &arguments, int index, Work work) {
  if (arguments.is(index, "float32")) return work(static_cast<float *>(nullptr));
  if (arguments.is(index, "bfloat16")) return work(static_cast<Bfloat16 *>(nullptr));
  if (arguments.is(index, "float16")) return work(static_cast<Half *>(nullptr));
  arguments.refuse(index, "expected float32, bfloat16 or float16");
}

// The same for every number that a tensor may hold, except complex ones.
template <class Work>
void with_real(const Arguments &arguments, int index, Work work) {
  if (arguments.is(index, "float32")) return work(static_cast<float *>(nullptr));
  if (arguments.is(index, "bfloat16")) return work(static_cast<Bfloat16 *>(nullptr));
  if (arguments.is(index, "float16")) return work(static_cast<Half *>(nullptr));
  if (arguments.is(index, "float64")) return work(static_cast<double *>(nullptr));
  if (arguments.is(index, "int32")) return work(static_cast<int32_t *>(nullptr));
  if (arguments.is(index, "int64")) return work(static_cast<int64_t *>(nullptr));
  if (arguments.is(index, "bool")) return work(static_cast<bool *>(nullptr));
  if (arguments.is(index, "int8")) return work(static_cast<int8_t *>(nullptr));
  if (arguments.is(index, "int16")) return work(static_cast<int16_t *>(nullptr));
  if (arguments.is(index, "uint8")) return work(static_cast<uint8_t *>(nullptr));
  if (arguments.is(index, "uint16")) return work(static_cast<uint16_t *>(nullptr));
  if (arguments.is(index, "uint32")) return work(static_cast<uint32_t *>(nullptr));
  if (arguments.is(index, "uint64")) return work(static_cast<uint64_t *>(nullptr));
  arguments.refuse(index, "expected real numbers");
}

template <class T>
using Element = std::remove_pointer_t<T>;
