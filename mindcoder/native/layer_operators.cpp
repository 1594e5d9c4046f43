// The operators of layers as `ops.Custom` calls them (mindcoder/backend/operator_source.py), by MindSpore's names.
#include <cstdio>
#include <exception>

#include "arguments.h"
#include "operator_list.h"
#include "timing.h"

namespace {

using Operator = void(const Arguments &);

// 0, or 1 after the reason was printed: MindSpore then ends the graph with its own error, which has the operator's name.
int call(const char *name, Operator *compute, int expected, int count, void **data, int *ndims, int64_t **shapes,
         const char **dtypes) {
  const Timing timing(name, count, ndims, shapes, dtypes);
  try {
    const Arguments arguments(name, count, data, ndims, shapes, dtypes);
    arguments.expect_count(expected);
    compute(arguments);
    return 0;
  } catch (const Refused &refused) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, refused.reason.c_str());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, error.what());
  }
  return 1;
}

}  // namespace

#define OPERATOR(NAME, COMPUTE)                                                                              \
  int NAME(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {    \
    return call(#NAME, COMPUTE, argument::NAME::COUNT, count, data, ndims, shapes, dtypes);                \
  }

extern "C" {

OPERATOR(LayerNormExt, layer_norm)
OPERATOR(LayerNormGradExt, layer_norm_gradient)
OPERATOR(RmsNorm, rms_norm)
OPERATOR(RmsNormGrad, rms_norm_gradient)
OPERATOR(MatMul, matrix_product)
OPERATOR(WeightQuantBatchMatmul, weight_quant_batch_matmul)
OPERATOR(WeightQuantBatchMatmulGrad, weight_quant_batch_matmul_gradient)
OPERATOR(Nf4Matmul, nf4_matmul)
OPERATOR(Nf4MatmulGrad, nf4_matmul_gradient)
OPERATOR(DynamicQuantExt, dynamic_quant)
OPERATOR(QuantV2, quant)
OPERATOR(QuantBatchMatmul, quant_batch_matmul)
OPERATOR(GeLU, gelu_tanh)
OPERATOR(GeLUGrad, gelu_tanh_gradient)
OPERATOR(SiLU, silu)
OPERATOR(SiLUGrad, silu_gradient)
OPERATOR(RotaryPositionEmbedding, rotary)
OPERATOR(Add, add)
OPERATOR(BitwiseAndScalar, bitwise_and_scalar)
OPERATOR(BitwiseXorTensor, bitwise_xor)
OPERATOR(CumsumExt, running_sum)
OPERATOR(Norm, norm)
OPERATOR(IndexSelect, index_select)
OPERATOR(ReadAfter, read_after)
OPERATOR(IndexAddExt, index_add)
OPERATOR(ScatterAddExt, scatter_add)
OPERATOR(InplaceIndexCopy, inplace_index_copy)
OPERATOR(AdamW, adamw)
OPERATOR(CounterBits, counter_bits)

}  // extern "C"
