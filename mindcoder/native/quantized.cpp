#include "quantized.h"

#include <algorithm>

namespace {

struct Scaled {
  float offset, scale;

  float operator()(int number) const { return (static_cast<float>(number) - offset) * scale; }
};

void convert(const int8_t *from, int64_t first, int64_t count, Scaled scaled, float *to) {
  for (int64_t at = 0; at < count; at++) to[at] = scaled(from[first + at]);
}

void convert(const uint8_t *from, int64_t first, int64_t count, Scaled scaled, float *to) {
  if (count > 0 && first % 2 != 0) *to++ = scaled((from[first++ / 2] >> 4) - 8), count--;
  const uint8_t *pairs = from + first / 2;
  for (int64_t pair = 0; pair < count / 2; pair++) {
    to[2 * pair] = scaled((pairs[pair] & 15) - 8);
    to[2 * pair + 1] = scaled((pairs[pair] >> 4) - 8);
  }
  if (count % 2 != 0) to[count - 1] = scaled((pairs[count / 2] & 15) - 8);
}

}  // namespace

void dequantize(const Matrix &weight, int64_t output, int64_t first, int64_t count, float *to) {
  const Quantization &own = weight.quantization;
  const int64_t size = weight.group_size();
  for (int64_t end = first + count; first < end;) {
    const int64_t group = first / size, stop = std::min((group + 1) * size, end), part = stop - first;
    const int64_t at = output * own.groups + group;
    const Scaled scaled{own.offset == nullptr ? 0.0f : own.offset[at], own.scale[at]};
    if (weight.numbers.format == Format::int8)
      convert(static_cast<const int8_t *>(weight.numbers.data) + output * weight.inputs, first, part, scaled, to);
    else
      convert(static_cast<const uint8_t *>(weight.numbers.data) + output * (weight.inputs / 2), first, part, scaled, to);
    first = stop, to += part;
  }
}
