#include "rows.h"

#include <cmath>

#include "lanes.h"

namespace {

template <class Visit>
inline float sum_over(int64_t size, Visit visit) {
  Lanes total = {};
  for (int64_t at = 0; at < size; at += LANES) total += visit(at, size - at < LANES ? size - at : LANES);
  return sum(total);
}

// Calls change(values, at) on all pieces of x and stores what it gives.
template <class Change>
inline void map(float *x, int64_t size, Change change) {
  int64_t at = 0;
  for (; at + LANES <= size; at += LANES) store(x + at, change(load(x + at), at, LANES));
  if (at < size) store_some(x + at, change(load_some(x + at, size - at), at, size - at), size - at);
}

}  // namespace

float number(const Numbers &numbers, int64_t at) {
  if (numbers.format == Format::float16) return static_cast<float>(static_cast<const Half *>(numbers.data)[at]);
  return static_cast<const float *>(numbers.data)[at];
}

void normalize(const float *x, int64_t size, const Numbers &weight, const Numbers &bias, float epsilon, float *normed) {
  const bool centers = bias.data != nullptr;
  const float mean = centers ? sum_over(size, [&](int64_t at, int64_t count) { return load_some(x + at, count); }) / size
                             : 0.0f;
  const float squares = sum_over(size, [&](int64_t at, int64_t count) {
    Lanes values = {};
    for (int64_t lane = 0; lane < count; lane++) values[lane] = x[at + lane] - mean;
    return values * values;
  });
  const float scale = 1.0f / std::sqrt(squares / size + epsilon);
  for (int64_t at = 0; at < size; at++) {
    const float value = (x[at] - mean) * scale * number(weight, at);
    normed[at] = centers ? value + number(bias, at) : value;
  }
}

void gelu(float *x, int64_t size) {
  map(x, size, [](Lanes value, int64_t, int64_t) {
    const Lanes inner = 0.7978845608028654f * (value + 0.044715f * value * value * value);
    const Lanes tanh = 1.0f - 2.0f / (exponential(inner + inner) + 1.0f);
    return 0.5f * value * (1.0f + tanh);
  });
}

void gated_silu(float *gate, const float *up, int64_t size) {
  map(gate, size, [up](Lanes value, int64_t at, int64_t count) {
    return value / (1.0f + exponential(-value)) * load_some(up + at, count);
  });
}

void rotate(float *x, int64_t heads, int64_t head_dim, const float *angles) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; head++, x += head_dim) {
    for (int64_t pair = 0; pair < half; pair++) {
      const float cosine = angles[pair], sine = angles[half + pair], first = x[pair], second = x[half + pair];
      x[pair] = first * cosine - second * sine;
      x[half + pair] = second * cosine + first * sine;
    }
  }
}
