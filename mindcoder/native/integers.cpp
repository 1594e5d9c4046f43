// Few rows by a weight of integers, or of codes, whose values are looked up in registers. The integers are streamed from memory once, for all rows, and are exact as floats; a
// group's sum of x * q is multiplied by the group's scale. An offset is subtracted as offset * sum of x, at which the
// group's sums begin.
#include "integers.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "quantized.h"
#include "scratch.h"
#include "thread_pool.h"

namespace {

constexpr int OUTPUTS = 4;                // per tile
constexpr int ROWS = LANES == 16 ? 4 : 2;  // per tile: all sums stay in registers
constexpr int64_t STEP = 32;              // inputs between two prefetches; groups are multiples of it
constexpr int64_t BLOCK = 1024;           // inputs after which the sums are added to the result
constexpr int64_t FEW_ROWS = 16;          // up to here weights are streamed in order, see vectors.cpp
constexpr int64_t LINE = 16;              // floats of a cache line
constexpr int64_t APART = LINE;           // floats between rows: rows a multiple of 4 KiB apart would share cache sets
constexpr int64_t ALONE = 1 << 16;        // activations that one thread prepares

int64_t rounded(int64_t size) { return (size + STEP - 1) / STEP * STEP; }

// The numbers of an output, in vectors. `unit` gives WIDTH of them in the order in which activations are multiplied.
struct Bytes {
  static constexpr int64_t WIDTH = LANES;
  static constexpr float ZERO = 0.0f;  // what a stored zero stands for, negated
  const int8_t *numbers;

  static Bytes of(const Matrix &weight, int64_t output, int64_t input) {
    return {static_cast<const int8_t *>(weight.numbers.data) + output * weight.inputs + input};
  }
  static int64_t bytes(int64_t count) { return count; }
  const void *address(int64_t at) const { return numbers + at; }
  void unit(int64_t at, Lanes to[1]) const { to[0] = load(numbers + at); }
};

// Two in a byte: first LANES even inputs, then the odd ones between them.
struct HalfBytes {
  static constexpr int64_t WIDTH = 2 * LANES;
  static constexpr float ZERO = 8.0f;
  const uint8_t *numbers;

  static HalfBytes of(const Matrix &weight, int64_t output, int64_t input) {
    return {static_cast<const uint8_t *>(weight.numbers.data) + (output * weight.inputs + input) / 2};
  }
  static int64_t bytes(int64_t count) { return count / 2; }
  const void *address(int64_t at) const { return numbers + at / 2; }
  void unit(int64_t at, Lanes to[2]) const {
    const Nibbles nibbles = load_nibbles(numbers + at / 2);
    to[0] = nibbles.low, to[1] = nibbles.high;
  }
};

// Two codes in a byte, the even input's in the high half; in the order of HalfBytes.
struct Codes {
  static constexpr int64_t WIDTH = 2 * LANES;
  static constexpr float ZERO = 0.0f;
  const uint8_t *numbers;

  static Codes of(const Matrix &weight, int64_t output, int64_t input) {
    return {HalfBytes::of(weight, output, input).numbers};
  }
  static int64_t bytes(int64_t count) { return count / 2; }
  const void *address(int64_t at) const { return numbers + at / 2; }
  void unit(int64_t at, Lanes to[2]) const {
    const Nibbles values = load_codes(numbers + at / 2);
    to[0] = values.high, to[1] = values.low;
  }
};

// Converted already, for many rows.
struct Floats {
  static constexpr int64_t WIDTH = LANES;
  const float *numbers;

  void unit(int64_t at, Lanes to[1]) const { to[0] = load(numbers + at); }
};

// The last step of four outputs that end within it: a copy with zeros after it.
template <class Source>
struct LastStep {
  alignas(64) uint8_t copy[OUTPUTS][STEP] = {};
  Source source[OUTPUTS];

