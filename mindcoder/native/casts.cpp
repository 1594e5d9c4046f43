// Conversions between dtypes, and copies into another shape.
#include <vector>

#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr int64_t CHUNK = 256;  // numbers that are converted through a wide dtype at a time

template <class From, class To>
void convert_floats(const From *from, To *to, int64_t size) {
  parallel(size, 64, 1, [&](int64_t begin, int64_t end) {
    vectors(end - begin, [&](int64_t at, int64_t count) {
      store_up_to(to + begin + at, load_up_to(from + begin + at, count), count);
    });
  });
}

template <class T>
constexpr bool is_narrow = std::is_same_v<T, Half> || std::is_same_v<T, Bfloat16>;

// Through double for floats, the widest integer of their sign for integers: one reader and one writer a dtype.
template <class Wide, class To>
To narrowed(Wide value) {
  if constexpr (std::is_same_v<To, bool>) return value != 0;
  else if constexpr (is_narrow<To>) return To(static_cast<float>(value));
  else return static_cast<To>(value);
}

template <class From>
void convert(const Arguments &arguments, const From *from, int to_index) {
  using Wide = std::conditional_t<std::is_floating_point_v<ComputedIn<From>>, double,
                                  std::conditional_t<std::is_same_v<From, uint64_t>, uint64_t, int64_t>>;
  const int64_t size = arguments.size(to_index);
  for (int64_t begin = 0; begin < size; begin += CHUNK) {
    const int64_t count = std::min(CHUNK, size - begin);
    Wide wide[CHUNK];
    for (int64_t at = 0; at < count; at++) wide[at] = static_cast<Wide>(static_cast<ComputedIn<From>>(from[begin + at]));
    with_real(arguments, to_index, [&](auto *type) {
      using To = Element<decltype(type)>;
      To *to = static_cast<To *>(arguments.raw(to_index)) + begin;
      for (int64_t at = 0; at < count; at++) to[at] = narrowed<Wide, To>(wide[at]);
    });
  }
}

template <class T>
bool convert_complex(const Arguments &arguments, int to, const char *dtype) {
  if (!arguments.is(0, dtype)) return false;
  const auto *from = static_cast<const std::complex<T> *>(arguments.raw(0));
  const int64_t size = arguments.size(to);
  if (arguments.is(to, "complex64")) {
    for (int64_t at = 0; at < size; at++) static_cast<std::complex<float> *>(arguments.raw(to))[at] = std::complex<float>(from[at]);
  } else if (arguments.is(to, "complex128")) {
    for (int64_t at = 0; at < size; at++) static_cast<std::complex<double> *>(arguments.raw(to))[at] = std::complex<double>(from[at]);
  } else {  // as MindSpore: the real part
    std::vector<T> real(size);
    for (int64_t at = 0; at < size; at++) real[at] = from[at].real();
    convert(arguments, real.data(), to);
  }
  return true;
}

int64_t bytes(const Arguments &arguments, int index) {
  int64_t result = 0;
  if (arguments.is(index, "complex64")) result = 8;
  else if (arguments.is(index, "complex128")) result = 16;
  else with_real(arguments, index, [&](auto *type) { result = sizeof *type; });
  return result * arguments.size(index);
}

void copy(const Arguments &arguments, int from, int to) {
  const char *source = static_cast<const char *>(arguments.raw(from));
  char *target = static_cast<char *>(arguments.raw(to));
  if (source == target) return;
  parallel(bytes(arguments, to), 4096, 1,
           [&](int64_t begin, int64_t end) { std::memcpy(target + begin, source + begin, end - begin); });
}

}  // namespace

// x (and the dtype, where MindSpore passes it) -> x in the result's dtype.
void cast(const Arguments &arguments) {
  const int to = arguments.count() - 1;
  if (arguments.is(0, arguments.dtype(to))) return copy(arguments, 0, to);
  if (convert_complex<float>(arguments, to, "complex64") || convert_complex<double>(arguments, to, "complex128")) return;
  const int64_t size = arguments.size(to);
  if (arguments.is(to, "complex64") || arguments.is(to, "complex128")) {
    with_real(arguments, 0, [&](auto *type) {
      using From = ComputedIn<Element<decltype(type)>>;
      const auto *from = static_cast<const Element<decltype(type)> *>(arguments.raw(0));
      for (int64_t at = 0; at < size; at++) {
        const double value = static_cast<double>(static_cast<From>(from[at]));
        if (arguments.is(to, "complex64")) static_cast<std::complex<float> *>(arguments.raw(to))[at] = static_cast<float>(value);
        else static_cast<std::complex<double> *>(arguments.raw(to))[at] = value;
      }
    });
    return;
  }
  with_real(arguments, 0, [&](auto *type) {
    using From = Element<decltype(type)>;
    const From *from = static_cast<const From *>(arguments.raw(0));
    if constexpr (std::is_same_v<ComputedIn<From>, float>) {
      if (arguments.is(to, "float32")) return convert_floats(from, arguments.data<float>(to), size);
      if (arguments.is(to, "bfloat16")) return convert_floats(from, arguments.data<Bfloat16>(to), size);
      if (arguments.is(to, "float16")) return convert_floats(from, arguments.data<Half>(to), size);
    }
    convert(arguments, from, to);
  });
}

// x, shape -> x in that shape. Where it can, MindSpore reshapes without calling it.
void reshape(const Arguments &arguments) {
  copy(arguments, 0, arguments.count() - 1);
}
