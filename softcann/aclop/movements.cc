#include "movements.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "memory.h"

namespace softcann {
namespace {

size_t bytes_of(const TensorDescription& tensor) { return static_cast<size_t>(count(tensor.shape)) * size_of(tensor.dtype); }

// The address of a tensor, checked where it is in device memory.
char* address_of(const TensorDescription& tensor, const DataBuffer& buffer) {
  const size_t bytes = bytes_of(tensor);
  if (tensor.on_host && buffer.address && bytes <= buffer.size) return static_cast<char*>(buffer.address);
  const std::string wrong = bytes > buffer.size ? "a buffer of " + std::to_string(buffer.size) + " bytes" : wrong_with(buffer.address, bytes);
  if (bytes > 0 && !wrong.empty()) throw std::runtime_error("found a tensor " + tensor.text() + " at " + wrong);
  return static_cast<char*>(buffer.address);
}

void copy_input(const OldCall& call, size_t input, size_t output) {
  const size_t bytes = bytes_of(*call.inputs.at(input));
  if (bytes != bytes_of(*call.outputs.at(output)))
    throw std::runtime_error("found input " + call.inputs[input]->text() + " and output " + call.outputs[output]->text() + ", expected one size");
  const char* from = address_of(*call.inputs[input], *call.input_buffers[input]);
  std::memmove(address_of(*call.outputs[output], *call.output_buffers[output]), from, bytes);
}

void move_first(const OldCall& call) { copy_input(call, 0, 0); }

// Writes the second input over the first, and gives it as the output where there is one.
void assign(const OldCall& call) {
  const size_t bytes = bytes_of(*call.inputs.at(1));
  if (bytes != bytes_of(*call.inputs[0]))
    throw std::runtime_error("found " + call.inputs[0]->text() + " and the value " + call.inputs[1]->text() + ", expected one size");
  const char* from = address_of(*call.inputs[1], *call.input_buffers[1]);
  std::memmove(address_of(*call.inputs[0], *call.input_buffers[0]), from, bytes);
  if (!call.outputs.empty()) copy_input(call, 1, 0);
}

// begin, end or strides: a constant on the host, or a tensor in device memory.
Shape integers_of(const OldCall& call, size_t input) {
  const TensorDescription& tensor = *call.inputs.at(input);
  const size_t size = static_cast<size_t>(count(tensor.shape));
  const char* data = tensor.constant.empty() ? address_of(tensor, *call.input_buffers[input]) : tensor.constant.data();
  if (!tensor.constant.empty() && tensor.constant.size() < bytes_of(tensor)) throw std::runtime_error("found a constant that is too short");
  Shape values(size);
  for (size_t i = 0; i < size; ++i) {
    int32_t narrow = 0;
    if (tensor.dtype == Dtype::int64) std::memcpy(&values[i], data + i * 8, 8);
    else if (tensor.dtype == Dtype::int32) std::memcpy(&narrow, data + i * 4, 4), values[i] = narrow;
    else throw std::runtime_error("found begin, end or strides " + tensor.text() + ", expected int32 or int64");
  }
  return values;
}

int64_t mask_of(const OldCall& call, const char* name) {
  const auto found = call.attributes->integers.find(name);
  return found == call.attributes->integers.end() ? 0 : found->second;
}

// Python's x[begin:end:stride, …]; the masks have a bit for each entry, as TensorFlow's operator of this name.
void strided_slice(const OldCall& call) {
  const TensorDescription &in = *call.inputs.at(0), &out = *call.outputs.at(0);
  const Shape begin = integers_of(call, 1), end = integers_of(call, 2), stride = integers_of(call, 3);
  const int64_t begins = mask_of(call, "begin_mask"), ends = mask_of(call, "end_mask"), shrinks = mask_of(call, "shrink_axis_mask");
  if (mask_of(call, "ellipsis_mask") || mask_of(call, "new_axis_mask"))
    throw std::runtime_error("StridedSlice with an ellipsis or a new axis is not in softcann/aclop/movements.cc");
  const Shape steps = contiguous_strides(in.shape);
  Shape sizes, strides;
  int64_t offset = 0;
  for (size_t axis = 0; axis < in.shape.size(); ++axis) {
    const int64_t size = in.shape[axis];
    if (axis >= begin.size()) {
      sizes.push_back(size);
      strides.push_back(steps[axis]);
      continue;
    }
    const int64_t step = stride.at(axis), low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
    const auto place = [&](int64_t at) { return std::min(std::max(at < 0 ? at + size : at, low), high); };
    const bool shrink = shrinks >> axis & 1;
    const int64_t first = begins >> axis & 1 && !shrink ? (step > 0 ? 0 : size - 1) : place(begin[axis]);
    const int64_t last = ends >> axis & 1 ? (step > 0 ? size : -1) : place(end.at(axis));
    offset += first * steps[axis];
    if (shrink) continue;
    sizes.push_back(std::max<int64_t>((last - first + (step > 0 ? step - 1 : step + 1)) / step, 0));
    strides.push_back(step * steps[axis]);
  }
  if (count(sizes) != count(out.shape)) throw std::runtime_error("found output " + out.text() + ", expected " + text(sizes));
  const size_t width = size_of(in.dtype);
  const char* from = address_of(in, *call.input_buffers[0]);
  char* to = address_of(out, *call.output_buffers[0]);
  Shape index(sizes.size(), 0);
  for (int64_t i = 0, total = count(sizes); i < total; ++i) {
    std::memcpy(to + static_cast<size_t>(i) * width, from + offset * static_cast<int64_t>(width), width);
    for (size_t axis = sizes.size(); axis-- > 0;) {
      offset += strides[axis];
      if (++index[axis] < sizes[axis]) break;
      offset -= strides[axis] * sizes[axis];
      index[axis] = 0;
    }
  }
}

const Movement kMovements[] = {
    {"Assign", "MindSpore writes parameters with it (ops.assign has no aclnn kernel in 2.9.0)", assign},
    {"TensorMove", "the compiler inserts it before an operator that writes in place, and for outputs that are parameters", move_first},
    {"Identity", "the compiler inserts it where a value gets a second name", move_first},
    {"StridedSlice", "x[a:b] in a graph; the compiler makes it of indexing (no aclnn kernel in 2.9.0)", strided_slice},
};

}  // namespace

const Movement* movement(const std::string& name) {
  for (const Movement& one : kMovements)
    if (name == one.name) return &one;
  return nullptr;
}

}  // namespace softcann
