// Negative log likelihood and cross entropy of class labels, and their gradients.
#include <optional>

#include "elements.h"

namespace softcann {
namespace {

enum class Reduction { none, mean, sum };

Reduction reduction_of(int64_t number) {
  if (number < 0 || number > 2) refuse("reduction", std::to_string(number), "0 (none), 1 (mean) or 2 (sum)");
  return static_cast<Reduction>(number);
}

Reduction reduction_of(const char* word) {
  require_given(word, "reductionOptional");
  const std::string name = word;
  if (name == "none") return Reduction::none;
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  refuse("reductionOptional", "\"" + name + "\"", "\"none\", \"mean\" or \"sum\"");
}

// The label of a row; none where it is the ignored one. Others out of range fail: on a card they read other memory.
std::optional<int64_t> label_of(int64_t label, int64_t ignored, int64_t classes) {
  if (label == ignored) return std::nullopt;
  if (label < 0 || label >= classes)
    throw std::runtime_error("target: label " + std::to_string(label) + " is outside of " + std::to_string(classes) + " classes and not the ignored one");
  return label;
}

double weight_of_all(const Values<int64_t>& labels, const Values<float>* weight, int64_t ignored, int64_t classes) {
  double total = 0;
  for (const int64_t value : labels)
    if (const auto label = label_of(value, ignored, classes)) total += weight ? (*weight)[*label] : 1.0f;
  return total;
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnNLLLoss, const Tensor* self, const Tensor* target, const Tensor* weight, int64_t reduction, int64_t ignoreIndex,
      Tensor* out, Tensor* totalWeightOut) {
  DOCUMENTED(aclnnNLLLoss, self, target, weight, out, totalWeightOut);
  const Reduction kind = reduction_of(reduction);
  const int64_t classes = self->dim(-1), rows = self->rank() == 2 ? self->dim(0) : 1;
  if (target->count() != rows) refuse("target", text(target->shape), std::to_string(rows) + " labels");
  require_shape(weight, "weight", {classes});
  const int64_t expected = kind == Reduction::none ? rows : 1;
  if (out->count() != expected) refuse("out", text(out->shape), std::to_string(expected) + " elements");
  return launch([=] {
    const auto x = read<float>(self), w = read<float>(weight);
    const auto labels = read<int64_t>(target);
    std::vector<float> losses(rows, 0.0f);
    for (int64_t row = 0; row < rows; ++row)
      if (const auto label = label_of(labels[row], ignoreIndex, classes)) losses[row] = -w[*label] * x[row * classes + *label];
    const double total = weight_of_all(labels, &w, ignoreIndex, classes);
    if (kind != Reduction::none) {
      const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
      losses = {static_cast<float>(kind == Reduction::mean ? sum / total : sum)};
    }
    write(out, losses);
    write(totalWeightOut, std::vector<double>(totalWeightOut->count(), total));
  });
}

ACLNN(aclnnNLLLossBackward, const Tensor* gradOutput, const Tensor* self, const Tensor* target, const Tensor* weight,
      int64_t reduction, int64_t ignoreIndex, const Tensor* totalWeight, Tensor* out) {
  DOCUMENTED(aclnnNLLLossBackward, gradOutput, self, target, weight, totalWeight, out);
  const Reduction kind = reduction_of(reduction);
  const int64_t classes = self->dim(-1), rows = self->rank() == 2 ? self->dim(0) : 1;
  require_shape(out, "out", self->shape);
  require_shape(weight, "weight", {classes});
  if (gradOutput->count() != (kind == Reduction::none ? rows : 1))
    refuse("gradOutput", text(gradOutput->shape), "one number, or one a row without reduction");
  return launch([=] {
    const auto d = read<float>(gradOutput), w = read<float>(weight), total = read<float>(totalWeight);
    const auto labels = read<int64_t>(target);
    std::vector<float> dx(out->count(), 0.0f);
    for (int64_t row = 0; row < rows; ++row)
      if (const auto label = label_of(labels[row], ignoreIndex, classes))
        dx[row * classes + *label] = -w[*label] * (kind == Reduction::none ? d[row] : d[0]) / (kind == Reduction::mean ? total[0] : 1.0f);
    write(out, dx);
  });
}

ACLNN(aclnnCrossEntropyLoss, const Tensor* input, const Tensor* target, const Tensor* weightOptional, char* reductionOptional,
      int64_t ignoreIndex, double labelSmoothing, double lseSquareScaleForZloss, bool returnZloss, Tensor* lossOut,
      Tensor* logProbOut, Tensor* zlossOut, Tensor* lseForZlossOut) {
  (void)lseSquareScaleForZloss, (void)returnZloss, (void)zlossOut, (void)lseForZlossOut;  // "not supported yet, no effect"
  DOCUMENTED(aclnnCrossEntropyLoss, input, target, weightOptional, lossOut, logProbOut);
  const Reduction kind = reduction_of(reductionOptional);
  if (labelSmoothing < 0 || labelSmoothing > 1) refuse("labelSmoothing", std::to_string(labelSmoothing), "0 to 1");
  const int64_t rows = input->dim(0), classes = input->dim(1);
  if (classes == 0) refuse("input", text(input->shape), "more than 0 classes");
  require_shape(target, "target", {rows});
  if (weightOptional) require_shape(weightOptional, "weightOptional", {classes});
  require_shape(logProbOut, "logProbOut", input->shape);
  require_shape(lossOut, "lossOut", {kind == Reduction::none ? rows : 1});
  return launch([=] {
    const auto x = read<float>(input);
    const auto labels = read<int64_t>(target);
    std::optional<Values<float>> weight;
    if (weightOptional) weight.emplace(read<float>(weightOptional));
    const auto weight_at = [&](int64_t c) { return weight ? (*weight)[c] : 1.0f; };
    std::vector<float> log_prob(x.size()), losses(rows, 0.0f);
    double smooth_total = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = x.data() + row * classes;
      const float top = *std::max_element(from, from + classes);
      double sum = 0;
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(from[c] - top));
      const double lse = top + std::log(sum);
      for (int64_t c = 0; c < classes; ++c) log_prob[row * classes + c] = static_cast<float>(from[c] - lse);
      const auto label = label_of(labels[row], ignoreIndex, classes);
      if (!label) continue;
      double smooth = 0;
      for (int64_t c = 0; c < classes && labelSmoothing > 0; ++c) smooth -= log_prob[row * classes + c] * weight_at(c);
      smooth_total += weight_at(*label);
      losses[row] = static_cast<float>((1 - labelSmoothing) * -log_prob[row * classes + *label] * weight_at(*label) +
                                       labelSmoothing * smooth / static_cast<double>(classes));
    }
    if (kind != Reduction::none) {
      const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
      losses = {static_cast<float>(kind == Reduction::mean ? sum / smooth_total : sum)};
    }
    write(lossOut, losses);
    write(logProbOut, log_prob);
  });
}

