// Prompts without a matrix unit: weights are multiplied where they lie.
//
// A weight is used once for each token, and a prompt has few beside a training batch: packing the weights, as gemm.h
// does, would take a fifth of the time. So the tokens are packed, [inputs][COLUMNS] for each panel of COLUMNS tokens,
// and each weight is spread over a vector of tokens. A tile of the result, OUTPUTS x COLUMNS, stays in registers.
#include "prefill.h"

#include <algorithm>
#include <atomic>

#include "quantized.h"
#include "scratch.h"
#include "thread_pool.h"
#include "transpose.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int64_t OUTPUTS = 12;  // of 32 registers 24 sums, 2 for tokens
#else
constexpr int64_t OUTPUTS = 6;  // of 16 registers 12 sums, 2 for tokens, 1 for a weight
#endif
constexpr int64_t VECTORS = 2, COLUMNS = VECTORS * LANES;
constexpr int64_t DEPTH = 512;   // inputs that are summed in registers; fixed, so that sums do not depend on the tokens
constexpr int64_t TOKENS = 192;  // in a pass: their panels (384 KiB) lie in a core's L2 cache
constexpr int64_t TASK = 16;     // tiles of outputs that a thread takes at once
constexpr int64_t LINE = 64;     // bytes of a cache line

// Panels of `depth` inputs of the tokens; those that a last panel lacks are zeros.
void pack_panel(const float *x, int64_t stride, int64_t tokens, int64_t depth, float *panel) {
  for (int64_t at = 0; at < depth; at += LANES) {
    const int64_t count = std::min(depth - at, int64_t{LANES});
    for (int64_t group = 0; group < COLUMNS; group += LANES) {
      Lanes lines[LANES] = {};
      for (int64_t own = 0; own < LANES && group + own < tokens; own++) {
        const float *from = x + (group + own) * stride + at;
        lines[own] = count == LANES ? load(from) : load_some(from, count);
      }
      transpose(lines);
      for (int64_t line = 0; line < count; line++) store(panel + (at + line) * COLUMNS + group, lines[line]);
    }
  }
}

// sums[OUTPUTS][COLUMNS] of weights whose rows are `stride` apart, for a panel's first tokens. A pointer to every third
// row: one to each would not fit into the registers.
template <int64_t WIDTH>
void tile(const float *weights, int64_t stride, const float *panel, int64_t depth, float *sums) {
  Lanes own[OUTPUTS][WIDTH] = {};
  const float *thirds[OUTPUTS / 3];
#pragma GCC unroll 4
  for (int64_t third = 0; third < OUTPUTS / 3; third++) thirds[third] = weights + third * 3 * stride;
  for (int64_t at = 0; at < depth; at++, panel += COLUMNS) {
    Lanes tokens[WIDTH];
#pragma GCC unroll 2
    for (int64_t vector = 0; vector < WIDTH; vector++) tokens[vector] = in_register(load(panel + vector * LANES));
#pragma GCC unroll 12
    for (int64_t output = 0; output < OUTPUTS; output++) {
      const Lanes weight = spread(thirds[output / 3][output % 3 * stride]);
#pragma GCC unroll 2
      for (int64_t vector = 0; vector < WIDTH; vector++) own[output][vector] += weight * tokens[vector];
    }
#pragma GCC unroll 4
    for (int64_t third = 0; third < OUTPUTS / 3; third++) thirds[third]++;
  }
#pragma GCC unroll 12
  for (int64_t output = 0; output < OUTPUTS; output++)
#pragma GCC unroll 2
    for (int64_t vector = 0; vector < WIDTH; vector++)
      store(sums + output * COLUMNS + vector * LANES, own[output][vector]);
}

// Bytes between two rows of a weight, and those of so many of its numbers.
int64_t bytes_of(const Matrix &weight, int64_t numbers) {
  switch (weight.numbers.format) {
    case Format::float32: return numbers * 4;
    case Format::float16: return numbers * 2;
    case Format::int8: return numbers;
    case Format::int4:
    case Format::nf4: return numbers / 2;
  }
  return 0;
}

// `count` numbers of an output from the input `first`, as floats.
void widen(const Matrix &weight, int64_t output, int64_t first, int64_t count, float *to) {
  if (weight.is_quantized()) return dequantize(weight, output, first, count, to);
  for (int64_t at = 0; at < count; at += LANES)
    store(to + at, load_some(weight.numbers, output * weight.inputs + first + at, count - at));
}

