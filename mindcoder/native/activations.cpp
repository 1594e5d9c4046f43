// GELU in its tanh form and SiLU, with their gradients, and the rotary embedding, element by element.
#include <cmath>

#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr float SQRT_2_OVER_PI = 0.7978845608028654f, CUBIC = 0.044715f;

inline Lanes logistic(Lanes x) { return 1.0f / (1.0f + exponential(-x)); }

struct Gelu {
  Lanes operator()(Lanes x) const {
    return x * logistic(2.0f * SQRT_2_OVER_PI * (x + CUBIC * x * x * x));  // (1 + tanh(u)) / 2 = logistic(2 u)
  }
  double operator()(double x) const {
    return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
  }
};

struct GeluGradient {
  Lanes operator()(Lanes dy, Lanes x) const {
    const Lanes gate = logistic(2.0f * SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
    const Lanes slope = 2.0f * SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
    return dy * (gate + x * slope * gate * (1.0f - gate));
  }
  double operator()(double dy, double x) const {
    const double tanh = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return dy * (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * 0.7978845608028654 * (1.0 + 3 * 0.044715 * x * x));
  }
};

struct Silu {
  Lanes operator()(Lanes x) const { return x * logistic(x); }
  double operator()(double x) const { return x / (1.0 + std::exp(-x)); }
};

struct SiluGradient {
  Lanes operator()(Lanes dy, Lanes x) const {
    const Lanes gate = logistic(x);
    return dy * gate * (1.0f + x * (1.0f - gate));
  }
  double operator()(double dy, double x) const {
    const double gate = 1.0 / (1.0 + std::exp(-x));
    return dy * gate * (1.0 + x * (1.0 - gate));
  }
};

constexpr int64_t COST = 16;  // of an exponential, in additions

// `to` is `function` of the parameters at `from`, element by element.
template <class Function, class... Inputs>
void map(const Arguments &arguments, Function function, int to, Inputs... from) {
  const int64_t size = arguments.size(to);
  if (arguments.is(to, "float64")) {
    double *result = arguments.data<double>(to);
    for (int64_t at = 0; at < size; at++) result[at] = function(arguments.data<double>(from)[at]...);
    return;
  }
  with_float(arguments, to, [&](auto *type) {
    using T = Element<decltype(type)>;
    T *result = arguments.data<T>(to);
    const auto all_of = [&](auto... x) {
      parallel_for(size, 64, COST, [&](int64_t begin, int64_t end) {
        vectors(end - begin, [&](int64_t at, int64_t count) {
          store_up_to(result + begin + at, function(load_up_to(x + begin + at, count)...), count);
        });
      });
    };
    all_of(static_cast<const T *>(arguments.data<T>(from))...);
  });
}

}  // namespace

// x -> y.
void gelu_tanh(const Arguments &arguments) {
  using Index = argument::GeLU;
  map(arguments, Gelu{}, Index::y, Index::x);
}

// dy, x, y (not used) -> dx.
void gelu_tanh_gradient(const Arguments &arguments) {
  using Index = argument::GeLUGrad;
  map(arguments, GeluGradient{}, Index::dx, Index::dy, Index::x);
}

// x -> y.
void silu(const Arguments &arguments) {
  using Index = argument::SiLU;
  map(arguments, Silu{}, Index::y, Index::x);
}

// dy, x -> dx.
void silu_gradient(const Arguments &arguments) {
  using Index = argument::SiLUGrad;
  map(arguments, SiluGradient{}, Index::dx, Index::dy, Index::x);
}

// x [B, T, N, D], cos [B or 1, T, 1, D], sin, mode 0 (element i pairs with i + D / 2) -> y [B, T, N, D].
void rotary(const Arguments &arguments) {
  using Index = argument::RotaryPositionEmbedding;
  if (arguments.integer(Index::mode) != 0) arguments.refuse(Index::mode, "expected mode 0, pairs of halves");
  if (arguments.ndim(Index::x) != 4) arguments.refuse(Index::x, "expected 4 axes");
  const int64_t batch = arguments.size(Index::x, 0), tokens = arguments.size(Index::x, 1);
  const int64_t heads = arguments.size(Index::x, 2), size = arguments.size(Index::x, 3), half = size / 2;
  for (int angle : {Index::cos, Index::sin}) {
    const bool fits = arguments.ndim(angle) == 4 && (arguments.size(angle, 0) == batch || arguments.size(angle, 0) == 1) &&
                      arguments.size(angle, 1) == tokens && arguments.size(angle, 2) == 1 && arguments.size(angle, 3) == size;
    if (!fits || size % 2 != 0) arguments.refuse(angle, "expected [B or 1, T, 1, D] beside x [B, T, N, D], D even");
  }
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const T *x = arguments.data<T>(Index::x), *cos = arguments.data<T>(Index::cos), *sin = arguments.data<T>(Index::sin);
    T *y = arguments.data<T>(Index::y);
    const bool shared = arguments.size(Index::cos, 0) == 1;
    parallel_for(batch * tokens, 1, heads * size * 2, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; token++) {
        const int64_t angle = (shared ? token % tokens : token) * size;
        for (int64_t head = 0; head < heads; head++) {
          const int64_t first = (token * heads + head) * size;
          vectors(half, [&](int64_t at, int64_t count) {
            const auto read = [&](const T *from) { return load_up_to(from + at, count); };
            const Lanes low = read(x + first), high = read(x + first + half);
            const Lanes y_low = low * read(cos + angle) - high * read(sin + angle);
            const Lanes y_high = high * read(cos + angle + half) + low * read(sin + angle + half);
            store_up_to(y + first + at, y_low, count);
            store_up_to(y + first + half + at, y_high, count);
          });
        }
      }
    });
  });
}
