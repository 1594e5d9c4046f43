// Blocks of a matrix product: which kernel, how much is packed at once, and who computes which part.
//
// C is computed in blocks of at most PACKED bytes of each packed factor; for each block the depth is summed in pieces,
// because the panels of a piece stay in the caches. Every thread packs, then every thread multiplies; each takes the
// next task when it has finished one. An element of C is summed by one thread in one order, whichever that is.
#include "gemm.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "gemm_kernel.h"
#include "quantized.h"
#include "scratch.h"
#include "thread_pool.h"

namespace {

constexpr int64_t PACKED = int64_t{12} << 20;     // bytes of a packed factor: both lie in the shared cache
constexpr int64_t IN_CACHE = int64_t{384} << 10;  // bytes of B's panels that a task works on: they lie in its L2 cache
constexpr int64_t TOGETHER = 1 << 20;   // products of numbers from which several threads pay
constexpr int64_t STRIP = 64, PANELS = 16;  // depth and panels that are packed at once if the rows are not contiguous

int64_t parts_of(int64_t size, int64_t part) { return (size + part - 1) / part; }
int64_t rounded(int64_t size, int64_t grain) { return parts_of(size, grain) * grain; }

// Equal parts of `size`, multiples of `grain`, none above `limit` (if a grain is not).
int64_t equal_part(int64_t size, int64_t limit, int64_t grain) {
  const int64_t most = std::max(limit / grain, int64_t{1}) * grain;
  return rounded(parts_of(size, parts_of(size, most)), grain);
}

// Executes work(task) for all tasks, alone or with all threads.
template <class Work>
void for_each_task(int64_t tasks, bool alone, const GemmKernel &kernel, const Work &work) {
  std::atomic<int64_t> next{0};
  const auto member = [&](int) {
    kernel.begin();
    for (int64_t task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) work(task);
    kernel.end();
  };
  if (alone || tasks == 1) member(0);
  else run_on_all_threads(member);
}

// Part of A's or B's rows, packed.
struct Packed {
  const GemmOperand &from;
  GemmKernel::Pack pack;
  int64_t width, bytes;  // rows of a panel, its bytes for each unit of depth
  char *memory;
  int64_t panel_bytes = 0;  // of the piece of depth that is packed now
  int64_t row = -1, start = -1;

  const char *panel(int64_t index) const { return memory + index * panel_bytes; }

  // One task's panels: along the depth if that is contiguous, else in strips, so that whole cache lines are read.
  void pack_panels(int64_t item, int64_t first, int64_t begin, int64_t end, int64_t rows, int64_t depth_start,
                   int64_t depth) const {
    const int64_t strip = from.depth_stride == 1 ? depth : STRIP;
    for (int64_t at = 0; at < depth; at += strip) {
      for (int64_t index = begin; index < end; index++) {
        const int64_t row = first + index * width, own = std::min(width, rows - index * width);
        const int64_t size = std::min(strip, depth - at);
        char *to = memory + index * panel_bytes + at * bytes;
        if (from.integers != nullptr) pack_integers(row, own, depth_start + at, size, to);
        else pack(from, item, row, own, depth_start + at, size, to);
      }
    }
  }

  // Of integers, which become floats first: a panel is small enough to stay in the cache meanwhile.
  void pack_integers(int64_t row, int64_t own, int64_t start, int64_t depth, char *to) const {
    static thread_local std::vector<float> floats;
    floats.resize(static_cast<size_t>(own * depth));
    const bool along = from.depth_stride == 1;
    const int64_t lines = along ? own : depth, size = along ? depth : own;
    for (int64_t line = 0; line < lines; line++)
      dequantize(*from.integers, (along ? row : start) + line, along ? start : row, size, floats.data() + line * size);
    const GemmOperand panel = along ? rows_of(floats.data(), GemmType::float32, size)
                                    : columns_of(floats.data(), GemmType::float32, size);
    pack(panel, 0, 0, own, 0, depth, to);
  }
};

// One product of a batch.
struct Multiplication {
  const GemmArguments &arguments;
  const GemmKernel &kernel;
  int64_t item;
  bool alone;

  void run() const {
    const GemmArguments &g = arguments;
    if (g.k == 0) return empty();
    const int64_t depth = equal_part(g.k, kernel.block, kernel.depth);
    const int64_t a_row = depth * kernel.a_bytes / kernel.rows, b_row = depth * kernel.b_bytes / kernel.columns;
    const int64_t height = equal_part(g.m, PACKED / a_row, kernel.rows);
    const int64_t breadth = equal_part(g.n, PACKED / b_row, kernel.columns);
    // A result in bfloat16 is summed in float32 elsewhere.
    const bool apart = g.element != GemmType::float32 && depth < g.k;
    const Scratch a_memory(static_cast<size_t>(height * a_row)), b_memory(static_cast<size_t>(breadth * b_row));
    const Scratch sums(static_cast<size_t>(apart ? height * breadth * 4 : 0));
    Packed a{g.a, kernel.pack_a, kernel.rows, kernel.a_bytes, a_memory.as<char>()};
    Packed b{g.b, kernel.pack_b, kernel.columns, kernel.b_bytes, b_memory.as<char>()};
    for (int64_t column = 0; column < g.n; column += breadth) {
      for (int64_t row = 0; row < g.m; row += height) {
        for (int64_t start = 0; start < g.k; start += depth) {
          const int64_t rows = std::min(height, g.m - row), columns = std::min(breadth, g.n - column);
          const int64_t piece = std::min(depth, g.k - start);
          fill(a, row, rows, b, column, columns, start, piece);
          multiply(a, row, rows, b, column, columns, start, piece, apart ? sums.as<float>() : nullptr, breadth);
        }
      }
    }
  }