struct Prompts : Product {
  // A tile of outputs from `first`, for all panels of `tokens` tokens from `token`, over inputs from `start`.
  void outputs(int64_t first, int64_t token, int64_t tokens, int64_t start, int64_t depth, const float *panels) const {
    alignas(64) float floats[OUTPUTS * DEPTH];
    const int64_t width = std::min(OUTPUTS, weight.outputs - first);
    const bool as_they_lie = weight.numbers.format == Format::float32 && width == OUTPUTS;
    if (!as_they_lie) {
      for (int64_t output = 0; output < width; output++)
        widen(weight, first + output, start, depth, floats + output * DEPTH);
      std::fill(floats + width * DEPTH, floats + OUTPUTS * DEPTH, 0.0f);
    }
    const float *const own = static_cast<const float *>(weight.numbers.data) + first * weight.inputs + start;
    const float *const weights = as_they_lie ? own : floats;
    const int64_t stride = as_they_lie ? weight.inputs : DEPTH;
    const int64_t row_bytes = bytes_of(weight, weight.inputs), bytes = bytes_of(weight, depth);
    const char *const next = static_cast<const char *>(weight.numbers.data) + (first + OUTPUTS) * row_bytes +
                             bytes_of(weight, start);
    const int64_t count = (tokens + COLUMNS - 1) / COLUMNS, row_lines = (bytes + LINE - 1) / LINE;
    const int64_t lines = OUTPUTS * row_lines;
    for (int64_t panel = 0; panel < count; panel++) {
      // The next tile's weights, a share with each panel: the hardware does not see so many rows coming.
      for (int64_t line = lines * panel / count; line < lines * (panel + 1) / count; line++)
        __builtin_prefetch(next + line / row_lines * row_bytes + line % row_lines * LINE, 0, 2);
      const int64_t height = std::min(COLUMNS, tokens - panel * COLUMNS);
      alignas(64) float sums[OUTPUTS * COLUMNS];
      const float *const own_panel = panels + panel * DEPTH * COLUMNS;
      if (height > LANES) tile<2>(weights, stride, own_panel, depth, sums);
      else tile<1>(weights, stride, own_panel, depth, sums);
      for (int64_t own = 0; own < height; own++) {
        float *to = y + (token + panel * COLUMNS + own) * weight.outputs + first;
        for (int64_t output = 0; output < width; output++) {
          const float sum = sums[output * COLUMNS + own];
          to[output] = start == 0 ? sum : to[output] + sum;
        }
      }
    }
  }

  void run() const {
    const int64_t passes = (rows + TOKENS - 1) / TOKENS;
    const int64_t most = ((rows + passes - 1) / passes + COLUMNS - 1) / COLUMNS * COLUMNS;  // tokens of a pass
    const Scratch memory(static_cast<size_t>(most * DEPTH * 4));
    float *const panels = memory.as<float>();
    const int64_t tiles = (weight.outputs + OUTPUTS - 1) / OUTPUTS, tasks = (tiles + TASK - 1) / TASK;
    for (int64_t token = 0; token < rows; token += most) {
      const int64_t tokens = std::min(most, rows - token), count = (tokens + COLUMNS - 1) / COLUMNS;
      for (int64_t start = 0; start < weight.inputs; start += DEPTH) {
        const int64_t depth = std::min(DEPTH, weight.inputs - start);
        std::atomic<int64_t> next_panel{0}, next_task{0};
        run_on_all_threads([&](int) {
          for (int64_t panel = next_panel++; panel < count; panel = next_panel++) {
            const int64_t first = panel * COLUMNS;
            pack_panel(x + (token + first) * weight.inputs + start, weight.inputs, tokens - first, depth,
                       panels + panel * DEPTH * COLUMNS);
          }
        });
        run_on_all_threads([&](int) {
          for (int64_t task = next_task++; task < tasks; task = next_task++)
            for (int64_t index = task * TASK; index < std::min((task + 1) * TASK, tiles); index++)
              outputs(index * OUTPUTS, token, tokens, start, depth, panels);
        });
      }
    }
    if (bias.data == nullptr && residual == nullptr) return;
    run_on_all_threads([&](int member) {
      const Range own = part_of(weight.outputs, member, thread_count(), LANES);
      add_bias_and_residual(own.begin, own.end);
    });
  }
};

}  // namespace

void multiply_by_columns(const Product &product) { Prompts{product}.run(); }
