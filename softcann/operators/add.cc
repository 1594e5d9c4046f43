// Sums. Worked example of softcann/README.md.
#include "softcann/aclnn.h"

namespace {

// out = self + alpha * other, each dtype of its own width: float16 and bfloat16 in float32, rounded once.
Launch add(const Tensor* self, const Tensor* other, double alpha, int64_t whole_alpha, Tensor* out) {
  const bool floating = contains(kFloats | kFloat64, promote(self->dtype, other->dtype));
  return launch([=] {
    const size_t size = static_cast<size_t>(out->count());
    if (floating) {
      const auto x = read<float>(self, out->shape), y = read<float>(other, out->shape);
      std::vector<float> sum(size);
      for (size_t i = 0; i < size; ++i) sum[i] = x[i] + static_cast<float>(alpha) * y[i];
      write(out, sum);
    } else {
      const auto x = read<int64_t>(self, out->shape), y = read<int64_t>(other, out->shape);
      std::vector<int64_t> sum(size);
      for (size_t i = 0; i < size; ++i) sum[i] = x[i] + whole_alpha * y[i];
      write(out, sum);
    }
  });
}

constexpr Dtypes kAllowed = kFloats | kFloat64 | kInts | kBool;

}  // namespace

ACLNN(aclnnAdd, const Tensor* self, const Tensor* other, const Scalar* alpha, Tensor* out) {
  document("aclnnAdd&aclnnInplaceAdd");
  require(self, "self", kAllowed);
  require(other, "other", kAllowed);
  require_given(alpha, "alpha");
  require(out, "out", kAllowed);
  require_broadcast(out, "out", self, other);
  return add(self, other, alpha->number, alpha->integer, out);
}