  LastStep(const Source from[OUTPUTS], int64_t at, int64_t count) {
    for (int output = 0; output < OUTPUTS; output++) {
      std::memcpy(copy[output], from[output].address(at), static_cast<size_t>(Source::bytes(count)));
      source[output] = {reinterpret_cast<decltype(Source::numbers)>(copy[output])};
    }
  }
};

// STEP inputs of R rows by four outputs, added to their sums.
template <int R, class Source>
inline void add_step(const float *x, int64_t stride, const Source source[OUTPUTS], int64_t at, Lanes sums[R][OUTPUTS]) {
  constexpr int64_t VECTORS = Source::WIDTH / LANES;
#pragma GCC unroll 8
  for (int64_t unit = 0; unit < STEP; unit += Source::WIDTH) {
    Lanes numbers[OUTPUTS][VECTORS];
#pragma GCC unroll 4
    for (int output = 0; output < OUTPUTS; output++) source[output].unit(at + unit, numbers[output]);
#pragma GCC unroll 2
    for (int64_t vector = 0; vector < VECTORS; vector++) {
#pragma GCC unroll 4
      for (int row = 0; row < R; row++) {
        const Lanes values = load(x + row * stride + unit + vector * LANES);
#pragma GCC unroll 4
        for (int output = 0; output < OUTPUTS; output++) sums[row][output] += values * numbers[output][vector];
      }
    }
  }
}

// Part of the inputs of four outputs: `size` of them in groups of `group`, whose scales and offsets are `next` apart.
struct Part {
  int64_t size, group, next;
  const float *scale[OUTPUTS], *offset[OUTPUTS];  // no offsets: null
};

// Products of R rows with four outputs. `totals` are the sums of x of each group, LANES apart, those of a row
// `totals_stride`.
template <int R, bool LOWERED, class Source>
inline void tile(const float *x, int64_t stride, const float *totals, int64_t totals_stride, const Source source[OUTPUTS],
                 const Part &part, float zero, int64_t ahead, Four result[R]) {
  Lanes scaled[R][OUTPUTS] = {};
  for (int64_t start = 0, group = 0; start < part.size; start += part.group, group++) {
    Lanes sums[R][OUTPUTS] = {};
    if (LOWERED) {
      for (int output = 0; output < OUTPUTS; output++) {
        const float lower = zero + (part.offset[output] == nullptr ? 0.0f : part.offset[output][group * part.next]);
        for (int row = 0; row < R; row++) sums[row][output] = load(totals + row * totals_stride + group * LANES) * -lower;
      }
    }
    const int64_t stop = std::min(start + part.group, part.size);
    int64_t at = start;
    for (; at + STEP <= stop; at += STEP) {
      if constexpr (!std::is_same_v<Source, Floats>)
        if (ahead > 0)
          for (int output = 0; output < OUTPUTS; output++)
            __builtin_prefetch(static_cast<const char *>(source[output].address(at)) + ahead);
      add_step<R>(x + at, stride, source, at, sums);
    }
    if constexpr (!std::is_same_v<Source, Floats>) {
      if (at < stop) {
        const LastStep<Source> last(source, at, stop - at);
        add_step<R>(x + at, stride, last.source, 0, sums);
      }
    }
    for (int output = 0; output < OUTPUTS; output++) {
      const Lanes scale = all(part.scale[output][group * part.next]);
      for (int row = 0; row < R; row++) scaled[row][output] += sums[row][output] * scale;
    }
  }
  for (int row = 0; row < R; row++) result[row] = sum_each(scaled[row][0], scaled[row][1], scaled[row][2], scaled[row][3]);
}

Lanes load_up_to(const float *from, int64_t count) {
  return count >= LANES ? load(from) : count > 0 ? load_some(from, count) : Lanes{};
}

// Two vectors of neighbors become one of the even ones and one of the odd ones.
inline void separate(Lanes values[2]) {
  float numbers[2 * LANES], apart[2 * LANES];
  std::memcpy(numbers, values, sizeof numbers);
  for (int lane = 0; lane < LANES; lane++) apart[lane] = numbers[2 * lane], apart[LANES + lane] = numbers[2 * lane + 1];
  std::memcpy(values, apart, sizeof apart);
}

template <class Source>
struct Streamed : Product {
  static constexpr int64_t VECTORS = Source::WIDTH / LANES;
  const Quantization &quantization = weight.quantization;
  bool lowered = Source::ZERO != 0.0f || quantization.offset != nullptr;
  int64_t group = quantization.groups == 1 ? BLOCK : weight.group_size();  // inputs of one sum
  int64_t block = group * std::max(BLOCK / group, int64_t{1});
  int64_t groups = (weight.inputs + group - 1) / group;
  int64_t padded = rounded(weight.inputs), stride = padded + APART;  // of the activations
  Scratch copy{static_cast<size_t>(rows * stride) * sizeof(float)};
  Scratch sums{static_cast<size_t>(lowered ? rows * groups * LANES : 0) * sizeof(float)};

