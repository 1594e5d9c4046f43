// The norm of a tensor, summed in one order, whatever the number of threads.
#include <cmath>
#include <vector>

#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr int64_t BLOCK = 4096;  // numbers whose sum is added to the others'

}  // namespace

// x, p = 2, axes (absent), whether they stay, dtype -> the Euclidean norm of all numbers.
void norm(const Arguments &arguments) {
  using Index = argument::Norm;
  if (arguments.number(Index::p) != 2.0f) arguments.refuse(Index::p, "expected p = 2");
  if (arguments.has(Index::axes) && arguments.size(Index::axes) > 0) arguments.refuse(Index::axes, "expected all axes");
  with_float(arguments, Index::x, [&](auto *type) {
    using T = Element<decltype(type)>;
    const T *x = arguments.data<T>(Index::x);
    const int64_t size = arguments.size(Index::x), blocks = (size + BLOCK - 1) / BLOCK;
    std::vector<float> partial(blocks);
    parallel_for(blocks, 1, BLOCK * 2, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block++) {
        Lanes sums = {};
        vectors(std::min(BLOCK, size - block * BLOCK), [&](int64_t at, int64_t count) {
          const Lanes values = load_up_to(x + block * BLOCK + at, count);
          sums += values * values;
        });
        partial[block] = sum(sums);
      }
    });
    double squares = 0.0;
    for (float part : partial) squares += part;
    const float result = static_cast<float>(std::sqrt(squares));
    with_float(arguments, Index::norm, [&](auto *to) {
      *static_cast<decltype(to)>(arguments.raw(Index::norm)) = Element<decltype(to)>(result);
    });
  });
}
