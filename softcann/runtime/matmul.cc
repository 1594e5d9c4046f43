// A blocked float32 product: tiles of 6 rows and 16 columns are summed in registers over slices of the inner dimension.
#include "softcann/matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace softcann {
namespace {

constexpr int64_t kWide = 16, kHigh = 6, kDeep = 256;
typedef float Vector __attribute__((vector_size(kWide * sizeof(float)), aligned(4)));

// Adds to `rows` rows of c; b is packed: kWide columns beside each other for each step of the inner dimension.
template <int64_t rows>
void tile(const float* a, int64_t a_stride, const float* packed, float* c, int64_t c_stride, int64_t deep, int64_t wide) {
  Vector sum[rows];
#pragma GCC unroll 6
  for (int64_t row = 0; row < rows; ++row) {
    sum[row] = Vector{};
    std::memcpy(&sum[row], c + row * c_stride, static_cast<size_t>(wide) * sizeof(float));
  }
  for (int64_t step = 0; step < deep; ++step) {
    const Vector b = *reinterpret_cast<const Vector*>(packed + step * kWide);
#pragma GCC unroll 6
    for (int64_t row = 0; row < rows; ++row) sum[row] += a[row * a_stride + step] * b;
  }
#pragma GCC unroll 6
  for (int64_t row = 0; row < rows; ++row) std::memcpy(c + row * c_stride, &sum[row], static_cast<size_t>(wide) * sizeof(float));
}

using Tile = void (*)(const float*, int64_t, const float*, float*, int64_t, int64_t, int64_t);
constexpr Tile kTiles[kHigh + 1] = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

}  // namespace

void matmul(const float* a, const float* b, float* c, int64_t rows, int64_t inner, int64_t columns, bool add) {
  if (!add) std::fill(c, c + rows * columns, 0.0f);
  if (rows == 0 || inner == 0 || columns == 0) return;
  const int64_t panels = (columns + kWide - 1) / kWide;
  std::vector<float> packed(static_cast<size_t>(panels * kWide * std::min(inner, kDeep)));
  for (int64_t begin = 0; begin < inner; begin += kDeep) {
    const int64_t deep = std::min(kDeep, inner - begin);
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t first = panel * kWide, wide = std::min(kWide, columns - first);
      float* to = packed.data() + panel * deep * kWide;
      for (int64_t step = 0; step < deep; ++step, to += kWide) {
        const float* from = b + (begin + step) * columns + first;
        for (int64_t i = 0; i < kWide; ++i) to[i] = i < wide ? from[i] : 0.0f;
      }
    }
    for (int64_t row = 0; row < rows; row += kHigh) {
      const int64_t high = std::min(kHigh, rows - row);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t first = panel * kWide;
        kTiles[high](a + row * inner + begin, inner, packed.data() + panel * deep * kWide, c + row * columns + first, columns,
                     deep, std::min(kWide, columns - first));
      }
    }
  }
}

}  // namespace softcann
