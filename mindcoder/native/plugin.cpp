// The library as MindSpore's CPU operator plugin (MS_OP_PLUGIN_PATH): which operators it has, and the function of each.
//
// MindSpore asks for the names when it compiles its first graph, and from then on calls the function of that name for
// every tensor, whatever its dtype and shape; there is no way back to MindSpore's own kernel. An operator that MindSpore
// has on CPU, too, must therefore take all that its own kernel takes.
#include <cstdio>
#include <cstring>
#include <exception>

#include "arguments.h"
#include "layouts.h"
#include "operator_list.h"

namespace {

using Operator = void(const Arguments &);

// 0, or 1 after the reason was printed: MindSpore then ends the graph with its own error, which has the operator's name.
int call(const char *name, Operator *compute, int count, void **data, int *ndims, int64_t **shapes, const char **dtypes,
         void *extra) {
  try {
    Layouts layouts(count, data, ndims, shapes, dtypes, extra);
    compute(Arguments(name, count, layouts.data(), ndims, shapes, dtypes));
    if (std::strncmp(name, "Inplace", 7) == 0 || std::strcmp(name, "AdamW") == 0) layouts.write_back();
    return 0;
  } catch (const Refused &refused) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, refused.reason.c_str());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, error.what());
  }
  return 1;
}

const char *const NAMES[] = {
    // normalization
    "LayerNormExt", "LayerNormGradExt", "RmsNorm", "RmsNormGrad",
    // activations
    "GeLU", "GeLUGrad", "SiLU", "SiLUGrad", "RotaryPositionEmbedding",
    // arithmetic
    "Add", "Sub", "Mul", "FloorDiv", "Cast", "Reshape", "BitwiseAndScalar", "BitwiseXorTensor",
    // sums
    "SumExt", "Norm",
    // rows and ranges of tables
    "IndexSelect", "EmbeddingDenseBackward", "IndexAddExt", "ScatterAddExt", "InplaceIndexCopy",
    "InplaceAddExt",
    // update
    "AdamW",
    // dropout
    "DropoutGenMaskExt",
    // attention: flash_operators.cpp, flash_inference.cpp
    "FlashAttentionScore", "FlashAttentionScoreGrad", "IncreFlashAttention", "FusedInferAttentionScore",
};

}  // namespace

// An operator as MindSpore's plugin interface calls it; and, by itself, as `ops.Custom` does, whose last argument is
// another object and whose inputs are contiguous.
#define OPERATOR(NAME, COMPUTE)                                                                                          \
  int NAME(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {           \
    return call(#NAME, COMPUTE, count, data, ndims, shapes, dtypes, extra);                                            \
  }                                                                                                                    \
  int Custom##NAME(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {        \
    return call(#NAME, COMPUTE, count, data, ndims, shapes, dtypes, nullptr);                                          \
  }

extern "C" {

int GetRegisteredOpCount() { return sizeof NAMES / sizeof *NAMES; }

const char **GetAllRegisteredOps() { return const_cast<const char **>(NAMES); }

bool IsKernelRegistered(const char *name) {
  for (const char *known : NAMES)
    if (std::strcmp(name, known) == 0) return true;
  return false;
}

OPERATOR(LayerNormExt, layer_norm)
OPERATOR(LayerNormGradExt, layer_norm_gradient)
OPERATOR(RmsNorm, rms_norm)
OPERATOR(RmsNormGrad, rms_norm_gradient)
OPERATOR(GeLU, gelu_tanh)
OPERATOR(GeLUGrad, gelu_tanh_gradient)
OPERATOR(SiLU, silu)
OPERATOR(SiLUGrad, silu_gradient)
OPERATOR(RotaryPositionEmbedding, rotary)
OPERATOR(Add, add)
OPERATOR(Sub, subtract)
OPERATOR(Mul, multiply)
OPERATOR(FloorDiv, floor_divide)
OPERATOR(Cast, cast)
OPERATOR(Reshape, reshape)
OPERATOR(BitwiseAndScalar, bitwise_and_scalar)
OPERATOR(BitwiseXorTensor, bitwise_xor)
OPERATOR(SumExt, sum_over_axes)
OPERATOR(Norm, norm)
OPERATOR(IndexSelect, index_select)
OPERATOR(EmbeddingDenseBackward, embedding_gradient)
OPERATOR(IndexAddExt, index_add)
OPERATOR(ScatterAddExt, scatter_add)
OPERATOR(InplaceIndexCopy, inplace_index_copy)
OPERATOR(InplaceAddExt, inplace_add)
OPERATOR(AdamW, adamw)
OPERATOR(DropoutGenMaskExt, dropout_bits)

}  // extern "C"
