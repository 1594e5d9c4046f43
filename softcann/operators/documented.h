// The table of documented constraints, constraints.cc, and its check at the head of an operator.
//
// A row has the function, the page, and for each tensor the dtypes, the ranks and whether it must be contiguous:
//
//   aclnnSoftmax | ops-nn/activation/softmax_v2/docs/aclnnSoftmax.md | self: float16,float32 0-8 | out: =self 0-8
//
// "=self" is the dtype of another tensor; an argument whose name ends with "?" may be null.
#pragma once

#include "softcann/aclnn.h"

namespace softcann {

struct Named {
  const char* name;
  const Tensor* tensor;
};

// Refuses what the row of `function` does not allow; names the page in the refusal.
void documented(const char* function, std::initializer_list<Named> tensors);
void documented_each(const char* function, const char* name, const TensorList* list);  // every tensor of a list

}  // namespace softcann

#define SOFTCANN_NAMED(x) \
  softcann::Named { #x, x }
#define SOFTCANN_PICK(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, NAME, ...) NAME
#define SOFTCANN_N1(a) SOFTCANN_NAMED(a)
#define SOFTCANN_N2(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N1(__VA_ARGS__)
#define SOFTCANN_N3(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N2(__VA_ARGS__)
#define SOFTCANN_N4(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N3(__VA_ARGS__)
#define SOFTCANN_N5(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N4(__VA_ARGS__)
#define SOFTCANN_N6(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N5(__VA_ARGS__)
#define SOFTCANN_N7(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N6(__VA_ARGS__)
#define SOFTCANN_N8(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N7(__VA_ARGS__)
#define SOFTCANN_N9(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N8(__VA_ARGS__)
#define SOFTCANN_N10(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N9(__VA_ARGS__)
#define SOFTCANN_N11(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N10(__VA_ARGS__)
#define SOFTCANN_N12(a, ...) SOFTCANN_NAMED(a), SOFTCANN_N11(__VA_ARGS__)
// DOCUMENTED(aclnnAdd, self, other, out): documented("aclnnAdd", {{"self", self}, {"other", other}, {"out", out}}).
#define DOCUMENTED(FUNCTION, ...)                                                                                       \
  softcann::documented(#FUNCTION, {SOFTCANN_PICK(__VA_ARGS__, SOFTCANN_N12, SOFTCANN_N11, SOFTCANN_N10, SOFTCANN_N9,    \
                                                 SOFTCANN_N8, SOFTCANN_N7, SOFTCANN_N6, SOFTCANN_N5, SOFTCANN_N4,       \
                                                 SOFTCANN_N3, SOFTCANN_N2, SOFTCANN_N1, )(__VA_ARGS__)})
