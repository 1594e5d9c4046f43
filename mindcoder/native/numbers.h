// Parameters in their storage format.
#pragma once
#include <cstdint>

#include "lanes.h"

// int4: two numbers a byte, each plus 8, that of the even input in the low half. nf4: two codes a byte, that of the even
// input in the high half, as bitsandbytes has them; what a code stands for is in integers.h. These are a weight's (linear.h).
enum class Format { float32, float16, int8, int4, nf4 };

// `data` is null if a layer has none (no bias).
struct Numbers {
  const void *data = nullptr;
  Format format = Format::float32;
};

// One number, converted to float.
static inline float number(const Numbers &numbers, int64_t at) {
  if (numbers.format == Format::float16) return static_cast<float>(static_cast<const Half *>(numbers.data)[at]);
  return static_cast<const float *>(numbers.data)[at];
}

// `count` of them, at most LANES; zeros after them.
static inline Lanes load_some(const Numbers &numbers, int64_t at, int64_t count) {
  if (numbers.format == Format::float16) {
    const Half *from = static_cast<const Half *>(numbers.data) + at;
    return count >= LANES ? load(from) : load_some(from, count);
  }
  const float *from = static_cast<const float *>(numbers.data) + at;
  return count >= LANES ? load(from) : load_some(from, count);
}
