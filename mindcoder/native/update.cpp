// AdamW, one parameter at a time, in place.
#include <cmath>

#include "arguments.h"
#include "operator_list.h"

// weight, m, v, max_v, gradient (float32, one shape), finished steps [1], then float32 scalars: learning rate, beta 1,
// beta 2, weight decay, epsilon; then amsgrad, maximize. Like aclnnApplyAdamWV2 it updates its inputs; the results that
// MindSpore provides for are left alone.
//
// As torch.optim.AdamW (Loshchilov and Hutter 2019): m and v without bias correction are kept, the update has it.
void adamw(const Arguments &arguments) {
  arguments.expect_count(16);
  if (arguments.flag(11)) arguments.refuse(11, "expected no amsgrad");
  const int64_t size = arguments.size(0);
  const float *gradient = arguments.data<float>(4);
  const double steps = arguments.number(5) + 1.0;
  const double rate = arguments.number(6), beta1 = arguments.number(7), beta2 = arguments.number(8);
  const float first = static_cast<float>(beta1), second = static_cast<float>(beta2);
  const float kept = static_cast<float>(1.0 - rate * arguments.number(9)), epsilon = arguments.number(10);
  const float pace = static_cast<float>(rate / (1.0 - std::pow(beta1, steps)));
  const float root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, steps)));
  const float sign = arguments.flag(12) ? -1.0f : 1.0f;
  float *weight = arguments.data<float>(0), *first_moment = arguments.data<float>(1);
  float *second_moment = arguments.data<float>(2);
  parallel_for(size, 64, 8, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const float slope = sign * gradient[at];
      const float m = first_moment[at] * first + slope * (1.0f - first);
      const float v = second_moment[at] * second + slope * slope * (1.0f - second);
      weight[at] = weight[at] * kept - pace * m / (std::sqrt(v) * root + epsilon);
      first_moment[at] = m;
      second_moment[at] = v;
    }
  });
}
