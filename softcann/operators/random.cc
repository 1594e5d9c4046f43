// Random numbers and dropout. The card's generator is not documented: softcann takes splitmix64 of (seed, offset, index),
// so a value depends on its place alone and a run can be repeated; a card gives other numbers.
#include "elements.h"

namespace softcann {
namespace {

uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// A number in [0, 1) with 53 bits.
double uniform(uint64_t seed, uint64_t offset, uint64_t index) {
  return static_cast<double>(mixed(mixed(seed) ^ mixed(offset * 0x632be59bd9b4e019ull + index)) >> 11) * 0x1.0p-53;
}

int64_t mask_bytes(int64_t elements) { return (elements + 127) / 128 * 16; }  // bits, rounded up to 128

Launch generate_mask(const IntArray* shape, double prob, int64_t seed, int64_t offset, Tensor* out) {
  require_given(shape, "shape");
  if (prob < 0 || prob > 1) refuse("prob", std::to_string(prob), "0 to 1");
  require_shape(out, "out", {mask_bytes(count(shape->values))});
  return launch([=] {
    std::vector<int64_t> bytes(out->count(), 0);
    for (size_t i = 0; i < 8 * bytes.size(); ++i)
      if (uniform(seed, offset, i) >= prob) bytes[i / 8] |= 1 << i % 8;
    write(out, bytes.data());
  });
}

template <class Function>
Launch draw(Tensor* self, Function function) {
  return launch([=] {
    std::vector<double> values(self->count());
    for (size_t i = 0; i < values.size(); ++i) values[i] = function(i);
    write(self, values.data());
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnDropoutGenMask, const IntArray* shape, double prob, int64_t seed, int64_t offset, Tensor* out) {
  DOCUMENTED(aclnnDropoutGenMask, out);
  return generate_mask(shape, prob, seed, offset, out);
}

ACLNN(aclnnDropoutGenMaskV2, const IntArray* shape, double prob, int64_t seed, int64_t offset, int probDataType, Tensor* out) {
  DOCUMENTED(aclnnDropoutGenMaskV2, out);
  const auto dtype = static_cast<Dtype>(probDataType);
  if (!contains(kFloats, dtype)) refuse("probDataType", name_of(dtype), names_of(kFloats));
  return generate_mask(shape, prob, seed, offset, out);
}

ACLNN(aclnnDropoutDoMask, const Tensor* self, const Tensor* mask, double prob, Tensor* out) {
  DOCUMENTED(aclnnDropoutDoMask, self, mask, out);
  if (prob < 0 || prob > 1) refuse("prob", std::to_string(prob), "0 to 1");
  require_shape(out, "out", self->shape);
  if (mask->count() != mask_bytes(self->count()))
    refuse("mask", std::to_string(mask->count()) + " bytes", std::to_string(mask_bytes(self->count())) + ", a bit an element, rounded up to 128");
  return launch([=] {
    const auto x = read<float>(self);
    const auto bytes = read<int64_t>(mask);
    std::vector<float> y(x.size());
    const float scale = prob == 1 ? 0.0f : static_cast<float>(1 / (1 - prob));
    for (size_t i = 0; i < y.size(); ++i) y[i] = prob == 0 ? x[i] : bytes[i / 8] >> i % 8 & 1 ? x[i] * scale : 0.0f;
    write(out, y);
  });
}

ACLNN(aclnnInplaceUniform, Tensor* selfRef, double from, double to, uint64_t seed, uint64_t offset) {
  DOCUMENTED(aclnnInplaceUniform, selfRef);
  if (from > to) refuse("from", std::to_string(from), "at most `to`, " + std::to_string(to));
  return draw(selfRef, [=](size_t i) { return from + (to - from) * uniform(seed, offset, i); });
}

ACLNN(aclnnInplaceNormal, Tensor* selfRef, float mean, float std, int64_t seed, int64_t offset) {
  DOCUMENTED(aclnnInplaceNormal, selfRef);
  if (std < 0) refuse("std", std::to_string(std), "0 or more");
  return draw(selfRef, [=](size_t i) {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(1 - uniform(seed, offset, 2 * i)));
    return mean + std * radius * std::cos(6.283185307179586 * uniform(seed, offset, 2 * i + 1));
  });
}

// Rows of probabilities, which need not sum to 1.
ACLNN(aclnnMultinomial, const Tensor* self, int64_t numsamples, bool replacement, int64_t seed, int64_t offset, Tensor* out) {
  DOCUMENTED(aclnnMultinomial, self, out);
  const int64_t choices = self->dim(-1), rows = self->rank() == 2 ? self->dim(0) : 1;
  if (numsamples <= 0 || (!replacement && numsamples > choices))
    refuse("numsamples", std::to_string(numsamples), replacement ? "a positive number" : "1 to " + std::to_string(choices));
  Shape shape = self->shape;
  shape.back() = numsamples;
  require_shape(out, "out", shape);
  return launch([=] {
    const auto p = read<double>(self);
    std::vector<int64_t> drawn(out->count());
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> left(p.begin() + row * choices, p.begin() + (row + 1) * choices);
      for (int64_t k = 0; k < numsamples; ++k) {
        const double total = std::accumulate(left.begin(), left.end(), 0.0);
        double at = uniform(seed, offset, row * numsamples + k) * total;
        int64_t chosen = 0;
        while (chosen + 1 < choices && (at -= left[chosen]) >= 0) ++chosen;
        drawn[row * numsamples + k] = chosen;
        if (!replacement) left[chosen] = 0;
      }
    }
    write(out, drawn.data());
  });
}
