#include "layouts.h"

#include <cstring>
#include <optional>
#include <string>

// Not in an anonymous namespace: a compiler that sees all classes derived from one there calls none.
namespace mindspore_interface {

struct Layout {
  std::vector<int64_t> strides;  // in elements
  size_t offset;
};

// MindSpore's KernelInputInfo (2.9, op_plugin/custom_kernel_input_info.h): the place of each function is what matters.
class InputInfo {
 public:
  virtual ~InputInfo() = default;
  virtual bool is_scalar(size_t) = 0;
  virtual size_t count() = 0;
  virtual void boolean() = 0;
  virtual void integer() = 0;
  virtual void number() = 0;
  virtual void text() = 0;
  virtual void integers() = 0;
  virtual void numbers() = 0;
  virtual void lists_of_integers() = 0;
  virtual void lists_of_numbers() = 0;
  virtual int type(size_t) = 0;
  virtual std::optional<Layout> layout(size_t index) = 0;
};

}  // namespace mindspore_interface

namespace {

using mindspore_interface::InputInfo;
using mindspore_interface::Layout;

int64_t bytes(const std::string &dtype) {
  if (dtype == "complex128") return 16;
  if (dtype == "float64" || dtype == "int64" || dtype == "uint64" || dtype == "complex64") return 8;
  if (dtype == "float32" || dtype == "int32" || dtype == "uint32") return 4;
  return dtype == "bool" || dtype == "int8" || dtype == "uint8" ? 1 : 2;
}

bool is_contiguous(const Layout &layout, int ndim, const int64_t *shape) {
  int64_t step = 1;
  for (int axis = ndim - 1; axis >= 0; axis--) {
    if (shape[axis] != 1 && layout.strides[axis] != step) return false;
    step *= shape[axis];
  }
  return layout.offset == 0;
}

}  // namespace

Layouts::Layouts(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *extra)
    : data_(data, data + count) {
  if (extra == nullptr) return;
  InputInfo &info = *static_cast<InputInfo *>(extra);
  const int inputs = static_cast<int>(info.count());
  for (int index = 0; index < inputs && index < count; index++) {
    if (data[index] == nullptr || ndims[index] == 0) continue;
    const std::optional<Layout> layout = info.layout(index);
    if (!layout || static_cast<int>(layout->strides.size()) != ndims[index]) continue;
    if (is_contiguous(*layout, ndims[index], shapes[index])) continue;
    View view{index, nullptr, bytes(dtypes[index]), {shapes[index], shapes[index] + ndims[index]}, layout->strides, {}};
    view.origin = static_cast<char *>(data[index]) + static_cast<int64_t>(layout->offset) * view.unit;
    int64_t size = view.unit;
    for (const int64_t axis : view.sizes) size *= axis;
    view.copy.resize(size);
    char *to = view.copy.data();
    rows(view, [&](char *from, int64_t at) { std::memcpy(to + at, from, view.unit); });
    views_.push_back(std::move(view));
  }
  for (View &view : views_) data_[view.index] = view.copy.data();
}

// visit(place in the view, place in the copy) for every element.
template <class Visit>
void Layouts::rows(const View &view, const Visit &visit) {
  const int64_t size = static_cast<int64_t>(view.copy.size()) / view.unit;
  for (int64_t at = 0; at < size; at++) {
    int64_t rest = at, place = 0;
    for (int axis = static_cast<int>(view.sizes.size()) - 1; axis >= 0; axis--) {
      place += rest % view.sizes[axis] * view.strides[axis];
      rest /= view.sizes[axis];
    }
    visit(view.origin + place * view.unit, at * view.unit);
  }
}

void Layouts::write_back() const {
  for (const View &view : views_)
    rows(view, [&](char *to, int64_t at) { std::memcpy(to, view.copy.data() + at, view.unit); });
}
