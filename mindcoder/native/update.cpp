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
  using Index = argument::AdamW;
  if (arguments.flag(Index::amsgrad)) arguments.refuse(Index::amsgrad, "expected no amsgrad");
  const int64_t size = arguments.size(Index::weight);
  const float *gradient = arguments.data<float>(Index::gradient);
  const double steps = arguments.number(Index::step) + 1.0;
  const double rate = arguments.number(Index::lr);
  const double beta1 = arguments.number(Index::beta1), beta2 = arguments.number(Index::beta2);
  const float first = static_cast<float>(beta1), second = static_cast<float>(beta2);
  const float kept = static_cast<float>(1.0 - rate * arguments.number(Index::decay)), epsilon = arguments.number(Index::eps);
  const float pace = static_cast<float>(rate / (1.0 - std::pow(beta1, steps)));
  const float root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, steps)));
  const float sign = arguments.flag(Index::maximize) ? -1.0f : 1.0f;
  float *weight = arguments.data<float>(Index::weight), *first_moment = arguments.data<float>(Index::m);
  float *second_moment = arguments.data<float>(Index::v);
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
