// Inputs of a plugin operator as contiguous tensors.
//
// In PyNative mode, and after an operator that MindSpore counts as a view, an input may be a view into another tensor: its
// data is where that one begins, and offset and strides are in the operator's last argument.
#pragma once
#include <cstdint>
#include <vector>

class Layouts {
 public:
  // The arguments of the operator; `extra` is its last, null where a test calls it.
  Layouts(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *extra);

  // The data of all inputs and outputs: views are replaced by contiguous copies.
  void **data() { return data_.data(); }

  // After an operator changed inputs in place: copies them back into the views that they were.
  void write_back() const;

 private:
  struct View {
    int index;
    char *origin;  // of the view's first element
    int64_t unit;  // bytes of an element
    std::vector<int64_t> sizes, strides;
    std::vector<char> copy;
  };

  template <class Visit>
  static void rows(const View &view, const Visit &visit);

  std::vector<void *> data_;
  std::vector<View> views_;
};
