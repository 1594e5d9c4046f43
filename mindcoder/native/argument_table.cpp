// The table of arguments (operators.def) as text, by which Python puts the arguments that it has by name in order.

#define LIST(NAME, ...) #NAME ": " #__VA_ARGS__ "\n"
#define OPERATOR(NAME, ...) LIST(NAME, __VA_ARGS__)

// A line each: "RmsNorm: INPUTS(x, weight, eps), OUTPUTS(y, rstd)" or "StepFactors: norm_epsilon, query_scale".
extern "C" const char *MindCoderArguments() {
  return
#include "operators.def"
      ;
}
