// Sums with broadcasting, which MindSpore's own CPU kernel keeps a copy of in every node; running sums and bits of
// integers.
#include "broadcast.h"
#include "operator_list.h"

// a, b, both floats of one dtype -> a + b.
void add(const Arguments &arguments) {
  arguments.expect_count(3);
  for (int index : {0, 1})
    if (!arguments.is(index, arguments.dtype(2))) arguments.refuse(index, std::string("expected ") + arguments.dtype(2));
  with_float(arguments, 2, [&](auto *type) {
    combine<Element<decltype(type)>>(arguments, 0, 1, 2, [](auto a, auto b) { return a + b; });
  });
}

// x (int32), mask (int64) -> x & mask.
void bitwise_and_scalar(const Arguments &arguments) {
  arguments.expect_count(3);
  const int32_t *x = arguments.data<int32_t>(0), mask = static_cast<int32_t>(arguments.integer(1));
  int32_t *y = arguments.data<int32_t>(2);
  parallel_for(arguments.size(2), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = x[at] & mask;
  });
}

// a, b (int32, one shape) -> a ^ b.
void bitwise_xor(const Arguments &arguments) {
  arguments.expect_count(3);
  if (arguments.size(0) != arguments.size(1)) arguments.refuse(1, "expected the shape of the other");
  const int32_t *a = arguments.data<int32_t>(0), *b = arguments.data<int32_t>(1);
  int32_t *y = arguments.data<int32_t>(2);
  parallel_for(arguments.size(2), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = a[at] ^ b[at];
  });
}

// x (int32, one axis), axis, dtype -> the sums of its elements up to each.
void running_sum(const Arguments &arguments) {
  arguments.expect_count(4);
  if (arguments.ndim(0) != 1) arguments.refuse(0, "expected one axis");
  const int32_t *x = arguments.data<int32_t>(0);
  int32_t *y = arguments.data<int32_t>(3), sum = 0;
  for (int64_t at = 0; at < arguments.size(0); at++) y[at] = sum += x[at];
}