ACLNN(aclnnCrossEntropyLossGrad, const Tensor* gradLoss, const Tensor* logProb, const Tensor* target,
      const Tensor* weightOptional, const Tensor* gradZlossOptional, const Tensor* lseForZlossOptional, char* reductionOptional,
      int64_t ignoreIndex, double labelSmoothing, double lseSquareScaleForZloss, Tensor* out) {
  (void)gradZlossOptional, (void)lseForZlossOptional, (void)lseSquareScaleForZloss;  // "not supported yet, no effect"
  DOCUMENTED(aclnnCrossEntropyLossGrad, gradLoss, logProb, target, weightOptional, out);
  require_same_dtype(logProb, "logProb", gradLoss, "gradLoss");
  const Reduction kind = reduction_of(reductionOptional);
  if (labelSmoothing != 0) refuse("labelSmoothing", std::to_string(labelSmoothing), "0.0, all that the gradient supports");
  const int64_t rows = logProb->dim(0), classes = logProb->dim(1);
  require_shape(target, "target", {rows});
  require_shape(out, "out", logProb->shape);
  if (gradLoss->count() != (kind == Reduction::none ? rows : 1))
    refuse("gradLoss", text(gradLoss->shape), "one number, or one a row without reduction");
  return launch([=] {
    const auto d = read<float>(gradLoss), log_prob = read<float>(logProb);
    const auto labels = read<int64_t>(target);
    std::optional<Values<float>> weight;
    if (weightOptional) weight.emplace(read<float>(weightOptional));
    const double total = weight_of_all(labels, weight ? &*weight : nullptr, ignoreIndex, classes);
    std::vector<float> dx(out->count(), 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      const auto label = label_of(labels[row], ignoreIndex, classes);
      if (!label) continue;
      const float scale = (kind == Reduction::none ? d[row] : d[0]) * (weight ? (*weight)[*label] : 1.0f) /
                          (kind == Reduction::mean ? static_cast<float>(total) : 1.0f);
      for (int64_t c = 0; c < classes; ++c) dx[row * classes + c] = std::exp(log_prob[row * classes + c]) * scale;
      dx[row * classes + *label] -= scale;
    }
    write(out, dx);
  });
}
