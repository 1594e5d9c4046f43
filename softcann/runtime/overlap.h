// Whether views of device memory share bytes.
#pragma once

#include <cstdint>

#include "softcann/objects.h"

namespace softcann {

// First and last byte (exclusive) that a view with elements touches, as addresses. Throws Refusal where they do not fit in 64 bits.
struct Extent {
  uintptr_t first, last;
};
Extent extent_of(const Tensor& tensor);

bool same_places(const Tensor& a, const Tensor& b);  // element for element the same bytes
bool overlap(const Tensor& a, const Tensor& b);      // share a byte
bool repeats(const Tensor& tensor);                  // an axis of more than one element has stride 0

}  // namespace softcann
