// Integers of 8 bits on Intel's matrix unit (AMX). The weights are tiles as they lie in memory, 16 outputs by 64 inputs;
// activations are packed once, four inputs of each of 16 rows beside each other, as the instruction wants its other factor.
#include "int8.h"

#include "amx.h"

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__linux__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "scratch.h"
#include "thread_pool.h"

namespace {

constexpr int64_t SIDE = 16;             // rows of a tile
constexpr int64_t DEPTH = 64;            // inputs of a tile
constexpr int64_t TILE = SIDE * DEPTH;   // bytes of a tile
constexpr int64_t FEW_ROWS = 16;         // below, vectors read the weights as fast as memory gives them

struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void configure() {
  static const Shapes shapes;  // not a local variable, see gemm_amx.cpp
  _tile_loadconfig(&shapes);
}

// The sum of an output's weights.
int32_t total(const int8_t *weight, int64_t inputs) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t at = 0; at < inputs; at += DEPTH) {
    const __mmask64 exist = inputs - at >= DEPTH ? ~__mmask64{0} : (__mmask64{1} << (inputs - at)) - 1;
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(exist, weight + at));
  }
  return _mm512_reduce_add_epi32(sum);
}

struct Tiles {
  const Int8Product &product;
  int64_t groups = (product.rows + SIDE - 1) / SIDE, blocks = (product.inputs + DEPTH - 1) / DEPTH;
  Scratch packed{static_cast<size_t>(groups * blocks * TILE)};

  int8_t *activations(int64_t group, int64_t block) const { return packed.as<int8_t>() + (group * blocks + block) * TILE; }

  void pack(int64_t group) const {
    const int64_t rows = std::min(product.rows - group * SIDE, SIDE);
    for (int64_t block = 0; block < blocks; block++) {
      int8_t *to = activations(group, block);
      std::memset(to, 0, TILE);
      const int64_t count = std::min(product.inputs - block * DEPTH, DEPTH);
      for (int64_t row = 0; row < rows; row++) {
        const int8_t *from = product.x + (group * SIDE + row) * product.inputs + block * DEPTH;
        for (int64_t at = 0; at < count; at++) to[(at / 4 * SIDE + row) * 4 + at % 4] = from[at];
      }
    }
  }

  // The weights of 16 outputs from `first`: where they lie, or a copy with zeros around them.
  const int8_t *weights(int64_t first, int64_t block, int8_t *copy, int64_t *stride) const {
    const int64_t outputs = std::min(product.outputs - first, SIDE), count = std::min(product.inputs - block * DEPTH, DEPTH);
    const int8_t *from = product.weight + first * product.inputs + block * DEPTH;
    if (outputs == SIDE && count == DEPTH) {
      *stride = product.inputs;
      return from;
    }
    std::memset(copy, 0, TILE);
    for (int64_t output = 0; output < outputs; output++)
      std::memcpy(copy + output * DEPTH, from + output * product.inputs, static_cast<size_t>(count));
    *stride = DEPTH;
    return copy;
  }

  // Two tiles of outputs by two groups of rows: sums[output tile][group][SIDE outputs][SIDE rows].
  void multiply(int64_t first, int64_t group, bool two_outputs, bool two_groups, int32_t *sums) const {
    alignas(64) int8_t copies[2][TILE];
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int64_t block = 0; block < blocks; block++) {
      int64_t stride = DEPTH, other_stride = DEPTH;
      const int8_t *own = weights(first, block, copies[0], &stride);
      const int8_t *other = two_outputs ? weights(first + SIDE, block, copies[1], &other_stride) : own;
      asm volatile("" ::: "memory");  // the compiler does not know that tiles are read from the copies
      _tile_loadd(4, own, stride);
      _tile_loadd(6, activations(group, block), DEPTH);
      _tile_dpbssd(0, 4, 6);
      if (two_groups) {
        _tile_loadd(7, activations(group + 1, block), DEPTH);
        _tile_dpbssd(1, 4, 7);
      }
      if (two_outputs) {
        _tile_loadd(5, other, other_stride);
        _tile_dpbssd(2, 5, 6);
        if (two_groups) _tile_dpbssd(3, 5, 7);
      }
    }
    _tile_stored(0, sums, DEPTH);
    _tile_stored(1, sums + SIDE * SIDE, DEPTH);
    _tile_stored(2, sums + 2 * SIDE * SIDE, DEPTH);
    _tile_stored(3, sums + 3 * SIDE * SIDE, DEPTH);
    asm volatile("" ::: "memory");
  }

  void store(int64_t first, int64_t group, const int32_t *added, const int32_t *sums) const {
    const int64_t outputs = std::min(product.outputs - first, SIDE), rows = std::min(product.rows - group * SIDE, SIDE);
    for (int64_t row = 0; row < rows; row++) {
      float *to = product.y + (group * SIDE + row) * product.outputs + first;
      const float row_scale = product.row_scale[group * SIDE + row];
      for (int64_t output = 0; output < outputs; output++)
        to[output] = static_cast<float>(sums[output * SIDE + row] + added[output]) * product.scale[first + output] * row_scale;
    }
  }

  // Outputs of `begin` to `end`, a multiple of 2 * SIDE apart from the last.
  void outputs(int64_t begin, int64_t end) const {
    configure();
    for (int64_t first = begin; first < end; first += 2 * SIDE) {
      int32_t added[2 * SIDE] = {};
      for (int64_t own = 0; own < std::min(end - first, 2 * SIDE); own++) {
        if (product.offset != 0) added[own] = -product.offset * total(product.weight + (first + own) * product.inputs, product.inputs);
        if (product.added != nullptr) added[own] += product.added[first + own];
      }
      const bool two_outputs = first + SIDE < end;
      for (int64_t group = 0; group < groups; group += 2) {
        const bool two_groups = group + 1 < groups;
        alignas(64) int32_t sums[4 * SIDE * SIDE];
        multiply(first, group, two_outputs, two_groups, sums);
        for (int tile = 0; tile < 1 + two_outputs; tile++)
          for (int next = 0; next < 1 + two_groups; next++)
            store(first + tile * SIDE, group + next, added + tile * SIDE, sums + (tile * 2 + next) * SIDE * SIDE);
      }
    }
    _tile_release();
  }

  void run() const {
    run_on_all_threads([&](int member) {
      const Range own = part_of(groups, member, thread_count(), 1);
      for (int64_t group = own.begin; group < own.end; group++) pack(group);
    });
    run_on_all_threads([&](int member) {
      const Range own = part_of(product.outputs, member, thread_count(), 2 * SIDE);
      outputs(own.begin, own.end);
    });
  }
};

}  // namespace

bool multiply_int8_amx(const Int8Product &product) {
  if (!amx_available() || product.rows < FEW_ROWS) return false;
  Tiles{product}.run();
  return true;
}

#else

bool multiply_int8_amx(const Int8Product &) { return false; }

#endif
