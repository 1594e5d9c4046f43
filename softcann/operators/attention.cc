#include "attention.h"

#include <limits>

#include "softcann/matmul.h"

namespace softcann {

View headed(const Tensor* tensor, const std::string& layout, int64_t heads) {
  View view(tensor);
  const Shape& n = tensor->shape;
  const Shape& s = tensor->strides;
  if (layout == "BNSD") return view;
  if (layout == "BSND") {
    view.shape = {n[0], n[2], n[1], n[3]}, view.strides = {s[0], s[2], s[1], s[3]};
  } else {
    const int64_t width = n[2] / heads, batch = layout == "SBH" ? 1 : 0, length = 1 - batch;
    view.shape = {n[batch], heads, n[length], width};
    view.strides = {s[batch], width * s[2], s[length], s[2]};
  }
  return view;
}

View headed_rows(const Tensor* tensor, int64_t first, int64_t length) {
  View view(tensor);
  view.offset += first * tensor->strides[0];
  view.shape = {1, tensor->shape[1], length, tensor->shape[2]};
  view.strides = {0, tensor->strides[1], tensor->strides[0], tensor->strides[2]};
  return view;
}

Band Mask::band(int64_t q_length, int64_t kv_length) const {
  Band band;
  if (!tensor) return band;  // without a mask the mode and the tokens have no effect: everything is seen
  const int64_t corner = kv_length - q_length;
  if (mode == 0) band.below = pre_tokens, band.above = next_tokens;
  if (mode == 2) band.above = 0;
  if (mode == 3) band.above = 0, band.shift = corner;
  if (mode == 4) band.below = pre_tokens, band.above = next_tokens, band.shift = corner;
  return band;
}

void require_mask(const Mask& mask, const char* name, const std::vector<Shape>& shapes, bool may_lack) {
  if (mask.mode < 0 || mask.mode > 4) refuse("sparseMode", std::to_string(mask.mode), "0 to 4, all that softcann computes");
  if (!mask.tensor) {
    if (mask.mode != 0 && !may_lack) refuse(name, "null", "a mask for sparseMode " + std::to_string(mask.mode));
    return;
  }
  if (mask.compressed()) return require_shape(mask.tensor, name, {2048, 2048});
  std::string allowed;
  for (const Shape& shape : shapes) {
    if (mask.tensor->shape == shape) return;
    allowed += (allowed.empty() ? "" : ", ") + text(shape);
  }
  refuse(name, text(mask.tensor->shape), allowed);
}

void check_compressed(const Mask& mask) {
  if (!mask.tensor || !mask.compressed()) return;
  for (const int64_t row : {0, 1, 1023, 2046}) {
    View line(mask.tensor);
    line.offset += row * line.strides[0];
    line.shape = {2048}, line.strides = {line.strides[1]};
    const auto values = read<int64_t>(&line, line.shape);
    for (int64_t column = 0; column < 2048; ++column)
      if ((values[column] != 0) != (column > row))
        throw std::runtime_error("attenMask: the compressed mask has " + std::to_string(values[column]) + " at row " + std::to_string(row) +
                                 ", column " + std::to_string(column) + ", documented are ones above the diagonal alone");
  }
}

namespace {

std::vector<float> transposed(const float* x, int64_t rows, int64_t columns) {
  std::vector<float> y(rows * columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) y[j * rows + i] = x[i * columns + j];
  return y;
}

std::vector<float> scores_of(const Head& head) {
  std::vector<float> scores(head.q_length * head.kv_length);
  matmul(head.q, transposed(head.k, head.kv_length, head.width).data(), scores.data(), head.q_length, head.width, head.kv_length);
  for (float& score : scores) score *= head.scale;
  return scores;
}

// The factor of a probability after dropout.
float kept(const Head& head, int64_t at) { return !head.dropped ? 1.0f : head.dropped[at] ? 0.0f : 1.0f / head.keep; }

}  // namespace

void attend(const Head& head, float* out, float* largest, float* sums) {
  std::vector<float> p = scores_of(head);
  for (int64_t i = 0; i < head.q_length; ++i) {
    float* row = p.data() + i * head.kv_length;
    const uint8_t* hidden = head.hidden + i * head.kv_length;
    float top = -std::numeric_limits<float>::max(), sum = 0;
    for (int64_t j = 0; j < head.kv_length; ++j)
      if (!hidden[j]) top = std::max(top, row[j]);
    for (int64_t j = 0; j < head.kv_length; ++j) sum += row[j] = hidden[j] ? 0.0f : std::exp(row[j] - top);
    // A query that sees no key gives zeros, as the card's "invalid row" mode.
    for (int64_t j = 0; j < head.kv_length; ++j) row[j] = sum == 0 ? 0.0f : row[j] / sum * kept(head, i * head.kv_length + j);
    largest[i] = top, sums[i] = sum;
  }
  matmul(p.data(), head.v, out, head.q_length, head.kv_length, head.value_width);
}

void attend_backward(const Head& head, const float* dout, const float* out, const float* largest, const float* sums, float* dq,
                     float* dk, float* dv) {
  std::vector<float> p = scores_of(head), dropped(p.size()), dp(p.size());
  for (int64_t i = 0; i < head.q_length; ++i)
    for (int64_t j = 0; j < head.kv_length; ++j) {
      const int64_t at = i * head.kv_length + j;
      p[at] = head.hidden[at] || sums[i] == 0 ? 0.0f : std::exp(p[at] - largest[i]) / sums[i];
      dropped[at] = p[at] * kept(head, at);
    }
  matmul(transposed(dropped.data(), head.q_length, head.kv_length).data(), dout, dv, head.kv_length, head.q_length, head.value_width, true);
  matmul(dout, transposed(head.v, head.kv_length, head.value_width).data(), dp.data(), head.q_length, head.value_width, head.kv_length);
  for (int64_t i = 0; i < head.q_length; ++i) {
    float product = 0;  // of the gradient with the output: the sum over j of p * dp
    for (int64_t d = 0; d < head.value_width; ++d) product += dout[i * head.value_width + d] * out[i * head.value_width + d];
    for (int64_t j = 0; j < head.kv_length; ++j) {
      const int64_t at = i * head.kv_length + j;
      dp[at] = p[at] * (dp[at] * kept(head, at) - product) * head.scale;
    }
  }
  matmul(dp.data(), head.k, dq, head.q_length, head.kv_length, head.width, true);
  matmul(transposed(dp.data(), head.q_length, head.kv_length).data(), head.q, dk, head.kv_length, head.q_length, head.width, true);
}

}  // namespace softcann
