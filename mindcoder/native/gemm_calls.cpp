// The matrix product for callers outside the library: tests and benchmarks/gemm.py.
#include "gemm.h"

// C [batch, m, n] = A B, A stored as [m, k] (or [k, m] if `a_turned`), B as [k, n] (or [n, k] if `b_turned`), all without
// gaps; `*_bfloat16` tell the storage. `bias` [n] is float32 or null.
extern "C" void MindCoderGemm(int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, int a_bfloat16, int a_turned,
                              const void *b, int b_bfloat16, int b_turned, void *c, int c_bfloat16, const void *bias,
                              int accumulate, int terms) {
  const GemmType a_type = a_bfloat16 ? GemmType::bfloat16 : GemmType::float32;
  const GemmType b_type = b_bfloat16 ? GemmType::bfloat16 : GemmType::float32;
  GemmArguments arguments{.batch = batch,
                          .m = m,
                          .n = n,
                          .k = k,
                          .a = a_turned ? columns_of(a, a_type, m, m * k) : rows_of(a, a_type, k, m * k),
                          .b = b_turned ? rows_of(b, b_type, k, n * k) : columns_of(b, b_type, n, n * k),
                          .c = c,
                          .element = c_bfloat16 ? GemmType::bfloat16 : GemmType::float32,
                          .row_stride = n,
                          .batch_stride = m * n,
                          .bias = bias,
                          .accumulate = accumulate != 0,
                          .terms = terms};
  gemm(arguments);
}