  // A row in the order of `Source::unit`, with zeros after it, and the sums of its groups.
  void prepare(int64_t row) const {
    const float *from = x + row * weight.inputs;
    float *to = copy.as<float>() + row * stride;
    for (int64_t at = 0; at < padded; at += Source::WIDTH) {
      Lanes values[2];
      for (int64_t vector = 0; vector < VECTORS; vector++)
        values[vector] = load_up_to(from + at + vector * LANES, weight.inputs - at - vector * LANES);
      if (VECTORS == 2) separate(values);
      for (int64_t vector = 0; vector < VECTORS; vector++) store(to + at + vector * LANES, values[vector]);
    }
    if (!lowered) return;
    for (int64_t index = 0; index < groups; index++) {
      const float *own = to + index * group;
      const int64_t size = std::min(group, padded - index * group);
      Lanes total = {};
      for (int64_t at = 0; at < size; at += LANES) total += load(own + at);
      store(sums.as<float>() + (row * groups + index) * LANES, total);
    }
  }

  void prepare_all() const {
    if (rows * stride < ALONE) {
      for (int64_t row = 0; row < rows; row++) prepare(row);
      return;
    }
    run_on_all_threads([&](int member) {
      const Range own = part_of(rows, member, thread_count(), 1);
      for (int64_t row = own.begin; row < own.end; row++) prepare(row);
    });
  }

  template <int R, class Numbers>
  void rows_of_tile(int64_t row, int64_t first, int64_t start, const Numbers source[OUTPUTS], const Part &part,
                    int64_t ahead) const {
    Four result[R];
    const float *from = copy.as<float>() + row * stride + start;
    const float *totals = lowered ? sums.as<float>() + (row * groups + start / group) * LANES : nullptr;
    if (lowered) tile<R, true>(from, stride, totals, groups * LANES, source, part, Source::ZERO, ahead, result);
    else tile<R, false>(from, stride, totals, groups * LANES, source, part, Source::ZERO, ahead, result);
    const int64_t width = std::min(weight.outputs - first, int64_t{OUTPUTS});
    for (int64_t own = 0; own < R; own++) {
      float *to = y + (row + own) * weight.outputs + first;
      for (int64_t output = 0; output < width; output++)
        to[output] = start == 0 ? result[own][output] : to[output] + result[own][output];
    }
  }

  template <class Numbers>
  void all_rows(int64_t first, int64_t start, const Numbers source[OUTPUTS], const Part &part, int64_t ahead) const {
    for (int64_t row = 0; row < rows; row += ROWS, ahead = 0) {
      const int64_t height = std::min(rows - row, int64_t{ROWS});
      if (height == 4 && ROWS >= 4) rows_of_tile<4>(row, first, start, source, part, ahead);
      else if (height == 3 && ROWS >= 3) rows_of_tile<3>(row, first, start, source, part, ahead);
      else if (height == 2) rows_of_tile<2>(row, first, start, source, part, ahead);
      else rows_of_tile<1>(row, first, start, source, part, ahead);
    }
  }

