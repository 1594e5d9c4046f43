// The product of two matrices as a layer's operator.
#include "arguments.h"
#include "gemm.h"
#include "operator_list.h"

namespace {

GemmType element(const Arguments &arguments, int index) {
  if (arguments.is(index, "float32")) return GemmType::float32;
  if (arguments.is(index, "bfloat16")) return GemmType::bfloat16;
  if (arguments.is(index, "float16")) return GemmType::float16;
  arguments.refuse(index, "expected float32, bfloat16 or float16");
}

void expect_matrix(const Arguments &arguments, int index) {
  if (arguments.ndim(index) != 2) arguments.refuse(index, "expected a matrix");
}

// A flag has two elements where it is true, so that MindSpore can infer the result's shape from shapes.
bool is_transposed(const Arguments &arguments, int index) { return arguments.size(index) == 2; }

}  // namespace

// a, b, whether a is transposed, whether b is, bfloat16 terms of a float32 (see gemm.h) -> the product.
void matrix_product(const Arguments &arguments) {
  using Index = argument::MatMul;
  expect_matrix(arguments, Index::a);
  expect_matrix(arguments, Index::b);
  const bool a_transposed = is_transposed(arguments, Index::transpose_a);
  const bool b_transposed = is_transposed(arguments, Index::transpose_b);
  const int64_t m = arguments.size(Index::a, a_transposed ? 1 : 0), k = arguments.size(Index::a, a_transposed ? 0 : 1);
  const int64_t n = arguments.size(Index::b, b_transposed ? 0 : 1);
  const int64_t depth = arguments.size(Index::b, b_transposed ? 1 : 0);
  if (k != depth) arguments.refuse(Index::b, "expected " + std::to_string(k) + " to sum over");
  if (arguments.ndim(Index::product) != 2 || arguments.size(Index::product, 0) != m ||
      arguments.size(Index::product, 1) != n)
    arguments.refuse(Index::product, "expected [" + std::to_string(m) + ", " + std::to_string(n) + "]");
  const GemmType a = element(arguments, Index::a), b = element(arguments, Index::b);
  gemm({.batch = 1,
        .m = m,
        .n = n,
        .k = k,
        .a = a_transposed ? columns_of(arguments.raw(Index::a), a, m) : rows_of(arguments.raw(Index::a), a, k),
        .b = b_transposed ? rows_of(arguments.raw(Index::b), b, k) : columns_of(arguments.raw(Index::b), b, n),
        .c = arguments.raw(Index::product),
        .element = element(arguments, Index::product),
        .row_stride = n,
        .batch_stride = m * n,
        .terms = static_cast<int>(arguments.integer(Index::terms))});
}
