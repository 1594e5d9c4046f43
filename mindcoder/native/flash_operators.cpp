// FlashAttentionScore and FlashAttentionScoreGrad as `ops.Custom` calls them: parameters in the order of MindSpore's
// primitives (mindspore/ops/auto_generate/gen_ops_prim.py), inputs, then attributes as scalars, then outputs. 0, or 1 after
// a message.
#include "flash_arguments.h"
#include "timing.h"

namespace {

using flash::answer;
using flash::Parameter;
using flash::Parameters;

float *floats(const Parameter &parameter) { return static_cast<float *>(parameter.data); }

}  // namespace

extern "C" int FlashAttentionScore(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  enum { QUERY, KEY, VALUE, SHIFT, DROP, PADDING, MASK, PREFIX, Q_ENDS, KV_ENDS, HEADS, LARGEST = HEADS + 8, SUMS, SOFTMAX, OUT, COUNT };
  const Timing timing("FlashAttentionScore", count, ndims, shapes, dtypes);
  return answer("FlashAttentionScore", count, COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    flash::require_absent(all[SHIFT], "real_shift");
    flash::require_absent(all[PADDING], "padding_mask");
    flash::require_absent(all[PREFIX], "prefix");
    const flash::Options options = flash::Options::read(all, HEADS);
    const flash::Call call = flash::understand(options, {all[QUERY], all[KEY], all[VALUE], all[DROP], all[MASK], all[Q_ENDS], all[KV_ENDS]});
    flash::attend(call, {data[QUERY], data[KEY], data[VALUE]}, {data[OUT], floats(all[LARGEST]), floats(all[SUMS])});
  });
}

extern "C" int FlashAttentionScoreGrad(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  enum { QUERY, KEY, VALUE, GRADIENT, SHIFT, DROP, PADDING, MASK, LARGEST, SUMS, SOFTMAX, OUT, PREFIX, Q_ENDS, KV_ENDS, HEADS,
         QUERY_GRADIENT = HEADS + 8, KEY_GRADIENT, VALUE_GRADIENT, SHIFT_GRADIENT, COUNT };
  const Timing timing("FlashAttentionScoreGrad", count, ndims, shapes, dtypes);
  return answer("FlashAttentionScoreGrad", count, COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    flash::require_absent(all[SHIFT], "pse_shift");
    flash::require_absent(all[PADDING], "padding_mask");
    flash::require_absent(all[PREFIX], "prefix");
    const flash::Options options = flash::Options::read(all, HEADS);
    const flash::Call call = flash::understand(options, {all[QUERY], all[KEY], all[VALUE], all[DROP], all[MASK], all[Q_ENDS], all[KV_ENDS]});
    flash::differentiate(call, {data[QUERY], data[KEY], data[VALUE]},
                         {data[GRADIENT], data[OUT], floats(all[LARGEST]), floats(all[SUMS])},
                         {data[QUERY_GRADIENT], data[KEY_GRADIENT], data[VALUE_GRADIENT]});
  });
}