  // Outputs from `first` of all rows over one block of inputs, added to the sums of earlier blocks in y.
  void multiply_block(int64_t first, int64_t start) const {
    const int64_t size = std::min(block, weight.inputs - start), next = quantization.groups == 1 ? 0 : 1;
    Part part{size, group, next, {}, {}};
    Source source[OUTPUTS];
    for (int64_t output = 0; output < OUTPUTS; output++) {
      const int64_t own = std::min(first + output, weight.outputs - 1);
      const int64_t at = own * quantization.groups + next * (start / group);
      source[output] = Source::of(weight, own, start);
      part.scale[output] = quantization.scale + at;
      if (quantization.offset != nullptr) part.offset[output] = quantization.offset + at;
    }
    const int64_t ahead = OUTPUTS * Source::bytes(weight.inputs);  // the hardware prefetcher stops at the end of a row
    if (rows <= ROWS) return all_rows(first, start, source, part, ahead);
    // Converted once, in the same order, so that the sums have the same bits.
    static thread_local std::vector<float> memory;
    part.size = rounded(size);
    const int64_t apart = part.size + APART;
    memory.resize(static_cast<size_t>(OUTPUTS * apart + LINE));
    float *const to = memory.data() + (LINE - reinterpret_cast<uintptr_t>(memory.data()) / sizeof(float) % LINE) % LINE;
    Floats floats[OUTPUTS];
    for (int output = 0; output < OUTPUTS; output++) floats[output] = {to + output * apart};
    convert(source, size, ahead, to, apart);
    all_rows(first, start, floats, part, 0);
  }

  static void convert(const Source source[OUTPUTS], int64_t size, int64_t ahead, float *to, int64_t stride) {
    const int64_t whole = size / STEP * STEP;
    for (int output = 0; output < OUTPUTS; output++) {
      for (int64_t at = 0; at < whole; at += STEP) {
        __builtin_prefetch(static_cast<const char *>(source[output].address(at)) + ahead);
        convert_step(source[output], at, to + output * stride + at);
      }
    }
    if (whole == size) return;
    const LastStep<Source> last(source, whole, size - whole);
    for (int output = 0; output < OUTPUTS; output++) convert_step(last.source[output], 0, to + output * stride + whole);
  }

  static void convert_step(const Source &source, int64_t at, float *to) {
    for (int64_t unit = 0; unit < STEP; unit += Source::WIDTH) {
      Lanes numbers[VECTORS];
      source.unit(at + unit, numbers);
      for (int64_t vector = 0; vector < VECTORS; vector++) store(to + unit + vector * LANES, numbers[vector]);
    }
  }

  void part_of_outputs(int member) const {
    const Range own = part_of(weight.outputs, member, thread_count(), OUTPUTS);
    if (rows <= FEW_ROWS) {
      for (int64_t first = own.begin; first < own.end; first += OUTPUTS)
        for (int64_t start = 0; start < weight.inputs; start += block) multiply_block(first, start);
    } else {
      for (int64_t start = 0; start < weight.inputs; start += block)
        for (int64_t first = own.begin; first < own.end; first += OUTPUTS) multiply_block(first, start);
    }
    add_bias_and_residual(own.begin, own.end);
  }

  void run() const {
    prepare_all();
    run_on_all_threads([&](int member) { part_of_outputs(member); });
  }
};

}  // namespace

void multiply_integers(const Product &product) {
  if (product.weight.numbers.format == Format::int8) Streamed<Bytes>{product}.run();
  else if (product.weight.numbers.format == Format::int4) Streamed<HalfBytes>{product}.run();
  else Streamed<Codes>{product}.run();
}
