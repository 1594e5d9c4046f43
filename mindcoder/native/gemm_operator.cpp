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
  arguments.expect_count(6);
  expect_matrix(arguments, 0);
  expect_matrix(arguments, 1);
  const bool a_transposed = is_transposed(arguments, 2), b_transposed = is_transposed(arguments, 3);
  const int64_t m = arguments.size(0, a_transposed ? 1 : 0), k = arguments.size(0, a_transposed ? 0 : 1);
  const int64_t n = arguments.size(1, b_transposed ? 0 : 1), depth = arguments.size(1, b_transposed ? 1 : 0);
  if (k != depth) arguments.refuse(1, "expected " + std::to_string(k) + " to sum over");
  if (arguments.ndim(5) != 2 || arguments.size(5, 0) != m || arguments.size(5, 1) != n)
    arguments.refuse(5, "expected [" + std::to_string(m) + ", " + std::to_string(n) + "]");
  const GemmType a = element(arguments, 0), b = element(arguments, 1);
  gemm({.batch = 1,
        .m = m,
        .n = n,
        .k = k,
        .a = a_transposed ? columns_of(arguments.raw(0), a, m) : rows_of(arguments.raw(0), a, k),
        .b = b_transposed ? rows_of(arguments.raw(1), b, k) : columns_of(arguments.raw(1), b, n),
        .c = arguments.raw(5),
        .element = element(arguments, 5),
        .row_stride = n,
        .batch_stride = m * n,
        .terms = static_cast<int>(arguments.integer(4))});
}
