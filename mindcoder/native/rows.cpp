#include "rows.h"

#include <cmath>
#include <cstring>

#include "lanes.h"

namespace {

template <class Visit>
inline float sum_over(int64_t size, Visit visit) {
  Lanes total = {};
  int64_t at = 0;
  for (; at + LANES <= size; at += LANES) total += visit(at, LANES);
  if (at < size) total += visit(at, size - at);
  return sum(total);
}

inline Lanes some(const float *from, int64_t count) { return count >= LANES ? load(from) : load_some(from, count); }

// Applies change(values, at) to x vector by vector, in place.
template <class Change>
inline void map(float *x, int64_t size, Change change) {
  int64_t at = 0;
  for (; at + LANES <= size; at += LANES) store(x + at, change(load(x + at), at, LANES));
  if (at < size) store_some(x + at, change(load_some(x + at, size - at), at, size - at), size - at);
}

}  // namespace

void normalize(const float *x, int64_t size, const Numbers &weight, const Numbers &bias, float epsilon, float offset,
               float *normed) {
  const bool centers = bias.data != nullptr;
  const float mean = centers ? sum_over(size, [&](int64_t at, int64_t count) { return some(x + at, count); }) / size : 0.0f;
  const float squares = sum_over(size, [&](int64_t at, int64_t count) {
    Lanes values = some(x + at, count) - mean;
    for (int64_t lane = count; lane < LANES; lane++) values[lane] = 0.0f;
    return values * values;
  });
  const float scale = 1.0f / std::sqrt(squares / size + epsilon);
  std::memcpy(normed, x, size * sizeof(float));
  map(normed, size, [&](Lanes value, int64_t at, int64_t count) {
    const Lanes scaled = (value - mean) * scale * (load_some(weight, at, count) + offset);
    return centers ? scaled + load_some(bias, at, count) : scaled;
  });
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
    return value / (1.0f + exponential(-value)) * some(up + at, count);
  });
}

void scale(float *x, float factor, const float *base, int64_t size) {
  map(x, size, [factor, base](Lanes value, int64_t at, int64_t count) {
    return base == nullptr ? value * factor : value * factor + some(base + at, count);
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