  // Packs what is not packed yet.
  void fill(Packed &a, int64_t row, int64_t rows, Packed &b, int64_t column, int64_t columns, int64_t start,
            int64_t depth) const {
    int64_t tasks[2] = {0, 0}, own[2] = {0, 0};
    Packed *const both[2] = {&a, &b};
    const int64_t firsts[2] = {row, column}, sizes[2] = {rows, columns};
    for (int side = 0; side < 2; side++) {
      Packed &factor = *both[side];
      if (factor.row == firsts[side] && factor.start == start) continue;
      factor.row = firsts[side], factor.start = start;
      factor.panel_bytes = rounded(depth, kernel.depth) * factor.bytes;
      own[side] = factor.from.depth_stride == 1 ? 1 : PANELS;
      tasks[side] = parts_of(parts_of(sizes[side], factor.width), own[side]);
    }
    if (tasks[0] + tasks[1] == 0) return;
    for_each_task(tasks[0] + tasks[1], alone, kernel, [&](int64_t task) {
      const int side = task < tasks[0] ? 0 : 1;
      const Packed &factor = *both[side];
      const int64_t begin = (task - side * tasks[0]) * own[side];
      const int64_t end = std::min(begin + own[side], parts_of(sizes[side], factor.width));
      factor.pack_panels(item, firsts[side], begin, end, sizes[side], start, depth);
    });
  }

  void multiply(const Packed &a, int64_t row, int64_t rows, const Packed &b, int64_t column, int64_t columns,
                int64_t start, int64_t depth, float *sums, int64_t sums_stride) const {
    const GemmArguments &g = arguments;
    const bool add = start > 0 || (g.accumulate && sums == nullptr), last = start + depth >= g.k;
    const bool plain = g.element == GemmType::float32 && !(last && g.bias != nullptr);
    const int64_t padded = rounded(depth, kernel.depth);
    const int64_t a_panels = parts_of(rows, kernel.rows), b_panels = parts_of(columns, kernel.columns);
    const int64_t wide = std::min(b_panels, std::max(IN_CACHE / b.panel_bytes, int64_t{1}));
    const int64_t bands = parts_of(b_panels, wide);
    // Enough tasks for an even end, but long ones: each reads its panels of B again.
    const int64_t tall = std::max(parts_of(a_panels * bands, int64_t{8} * thread_count()), int64_t{1});
    const int64_t tasks = bands * parts_of(a_panels, tall);
    for_each_task(tasks, alone, kernel, [&](int64_t task) {
      alignas(64) float block[MOST];
      const int64_t band = task % bands * wide, group = task / bands * tall;
      for (int64_t left = group; left < std::min(group + tall, a_panels); left++) {
        for (int64_t right = band; right < std::min(band + wide, b_panels); right++) {  // along the rows of C
          const int64_t top = left * kernel.rows, side = right * kernel.columns;
          const int64_t height = std::min(kernel.rows, rows - top), breadth = std::min(kernel.columns, columns - side);
          const bool whole = height == kernel.rows && breadth == kernel.columns;
          if (sums != nullptr) {  // their memory has room for whole panels
            float *to = sums + top * sums_stride + side;
            kernel.multiply(a.panel(left), b.panel(right), padded, add, to, sums_stride);
            if (last) store_sums(g, item, row + top, column + side, height, breadth, to, sums_stride, false, true);
          } else if (plain && whole) {
            float *to = static_cast<float *>(g.c) + item * g.batch_stride + (row + top) * g.row_stride + column + side;
            kernel.multiply(a.panel(left), b.panel(right), padded, add, to, g.row_stride);
          } else {
            kernel.multiply(a.panel(left), b.panel(right), padded, false, block, kernel.columns);
            store_sums(g, item, row + top, column + side, height, breadth, block, kernel.columns, add, last);
          }
        }
      }
    });
  }

  // Nothing to sum: zero or the bias.
  void empty() const {
    const float zeros[MOST] = {};
    for (int64_t row = 0; row < arguments.m; row++)
      for (int64_t column = 0; column < arguments.n; column += MOST)
        store_sums(arguments, item, row, column, 1, std::min(MOST, arguments.n - column), zeros, MOST,
                   arguments.accumulate, true);
  }

  static constexpr int64_t MOST = 1024;  // floats of a kernel's block of C
};

const GemmKernel &kernel_for(const GemmArguments &arguments) {
  if (const GemmKernel *amx = gemm_amx(arguments)) return *amx;
  if (const GemmKernel *pairs = gemm_pairs(arguments)) return *pairs;
  return *gemm_vectors(arguments);
}

}  // namespace

GemmOperand rows_of(const Matrix &weight) { return {nullptr, GemmType::float32, weight.inputs, 1, 0, &weight}; }

GemmOperand columns_of(const Matrix &weight) { return {nullptr, GemmType::float32, 1, weight.inputs, 0, &weight}; }

void gemm(const GemmArguments &arguments) {
  const GemmArguments &g = arguments;
  if (g.batch == 0 || g.m == 0 || g.n == 0) return;
  const GemmKernel &kernel = kernel_for(g);
  const int64_t size = g.m * g.n * g.k;
  const bool small = size < TOGETHER;
  // Many small products: each is one thread's. Otherwise all threads work on one after the other.
  if (g.batch >= 2 * thread_count() && size < 64 * TOGETHER && size * g.batch >= TOGETHER) {
    std::atomic<int64_t> next{0};
    run_on_all_threads([&](int) {
      for (int64_t item = next.fetch_add(1); item < g.batch; item = next.fetch_add(1))
        Multiplication{g, kernel, item, true}.run();
    });
  } else {
    for (int64_t item = 0; item < g.batch; item++) Multiplication{g, kernel, item, small}.run();
  }
}
