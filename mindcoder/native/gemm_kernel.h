// What a processor's instructions contribute to a matrix product: packing of the factors and the product of two panels.
#pragma once
#include "gemm.h"

struct GemmKernel {
  int64_t rows, columns;      // of A's and B's panels, and so of the block of C that one call of `multiply` computes
  int64_t depth;              // panels hold a multiple of it, filled with zeros
  int64_t a_bytes, b_bytes;   // of a panel for each unit of depth
  int64_t block;              // depth that is summed in registers at once

  // Packs `depth` numbers of `rows` rows of a batch's item, from (row, start); `rows` and `depth` may be less than a
  // panel's. The panel of a longer range is the concatenation of those of its parts.
  using Pack = void (*)(const GemmOperand &, int64_t item, int64_t row, int64_t rows, int64_t start, int64_t depth,
                        void *to);
  Pack pack_a, pack_b;

  // c[rows, columns] = (or +=) a b, where c's rows are `stride` floats apart.
  void (*multiply)(const void *a, const void *b, int64_t depth, bool add, float *c, int64_t stride);

  void (*begin)();  // called by each thread before its first product and after its last
  void (*end)();
};

// Null where this was not compiled for such a processor or does not run on one.
const GemmKernel *gemm_amx(const GemmArguments &arguments);  // AMX: bfloat16, or float32 as terms of bfloat16
const GemmKernel *gemm_pairs(const GemmArguments &arguments);  // AVX512-BF16: bfloat16, or float32 as one term of it

// Whether `gemm_pairs` has a kernel here.
bool pairs_available();

// Any processor: multiplies in float32, packing converts.
const GemmKernel *gemm_vectors(const GemmArguments &arguments);

// Writes sums [rows, columns], `stride` floats apart, to C at (row, column) of a batch's item: adds what C holds
// (`add`) and the bias (`finish`), and converts.
void store_sums(const GemmArguments &arguments, int64_t item, int64_t row, int64_t column, int64_t rows,
                int64_t columns, const float *sums, int64_t stride, bool add, bool finish);
