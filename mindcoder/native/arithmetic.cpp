// Sums with broadcasting, which MindSpore's own CPU kernel keeps a copy of in every node; running sums and bits of
// integers.
#include "broadcast.h"
#include "operator_list.h"

// a, b, both floats of one dtype -> a + b.
void add(const Arguments &arguments) {
  using Index = argument::Add;
  for (int index : {Index::a, Index::b})
    if (!arguments.is(index, arguments.dtype(Index::sum)))
      arguments.refuse(index, std::string("expected ") + arguments.dtype(Index::sum));
  with_float(arguments, Index::sum, [&](auto *type) {
    combine<Element<decltype(type)>>(arguments, Index::a, Index::b, Index::sum, [](auto a, auto b) { return a + b; });
  });
}

// x (int32), mask (int64) -> x & mask.
void bitwise_and_scalar(const Arguments &arguments) {
  using Index = argument::BitwiseAndScalar;
  const int32_t *x = arguments.data<int32_t>(Index::x), mask = static_cast<int32_t>(arguments.integer(Index::mask));
  int32_t *y = arguments.data<int32_t>(Index::y);
  parallel_for(arguments.size(Index::y), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = x[at] & mask;
  });
}

// a, b (int32, one shape) -> a ^ b.
void bitwise_xor(const Arguments &arguments) {
  using Index = argument::BitwiseXorTensor;
  if (arguments.size(Index::a) != arguments.size(Index::b)) arguments.refuse(Index::b, "expected the shape of the other");
  const int32_t *a = arguments.data<int32_t>(Index::a), *b = arguments.data<int32_t>(Index::b);
  int32_t *y = arguments.data<int32_t>(Index::y);
  parallel_for(arguments.size(Index::y), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = a[at] ^ b[at];
  });
}

// x (int32, one axis), axis, dtype -> the sums of its elements up to each.
void running_sum(const Arguments &arguments) {
  using Index = argument::CumsumExt;
  if (arguments.ndim(Index::x) != 1) arguments.refuse(Index::x, "expected one axis");
  const int32_t *x = arguments.data<int32_t>(Index::x);
  int32_t *y = arguments.data<int32_t>(Index::sums), sum = 0;
  for (int64_t at = 0; at < arguments.size(Index::x); at++) y[at] = sum += x[at];
}
