// AdamW. Moments and weights are float32 inside and rounded once to their dtype.
#include "elements.h"

namespace softcann {
namespace {

struct Hyper {
  double beta1_power, beta2_power;  // beta1^t, beta2^t
  double lr, weight_decay, beta1, beta2, epsilon;
};

void update(Tensor* var, Tensor* m, Tensor* v, Tensor* largest, const Tensor* grad, const Hyper& h, bool maximize) {
  const auto weights = read<float>(var), first = read<float>(m), second = read<float>(v), g = read<float>(grad);
  std::vector<float> w(weights.size()), m1(w.size()), v1(w.size()), top;
  if (largest) {
    const auto held = read<float>(largest);
    top.assign(held.begin(), held.end());
  }
  for (size_t i = 0; i < w.size(); ++i) {
    const double gradient = maximize ? -g[i] : g[i];
    m1[i] = static_cast<float>(h.beta1 * first[i] + (1 - h.beta1) * gradient);
    v1[i] = static_cast<float>(h.beta2 * second[i] + (1 - h.beta2) * gradient * gradient);
    double square = v1[i];
    if (largest) square = top[i] = std::max(top[i], v1[i]);
    const double step = m1[i] / (1 - h.beta1_power) / (std::sqrt(square / (1 - h.beta2_power)) + h.epsilon);
    w[i] = static_cast<float>(weights[i] - h.lr * h.weight_decay * weights[i] - h.lr * step);
  }
  write(var, w);
  write(m, m1);
  write(v, v1);
  if (largest) write(largest, top);
}

void require_like(const Tensor* tensor, const char* name, const Tensor* var) {
  require_shape(tensor, name, var->shape);
  require_same_dtype(tensor, name, var, "varRef");
}

double number(const Tensor* tensor) { return read<double>(tensor)[0]; }

}  // namespace
}  // namespace softcann

ACLNN(aclnnApplyAdamWV2, Tensor* varRef, Tensor* mRef, Tensor* vRef, Tensor* maxGradNormOptionalRef, const Tensor* grad,
      const Tensor* step, float lr, float beta1, float beta2, float weightDecay, float eps, bool amsgrad, bool maximize) {
  DOCUMENTED(aclnnApplyAdamWV2, varRef, mRef, vRef, grad, step);
  require_like(mRef, "mRef", varRef);
  require_like(vRef, "vRef", varRef);
  require_like(grad, "grad", varRef);
  if (amsgrad) require_like(maxGradNormOptionalRef, "maxGradNormOptionalRef", varRef);
  if (step->count() != 1) refuse("step", text(step->shape), "one element");
  return launch([=] {
    // The steps that are done: the kernel adds 1 (ops-nn, optim/apply_adam_w_v2/op_kernel: "step_ += 1"), and its callers in
    // op-plugin and mindspore.mint give 0 at the first step. The page says "above 0"; the kernel decides.
    const double t = number(step) + 1;
    if (t <= 0) throw std::runtime_error("step is " + std::to_string(t - 1) + ", expected the number of steps done before, 0 or more");
    const Hyper h{std::pow(static_cast<double>(beta1), t), std::pow(static_cast<double>(beta2), t), lr, weightDecay, beta1, beta2, eps};
    update(varRef, mRef, vRef, amsgrad ? maxGradNormOptionalRef : nullptr, grad, h, maximize);
  });
}

ACLNN(aclnnApplyAdamW, Tensor* varRef, Tensor* mRef, Tensor* vRef, const Tensor* beta1Power, const Tensor* beta2Power,
      const Tensor* lr, const Tensor* weightDecay, const Tensor* beta1, const Tensor* beta2, const Tensor* eps,
      const Tensor* grad, Tensor* maxGradNormOptional, bool amsgrad, bool maximize) {
  DOCUMENTED(aclnnApplyAdamW, varRef, mRef, vRef, beta1Power, beta2Power, lr, weightDecay, beta1, beta2, eps, grad);
  require_like(mRef, "mRef", varRef);
  require_like(vRef, "vRef", varRef);
  require_like(grad, "grad", varRef);
  if (amsgrad) require_like(maxGradNormOptional, "maxGradNormOptional", varRef);
  for (const Tensor* one : {beta1Power, beta2Power, lr, weightDecay, beta1, beta2, eps})
    if (one->count() != 1) refuse("beta1Power to eps", text(one->shape), "one element");
  return launch([=] {
    const Hyper h{number(beta1Power), number(beta2Power), number(lr), number(weightDecay), number(beta1), number(beta2), number(eps)};
    update(varRef, mRef, vRef, amsgrad ? maxGradNormOptional : nullptr, grad, h, maximize);
  });
}
