#include "amx.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__linux__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "lanes.h"
#include "transpose.h"
#include "thread_pool.h"

namespace {

constexpr int64_t SIDE = 16;           // rows of a tile: outputs of the weight, or pairs of inputs of the activations
constexpr int64_t DEPTH = 32;          // inputs per tile
constexpr int64_t TILE = SIDE * DEPTH; // bfloat16 elements per weight tile
constexpr int64_t BAND = 4 * SIDE;     // outputs that are split at once
constexpr int64_t BLOCK = 1024;        // inputs that are accumulated in tiles before they are added to the result
constexpr int64_t PIECE = 128;         // inputs of a band that are split at once if there are few rows
constexpr int PARTS = 3;               // bfloat16 parts of a float32

typedef uint16_t Bfloat16Bits;  // the bits of a bfloat16

struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 hold sums [outputs, tokens]; 4 and 5 weights; 6 and 7 (5 to 7 with four bands) activations.
void configure(int64_t width, int first_of_activations) {
  Shapes shapes;
  for (int tile = 0; tile < 8; tile++) {
    const bool weights = tile >= 4 && tile < first_of_activations;
    shapes.rows[tile] = SIDE;
    shapes.bytes_of_row[tile] = static_cast<uint16_t>(weights ? 64 : width * 4);
  }
  _tile_loadconfig(&shapes);
}

// The upper halves of 32 numbers: bfloat16 by truncation.
inline __m512i high_halves(__m512i low, __m512i high) {
  alignas(64) static constexpr uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                   33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(low, _mm512_load_si512(odd), high);
}

inline __m512i remainder_of(__m512i number) {
  const __m512 whole = _mm512_castsi512_ps(number);
  const __m512 cut = _mm512_castsi512_ps(_mm512_and_si512(number, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
  return _mm512_castps_si512(_mm512_sub_ps(whole, cut));
}

// Splits 32 numbers (of which `count` exist) into PARTS rows of bfloat16, `stride` apart, that add up to them.
template <class Number>
inline void split(const Number *from, int64_t count, Bfloat16Bits *to, int64_t stride) {
  __m512i low, high;
  if (count >= DEPTH) {
    low = _mm512_castps_si512((__m512)load(from)), high = _mm512_castps_si512((__m512)load(from + LANES));
  } else {
    low = _mm512_castps_si512((__m512)load_some(from, count < LANES ? count : LANES));
    high = _mm512_castps_si512((__m512)load_some(from + LANES, count > LANES ? count - LANES : 0));
  }
  for (int part = 0; part < PARTS; part++) {
    _mm512_store_si512(to + part * stride, high_halves(low, high));
    low = remainder_of(low), high = remainder_of(high);
  }
}

// The activations as tiles: [group of tokens][block of inputs][part][pair of inputs][token of the group][2].
struct Activations {
  const float *x;
  int64_t rows, inputs;
  int64_t width = rows < SIDE ? rows : SIDE;  // tokens per group
  int64_t groups = (rows + SIDE - 1) / SIDE, blocks = (inputs + DEPTH - 1) / DEPTH;
  int64_t part = SIDE * width * 2;
  // Aligned: a tile row that crosses a cache line is read twice.
  std::unique_ptr<Bfloat16Bits, decltype(&std::free)> parts{
      static_cast<Bfloat16Bits *>(std::aligned_alloc(64, (groups * blocks * PARTS * part * sizeof(Bfloat16Bits) + 63) / 64 * 64)),
      &std::free};

  Bfloat16Bits *tiles(int64_t group, int64_t block) const { return parts.get() + (group * blocks + block) * PARTS * part; }

  void pack(int64_t group, int64_t block) {
    __m512i pairs[PARTS][SIDE] = {};  // per token
    const int64_t first = group * SIDE, tokens = rows - first < SIDE ? rows - first : SIDE;
    for (int64_t token = 0; token < tokens; token++) {
      const float *from = x + (first + token) * inputs + block * DEPTH;
      split(from, inputs - block * DEPTH, reinterpret_cast<Bfloat16Bits *>(&pairs[0][token]), SIDE * DEPTH);
    }
    const __mmask16 exist = static_cast<__mmask16>((1u << width) - 1);
    for (int own = 0; own < PARTS; own++) {
      transpose(pairs[own]);
      uint32_t *to = reinterpret_cast<uint32_t *>(tiles(group, block) + own * part);
      for (int64_t pair = 0; pair < SIDE; pair++) _mm512_mask_storeu_epi32(to + pair * width, exist, pairs[own][pair]);
    }
  }
};

template <class Number>
struct Bands : Product {
  const Activations &activations;

  // Splits `size` inputs of BAND outputs from `first`: [tile][block][part][output][DEPTH]. `fetch` prefetches the next
  // piece,
  // which pays for short pieces of many rows: the hardware prefetcher handles only long ones.
  void split_weight(int64_t first, int64_t start, int64_t size, bool fetch, Bfloat16Bits *to) const {
    const int64_t blocks = (size + DEPTH - 1) / DEPTH, inputs = weight.inputs;
    const Number *numbers = static_cast<const Number *>(weight.numbers.data);
    for (int64_t own = 0; own < BAND; own++) {
      const int64_t output = first + own < weight.outputs ? first + own : weight.outputs - 1;
      const Number *from = numbers + output * inputs + start;
      if (fetch) {
        const Number *next = start + size < inputs ? from + size : from + size + (BAND - 1) * inputs;
        for (int64_t at = 0; at < size; at += 64 / static_cast<int64_t>(sizeof(Number))) __builtin_prefetch(next + at);
      }
      Bfloat16Bits *row = to + own / SIDE * blocks * PARTS * TILE + own % SIDE * DEPTH;
      for (int64_t block = 0; block < blocks; block++)
        split(from + block * DEPTH, size - block * DEPTH, row + block * PARTS * TILE, TILE);
    }
  }

  // Adds sums [SIDE outputs, tokens of the group] to the result, or stores them as the result.
  void add(const float *sums, int64_t group, int64_t first, int64_t end, bool add_to) const {
    const int64_t tokens = activations.rows - group * SIDE < SIDE ? activations.rows - group * SIDE : SIDE;
    const int64_t count = end - first < SIDE ? end - first : SIDE;
    for (int64_t token = 0; token < tokens; token++) {
      float *to = y + (group * SIDE + token) * weight.outputs + first;
      for (int64_t own = 0; own < count; own++) {
        const float value = sums[own * activations.width + token];
        to[own] = add_to ? to[own] + value : value;
      }
    }
  }

  // Four tiles of outputs by one group of tokens, added to tiles 0 to 3.
  void four_by_one(const Bfloat16Bits *split, int64_t blocks, int64_t first_block) const {
    const int64_t stride = activations.width * 4;
    const int64_t part = activations.part, next = blocks * PARTS * TILE;
    for (int64_t block = 0; block < blocks; block++) {
      const Bfloat16Bits *x = activations.tiles(0, first_block + block), *w = split + block * PARTS * TILE;
      _tile_loadd(5, x, stride);
      _tile_loadd(6, x + part, stride);
      _tile_loadd(7, x + 2 * part, stride);
#define BY_THREE(sum, at)        \
  _tile_loadd(4, (at), 64);      \
  _tile_dpbf16ps(sum, 4, 7);     \
  _tile_dpbf16ps(sum, 4, 5);     \
  _tile_dpbf16ps(sum, 4, 6)
#define BY_TWO(sum, at)          \
  _tile_loadd(4, (at), 64);      \
  _tile_dpbf16ps(sum, 4, 6);     \
  _tile_dpbf16ps(sum, 4, 5)
#define BY_ONE(sum, at)          \
  _tile_loadd(4, (at), 64);      \
  _tile_dpbf16ps(sum, 4, 5)
      BY_THREE(0, w); BY_THREE(1, w + next); BY_THREE(2, w + 2 * next); BY_THREE(3, w + 3 * next);
      w += TILE;
      BY_TWO(0, w); BY_TWO(1, w + next); BY_TWO(2, w + 2 * next); BY_TWO(3, w + 3 * next);
      if (sizeof(Number) == 2) continue;
      w += TILE;
      BY_ONE(0, w); BY_ONE(1, w + next); BY_ONE(2, w + 2 * next); BY_ONE(3, w + 3 * next);
    }
  }

  // Two tiles of outputs by two groups of tokens.
  void two_by_two(const Bfloat16Bits *split, int64_t blocks, int64_t first_block, int64_t group, int64_t other) const {
    const int64_t part = activations.part, next = blocks * PARTS * TILE;
#define TWO_BY_TWO           \
  _tile_dpbf16ps(0, 4, 6);   \
  _tile_dpbf16ps(1, 4, 7);   \
  _tile_dpbf16ps(2, 5, 6);   \
  _tile_dpbf16ps(3, 5, 7)
#define WEIGHTS(part_of_it)                       \
  _tile_loadd(4, w + (part_of_it) * TILE, 64);    \
  _tile_loadd(5, w + (part_of_it) * TILE + next, 64)
#define TOKENS(part_of_it)                        \
  _tile_loadd(6, x + (part_of_it) * part, 64);    \
  _tile_loadd(7, z + (part_of_it) * part, 64)
    for (int64_t block = 0; block < blocks; block++) {
      const Bfloat16Bits *x = activations.tiles(group, first_block + block), *z = activations.tiles(other, first_block + block);
      const Bfloat16Bits *w = split + block * PARTS * TILE;
      WEIGHTS(0); TOKENS(2); TWO_BY_TWO; TOKENS(0); TWO_BY_TWO; TOKENS(1); TWO_BY_TWO;
      WEIGHTS(1); TWO_BY_TWO; TOKENS(0); TWO_BY_TWO;
      if (sizeof(Number) == 2) continue;
      WEIGHTS(2); TWO_BY_TWO;
    }
  }

  // Small batch, one group of tokens: the weights are read once, in order, and split on the fly.
  void multiply_small_batch(int64_t begin, int64_t end, Bfloat16Bits *scratch, float *sums) const {
    configure(activations.width, 5);
    const int64_t inputs = weight.inputs, stride = activations.width * 4;
    for (int64_t first = begin; first < end; first += BAND) {
      for (int64_t start = 0; start < inputs; start += BLOCK) {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        const int64_t stop = start + BLOCK < inputs ? start + BLOCK : inputs;
        for (int64_t at = start; at < stop; at += PIECE) {
          const int64_t size = stop - at < PIECE ? stop - at : PIECE;
          split_weight(first, at, size, true, scratch);
          four_by_one(scratch, (size + DEPTH - 1) / DEPTH, at / DEPTH);
        }
        const int64_t own = SIDE * activations.width;
        _tile_stored(0, sums, stride);
        _tile_stored(1, sums + own, stride);
        _tile_stored(2, sums + 2 * own, stride);
        _tile_stored(3, sums + 3 * own, stride);
        for (int tile = 0; tile < 4; tile++)
          if (first + tile * SIDE < end) add(sums + tile * own, 0, first + tile * SIDE, end, start > 0);
      }
    }
  }

  // Large batch: a band's weights are split once and multiply all groups of tokens, in pairs.
  void multiply_large_batch(int64_t begin, int64_t end, Bfloat16Bits *scratch, float *sums) const {
    configure(SIDE, 6);
    for (int64_t start = 0; start < weight.inputs; start += BLOCK) {
      const int64_t size = weight.inputs - start < BLOCK ? weight.inputs - start : BLOCK;
      const int64_t blocks = (size + DEPTH - 1) / DEPTH;
      for (int64_t first = begin; first < end; first += BAND) {
        split_weight(first, start, size, false, scratch);
        for (int64_t group = 0; group < activations.groups; group += 2) {
          const bool two = group + 1 < activations.groups;
          for (int64_t half = 0; half < 2 && first + half * 2 * SIDE < end; half++) {
            _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
            two_by_two(scratch + half * 2 * blocks * PARTS * TILE, blocks, start / DEPTH, group, group + two);
            _tile_stored(0, sums, 64);
            _tile_stored(1, sums + 256, 64);
            _tile_stored(2, sums + 512, 64);
            _tile_stored(3, sums + 768, 64);
            const int64_t here = first + half * 2 * SIDE;
            for (int tile = 0; tile < 2 && here + tile * SIDE < end; tile++) {
              add(sums + tile * 512, group, here + tile * SIDE, end, start > 0);
              if (two) add(sums + tile * 512 + 256, group + 1, here + tile * SIDE, end, start > 0);
            }
          }
        }
      }
    }
  }
};

bool permitted() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  const char *asked = std::getenv("MINDCODER_TILES");
  if (asked != nullptr && asked[0] == '0') return false;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

template <class Number>
void multiply(const Product &product) {
  Activations activations{product.x, product.rows, product.weight.inputs};
  const int64_t tiles = activations.groups * activations.blocks;
  const auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; tile++) activations.pack(tile / activations.blocks, tile % activations.blocks);
  };
  if (product.rows <= SIDE) {
    pack(0, tiles);
  } else {
    run_on_all_threads([&](int member) {
      const Range own = part_of(tiles, member, thread_count(), 1);
      pack(own.begin, own.end);
    });
  }
  const Bands<Number> bands{product, activations};
  run_on_all_threads([&](int member) {
    alignas(64) static thread_local Bfloat16Bits scratch[BAND * BLOCK * PARTS];
    alignas(64) static thread_local float sums[4 * SIDE * SIDE];
    const Range own = part_of(product.weight.outputs, member, thread_count(), SIDE);
    if (product.rows <= SIDE) bands.multiply_small_batch(own.begin, own.end, scratch, sums);
    else bands.multiply_large_batch(own.begin, own.end, scratch, sums);
    _tile_release();
    product.add_bias_and_residual(own.begin, own.end);
  });
}

}  // namespace

bool amx_available() {
  static const bool available = permitted();
  return available;
}

void multiply_amx(const Product &product) {
  if (product.weight.numbers.format == Format::float16) multiply<Half>(product);
  else multiply<float>(product);
}

#else

bool amx_available() { return false; }

void multiply_amx(const Product &) {}

#endif
