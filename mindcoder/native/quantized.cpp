#include "quantized.h"

#include <algorithm>

#include "integers.h"

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

// The numbers of a vector in turn with those of another.
struct Pair {
  Lanes first, second;
};
Pair alternating(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return {__builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
          __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
#elif defined(__AVX__)
  return {__builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11), __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)};
#else
  return {__builtin_shufflevector(a, b, 0, 4, 1, 5), __builtin_shufflevector(a, b, 2, 6, 3, 7)};
#endif
}

// Codes of NF4.
void convert_codes(const uint8_t *from, int64_t first, int64_t count, float scale, float *to) {
  if (count > 0 && first % 2 != 0) *to++ = NF4[from[first++ / 2] & 15] * scale, count--;
  const uint8_t *pairs = from + first / 2;
  for (; count >= 2 * LANES; count -= 2 * LANES, pairs += LANES, to += 2 * LANES) {
    const Nibbles values = load_codes(pairs);
    const Pair pair = alternating(values.high * scale, values.low * scale);
    store(to, pair.first), store(to + LANES, pair.second);
  }
  for (int64_t at = 0; at < count; at++) to[at] = NF4[at % 2 == 0 ? pairs[at / 2] >> 4 : pairs[at / 2] & 15] * scale;
}

}  // namespace

void dequantize(const Matrix &weight, int64_t output, int64_t first, int64_t count, float *to) {
  const Quantization &own = weight.quantization;
  const int64_t size = weight.group_size();
  for (int64_t end = first + count; first < end;) {
    const int64_t group = first / size, stop = std::min((group + 1) * size, end), part = stop - first;
    const int64_t at = output * own.groups + group;
    const Scaled scaled{own.offset == nullptr ? 0.0f : own.offset[at], own.scale[at]};
    if (weight.numbers.format == Format::nf4)
      convert_codes(static_cast<const uint8_t *>(weight.numbers.data) + output * (weight.inputs / 2), first, part,
                    scaled.scale, to);
    else if (weight.numbers.format == Format::int8)
      convert(static_cast<const int8_t *>(weight.numbers.data) + output * weight.inputs, first, part, scaled, to);
    else
      convert(static_cast<const uint8_t *>(weight.numbers.data) + output * (weight.inputs / 2), first, part, scaled, to);
    first = stop, to += part;
  }
}
