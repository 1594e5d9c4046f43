// Sum, difference and product of two tensors with broadcasting, for every dtype that MindSpore's own CPU kernels take.
// Those keep a table of four bytes for each element of a result that was broadcast.
#include <cmath>
#include <limits>

#include "broadcast.h"
#include "operator_list.h"

namespace {

struct Plus {
  template <class T> auto operator()(T a, T b) const { return a + b; }
  bool operator()(bool a, bool b) const { return a || b; }
};

struct Minus {
  template <class T> auto operator()(T a, T b) const { return a - b; }
};

struct Times {
  template <class T> auto operator()(T a, T b) const { return a * b; }
  bool operator()(bool a, bool b) const { return a && b; }
};

// The largest whole number below the quotient. Where the divisor is 0, as MindSpore: the largest number, or 0 for 0.
struct Quotient {
  template <class T> T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      return std::floor(a / b);
    } else {
      if (b == 0) return a == 0 ? T{0} : std::numeric_limits<T>::max();
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return static_cast<T>(0 - static_cast<uint64_t>(a));  // wraps
      const T whole = static_cast<T>(a / b);
      return static_cast<T>(whole - (whole * b != a && (a < 0) != (b < 0)));
    }
  }
  bool operator()(bool a, bool b) const { return a && b; }
  Lanes operator()(Lanes a, Lanes b) const {
    Lanes result = a / b;
    for (int lane = 0; lane < LANES; lane++) result[lane] = std::floor(result[lane]);
    return result;
  }
};

// Integers wrap around, so that signed ones are computed as unsigned.
template <class Function>
void compute(const Arguments &arguments, int first, int second, int result, Function function) {
  const auto is = [&](const char *dtype) { return arguments.is(result, dtype); };
  for (int index : {first, second})
    if (!arguments.is(index, arguments.dtype(result))) arguments.refuse(index, std::string("expected ") + arguments.dtype(result));
  if (is("float32")) combine<float>(arguments, first, second, result, function);
  else if (is("bfloat16")) combine<Bfloat16>(arguments, first, second, result, function);
  else if (is("float16")) combine<Half>(arguments, first, second, result, function);
  else if (is("float64")) combine<double>(arguments, first, second, result, function);
  else if (is("int32") || is("uint32")) combine<uint32_t>(arguments, first, second, result, function);
  else if (is("int64") || is("uint64")) combine<uint64_t>(arguments, first, second, result, function);
  else if (is("int16") || is("uint16")) combine<uint16_t>(arguments, first, second, result, function);
  else if (is("int8") || is("uint8")) combine<uint8_t>(arguments, first, second, result, function);
  else if (is("bool")) combine<bool>(arguments, first, second, result, function);
  else if (is("complex64")) combine<std::complex<float>>(arguments, first, second, result, function);
  else if (is("complex128")) combine<std::complex<double>>(arguments, first, second, result, function);
  else arguments.refuse(result, "expected numbers");
}

}  // namespace

// a, b -> a + b.
void add(const Arguments &arguments) {
  arguments.expect_count(3);
  compute(arguments, 0, 1, 2, Plus{});
}

// a, b -> a - b.
void subtract(const Arguments &arguments) {
  arguments.expect_count(3);
  if (arguments.is(2, "bool")) arguments.refuse(2, "expected numbers");
  compute(arguments, 0, 1, 2, Minus{});
}

// a, b -> a * b.
void multiply(const Arguments &arguments) {
  arguments.expect_count(3);
  compute(arguments, 0, 1, 2, Times{});
}

// a, b -> floor(a / b).
void floor_divide(const Arguments &arguments) {
  arguments.expect_count(3);
  for (int index : {0, 1})
    if (!arguments.is(index, arguments.dtype(2))) arguments.refuse(index, std::string("expected ") + arguments.dtype(2));
  with_real(arguments, 2, [&](auto *type) { combine<Element<decltype(type)>>(arguments, 0, 1, 2, Quotient{}); });
}

// x (int32), mask (int64) -> x & mask.
void bitwise_and_scalar(const Arguments &arguments) {
  arguments.expect_count(3);
  const int32_t *x = arguments.data<int32_t>(0), mask = static_cast<int32_t>(arguments.integer(1));
  int32_t *y = arguments.data<int32_t>(2);
  parallel(arguments.size(2), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = x[at] & mask;
  });
}

// a, b (int32, one shape) -> a ^ b.
void bitwise_xor(const Arguments &arguments) {
  arguments.expect_count(3);
  if (arguments.size(0) != arguments.size(1)) arguments.refuse(1, "expected the shape of the other");
  const int32_t *a = arguments.data<int32_t>(0), *b = arguments.data<int32_t>(1);
  int32_t *y = arguments.data<int32_t>(2);
  parallel(arguments.size(2), 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) y[at] = a[at] ^ b[at];
  });
}
