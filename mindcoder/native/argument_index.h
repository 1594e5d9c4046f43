// Where each argument of an operator is, by name: argument::RmsNorm::weight of operators.def. COUNT is their number.
#pragma once

#define INPUTS(...) __VA_ARGS__
#define OUTPUTS(...) __VA_ARGS__
#define LIST(NAME, ...)            \
  struct NAME {                    \
    enum : int { __VA_ARGS__, COUNT }; \
  };
#define OPERATOR(NAME, ...) LIST(NAME, __VA_ARGS__)

namespace argument {
#include "operators.def"
}  // namespace argument

#undef INPUTS
#undef OUTPUTS
#undef LIST
#undef OPERATOR
