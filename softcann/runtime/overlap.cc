#include "overlap.h"

#include <algorithm>

#include "errors.h"
#include "softcann/aclnn.h"

namespace softcann {
namespace {

// Calls work(address) for each element.
template <class Work>
void for_each_address(const Tensor& tensor, Work work) {
  const auto base = reinterpret_cast<uintptr_t>(tensor.address);
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  for_each_run(tensor.shape, tensor.strides, [&](int64_t offset, int64_t, int64_t run, int64_t step) {
    for (int64_t i = 0; i < run; ++i) work(base + static_cast<uintptr_t>((tensor.offset + offset + i * step) * size));
  });
}

}  // namespace

Extent extent_of(const Tensor& tensor) {
  int64_t low = tensor.offset, high = tensor.offset;
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  bool fits = true;
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    int64_t reach = 0;
    fits = fits && !__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[axis], &reach);
    int64_t& end = reach < 0 ? low : high;
    fits = fits && !__builtin_add_overflow(end, reach, &end);
  }
  fits = fits && !__builtin_add_overflow(high, 1, &high) && !__builtin_mul_overflow(low, size, &low) && !__builtin_mul_overflow(high, size, &high);
  const auto base = reinterpret_cast<uintptr_t>(tensor.address);
  const uintptr_t first = base + static_cast<uintptr_t>(low), last = base + static_cast<uintptr_t>(high);
  if (!fits || last < first)
    throw Refusal{kOperatorFailed, "a tensor " + tensor.describe() + " with offset " + std::to_string(tensor.offset) + " reaches beyond all memory"};
  return {first, last};
}

bool same_places(const Tensor& a, const Tensor& b) {
  const auto start = [](const Tensor& x) {
    return reinterpret_cast<uintptr_t>(x.address) + static_cast<uintptr_t>(x.offset) * size_of(x.dtype);
  };
  if (a.shape != b.shape || size_of(a.dtype) != size_of(b.dtype) || start(a) != start(b)) return false;
  for (size_t axis = 0; axis < a.shape.size(); ++axis)
    if (a.shape[axis] != 1 && a.strides[axis] != b.strides[axis]) return false;
  return true;
}

bool overlap(const Tensor& a, const Tensor& b) {
  if (a.count() == 0 || b.count() == 0) return false;
  const Extent one = extent_of(a), other = extent_of(b);
  const uintptr_t first = std::max(one.first, other.first), last = std::min(one.last, other.last);
  if (first >= last) return false;
  if (a.contiguous() && b.contiguous()) return true;
  // Slices of one tensor may lie between each other: mark the bytes of the one and look for the other's.
  std::vector<bool> marked(last - first);
  const auto bytes_within = [&](const Tensor& x, uintptr_t at, auto work) {
    for (uintptr_t byte = std::max(at, first); byte < std::min<uintptr_t>(at + size_of(x.dtype), last); ++byte) work(byte - first);
  };
  for_each_address(a, [&](uintptr_t at) { bytes_within(a, at, [&](size_t byte) { marked[byte] = true; }); });
  bool shared = false;
  for_each_address(b, [&](uintptr_t at) { bytes_within(b, at, [&](size_t byte) { shared = shared || marked[byte]; }); });
  return shared;
}

bool repeats(const Tensor& tensor) {
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis)
    if (tensor.shape[axis] > 1 && tensor.strides[axis] == 0) return true;
  return false;
}

}  // namespace softcann
