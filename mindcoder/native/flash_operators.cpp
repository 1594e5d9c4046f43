// FlashAttentionScore and FlashAttentionScoreGrad as `ops.Custom` calls them, with the parameters of operators.def, which
// are in the order of MindSpore's primitives (mindspore/ops/auto_generate/gen_ops_prim.py). 0, or 1 after a message.
#include "flash_arguments.h"
#include "timing.h"

namespace {

using flash::answer;
using flash::Parameter;
using flash::Parameters;
using flash::Tensors;

float *floats(const Parameter &parameter) { return static_cast<float *>(parameter.data); }

}  // namespace

extern "C" int FlashAttentionScore(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  using Index = argument::FlashAttentionScore;
  const Timing timing("FlashAttentionScore", count, ndims, shapes, dtypes);
  return answer("FlashAttentionScore", count, Index::COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    flash::require_absent(all[Index::real_shift], "real_shift");
    flash::require_absent(all[Index::padding_mask], "padding_mask");
    flash::require_absent(all[Index::prefix], "prefix");
    const flash::Call call = flash::understand(flash::Options::read<Index>(all), Tensors::read<Index>(all));
    flash::attend(call, {data[Index::query], data[Index::key], data[Index::value]},
                  {data[Index::attention_out], floats(all[Index::softmax_max]), floats(all[Index::softmax_sum])});
  });
}

extern "C" int FlashAttentionScoreGrad(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  using Index = argument::FlashAttentionScoreGrad;
  const Timing timing("FlashAttentionScoreGrad", count, ndims, shapes, dtypes);
  return answer("FlashAttentionScoreGrad", count, Index::COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    flash::require_absent(all[Index::pse_shift], "pse_shift");
    flash::require_absent(all[Index::padding_mask], "padding_mask");
    flash::require_absent(all[Index::prefix], "prefix");
    const flash::Call call = flash::understand(flash::Options::read<Index>(all), Tensors::read<Index>(all));
    flash::differentiate(
        call, {data[Index::query], data[Index::key], data[Index::value]},
        {data[Index::dy], data[Index::attention_in], floats(all[Index::softmax_max]), floats(all[Index::softmax_sum])},
        {data[Index::dquery], data[Index::dkey], data[Index::dvalue]});
  });
}
